//! Pulse: the one clock of a worker's connections. It owns the times at which each is due for a ping or a keep-alive comment
//! and cuts those that stopped answering.
//!
//! One per worker thread, started by the worker, ended with the process. A timer per connection would cost memory and wake-ups
//! while everybody is idle; this costs one wake-up per tick.

use std::{
    collections::{BTreeMap, btree_map::OccupiedEntry},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    messages::{Unwatch, Watch},
    outbox::Outbox,
};
use crate::protocol::{CloseReason, wire::Heartbeat};

/// How often the pulse looks, at most. Shorter heartbeats are looked after as often as this part of theirs.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_HEARTBEAT: u32 = 30;
/// Those that are due within this time share a slot: a slot of its own would cost a connection more than all the rest here.
const SLOT: Duration = Duration::from_millis(10);
/// Connections that ended are forgotten when their time comes, or when so many of them, and more than half, are.
const KEPT_ENDED: usize = 1024;

pub struct Pulse {
    began: Instant,
    tick: Duration,
    /// By the number of the slot since `began`.
    due: BTreeMap<u128, Vec<Due>>,
    /// The few heartbeats there are, one for each wire.
    heartbeats: Vec<Heartbeat>,
    watched: usize,
    ended: usize,
}

struct Due {
    outbox: Arc<Outbox>,
    /// Index of its heartbeat.
    heartbeat: u16,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Beat,
    /// The answer to the last beat must have come by now.
    Check,
}

impl Actor for Pulse {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.wait(ctx);
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), tick: TICK, due: BTreeMap::new(), heartbeats: Vec::new(), watched: 0, ended: 0 }
    }
}

impl Pulse {
    fn wait(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.pause(Instant::now()), |pulse, ctx| {
            pulse.tick(Instant::now());
            pulse.wait(ctx);
        });
    }

    /// Until the next slot is due. A herd that came in one second is then served slot by slot, as it came, and not a tenth of it
    /// at once: that would hold the thread's events up for milliseconds.
    fn pause(&self, now: Instant) -> Duration {
        let next = self.due.keys().next().map(|slot| self.time_of(*slot).duration_since(now));
        next.map_or(self.tick, |next| next.max(SLOT).min(self.tick))
    }

    fn time_of(&self, slot: u128) -> Instant {
        self.began + SLOT * u32::try_from(slot).unwrap_or(u32::MAX)
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        let slot = at.duration_since(self.began).as_millis().div_ceil(SLOT.as_millis());
        self.due.entry(slot).or_default().push(due);
    }

    fn tick(&mut self, now: Instant) {
        let current = now.duration_since(self.began).as_millis() / SLOT.as_millis();
        while let Some((slot, all)) = self.due.first_entry().filter(|entry| *entry.key() <= current).map(OccupiedEntry::remove_entry) {
            let at = self.time_of(slot);
            // A little late is no reason to drift; after a long pause nobody is judged by what was due in it.
            let base = if now < at + 2 * TICK { at } else { now };
            for due in all {
                self.act(due, base);
            }
        }
    }

    fn act(&mut self, due: Due, now: Instant) {
        if due.outbox.is_ended() {
            self.watched -= 1;
            self.ended = self.ended.saturating_sub(1);
            return;
        }
        let Heartbeat { bytes, every, answer_within } = self.heartbeats[usize::from(due.heartbeat)];
        match (due.step, answer_within) {
            (Step::Check, _) if !due.outbox.take_heard() => {
                due.outbox.close(CloseReason::TimedOut);
                self.watched -= 1;
            }
            (Step::Check, answer_within) => {
                self.schedule(now + every.saturating_sub(answer_within.unwrap_or_default()), Due { step: Step::Beat, ..due });
            }
            (Step::Beat, answer_within) => {
                if !bytes.is_empty() {
                    due.outbox.push_control(Bytes::from_static(bytes));
                }
                match answer_within {
                    Some(within) => {
                        // Only what comes after the ping answers it.
                        due.outbox.take_heard();
                        self.schedule(now + within, Due { step: Step::Check, ..due });
                    }
                    None => self.schedule(now + every, due),
                }
            }
        }
    }

    fn forget_ended(&mut self) {
        for slot in self.due.values_mut() {
            slot.retain(|due| !due.outbox.is_ended());
            slot.shrink_to_fit();
        }
        self.due.retain(|_, slot| !slot.is_empty());
        self.watched = self.due.values().map(Vec::len).sum();
        self.ended = 0;
    }
}

impl Handler<Watch> for Pulse {
    type Result = ();

    fn handle(&mut self, Watch { outbox, heartbeat }: Watch, _: &mut Context<Self>) {
        self.tick = self.tick.min((heartbeat.every / TICKS_PER_HEARTBEAT).max(Duration::from_millis(1)));
        let known = self.heartbeats.iter().position(|known| *known == heartbeat);
        let index = known.unwrap_or_else(|| {
            self.heartbeats.push(heartbeat);
            self.heartbeats.len() - 1
        });
        // There are as many as wires and configurations that were in force.
        let Ok(index) = u16::try_from(index) else { return };
        self.watched += 1;
        self.schedule(Instant::now() + heartbeat.every, Due { outbox, heartbeat: index, step: Step::Beat });
    }
}

impl Handler<Unwatch> for Pulse {
    type Result = ();

    fn handle(&mut self, Unwatch: Unwatch, _: &mut Context<Self>) {
        self.ended += 1;
        if self.ended > KEPT_ENDED && self.ended > self.watched / 2 {
            self.forget_ended();
        }
    }
}
