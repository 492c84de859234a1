//! RoomRegistry: who is in which room. It owns every membership of this node and alone starts and ends rooms and users.
//!
//! One per process, started by the hub on the first worker's arbiter, and lives as long as the process: a lifeline ends the
//! process if it dies. All membership passes its mailbox, so that "last one left, next one joined" is a sequence and not a race.
//! It is off the path of events: the bridge is handed the address of each group and delivers by itself.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Recipient, ResponseFuture, WrapFuture};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::future;
use prometheus_client::metrics::gauge::Gauge;
use smallvec::{SmallVec, smallvec};
use tokio::{sync::oneshot, time::Instant};

use super::{
    group::GroupOptions,
    hall::{Hall, Place, Waiting},
    messages::{
        BridgeOverflowed, BridgeRestored, BrokerError, Connect, ConnectionEnded, Join, Leave, Publish, PublishAs, Published, Refusal,
        Subscribe, Tell, Unsubscribe,
    },
    outbox::Outbox,
    worker::Worker,
};
use crate::{
    auth::{Identity, rules},
    config::Config,
    lifeline::Lifeline,
    metrics::Metrics,
    protocol::{ConnectionId, Encoding, ErrorCode, GapReason, Reference, Reply, RoomName, Target},
};

/// How long a client waits for the broker before it is told that it has joined although nothing is confirmed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Gaps of one outage are told in one notice; they come in within this time.
const GAP_COLLECTION: Duration = Duration::from_millis(100);
/// How often rooms that nobody is in are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The bridge, as the registry addresses it.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub subscribe: Recipient<Subscribe>,
    pub unsubscribe: Recipient<Unsubscribe>,
    pub publish: Recipient<Publish>,
}

pub struct RegistryParts {
    pub config: Arc<Config>,
    pub bridge: Bridge,
    pub metrics: Metrics,
    pub lifeline: Option<Lifeline>,
}

pub struct RoomRegistry {
    pub(super) parts: RegistryParts,
    /// Rooms and users with members on this node, and those that linger.
    pub(super) halls: HashMap<Target, Hall, RandomState>,
    pub(super) connections: HashMap<ConnectionId, Client, RandomState>,
    /// Groups that were left by their last member, oldest first.
    deserted: VecDeque<(Instant, Target, usize)>,
    /// What the connections will be told when [`GAP_COLLECTION`] is over.
    gaps: BTreeMap<ConnectionId, Gap>,
}

/// One connection, as the registry knows it.
pub(super) struct Client {
    pub identity: Arc<Identity>,
    pub outbox: Arc<Outbox>,
    encoding: Encoding,
    tell: Recipient<Tell>,
    worker: Worker,
    pub rooms: SmallVec<[RoomName; 2]>,
}

struct Gap {
    rooms: Vec<RoomName>,
    user: bool,
    reason: GapReason,
}

pub(super) type Answer<T> = ResponseFuture<Result<T, Refusal>>;

fn at_once<T: 'static>(result: Result<T, Refusal>) -> Answer<T> {
    Box::pin(future::ready(result))
}

impl RoomRegistry {
    pub fn new(parts: RegistryParts) -> Self {
        Self { parts, halls: HashMap::default(), connections: HashMap::default(), deserted: VecDeque::new(), gaps: BTreeMap::new() }
    }

    /// May this connection become a member, and is it none yet?
    fn admit(&self, connection: ConnectionId, room: &RoomName) -> Result<&Client, Refusal> {
        let client = self.connections.get(&connection).ok_or_else(connection_is_gone)?;
        rules::may_join(&client.identity, room, self.parts.config.rule_for(room))
            .map_err(|refused| Refusal::new(ErrorCode::Forbidden, refused.to_string()))?;
        let limit = self.parts.config.http.max_rooms_per_connection;
        if client.rooms.len() >= limit && !client.rooms.contains(room) {
            return Err(Refusal::new(ErrorCode::TooManyRooms, format!("a connection may be in {limit} rooms")));
        }
        Ok(client)
    }

    /// Makes a connection a member of a room or user, at once or when the broker has confirmed.
    pub(super) fn enter(
        &mut self,
        connection: ConnectionId,
        target: Target,
        greeting: Option<Bytes>,
        ctx: &mut Context<Self>,
    ) -> Answer<()> {
        let Some(client) = self.connections.get_mut(&connection) else { return at_once(Err(connection_is_gone())) };
        let is_known = client.note_room(&target);
        let place = Place { connection, encoding: client.encoding, outbox: Arc::clone(&client.outbox) };
        let worker = client.worker.clone();
        let options = self.group_options(&target);
        let hall = match self.halls.entry(target.clone()) {
            Entry::Occupied(hall) => hall.into_mut(),
            Entry::Vacant(vacant) => {
                gauge(&self.parts.metrics, &target).inc();
                vacant.insert(Hall::default())
            }
        };
        let is_new = hall.prepare(&worker, &target, options);
        let (answer, answered) = oneshot::channel();
        hall.enter(worker.index, is_known, Waiting { place, greeting, answer });
        let must_wait = hall.is_waiting(worker.index);
        if is_new {
            self.subscribe(target.clone(), worker.index, ctx);
        }
        if must_wait {
            ctx.run_later(PATIENCE, move |registry, _| {
                if let Some(hall) = registry.halls.get_mut(&target) {
                    hall.admit_unproven(worker.index);
                }
            });
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(connection_is_gone())) })
    }

    fn group_options(&self, target: &Target) -> GroupOptions {
        let mailbox = &self.parts.config.mailbox;
        let (capacity, overflow) = match target {
            Target::Room(room) => (mailbox.room, self.parts.config.rule_for(room).overflow),
            Target::User(_) => (mailbox.user, None),
        };
        GroupOptions {
            mailbox: capacity,
            overflow: overflow.unwrap_or(mailbox.overflow),
            missed: Arc::default(),
            metrics: self.parts.metrics.clone(),
        }
    }

    fn subscribe(&mut self, target: Target, worker: usize, ctx: &mut Context<Self>) {
        let Some(feed) = self.halls.get_mut(&target).and_then(|hall| hall.feed(worker)) else { return };
        let sent = self.parts.bridge.subscribe.send(Subscribe { target: target.clone(), feed });
        ctx.spawn(sent.into_actor(self).map(move |answer, registry, ctx| {
            registry.confirm(&target, worker, answer.unwrap_or(Err(BrokerError::Unavailable)), ctx);
        }));
    }

    /// The broker answered a subscription: everybody who waited for it is a member now.
    fn confirm(&mut self, target: &Target, worker: usize, answer: Result<(), BrokerError>, ctx: &mut Context<Self>) {
        let Some(hall) = self.halls.get_mut(target) else { return };
        match answer {
            Ok(()) => {
                for connection in hall.open(worker) {
                    self.note_gap(connection, target, GapReason::BrokerLost, ctx);
                }
            }
            Err(error) => {
                for connection in hall.refuse(worker, &error) {
                    if let Some(client) = self.connections.get_mut(&connection) {
                        client.forget_room(target);
                    }
                }
                self.deserted.push_back((Instant::now(), target.clone(), worker));
            }
        }
    }

    pub(super) fn exit(&mut self, connection: ConnectionId, worker: usize, target: Target, farewell: Option<Bytes>) {
        if let Some(hall) = self.halls.get_mut(&target)
            && hall.leave(worker, connection, farewell)
        {
            self.deserted.push_back((Instant::now(), target, worker));
        }
    }

    /// Ends the groups that nobody has been in for the linger time. Only those that were left are looked at.
    #[expect(clippy::disallowed_methods, reason = "once per room and worker, and it must not be lost")]
    fn sweep(&mut self) {
        let linger = self.parts.config.broker.linger;
        while self.deserted.front().is_some_and(|(since, ..)| since.elapsed() >= linger) {
            let Some((_, target, worker)) = self.deserted.pop_front() else { return };
            let Some(hall) = self.halls.get_mut(&target) else { continue };
            if hall.retire(worker, linger) {
                self.parts.bridge.unsubscribe.do_send(Unsubscribe { target: target.clone(), worker });
            }
            if hall.is_closed() {
                gauge(&self.parts.metrics, &target).dec();
                self.halls.remove(&target);
            }
        }
    }

    /// Remembers that a connection may have missed events of the target; it is told once, with all its rooms.
    fn note_gap(&mut self, connection: ConnectionId, target: &Target, reason: GapReason, ctx: &mut Context<Self>) {
        if self.gaps.is_empty() {
            ctx.run_later(GAP_COLLECTION, |registry, _| registry.tell_gaps());
        }
        let gap = self.gaps.entry(connection).or_insert_with(|| Gap { rooms: Vec::new(), user: false, reason });
        match target {
            Target::Room(room) if gap.rooms.contains(room) => {}
            Target::Room(room) => gap.rooms.push(room.clone()),
            Target::User(_) => gap.user = true,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one notice per connection and outage, and it must not be lost")]
    fn tell_gaps(&mut self) {
        for (connection, Gap { rooms, user, reason }) in std::mem::take(&mut self.gaps) {
            if let Some(client) = self.connections.get(&connection) {
                client.tell.do_send(Tell(Reply::Gap { rooms, user, reason, dropped: None }));
            }
        }
    }

    fn note_gaps_of(&mut self, targets: &HashSet<Target, RandomState>, reason: GapReason, ctx: &mut Context<Self>) {
        let mut affected = Vec::new();
        for (connection, client) in &self.connections {
            let of_client = client.targets().filter(|target| targets.contains(target));
            affected.extend(of_client.map(|target| (*connection, target)));
        }
        for (connection, target) in affected {
            self.note_gap(connection, &target, reason, ctx);
        }
    }

    /// Makes a connection a member because the application says so.
    pub(super) fn enrol(&mut self, connection: ConnectionId, room: RoomName, ctx: &mut Context<Self>) -> Answer<()> {
        let Some(client) = self.connections.get(&connection) else { return at_once(Err(connection_is_gone())) };
        if client.rooms.contains(&room) {
            return at_once(Ok(()));
        }
        let greeting = client.encoding.reply(&Reply::Joined { room: room.clone(), id: None, reference: Reference::default() });
        self.enter(connection, Target::Room(room), greeting, ctx)
    }

    /// Ends a membership because the application says so.
    pub(super) fn expel(&mut self, connection: ConnectionId, room: &RoomName) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        let Some(place) = client.rooms.iter().position(|known| known == room) else { return };
        client.rooms.remove(place);
        let worker = client.worker.index;
        let farewell = client.encoding.reply(&Reply::Left { room: room.clone(), reference: Reference::default() });
        self.exit(connection, worker, Target::Room(room.clone()), farewell);
    }

    fn may_publish(&self, order: &PublishAs) -> Result<(), Refusal> {
        let client = self.connections.get(&order.connection).ok_or_else(connection_is_gone)?;
        let is_member = client.rooms.contains(&order.room);
        rules::may_publish(&client.identity, &order.room, self.parts.config.rule_for(&order.room), is_member)
            .map_err(|refused| Refusal::new(ErrorCode::Forbidden, refused.to_string()))
    }
}

fn gauge<'a>(metrics: &'a Metrics, target: &Target) -> &'a Gauge {
    match target {
        Target::Room(_) => metrics.rooms(),
        Target::User(_) => metrics.users(),
    }
}

impl Client {
    /// True if it was in the room already. A user's own events come once, with the connection.
    fn note_room(&mut self, target: &Target) -> bool {
        let Target::Room(room) = target else { return false };
        let is_known = self.rooms.contains(room);
        if !is_known {
            self.rooms.push(room.clone());
        }
        is_known
    }

    fn forget_room(&mut self, target: &Target) {
        if let Target::Room(room) = target {
            self.rooms.retain(|known| known != room);
        }
    }

    /// All whose events it gets.
    fn targets(&self) -> impl Iterator<Item = Target> {
        self.rooms.iter().cloned().map(Target::Room).chain(self.identity.user.clone().map(Target::User))
    }
}

fn connection_is_gone() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "the connection has ended")
}

impl Actor for RoomRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.parts.config.mailbox.registry);
        ctx.run_interval(SWEEP, |registry, _| registry.sweep());
    }
}

impl Handler<Connect> for RoomRegistry {
    type Result = Answer<()>;

    fn handle(&mut self, order: Connect, ctx: &mut Context<Self>) -> Self::Result {
        let Connect { connection, identity, outbox, encoding, tell, worker } = order;
        let user = identity.user.clone();
        let client = Client { identity, outbox, encoding, tell, worker, rooms: SmallVec::new() };
        self.connections.insert(connection, client);
        match user {
            Some(user) => self.enter(connection, Target::User(user), None, ctx),
            None => at_once(Ok(())),
        }
    }
}

impl Handler<Join> for RoomRegistry {
    type Result = Answer<()>;

    fn handle(&mut self, order: Join, ctx: &mut Context<Self>) -> Self::Result {
        match self.admit(order.connection, &order.room) {
            Ok(_) => self.enter(order.connection, Target::Room(order.room), order.greeting, ctx),
            Err(refusal) => at_once(Err(refusal)),
        }
    }
}

impl Handler<Leave> for RoomRegistry {
    type Result = bool;

    fn handle(&mut self, order: Leave, _: &mut Context<Self>) -> bool {
        let Some(client) = self.connections.get_mut(&order.connection) else { return false };
        let Some(place) = client.rooms.iter().position(|room| *room == order.room) else { return false };
        client.rooms.remove(place);
        let worker = client.worker.index;
        self.exit(order.connection, worker, Target::Room(order.room), order.farewell);
        true
    }
}

impl Handler<PublishAs> for RoomRegistry {
    type Result = Answer<Published>;

    fn handle(&mut self, order: PublishAs, _: &mut Context<Self>) -> Self::Result {
        if let Err(refusal) = self.may_publish(&order) {
            return at_once(Err(refusal));
        }
        let targets = smallvec![Target::Room(order.room)];
        let sent = self.parts.bridge.publish.send(Publish { targets, event: order.event, except: Vec::new() });
        Box::pin(async move { Ok(sent.await.unwrap_or(Err(BrokerError::Unavailable))?) })
    }
}

impl Handler<ConnectionEnded> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, fact: ConnectionEnded, _: &mut Context<Self>) {
        let Some(client) = self.connections.remove(&fact.connection) else { return };
        self.gaps.remove(&fact.connection);
        for target in client.targets() {
            self.exit(fact.connection, client.worker.index, target, None);
        }
    }
}

impl Handler<BridgeRestored> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, fact: BridgeRestored, ctx: &mut Context<Self>) {
        self.note_gaps_of(&fact.targets.into_iter().collect(), GapReason::BrokerLost, ctx);
    }
}

impl Handler<BridgeOverflowed> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, fact: BridgeOverflowed, ctx: &mut Context<Self>) {
        self.note_gaps_of(&fact.targets.into_iter().collect(), GapReason::Overflow, ctx);
    }
}
