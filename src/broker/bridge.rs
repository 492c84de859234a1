//! RedisBridge: the actor on the bus. It owns the routes from channels to the groups of rooms and users, reads each message's
//! dialect once, and hands the publication to each worker that has members.
//!
//! One per process, started by the hub on the first worker's arbiter (next to the registry, because each thread crossed costs
//! a wake-up), and lives as long as the process. What it carries over is a [`Link`]: Redis, or the embedded broker.

mod history;

use std::{collections::HashMap, hash::BuildHasher, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::{FixedState, RandomState};
use futures_util::future;
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};

use self::history::HistoryDesk;
use super::{
    link::{Confirmed, Inbound, InboundLost, Link, LinkDown, LinkUp, Refused},
    recording::{Origin, Recording},
};
use crate::{
    actors::{
        messages::{BridgeRestored, BrokerError, Deliver, Feed, Publish, Published, Subscribe, Unsubscribe},
        receipt::Receipt,
    },
    config::Config,
    lifeline::{Lifeline, Readiness},
    metrics::Metrics,
    protocol::{
        Target,
        dialect::{Delivery, Emit, callboard},
        resume::ResumeKey,
        source::{Decoded, Destination, Sources},
    },
};

/// How long a publisher waits to hear how many connections took its event.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a source's unreadable payloads are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What the bridge tells the registry.
#[derive(Debug, Clone)]
pub struct Reports {
    pub restored: Recipient<BridgeRestored>,
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
    /// Publications of this node whose publishers wait to hear who took them, by event id.
    receipts: HashMap<Box<str>, Pending, RandomState>,
    /// When each source's unreadable payloads were last logged.
    logged: HashMap<usize, Instant>,
    is_up: bool,
}

/// Where the publications of one room or user go.
struct Route {
    feeds: SmallVec<[Feed; 2]>,
    channels: SmallVec<[(Arc<str>, ChannelState); 2]>,
    waiting: Vec<oneshot::Sender<Result<(), BrokerError>>>,
    /// It was whole when the link went down.
    is_torn: bool,
    /// Of a room with history.
    recording: Option<Box<Recording>>,
}

impl Route {
    fn new(channels: &[Arc<str>]) -> Self {
        Self {
            feeds: SmallVec::new(),
            channels: channels.iter().map(|channel| (Arc::clone(channel), ChannelState::Asked)).collect(),
            waiting: Vec::new(),
            is_torn: false,
            recording: None,
        }
    }

    fn set(&mut self, channel: &str, state: ChannelState) {
        if let Some((_, known)) = self.channels.iter_mut().find(|(known, _)| **known == *channel) {
            *known = state;
        }
    }

    /// What the broker made of it; `None` while an answer is missing. A room is served if any of its channels is: an ACL may
    /// well allow the native ones alone.
    fn outcome(&self) -> Option<Result<(), BrokerError>> {
        if self.channels.iter().any(|(_, state)| *state == ChannelState::Asked) {
            return None;
        }
        let refused = |state: &ChannelState| match state {
            ChannelState::Refused(error) => Some(error.clone()),
            ChannelState::Asked | ChannelState::Confirmed => None,
        };
        match self.channels.iter().map(|(_, state)| refused(state)).collect::<Option<Vec<_>>>() {
            Some(errors) => Some(Err(BrokerError::Refused(errors.into_iter().next().unwrap_or_default()))),
            None => Some(Ok(())),
        }
    }

    /// Hands a publication to each worker that has members.
    fn fan_out(&self, delivery: &Deliver, metrics: &Metrics) {
        for feed in &self.feeds {
            match feed.deliver_to.try_send(delivery.clone()) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    feed.miss(1);
                    metrics.mailbox_full("group");
                }
                // The registry has let it go and the unsubscription is on its way.
                Err(SendError::Closed(_)) => {}
            }
        }
    }

    /// Answers those who wait, if it is known what to. Who joins a room with history is told when its events have numbers.
    fn settle(&mut self) {
        let is_numbered = self.recording.as_ref().is_none_or(|recording| recording.is_numbered());
        if let Some(outcome) = self.outcome().filter(|outcome| is_numbered || outcome.is_err()) {
            for waiting in self.waiting.drain(..) {
                // Who asked may be gone.
                let _ = waiting.send(outcome.clone());
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ChannelState {
    Asked,
    Confirmed,
    Refused(String),
}

struct Pending {
    receipt: Receipt,
    /// Channels of ours on which it has yet to come down.
    expected: usize,
}

impl RedisBridge {
    pub fn new(parts: BridgeParts) -> Self {
        Self {
            sources: Rc::new(parts.sources.clone()),
            desk: HistoryDesk::new(parts.key),
            parts,
            link: None,
            routes: HashMap::default(),
            owners: HashMap::default(),
            receipts: HashMap::default(),
            logged: HashMap::new(),
            is_up: false,
        }
    }

    /// The link that carries for this bridge. Called once, before the bridge is asked for anything.
    pub fn attach(&mut self, link: Box<dyn Link>) {
        self.desk.archive = link.archive();
        self.link = Some(link);
    }

    fn native_channel(&self, target: &Target) -> Arc<str> {
        let (kind, name) = match target {
            Target::Room(room) => ("room", room.as_str()),
            Target::User(user) => ("user", user.as_str()),
        };
        Arc::from(format!("{}:{kind}:{name}", self.parts.prefix))
    }

    /// Fans one message out.
    fn route(&mut self, channel: &str, payload: &Bytes) {
        let Some(Decoded { source, label, deliveries }) = self.sources.decode(channel, payload) else { return };
        match deliveries {
            Ok(deliveries) => {
                for (index, delivery) in deliveries.into_iter().enumerate() {
                    if let Delivery::Emit(emit) = delivery {
                        self.deliver(&label, emit, Origin { channel, payload, index });
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

    fn deliver(&mut self, label: &Arc<str>, emit: Emit<Destination>, origin: Origin<'_>) {
        let Destination::Target(target) = &emit.to else { return };
        let Some(route) = self.routes.get_mut(target) else { return };
        self.parts.metrics.published(label).inc();
        let receipt = emit.event.id.as_deref().and_then(|id| take_receipt(&mut self.receipts, id));
        let publication = history::publication(target.clone(), emit);
        let ready = |publication| Deliver { publication, received: Instant::now(), receipt };
        match &mut route.recording {
            None => route.fan_out(&ready(Arc::new(publication)), &self.parts.metrics),
            Some(recording) => {
                let (delivery, given_up) = self.desk.take_down(recording, publication, origin, ready);
                self.parts.metrics.history_writes("lost", given_up);
                if let Some(delivery) = delivery {
                    route.fan_out(&delivery, &self.parts.metrics);
                }
            }
        }
    }

    /// Nobody listens to it any more.
    fn close_route(&mut self, target: &Target) {
        let Some(mut route) = self.routes.remove(target) else { return };
        route.recording.iter().for_each(|recording| self.desk.close(recording));
        let channels: Vec<Arc<str>> = route.channels.drain(..).map(|(channel, _)| channel).collect();
        channels.iter().for_each(|channel| _ = self.owners.remove(channel));
        if let Some(link) = &mut self.link {
            link.unsubscribe(channels);
        }
    }
}

/// The receipt for one more channel on which the publication came down; gone after the last.
fn take_receipt(receipts: &mut HashMap<Box<str>, Pending, RandomState>, id: &str) -> Option<Receipt> {
    let pending = receipts.get_mut(id)?;
    pending.expected -= 1;
    if pending.expected == 0 {
        return receipts.remove(id).map(|pending| pending.receipt);
    }
    Some(pending.receipt.clone())
}

fn random_id() -> Result<Box<str>, BrokerError> {
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

    fn handle(&mut self, Inbound { channel, payload }: Inbound, ctx: &mut Context<Self>) {
        self.route(&channel, &payload);
        self.flush_soon(ctx);
    }
}

impl Handler<InboundLost> for RedisBridge {
    type Result = ();

    fn handle(&mut self, InboundLost { channels }: InboundLost, _: &mut Context<Self>) {
        self.parts.metrics.broker_gaps().inc();
        for (channel, count) in channels {
            let Some(target) = self.owners.get(&channel) else { continue };
            if let Some(route) = self.routes.get(target) {
                self.parts.metrics.published("lost").inc_by(count);
                route.feeds.iter().for_each(|feed| feed.miss(count));
            }
        }
    }
}

impl Handler<Confirmed> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Confirmed { channels }: Confirmed, _: &mut Context<Self>) {
        for channel in channels {
            let Some(target) = self.owners.get(&channel).cloned() else { continue };
            if let Some(route) = self.routes.get_mut(&target) {
                route.set(&channel, ChannelState::Confirmed);
                route.settle();
                self.ask_for_marker(&target);
            }
        }
    }
}

impl Handler<Refused> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Refused { channels, error }: Refused, _: &mut Context<Self>) {
        for channel in channels {
            let Some(target) = self.owners.get(&channel).cloned() else { continue };
            if let Some(route) = self.routes.get_mut(&target) {
                route.set(&channel, ChannelState::Refused(error.clone()));
                route.settle();
                self.ask_for_marker(&target);
            }
        }
    }
}

impl Handler<LinkUp> for RedisBridge {
    type Result = ();

    fn handle(&mut self, LinkUp: LinkUp, ctx: &mut Context<Self>) {
        self.is_up = true;
        self.parts.readiness.set_broker_up(true);
        self.parts.metrics.broker_up().set(1);
        let torn = self.routes.iter_mut().filter_map(|(target, route)| std::mem::take(&mut route.is_torn).then(|| target.clone()));
        let torn = torn.collect();
        let recorded = self.routes.iter().filter(|(_, route)| route.recording.is_some()).map(|(target, _)| target.clone());
        recorded.collect::<Vec<_>>().iter().for_each(|target| self.ask_for_marker(target));
        self.restore(torn, ctx);
    }
}

impl Handler<LinkDown> for RedisBridge {
    type Result = ();

    fn handle(&mut self, LinkDown: LinkDown, _: &mut Context<Self>) {
        if !std::mem::take(&mut self.is_up) {
            return;
        }
        self.parts.readiness.set_broker_up(false);
        self.parts.metrics.broker_up().set(0);
        self.parts.metrics.broker_gaps().inc();
        self.parts.metrics.broker_reconnects().inc();
        for route in self.routes.values_mut() {
            route.is_torn |= matches!(route.outcome(), Some(Ok(())));
            route.channels.iter_mut().for_each(|(_, state)| *state = ChannelState::Asked);
            route.recording.iter_mut().for_each(|recording| recording.lose(&self.desk.timeline));
        }
        self.desk.lose();
    }
}

impl Handler<Subscribe> for RedisBridge {
    type Result = ResponseFuture<Result<(), BrokerError>>;

    fn handle(&mut self, Subscribe { target, feed }: Subscribe, _: &mut Context<Self>) -> Self::Result {
        let (waiting, answered) = oneshot::channel();
        let mut asked = Vec::new();
        let route = self.routes.entry(target.clone()).or_insert_with(|| {
            asked = self.parts.sources.channels_of(&target);
            let mut route = Route::new(&asked);
            if let Target::Room(room) = &target {
                let limits = self.parts.config.rule_for(room).history;
                route.recording = limits.is_kept().then(|| self.desk.open(room, limits));
            }
            route
        });
        route.feeds.retain(|known| known.worker != feed.worker);
        route.feeds.push(feed);
        route.waiting.push(waiting);
        route.settle();
        for channel in &asked {
            self.owners.insert(Arc::clone(channel), target.clone());
        }
        if let (Some(link), false) = (&mut self.link, asked.is_empty()) {
            link.subscribe(asked);
        }
        // A room that lives on standing channels alone is subscribed already.
        self.ask_for_marker(&target);
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
        match &route.recording {
            // It goes on recording for those who come back.
            Some(recording) => self.desk.note_deserted(target, recording.limits.ttl),
            None => self.close_route(&target),
        }
    }
}

impl Handler<Publish> for RedisBridge {
    type Result = ResponseFuture<Result<Published, BrokerError>>;

    fn handle(&mut self, mut order: Publish, ctx: &mut Context<Self>) -> Self::Result {
        let Some(key) = order.idempotency_key.take() else { return self.publish(order, ctx) };
        let id = match order.event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        order.event.id = Some(id.clone());
        let archive = self.desk.archive.clone();
        let claimed = match &archive {
            Some(archive) => archive.claim(&key, &id),
            None => Box::pin(future::ready(Ok(self.desk.claims.claim(&key, &id, Instant::now())))),
        };
        let bridge = ctx.address();
        Box::pin(async move {
            if let Some(id) = claimed.await? {
                return Ok(Published { id, delivered: 0 });
            }
            let published = bridge.send(order).await.unwrap_or(Err(BrokerError::Unavailable));
            if published.is_err() {
                match archive {
                    Some(archive) => archive.release(&key).await,
                    // An error says that the bridge is gone, and the claims with it.
                    None => _ = bridge.send(GiveUpClaim(key)).await,
                }
            }
            published
        })
    }
}

/// To itself: the publication failed that was claimed under this key.
#[derive(Message)]
#[rtype(result = "()")]
struct GiveUpClaim(Box<str>);

impl Handler<GiveUpClaim> for RedisBridge {
    type Result = ();

    fn handle(&mut self, GiveUpClaim(key): GiveUpClaim, _: &mut Context<Self>) {
        self.desk.claims.release(&key);
    }
}

impl RedisBridge {
    fn publish(&mut self, order: Publish, ctx: &mut Context<Self>) -> ResponseFuture<Result<Published, BrokerError>> {
        let Publish { targets, mut event, except, .. } = order;
        let id = match event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        event.id = Some(id.clone());
        let key = (targets.len() > 1).then(|| duplicate_key(&id));
        let payload = Bytes::from(callboard::encode(&event, &except, key));
        let expected = targets.iter().filter(|target| self.routes.contains_key(*target)).count();
        let told = (expected > 0 && self.is_up).then(|| {
            let (receipt, told) = Receipt::new();
            self.receipts.insert(id.clone(), Pending { receipt, expected });
            let id = id.clone();
            ctx.run_later(RECEIPT_PATIENCE, move |bridge, _| _ = bridge.receipts.remove(&id));
            told
        });
        let channels = targets.iter().map(|target| self.native_channel(target)).collect();
        let Some(link) = &mut self.link else { return Box::pin(future::ready(Err(BrokerError::Unavailable))) };
        let sent = link.publish(channels, payload);
        Box::pin(async move {
            sent.await?;
            let delivered = match told {
                // A receipt that is given up tells what it has counted.
                Some(told) => told.await.unwrap_or_default(),
                None => 0,
            };
            Ok(Published { id, delivered })
        })
    }
}
