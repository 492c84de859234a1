//! Writing history behind the live path: which room is written next, and what becomes of a batch.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use super::super::{LOG_INTERVAL, RedisBridge};
use crate::{actors::messages::BrokerError, broker::archive::Written, protocol::Target};

/// What is numbered waits so long to be written together.
const FLUSH: Duration = Duration::from_millis(25);
/// Rooms that are written at once: what publishers send shares the connection and must not queue behind thousands.
const WRITING: usize = 64;
/// A batch that Redis refused is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

impl RedisBridge {
    /// Has what waits written, a moment later.
    pub(in crate::broker::bridge) fn flush_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.desk.is_flush_due && !self.desk.to_write.is_empty() {
            self.desk.is_flush_due = true;
            ctx.run_later(FLUSH, |bridge, ctx| {
                bridge.desk.is_flush_due = false;
                bridge.flush(ctx);
                bridge.flush_soon(ctx);
            });
        }
    }

    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        let Some(archive) = self.desk.archive.clone().filter(|_| self.is_up) else {
            // What waits is queued again when the room is numbered again.
            for target in self.desk.to_write.drain(..) {
                if let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) {
                    recording.is_queued = false;
                }
            }
            return;
        };
        for _ in 0..self.desk.to_write.len() {
            if self.desk.writing >= WRITING {
                return;
            }
            let Some(target) = self.desk.to_write.pop_front() else { return };
            let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) else { continue };
            recording.is_queued = false;
            let Target::Room(room) = &target else { continue };
            let here = recording.place(&self.desk.timeline).map(|(here, _)| here);
            let Some(journal) = &mut recording.journal else { continue };
            let Some(batch) = journal.next(room, here) else { continue };
            self.desk.writing += 1;
            let written = archive.record(batch).into_actor(self);
            ctx.spawn(written.map(move |written, bridge, ctx| bridge.conclude_write(&target, written, ctx)));
        }
    }

    fn conclude_write(&mut self, target: &Target, written: Result<Written, BrokerError>, ctx: &mut Context<Self>) {
        self.desk.writing -= 1;
        match &written {
            Ok(Written { added, duplicates, lost, .. }) => {
                let counts = [("added", *added), ("duplicate", *duplicates), ("lost", *lost)];
                counts.into_iter().for_each(|(outcome, count)| self.parts.metrics.history_writes(outcome, count));
            }
            Err(BrokerError::Refused(error)) => {
                self.parts.metrics.history_writes("failed", 1);
                self.log_refused_write(error);
            }
            Err(BrokerError::Unavailable | BrokerError::Overloaded | BrokerError::TooLarge { .. }) => {}
        }
        let Some(recording) = self.routes.get_mut(target).and_then(|route| route.recording.as_mut()) else { return };
        let Some(journal) = &mut recording.journal else { return };
        journal.conclude(written.as_ref().ok());
        if !journal.has_more() {
            return;
        }
        if written.is_ok() {
            self.desk.queue(target, recording);
            self.flush(ctx);
            self.flush_soon(ctx);
        } else {
            let target = target.clone();
            ctx.run_later(RETRY, move |bridge, ctx| bridge.queue_write(&target, ctx));
        }
    }

    pub(super) fn queue_write(&mut self, target: &Target, ctx: &mut Context<Self>) {
        if let Some(recording) = self.routes.get_mut(target).and_then(|route| route.recording.as_mut()) {
            self.desk.queue(target, recording);
        }
        self.flush_soon(ctx);
    }

    fn log_refused_write(&mut self, error: &str) {
        let now = Instant::now();
        if self.desk.refusal_logged.is_none_or(|then| now.duration_since(then) >= LOG_INTERVAL) {
            self.desk.refusal_logged = Some(now);
            log::warn!("Redis refuses to keep history: {error}; tried again each second, and those who resume are told what is missing");
        }
    }
}
