//! RedisBridge: the actor on the bus. It owns the routes from channels to the groups of rooms and users, reads each message's
//! dialect once, and hands the publication to each worker that has members.
//!
//! One per process, or on a Redis Cluster per shard; started by the hub on the first worker's arbiter (next to the registry, because
//! each thread crossed costs a wake-up), and lives as long as the process. What it carries over is a [`Link`]: Redis, or the embedded broker.

mod history;
pub mod moving;
pub mod nodes;
mod publishing;
mod receipts;
mod route;

use std::{collections::HashMap, hash::BuildHasher, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::{FixedState, RandomState};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use self::{
    history::HistoryDesk,
    receipts::Receipts,
    route::{ChannelState, Route},
};
use super::{
    link::{Confirmed, Inbound, InboundLost, Link, LinkDown, LinkUp, Refused, Tracked},
    recording::Origin,
};
use crate::{
    actors::{
        attendance::Attendance,
        messages::{BridgeDown, BridgeRestored, BridgeUp, BrokerError, Deliver, NodeSaid, Revoked, Steer, Subscribe, Unsubscribe},
        receipt::Receipt,
    },
    config::Config,
    lifeline::{Lifeline, Readiness},
    metrics::Metrics,
    protocol::{
        Target,
        dialect::{Control, DecodeError, Delivery, Emit},
        resume::ResumeKey,
        source::{Decoded, Sources, Standing},
    },
};

/// Messages taken before the other tasks of the thread have their turn, the reader's among them: where the thread has too little
/// time, it is to read on, and the mailbox to overflow and be counted, before Redis loses patience and cuts us off.
const MESSAGES_PER_TURN: u64 = 512;
/// How often a source's unreadable payloads are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What the bridge tells the registry.
#[derive(Debug, Clone)]
pub struct Reports {
    pub restored: Recipient<BridgeRestored>,
    pub revoked: Recipient<Revoked>,
    pub up: Recipient<BridgeUp>,
    pub down: Recipient<BridgeDown>,
    pub node_said: Recipient<NodeSaid>,
    pub steer: Recipient<Steer>,
}

pub struct BridgeParts {
    pub config: Arc<Config>,
    pub sources: Sources,
    /// Signs ids until the link brings the key that all nodes share.
    pub key: ResumeKey,
    /// `broker.prefix`.
    pub prefix: String,
    /// `mailbox.bridge`.
    pub mailbox: usize,
    pub reports: Reports,
    pub readiness: Arc<Readiness>,
    pub metrics: Metrics,
    pub lifeline: Option<Lifeline>,
    /// Who is where on this node.
    pub attendance: Attendance,
}

pub struct RedisBridge {
    parts: BridgeParts,
    /// `None` until the link is attached, which needs the bridge's address.
    link: Option<Box<dyn Link>>,
    routes: HashMap<Target, Route, RandomState>,
    sources: Rc<Sources>,
    /// What it takes to keep history.
    desk: HistoryDesk,
    /// Whose route a subscribed channel is of. A channel has one owner: the first source that matches decides.
    owners: HashMap<Arc<str>, Target, RandomState>,
    /// What the publishers on this node wait for.
    receipts: Receipts,
    /// One for each publish on its way: a broker that doesn't answer must not heap them up.
    permits: Arc<Semaphore>,
    /// Messages taken.
    taken: u64,
    /// When each source's unreadable payloads were last logged.
    logged: HashMap<usize, Instant>,
    is_up: bool,
    /// It was up once, so the next time is a return.
    was_up: bool,
}

impl RedisBridge {
    pub fn new(parts: BridgeParts) -> Self {
        parts.sources.iter().for_each(|source| parts.metrics.expect_source(source.label(), &DecodeError::REASONS));
        Self {
            permits: Arc::new(Semaphore::new(parts.mailbox.min(Semaphore::MAX_PERMITS))),
            sources: Rc::new(parts.sources.clone()),
            desk: HistoryDesk::new(parts.key),
            parts,
            link: None,
            routes: HashMap::default(),
            owners: HashMap::default(),
            receipts: Receipts::default(),
            taken: 0,
            logged: HashMap::new(),
            is_up: false,
            was_up: false,
        }
    }

    /// The link that carries for this bridge. Called once, before the bridge is asked for anything.
    pub fn attach(&mut self, link: Box<dyn Link>) {
        self.desk.archive = link.archive();
        self.link = Some(link);
    }

    fn native_channel(&self, target: &Target) -> Arc<str> {
        moving::native_channel(&self.parts.prefix, target).into()
    }

    fn is_standing(&self, channel: &str) -> bool {
        self.sources.label_of(channel).is_some_and(|label| {
            self.sources.standing().iter().any(|standing| match standing {
                Standing::Channel(text) | Standing::Pattern(text) => text == label,
            })
        })
    }

    /// One message, which its publisher waits for if there is a receipt.
    fn take_in(&mut self, Inbound { channel, payload }: Inbound, receipt: Option<Receipt>, ctx: &mut Context<Self>) {
        self.taken += 1;
        if self.taken.is_multiple_of(MESSAGES_PER_TURN) {
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
        match nodes::node_channel(&channel, &self.parts.prefix) {
            Some(channel) => nodes::hand_on(&self.parts.reports.node_said, channel, payload, &self.parts.metrics),
            None => {
                self.route(&channel, &payload, receipt, ctx);
                self.flush_soon(ctx);
            }
        }
    }

    /// Fans one message out.
    fn route(&mut self, channel: &str, payload: &Bytes, mut receipt: Option<Receipt>, ctx: &mut Context<Self>) {
        let Some(Decoded { source, label, deliveries }) = self.sources.decode(channel, payload) else { return };
        match deliveries {
            Ok(deliveries) => {
                for (index, delivery) in deliveries.into_iter().enumerate() {
                    match delivery {
                        Delivery::Emit(emit) => {
                            if let Some(target) = self.deliver(&label, emit, Origin { channel, payload, index }, &mut receipt) {
                                self.conclude_catch_up(target, false, ctx);
                            }
                        }
                        Delivery::Control(control) => self.steer(control),
                    }
                }
            }
            Err(error) => {
                self.parts.metrics.source_error(&label, error.reason());
                let now = Instant::now();
                let is_due = self.logged.get(&source).is_none_or(|then| now.duration_since(*then) >= LOG_INTERVAL);
                if is_due {
                    self.logged.insert(source, now);
                    log::warn!("channel {channel:?} (source {label:?}): {error}; further ones are only counted for a minute");
                }
            }
        }
    }

    /// The broker has answered for these channels. Before the link is up nobody is told: nothing is proven yet.
    fn note(&mut self, channels: &[Arc<str>], state: &ChannelState, ctx: &mut Context<Self>) {
        for channel in channels {
            let Some(target) = self.owners.get(channel).cloned() else { continue };
            let Some(route) = self.routes.get_mut(&target) else { continue };
            route.set(channel, state.clone());
            if self.is_up {
                route.settle();
                self.tell_torn(&target, ctx);
            }
            self.ask_for_marker(&target);
        }
    }

    fn is_confirmed(&self, target: &Target, channel: &str) -> bool {
        self.routes.get(target).is_some_and(|route| route.is_confirmed(channel))
    }

    /// Remembers that a publisher waits; `None` if nothing of it will come down here.
    fn expect_receipt(
        &mut self,
        id: &str,
        targets: &[Target],
        channels: &[Arc<str>],
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Receiver<usize>> {
        let expected = targets.iter().zip(channels).filter(|(target, channel)| self.is_confirmed(target, channel)).count();
        if expected == 0 || !self.is_up {
            return None;
        }
        let id: Box<str> = id.into();
        let told = self.receipts.expect(id.clone(), expected);
        ctx.run_later(receipts::PATIENCE, move |bridge, _| bridge.receipts.give_up(&id));
        Some(told)
    }

    /// `tracked`: whom the publisher waits for, where it is not an event of this node's own. Returns the addressee if what it
    /// missed in an outage is waited for no longer.
    fn deliver(&mut self, label: &Arc<str>, emit: Emit<Target>, origin: Origin<'_>, tracked: &mut Option<Receipt>) -> Option<Target> {
        let target = emit.to.clone();
        let route = self.routes.get_mut(&target).filter(|route| !route.is_frozen)?;
        let receipt = emit.event.id.as_deref().and_then(|id| self.receipts.take(id)).or_else(|| tracked.take());
        let publication = history::publication(emit, &self.parts.attendance);
        let ready = |publication| Deliver { publication, received: Instant::now(), receipt };
        let published = self.parts.metrics.published(label);
        let Some(recording) = &mut route.recording else {
            published.inc();
            route.fan_out(&ready(Arc::new(publication)), &self.parts.metrics);
            return None;
        };
        let taken = self.desk.take_down(recording, publication, origin, ready);
        self.parts.metrics.history_writes("lost", taken.unwritten);
        published.inc_by(taken.ready.len() as u64);
        taken.ready.iter().for_each(|delivery| route.fan_out(delivery, &self.parts.metrics));
        // While the link is still down, its return tells of the gap.
        (taken.gave_up && self.is_up).then_some(target)
    }

    /// Hands on what a publisher wants of its clients.
    fn steer(&self, control: Control) {
        if self.link.as_ref().is_some_and(|link| !link.is_lead()) {
            return;
        }
        if let Err(SendError::Full(_)) = self.parts.reports.steer.try_send(Steer(control)) {
            self.parts.metrics.mailbox_full("registry");
        }
    }

    /// The broker serves these no more: after an outage, or where they have moved to, it knows us as somebody who may not.
    #[expect(clippy::disallowed_methods, reason = "once per change of the broker's mind, and it must not be lost")]
    fn revoke(&self, targets: Vec<(Target, BrokerError)>) {
        if !targets.is_empty() {
            self.parts.reports.revoked.do_send(Revoked(targets));
        }
    }

    /// Nobody listens to it any more.
    fn close_route(&mut self, target: &Target) -> Option<Route> {
        let route = self.routes.remove(target)?;
        route.recording.iter().for_each(|recording| self.desk.close(recording));
        let channels = route.channels();
        channels.iter().for_each(|channel| _ = self.owners.remove(channel));
        if let Some(link) = &mut self.link {
            link.unsubscribe(channels);
        }
        Some(route)
    }
}

pub(super) fn random_id() -> Result<Box<str>, BrokerError> {
    let number = getrandom::u64().and_then(|low| Ok((getrandom::u64()?, low)));
    let (high, low) = number.map_err(|error| BrokerError::Refused(format!("no randomness for an id: {error}")))?;
    Ok(format!("{high:016x}{low:016x}").into())
}

/// What makes the publications of one event to several addressees the same event.
fn duplicate_key(id: &str) -> u64 {
    FixedState::default().hash_one(id)
}

impl Actor for RedisBridge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.parts.mailbox);
        Self::keep_house(ctx);
    }
}

impl Handler<Inbound> for RedisBridge {
    type Result = ();

    fn handle(&mut self, inbound: Inbound, ctx: &mut Context<Self>) {
        self.take_in(inbound, None, ctx);
    }
}

impl Handler<Tracked> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Tracked { inbound, receipt }: Tracked, ctx: &mut Context<Self>) {
        self.take_in(inbound, Some(receipt), ctx);
    }
}

impl Handler<InboundLost> for RedisBridge {
    type Result = ();

    fn handle(&mut self, InboundLost { channels }: InboundLost, ctx: &mut Context<Self>) {
        self.parts.metrics.broker_gaps().inc();
        let mut may_concern_all = false;
        for (channel, count) in channels {
            match self.owners.get(&channel).and_then(|target| self.routes.get(target)) {
                Some(route) => {
                    if let Some(label) = self.sources.label_of(&channel) {
                        self.parts.metrics.published(label).inc_by(count);
                    }
                    route.feeds.iter().for_each(|feed| feed.miss(count));
                }
                // Its payloads named their rooms, and they are lost: it could have been any.
                // A channel that is no longer subscribed concerns nobody.
                None => may_concern_all |= self.is_standing(&channel),
            }
        }
        if may_concern_all {
            self.tell_members_soon(self.routes.keys().cloned().collect(), ctx);
        }
    }
}

impl Handler<Confirmed> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Confirmed { channels }: Confirmed, ctx: &mut Context<Self>) {
        self.note(&channels, &ChannelState::Confirmed, ctx);
    }
}

impl Handler<Refused> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Refused { channels, error }: Refused, ctx: &mut Context<Self>) {
        self.note(&channels, &ChannelState::Refused(error), ctx);
    }
}

impl Handler<LinkUp> for RedisBridge {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "once per outage, and it must not be lost")]
    fn handle(&mut self, LinkUp: LinkUp, ctx: &mut Context<Self>) {
        self.is_up = true;
        if std::mem::replace(&mut self.was_up, true) {
            self.parts.metrics.broker_reconnects().inc();
        }
        let is_all = self.link.as_ref().is_none_or(|link| link.is_all());
        self.parts.readiness.set_broker_up(is_all);
        self.parts.metrics.broker_up().set(i64::from(is_all));
        let (mut torn, mut revoked, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
        for (target, route) in &mut self.routes {
            route.settle();
            match route.outcome().filter(|_| std::mem::take(&mut route.is_torn)) {
                Some(Ok(())) => torn.push(target.clone()),
                Some(Err(error)) => revoked.push((target.clone(), error)),
                None => {}
            }
            if route.recording.is_some() {
                recorded.push(target.clone());
            }
        }
        recorded.iter().for_each(|target| self.ask_for_marker(target));
        self.revoke(revoked);
        self.restore(torn, ctx);
        self.catch_up_all(ctx);
        self.parts.reports.up.do_send(BridgeUp);
    }
}

impl Handler<LinkDown> for RedisBridge {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "once per outage, and it must not be lost")]
    fn handle(&mut self, LinkDown: LinkDown, ctx: &mut Context<Self>) {
        let was_up = std::mem::take(&mut self.is_up);
        if was_up {
            self.parts.readiness.set_broker_up(false);
            self.parts.metrics.broker_up().set(0);
            self.parts.metrics.broker_gaps().inc();
            self.parts.reports.down.do_send(BridgeDown);
        }
        for route in self.routes.values_mut() {
            route.is_torn |= was_up && matches!(route.outcome(), Some(Ok(())));
            route.ask_again();
            if let Some(recording) = &mut route.recording {
                recording.lose(&self.desk.timeline);
                // It goes on once they were.
                route.is_torn |= recording.untold().is_some();
            }
        }
        self.desk.lose();
        _ = self.stop_restoring(ctx);
    }
}

impl Handler<Subscribe> for RedisBridge {
    type Result = ResponseFuture<Result<(), BrokerError>>;

    fn handle(&mut self, Subscribe { target, feed }: Subscribe, _: &mut Context<Self>) -> Self::Result {
        let (waiting, answered) = oneshot::channel();
        let mut asked = Vec::new();
        let route = self.routes.entry(target.clone()).or_insert_with(|| {
            asked = self.sources.channels_of(&target);
            let mut route = Route::new(&asked);
            if let Target::Room(room) = &target {
                let limits = self.parts.config.rule_for(room).history;
                route.recording = limits.is_kept().then(|| self.desk.open(room, limits));
            }
            route
        });
        route.recording.iter_mut().for_each(|recording| self.desk.note_visited(&target, recording));
        // Somebody may have changed the ACL since.
        if let Some(Err(_)) = route.outcome() {
            asked = route.ask_again();
        }
        route.waiting.retain(|waiting| !waiting.is_closed());
        route.feeds.retain(|known| known.worker != feed.worker);
        route.feeds.push(feed);
        route.waiting.push(waiting);
        if self.is_up {
            route.settle();
        }
        for channel in &asked {
            self.owners.insert(Arc::clone(channel), target.clone());
        }
        if let (Some(link), false) = (&mut self.link, asked.is_empty()) {
            link.subscribe(asked);
        }
        if self.is_up {
            // A room that lives on standing channels alone is subscribed already.
            self.ask_for_marker(&target);
        }
        Box::pin(async move { answered.await.unwrap_or(Err(BrokerError::Unavailable)) })
    }
}

impl Handler<Unsubscribe> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Unsubscribe { target, worker }: Unsubscribe, _: &mut Context<Self>) {
        let Some(route) = self.routes.get_mut(&target) else { return };
        route.feeds.retain(|feed| feed.worker != worker);
        if !route.feeds.is_empty() {
            return;
        }
        match &mut route.recording {
            // It goes on recording for those who come back.
            Some(recording) => self.desk.note_deserted(target, recording),
            None => _ = self.close_route(&target),
        }
    }
}
