//! Pulse: the one clock of a worker's connections. It owns the times at which each is due for a ping or a keep-alive comment
//! and cuts those that stopped answering.
//!
//! One per worker thread, started by the worker, ended with the process. A timer per connection would cost memory and wake-ups
//! while everybody is idle; this costs one wake-up per tick.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use tokio::time::Instant;

use super::{messages::Watch, outbox::Outbox};
use crate::protocol::{CloseReason, wire::Heartbeat};

/// How often the pulse looks, at most. Shorter heartbeats are looked after as often as this part of theirs.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_HEARTBEAT: u32 = 30;

pub struct Pulse {
    tick: Duration,
    due: BTreeMap<Instant, Vec<Due>>,
}

struct Due {
    outbox: Arc<Outbox>,
    heartbeat: Heartbeat,
    step: Step,
}

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
        Self { tick: TICK, due: BTreeMap::new() }
    }
}

impl Pulse {
    fn wait(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.tick, |pulse, ctx| {
            pulse.tick(Instant::now());
            pulse.wait(ctx);
        });
    }

    fn schedule(&mut self, at: Instant, due: Due) {
        self.due.entry(at).or_default().push(due);
    }

    fn tick(&mut self, now: Instant) {
        while let Some(entry) = self.due.first_entry() {
            if *entry.key() > now {
                break;
            }
            let at = *entry.key();
            // A little late is no reason to drift; after a long pause nobody is judged by what was due in it.
            let base = if now < at + 2 * TICK { at } else { now };
            for due in entry.remove() {
                self.act(due, base);
            }
        }
    }

    fn act(&mut self, due: Due, now: Instant) {
        if due.outbox.is_ended() {
            return;
        }
        let Due { outbox, heartbeat, step } = due;
        match (step, heartbeat.answer_within) {
            (Step::Check, _) if !outbox.take_heard() => outbox.close(CloseReason::TimedOut),
            (Step::Check, answer_within) => {
                let rest = heartbeat.every.saturating_sub(answer_within.unwrap_or_default());
                self.schedule(now + rest, Due { outbox, heartbeat, step: Step::Beat });
            }
            (Step::Beat, answer_within) => {
                if !heartbeat.bytes.is_empty() {
                    outbox.push_control(Bytes::from_static(heartbeat.bytes));
                }
                match answer_within {
                    Some(within) => {
                        // Only what comes after the ping answers it.
                        outbox.take_heard();
                        self.schedule(now + within, Due { outbox, heartbeat, step: Step::Check });
                    }
                    None => self.schedule(now + heartbeat.every, Due { outbox, heartbeat, step: Step::Beat }),
                }
            }
        }
    }
}

impl Handler<Watch> for Pulse {
    type Result = ();

    fn handle(&mut self, Watch { outbox, heartbeat }: Watch, _: &mut Context<Self>) {
        self.tick = self.tick.min((heartbeat.every / TICKS_PER_HEARTBEAT).max(Duration::from_millis(1)));
        self.schedule(Instant::now() + heartbeat.every, Due { outbox, heartbeat, step: Step::Beat });
    }
}
