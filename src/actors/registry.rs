//! RoomRegistry: who is in which room. It owns every membership of this node and alone starts and ends rooms and users.
//!
//! One per process, started by the hub on the first worker's arbiter, and lives as long as the process: a lifeline ends the
//! process if it dies. All membership passes its mailbox, so that "last one left, next one joined" is a sequence and not a race.
//! It is off the path of events: the bridge is handed the address of each group and delivers by itself.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, SpawnHandle};
use foldhash::fast::RandomState;
use futures_util::future;
use prometheus_client::metrics::gauge::Gauge;
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};

use super::{
    attendance::Attendance,
    client::Client,
    gaps::Gaps,
    group::GroupOptions,
    hall::{Admitted, Hall, Place, Refused, Resume, Waiting},
    inquiry::Inquiries,
    messages::{
        BrokerError, ChangeCarrier, Connect, ConnectionEnded, Feed, Greeting, Join, Leave, Publish, Reconfigure, Refusal, RemoveMember,
        Replay, Subscribe, TellNodes, Unsubscribe,
    },
    presence::Presence,
    resumption::{Entries, Recalled},
};
use crate::{
    auth::rules,
    config::Config,
    lifeline::Lifeline,
    metrics::Metrics,
    protocol::{ConnectionId, Encoding, ErrorCode, GapReason, Reference, Reply, RoomName, Target, resume},
};

/// How long a client waits for the broker before it is told that it has joined although nothing is confirmed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often rooms that nobody is in are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The bridge, as the registry addresses it.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub subscribe: Recipient<Subscribe>,
    pub unsubscribe: Recipient<Unsubscribe>,
    pub publish: Recipient<Publish>,
    pub tell_nodes: Recipient<TellNodes>,
    pub replay: Recipient<Replay>,
    pub reconfigure: Recipient<Reconfigure>,
}

pub struct RegistryParts {
    /// This node's number, which no other has.
    pub node: u32,
    pub config: Arc<Config>,
    pub bridge: Bridge,
    pub metrics: Metrics,
    pub lifeline: Option<Lifeline>,
    /// Who is where, for the bridge.
    pub attendance: Attendance,
}

pub struct RoomRegistry {
    pub(super) parts: RegistryParts,
    /// Rooms and users with members on this node, and those that linger.
    pub(super) halls: HashMap<Target, Hall, RandomState>,
    /// Boxed, so that the map's spare places, and its copy while it grows, are small.
    pub(super) connections: HashMap<ConnectionId, Box<Client>, RandomState>,
    /// Rooms and users that somebody waits to enter, and until when, soonest first.
    awaited: VecDeque<(Instant, Target, usize)>,
    /// Groups that were left by their last member, oldest first.
    deserted: VecDeque<(Instant, Target, usize)>,
    /// What the connections will soon be told.
    pub(super) gaps: Gaps,
    pub(super) entries: Entries,
    /// Who come in when they have been told what can't be replayed.
    pub(super) gapped: Vec<(Instant, Recalled)>,
    pub(super) inquiries: Inquiries,
    pub(super) presence: Presence,
    /// When the presence is looked after next.
    pub(super) presence_due: Option<(Instant, SpawnHandle)>,
}

/// To itself: what the broker answered to a subscription.
#[derive(Message)]
#[rtype(result = "()")]
struct Concluded {
    target: Target,
    feed: Feed,
    answer: Result<(), BrokerError>,
}

/// How a connection comes into a room.
pub(super) struct Arrival {
    /// How the room's events are spelled for it.
    pub encoding: Encoding,
    pub greeting: Option<Greeting>,
    /// The last id that the client saw.
    pub since: Option<Box<str>>,
}

pub(super) type Answer<T> = ResponseFuture<Result<T, Refusal>>;

pub(super) fn at_once<T: 'static>(result: Result<T, Refusal>) -> Answer<T> {
    Box::pin(future::ready(result))
}

/// Why nothing is replayed where nothing is kept: what is no id of ours says nothing of what its bearer has seen.
fn without_history(since: &str) -> GapReason {
    if resume::is_shaped_like_id(since) { GapReason::NoHistory } else { GapReason::UnknownPosition }
}

impl RoomRegistry {
    pub fn new(parts: RegistryParts) -> Self {
        Self {
            presence: Presence::new(parts.node),
            presence_due: None,
            parts,
            halls: HashMap::default(),
            connections: HashMap::default(),
            awaited: VecDeque::new(),
            deserted: VecDeque::new(),
            gaps: Gaps::default(),
            entries: Entries::default(),
            gapped: Vec::new(),
            inquiries: Inquiries::default(),
        }
    }

    /// May this connection become a member? `is_granted`: the application says so, and no rule is asked.
    fn admit(&self, connection: ConnectionId, room: &RoomName, is_granted: bool) -> Result<(), Refusal> {
        let client = self.connections.get(&connection).ok_or_else(connection_is_gone)?;
        if !is_granted {
            rules::may_join(&client.identity, room, self.parts.config.rule_for(room))
                .map_err(|refused| Refusal::new(ErrorCode::Forbidden, refused.to_string()))?;
        }
        let limit = self.parts.config.http.max_rooms_per_connection;
        if client.rooms.len() >= limit && !client.rooms.contains(room) {
            return Err(Refusal::new(ErrorCode::TooManyRooms, format!("a connection may be in {limit} rooms")));
        }
        Ok(())
    }

    fn join(&mut self, order: Join, ctx: &mut Context<Self>) -> Answer<()> {
        let Join { connection, room, encoding, since, greeting, .. } = order;
        let user = self.connections.get(&connection).filter(|client| client.has_user).and_then(|client| client.identity.user.clone());
        if let (Some(user), Some(since)) = (user, &since) {
            // Its own events keep no history, and came over the same stream.
            self.note_gap(connection, &Target::User(user), without_history(since), ctx);
        }
        self.enter(connection, Target::Room(room), Arrival { encoding, greeting, since }, ctx)
    }

    /// Makes a connection a member of a room or user, at once or when the broker has confirmed.
    pub(super) fn enter(
        &mut self,
        connection: ConnectionId,
        target: Target,
        Arrival { encoding, greeting, since }: Arrival,
        ctx: &mut Context<Self>,
    ) -> Answer<()> {
        let keeps_history = matches!(&target, Target::Room(room) if self.parts.config.rule_for(room).history.is_kept());
        if let Some(since) = since.as_deref().filter(|_| !keeps_history) {
            self.note_gap(connection, &target, without_history(since), ctx);
        }
        // All who are in a room share the text of its name.
        let target = self.halls.get_key_value(&target).map_or(target, |(known, _)| known.clone());
        let Some(client) = self.connections.get_mut(&connection) else { return at_once(Err(connection_is_gone())) };
        let is_known = client.note(&target);
        let place = Place { connection, encoding, outbox: Arc::clone(&client.outbox) };
        let worker = Arc::clone(&client.worker);
        if !is_known {
            self.parts.attendance.note(connection, &target, true);
        }
        let options = self.group_options(&target);
        let hall = match self.halls.entry(target.clone()) {
            Entry::Occupied(hall) => hall.into_mut(),
            Entry::Vacant(vacant) => {
                gauge(&self.parts.metrics, &target).map(Gauge::inc);
                vacant.insert(Hall::default())
            }
        };
        let is_new = hall.prepare(&worker, &target, options);
        let (answer, answered) = oneshot::channel();
        let resume = keeps_history.then_some(Resume { since, is_known });
        let resuming = hall.enter(worker.index, is_known, Waiting { place, greeting, resume, answer });
        let must_wait = hall.is_waiting(worker.index);
        if is_new {
            self.subscribe(target.clone(), worker.index, ctx);
        }
        if let Some(resuming) = resuming {
            self.resume(&target, worker.index, resuming, ctx);
        } else if !must_wait {
            self.note_present(connection, &target, ctx);
        }
        if must_wait {
            if self.awaited.is_empty() {
                ctx.run_later(PATIENCE, Self::lose_patience);
            }
            self.awaited.push_back((Instant::now() + PATIENCE, target, worker.index));
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(connection_is_gone())) })
    }

    /// Lets those in who have waited long enough. One timer for all: actix looks at each that an actor has on each of its turns.
    fn lose_patience(&mut self, ctx: &mut Context<Self>) {
        while let Some((until, target, worker)) = self.awaited.pop_front() {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                self.awaited.push_front((until, target, worker));
                ctx.run_later(left, Self::lose_patience);
                return;
            }
            let Admitted { entered, resuming } = self.halls.get_mut(&target).map(|hall| hall.admit_unproven(worker)).unwrap_or_default();
            entered.into_iter().for_each(|connection| self.note_present(connection, &target, ctx));
            resuming.into_iter().for_each(|waiting| self.resume(&target, worker, waiting, ctx));
        }
    }

    fn group_options(&self, target: &Target) -> GroupOptions {
        let mailbox = &self.parts.config.mailbox;
        let (capacity, overflow) = match target {
            Target::Room(room) => (mailbox.room, self.parts.config.rule_for(room).overflow),
            Target::User(_) => (mailbox.user, None),
            Target::Namespace(_) => (mailbox.room, None),
        };
        GroupOptions {
            mailbox: capacity,
            overflow: overflow.unwrap_or(mailbox.overflow),
            missed: Arc::default(),
            metrics: self.parts.metrics.clone(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn subscribe(&mut self, target: Target, worker: usize, ctx: &mut Context<Self>) {
        let Some(feed) = self.halls.get_mut(&target).and_then(|hall| hall.feed(worker)) else { return };
        let sent = self.parts.bridge.subscribe.send(Subscribe { target: target.clone(), feed: feed.clone() });
        let registry = ctx.address();
        // Not a future of this actor's own: actix polls all of those on each turn, and an outage leaves one for each room.
        actix::spawn(async move {
            let answer = sent.await.unwrap_or(Err(BrokerError::Unavailable));
            registry.do_send(Concluded { target, feed, answer });
        });
    }

    /// The broker answered a subscription.
    fn conclude(&mut self, target: &Target, feed: &Feed, answer: Result<(), BrokerError>, ctx: &mut Context<Self>) {
        // The group may have ended meanwhile, and another may wait for an answer of its own.
        let Some(hall) = self.halls.get_mut(target).filter(|hall| hall.is_fed_by(feed)) else {
            let is_replaced = self.halls.get(target).is_some_and(|hall| hall.has_group(feed.worker));
            if answer.is_ok() && !is_replaced {
                // Its unsubscription overtook the subscription, which waited for a place in the bridge's mailbox.
                self.end_group(target, feed.worker);
            }
            return;
        };
        match answer {
            // Everybody who waited for it is a member now.
            Ok(()) => {
                let (unproven, Admitted { entered, resuming }) = hall.open(feed.worker);
                entered.into_iter().for_each(|connection| self.note_present(connection, target, ctx));
                for connection in unproven {
                    self.note_gap(connection, target, GapReason::BrokerLost, ctx);
                }
                resuming.into_iter().for_each(|waiting| self.resume(target, feed.worker, waiting, ctx));
            }
            Err(error) => {
                let refused = hall.refuse(feed.worker, &error);
                self.end_group(target, feed.worker);
                self.retract(target, refused, &error, ctx);
            }
        }
    }

    /// The broker will not have it: nobody is a member, and those who were told otherwise are told so.
    pub(super) fn retract(&mut self, target: &Target, refused: Refused, error: &BrokerError, ctx: &mut Context<Self>) {
        let Refused { turned_away, unproven } = refused;
        for connection in turned_away.iter().chain(&unproven) {
            let Some(client) = self.connections.get_mut(connection) else { continue };
            if client.forget(target) {
                self.parts.attendance.note(*connection, target, false);
                self.note_absent(*connection, target, ctx);
            }
        }
        // On SSE there is no other word for it.
        unproven.iter().for_each(|connection| self.note_gap(*connection, target, GapReason::BrokerLost, ctx));
        let Target::Room(room) = target else { return };
        let Refusal { code, message } = Refusal::from(error.clone());
        for client in unproven.iter().filter_map(|connection| self.connections.get(connection)) {
            let message = format!("{message} (room {room:?})");
            client.outbox.tell(Reply::Error { code, message, reference: Reference::default() }, None);
            client.outbox.tell(Reply::Left { room: room.clone(), reference: Reference::default() }, None);
        }
    }

    /// A group is no more: nothing more is to be delivered to it.
    #[expect(clippy::disallowed_methods, reason = "once per room and worker, and it must not be lost")]
    pub(super) fn end_group(&mut self, target: &Target, worker: usize) {
        self.parts.bridge.unsubscribe.do_send(Unsubscribe { target: target.clone(), worker });
        if self.halls.get(target).is_some_and(Hall::is_closed) {
            gauge(&self.parts.metrics, target).map(Gauge::dec);
            self.halls.remove(target);
        }
    }

    pub(super) fn exit(&mut self, worker: usize, target: Target, order: RemoveMember) {
        if let Some(hall) = self.halls.get_mut(&target)
            && hall.leave(worker, order)
        {
            self.deserted.push_back((Instant::now(), target, worker));
        }
    }

    /// Ends the groups that nobody has been in for the linger time. Only those that were left are looked at.
    fn sweep(&mut self) {
        let linger = self.parts.config.broker.linger;
        while self.deserted.front().is_some_and(|(since, ..)| since.elapsed() >= linger) {
            let Some((_, target, worker)) = self.deserted.pop_front() else { return };
            if self.halls.get_mut(&target).is_some_and(|hall| hall.retire(worker, linger)) {
                self.end_group(&target, worker);
            }
        }
    }

    /// Notes who a connection is. True if it hears its user's own events already.
    fn introduce(&mut self, order: Connect) -> bool {
        let Connect { connection, identity, outbox, user_encoding, summon, worker } = order;
        let client = match self.connections.remove(&connection) {
            // Namespaces beside the root say nothing of how its user's own events are spelled.
            Some(known) => Client { identity, outbox, user_encoding: user_encoding.or(known.user_encoding), summon, worker, ..*known },
            None => Client {
                identity,
                outbox,
                user_encoding,
                summon,
                worker,
                has_user: false,
                rooms: SmallVec::new(),
                present: SmallVec::new(),
                namespaces: Vec::new(),
                first: None,
                positions: None,
            },
        };
        let has_user = client.has_user;
        self.connections.insert(connection, Box::new(client));
        has_user
    }

    /// It hears its user's own events no more.
    pub(super) fn leave_user(&mut self, connection: ConnectionId) {
        let Some(client) = self.connections.get_mut(&connection) else { return };
        let Some(user) = client.identity.user.clone().map(Target::User) else { return };
        if client.forget(&user) {
            let worker = client.worker.index;
            self.exit(worker, user, RemoveMember { connection, farewell: None, unsaid: None });
        }
    }

    /// False if the connection was no member.
    pub(super) fn leave(&mut self, room: &RoomName, order: RemoveMember, ctx: &mut Context<Self>) -> bool {
        let target = Target::Room(room.clone());
        let Some(client) = self.connections.get_mut(&order.connection) else { return false };
        if !client.forget(&target) {
            return false;
        }
        let worker = client.worker.index;
        self.entries.end(order.connection, room);
        self.parts.attendance.note(order.connection, &target, false);
        self.note_absent(order.connection, &target, ctx);
        self.exit(worker, target, order);
        true
    }
}

fn gauge<'a>(metrics: &'a Metrics, target: &Target) -> Option<&'a Gauge> {
    match target {
        Target::Room(_) => Some(metrics.rooms()),
        Target::User(_) => Some(metrics.users()),
        Target::Namespace(_) => None,
    }
}

pub(super) fn connection_is_gone() -> Refusal {
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
        let (connection, user, encoding) = (order.connection, order.identity.user.clone(), order.user_encoding);
        // A Socket.IO client may say later who it is: where it is present, nobody in particular leaves, and this user comes.
        let known = self.connections.get(&connection).filter(|known| known.identity.user != user);
        let present: Vec<Target> = known.into_iter().flat_map(|known| known.present.iter().cloned().map(Target::Room)).collect();
        present.iter().for_each(|room| self.note_absent(connection, room, ctx));
        let has_user = self.introduce(order);
        present.iter().for_each(|room| self.note_present(connection, room, ctx));
        match (user, encoding) {
            (Some(user), Some(encoding)) if !has_user => {
                self.enter(connection, Target::User(user), Arrival { encoding, greeting: None, since: None }, ctx)
            }
            _ => at_once(Ok(())),
        }
    }
}

impl Handler<Join> for RoomRegistry {
    type Result = Answer<()>;

    fn handle(&mut self, order: Join, ctx: &mut Context<Self>) -> Self::Result {
        match self.admit(order.connection, &order.room, order.is_granted) {
            Ok(()) => self.join(order, ctx),
            Err(refusal) => at_once(Err(refusal)),
        }
    }
}

impl Handler<Leave> for RoomRegistry {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, Leave { connection, room, farewell }: Leave, ctx: &mut Context<Self>) -> Self::Result {
        let (unsaid, said) = oneshot::channel();
        let was_member = self.leave(&room, RemoveMember { connection, farewell, unsaid: Some(unsaid) }, ctx);
        Box::pin(async move {
            // It is never sent, only dropped.
            let _ = said.await;
            was_member
        })
    }
}

impl Handler<ChangeCarrier> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, order: ChangeCarrier, _: &mut Context<Self>) {
        let Some(client) = self.connections.get_mut(&order.connection) else { return };
        client.user_encoding.iter_mut().for_each(|encoding| encoding.change_carrier(order.carrier));
        for target in client.targets() {
            if let Some(hall) = self.halls.get_mut(&target) {
                hall.change_carrier(client.worker.index, order);
            }
        }
    }
}

impl Handler<Concluded> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Concluded { target, feed, answer }: Concluded, ctx: &mut Context<Self>) {
        self.conclude(&target, &feed, answer, ctx);
    }
}

impl Handler<ConnectionEnded> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, fact: ConnectionEnded, ctx: &mut Context<Self>) {
        let Some(client) = self.connections.get(&fact.connection) else { return };
        for room in client.present.clone() {
            self.note_absent(fact.connection, &Target::Room(room), ctx);
        }
        let Some(client) = self.connections.remove(&fact.connection) else { return };
        // Of what it was to be told, nothing is said: `tell_gaps` finds it gone.
        for target in client.targets() {
            let connection = fact.connection;
            self.parts.attendance.note(connection, &target, false);
            self.exit(client.worker.index, target, RemoveMember { connection, farewell: None, unsaid: None });
        }
    }
}
