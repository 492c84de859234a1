//! Writing history behind the live path: which room is written next, and what becomes of a batch.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;

use super::super::{LOG_INTERVAL, RedisBridge};
use crate::{
    actors::messages::BrokerError,
    broker::archive::{Stored, Written},
    protocol::Target,
};

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
        let now = Instant::now();
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
            if journal.asks_for_others(now)
                && let Some(since) = journal.since()
            {
                self.desk.writing += 1;
                let asked = archive.read(room, since, 1).into_actor(self);
                ctx.spawn(asked.map(move |stored, bridge, ctx| bridge.hear_of_others(&target, stored.ok(), ctx)));
                continue;
            }
            let Some(batch) = journal.next(room, here, now) else {
                if journal.is_held(now) {
                    self.desk.queue(&target, recording);
                }
                continue;
            };
            self.desk.writing += 1;
            let written = archive.record(batch).into_actor(self);
            ctx.spawn(written.map(move |written, bridge, ctx| bridge.conclude_write(&target, written, ctx)));
        }
    }

    /// How far others have written a room that this node has begun to record.
    fn hear_of_others(&mut self, target: &Target, stored: Option<Stored>, ctx: &mut Context<Self>) {
        self.desk.writing -= 1;
        let recording = self.routes.get_mut(target).and_then(|route| route.recording.as_mut());
        if let Some(journal) = recording.and_then(|recording| recording.journal.as_mut()) {
            journal.hear_of_others(stored.map(|stored| stored.coverage), Instant::now());
        }
        self.queue_write(target, ctx);
    }

    fn conclude_write(&mut self, target: &Target, written: Result<Written, BrokerError>, ctx: &mut Context<Self>) {
        self.desk.writing -= 1;
        let is_written = written.is_ok();
        match written {
            Ok(Written { added, duplicates, lost }) => {
                let counts = [("added", added), ("duplicate", duplicates), ("lost", lost)];
                counts.into_iter().for_each(|(outcome, count)| self.parts.metrics.history_writes(outcome, count));
            }
            Err(BrokerError::Refused(error)) => {
                self.parts.metrics.history_writes("failed", 1);
                self.log_refused_write(&error);
            }
            Err(BrokerError::Unavailable | BrokerError::Overloaded | BrokerError::TooLarge { .. }) => {}
        }
        let Some(recording) = self.routes.get_mut(target).and_then(|route| route.recording.as_mut()) else { return };
        let Some(journal) = &mut recording.journal else { return };
        journal.conclude(is_written);
        if journal.is_empty() {
            return;
        }
        if is_written {
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
