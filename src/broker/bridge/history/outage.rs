//! After an outage: what other nodes have recorded meanwhile is fetched and delivered, and where it is not whole, told as a gap.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use super::super::RedisBridge;
use crate::{
    actors::messages::{BridgeRestored, BrokerError, Deliver},
    broker::{
        recall::{Recall, Recalled},
        recording::Recording,
        timeline::Timeline,
    },
    protocol::{Position, Target},
};

/// After an outage, gaps are told by then, whatever is still being fetched.
const RESTORE: Duration = Duration::from_millis(1500);

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
            self.tell_restored();
        } else {
            ctx.run_later(RESTORE, |bridge, _| bridge.tell_restored());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "once per outage, and it must not be lost")]
    fn tell_restored(&mut self) {
        if let Some((targets, _)) = self.desk.restoring.take()
            && !targets.is_empty()
        {
            self.parts.reports.restored.do_send(BridgeRestored { targets });
        }
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
        ctx.spawn(fetch.run().into_actor(self).map(move |recalled, bridge, _| bridge.caught_up(&target, since, recalled)));
    }

    fn caught_up(&mut self, target: &Target, since: Position, recalled: Result<Recalled, BrokerError>) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let Some(recording) = route.recording.as_mut().filter(|recording| recording.is_catching_up(since)) else { return };
        let nothing = |_| Recalled { missed: Vec::new(), is_whole: false };
        let recalled = recalled.unwrap_or_else(nothing);
        let held = recording.caught_up(&recalled, Instant::now());
        let Recalled { missed, is_whole } = recalled;
        self.parts.metrics.replay(if is_whole { "outage_whole" } else { "outage_gap" }, missed.len());
        let received = Instant::now();
        let fetched = missed.into_iter().map(|publication| Deliver { publication, received, receipt: None });
        route.fan_out_late(fetched.chain(held), &self.parts.metrics);
        self.conclude_catch_up(target.clone(), is_whole);
    }

    /// What a room missed during an outage was delivered, or will not be.
    #[expect(clippy::disallowed_methods, reason = "once per room and outage, and it must not be lost")]
    pub(in crate::broker::bridge) fn conclude_catch_up(&mut self, target: Target, is_whole: bool) {
        match &mut self.desk.restoring {
            Some((lost, fetching)) => {
                if !is_whole {
                    lost.push(target);
                }
                *fetching = fetching.saturating_sub(1);
                if *fetching == 0 {
                    self.tell_restored();
                }
            }
            // The others were told without waiting any longer.
            None if !is_whole => self.parts.reports.restored.do_send(BridgeRestored { targets: vec![target] }),
            None => {}
        }
    }
}
