//! After an outage: what other nodes have recorded meanwhile is fetched and delivered. Where it is not whole, that is told as a
//! gap, and only then anything is delivered: with the first event each member is shown an id that is past the hole, and one who
//! is cut off before the notice would never hear of it.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::{Instant, timeout};

use super::super::RedisBridge;
use crate::{
    actors::messages::{BridgeRestored, BrokerError},
    broker::{
        recall::{Recall, Recalled},
        recording::Recording,
        timeline::Timeline,
    },
    protocol::{Position, Target},
};

/// After an outage, gaps are told by then, whatever is still being fetched.
const RESTORE: Duration = Duration::from_millis(1500);
/// A room goes on by then, whether or not all its members could be told.
const TELLING: Duration = Duration::from_secs(1);

impl RedisBridge {
    /// The link is back. Rooms whose history fills the hole are told of later, or not at all.
    pub(in crate::broker::bridge) fn restore(&mut self, torn: Vec<Target>, ctx: &mut Context<Self>) {
        let can_catch_up = |target: &Target| {
            let recording = self.routes.get(target).and_then(|route| route.recording.as_ref());
            recording.is_some_and(|recording| recording.can_catch_up())
        };
        let (fetching, lost): (Vec<_>, Vec<_>) = torn.into_iter().partition(can_catch_up);
        self.desk.restoring = Some((lost, fetching.len()));
        if fetching.is_empty() {
            self.tell_restored(ctx);
        } else {
            ctx.run_later(RESTORE, Self::tell_restored);
        }
    }

    fn tell_restored(&mut self, ctx: &mut Context<Self>) {
        if let Some((targets, _)) = self.desk.restoring.take() {
            self.tell_members(targets, ctx);
        }
    }

    /// Has the members of these told that they may miss something; what waits for that goes out behind it.
    pub(in crate::broker::bridge) fn tell_members(&mut self, targets: Vec<Target>, ctx: &mut Context<Self>) {
        if targets.is_empty() {
            return;
        }
        let begun = |target: &Target| self.routes.get(target)?.recording.as_ref()?.begun();
        let waiting: Vec<_> = targets.iter().filter_map(|target| Some((target.clone(), begun(target)?))).collect();
        let told = timeout(TELLING, self.parts.reports.restored.send(BridgeRestored { targets }));
        ctx.spawn(told.into_actor(self).map(|_, bridge, _| {
            for (target, since) in waiting {
                let Some(route) = bridge.routes.get_mut(&target) else { continue };
                let held = route.recording.as_mut().map(|recording| recording.told(since, Instant::now())).unwrap_or_default();
                route.fan_out_late(held, &bridge.parts.metrics);
            }
        }));
    }

    /// For all rooms that have begun to count anew.
    pub(in crate::broker::bridge) fn catch_up_all(&mut self, ctx: &mut Context<Self>) {
        for (target, after) in std::mem::take(&mut self.desk.to_catch_up) {
            self.catch_up(target, after, ctx);
        }
    }

    /// Fetches what other nodes have recorded while this one was cut off.
    fn catch_up(&mut self, target: Target, after: Position, ctx: &mut Context<Self>) {
        let recall = |recording: &Recording, timeline: &Timeline| Recall::of_outage(recording, timeline, after);
        let Some(fetch) = self.fetch(&target, recall) else { return };
        let since = self.routes.get(&target).and_then(|route| route.recording.as_ref()).and_then(|recording| recording.begun());
        let Some(since) = since else { return };
        ctx.spawn(fetch.run().into_actor(self).map(move |recalled, bridge, ctx| bridge.caught_up(&target, since, recalled, ctx)));
    }

    fn caught_up(&mut self, target: &Target, since: Position, recalled: Result<Recalled, BrokerError>, ctx: &mut Context<Self>) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let Some(recording) = route.recording.as_mut().filter(|recording| recording.is_catching_up(since)) else { return };
        let nothing = |_| Recalled { missed: Vec::new(), is_whole: false };
        let recalled = recalled.unwrap_or_else(nothing);
        let is_whole = recalled.is_whole;
        self.parts.metrics.replay(if is_whole { "outage_whole" } else { "outage_gap" }, recalled.missed.len());
        let ready = recording.caught_up(recalled, Instant::now());
        route.fan_out_late(ready, &self.parts.metrics);
        self.conclude_catch_up(target.clone(), is_whole, ctx);
    }

    /// It is known whether all that a room missed during an outage can be delivered.
    pub(in crate::broker::bridge) fn conclude_catch_up(&mut self, target: Target, is_whole: bool, ctx: &mut Context<Self>) {
        match &mut self.desk.restoring {
            Some((lost, fetching)) => {
                if !is_whole {
                    lost.push(target);
                }
                *fetching = fetching.saturating_sub(1);
                if *fetching == 0 {
                    self.tell_restored(ctx);
                }
            }
            // The others were told without waiting any longer.
            None if !is_whole => self.tell_members(vec![target], ctx),
            None => {}
        }
    }
}
