//! After an outage: what other nodes have recorded meanwhile is fetched and delivered. Where it is not whole, that is told as a
//! gap, and only then anything is delivered: with the first event each member is shown an id that is past the hole, and one who
//! is cut off before the notice would never hear of it.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};
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
/// Rooms of which it turns out later, or one by one, are told of together.
const TOGETHER: Duration = Duration::from_millis(50);
/// A room goes on by then, whether or not all its members could be told.
const TELLING: Duration = Duration::from_secs(1);

/// An outage that is over, and not told of yet.
pub(super) struct Restoring {
    lost: Vec<Target>,
    /// How many rooms are still being fetched.
    fetching: usize,
    /// Ends it.
    timer: Option<SpawnHandle>,
}

impl RedisBridge {
    /// The link is back, and these are served again. Rooms whose history fills the hole are told of later, or not at all.
    pub(in crate::broker::bridge) fn restore(&mut self, torn: Vec<Target>, ctx: &mut Context<Self>) {
        let can_catch_up = |target: &Target| {
            let recording = self.routes.get(target).and_then(|route| route.recording.as_ref());
            recording.is_some_and(|recording| recording.can_catch_up())
        };
        let (fetching, lost): (Vec<_>, Vec<_>) = torn.into_iter().partition(can_catch_up);
        let timer = (!fetching.is_empty()).then(|| ctx.run_later(RESTORE, Self::tell_restored));
        self.desk.restoring = Some(Restoring { lost, fetching: fetching.len(), timer });
        if fetching.is_empty() {
            self.tell_restored(ctx);
        }
    }

    /// The link is lost again, and its return tells of everything.
    pub(in crate::broker::bridge) fn stop_restoring(&mut self, ctx: &mut Context<Self>) -> Vec<Target> {
        let Some(Restoring { lost, timer, .. }) = self.desk.restoring.take() else { return Vec::new() };
        timer.into_iter().for_each(|timer| _ = ctx.cancel_future(timer));
        lost
    }

    fn tell_restored(&mut self, ctx: &mut Context<Self>) {
        let lost = self.stop_restoring(ctx);
        self.tell_members(lost, ctx);
    }

    /// As [`Self::tell_members`], with others that come up just now.
    pub(in crate::broker::bridge) fn tell_members_soon(&mut self, targets: Vec<Target>, ctx: &mut Context<Self>) {
        if self.desk.untold.is_empty() && !targets.is_empty() {
            ctx.run_later(TOGETHER, |bridge, ctx| {
                let untold = std::mem::take(&mut bridge.desk.untold);
                bridge.tell_members(untold.into_iter().collect(), ctx);
            });
        }
        self.desk.untold.extend(targets);
    }

    /// Has the members of these told that they may miss something; what waits for that goes out behind it.
    fn tell_members(&mut self, targets: Vec<Target>, ctx: &mut Context<Self>) {
        if targets.is_empty() {
            return;
        }
        let untold = |target: &Target| self.routes.get(target)?.recording.as_ref()?.untold();
        let waiting: Vec<_> = targets.iter().filter_map(|target| Some((target.clone(), untold(target)?))).collect();
        let told = timeout(TELLING, self.parts.reports.restored.send(BridgeRestored { targets }));
        ctx.spawn(told.into_actor(self).map(|_, bridge, _| {
            for (target, hole) in waiting {
                let Some(route) = bridge.routes.get_mut(&target) else { continue };
                let held = route.recording.as_mut().map(|recording| recording.told(hole, Instant::now())).unwrap_or_default();
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
        let lost = (!is_whole).then_some(target);
        match &mut self.desk.restoring {
            Some(restoring) => {
                restoring.lost.extend(lost);
                restoring.fetching = restoring.fetching.saturating_sub(1);
                if restoring.fetching == 0 {
                    self.tell_restored(ctx);
                }
            }
            // The others were told without waiting any longer.
            None => self.tell_members_soon(lost.into_iter().collect(), ctx),
        }
    }
}
