//! How the registry lets a client into a room with history: held by its group, until the bridge has said what it missed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use foldhash::fast::RandomState;
use futures_util::future::{join_all, ready};
use tokio::time::Instant;

use super::{
    hall::{Waiting, left_before_joined},
    members::Member,
    messages::{Greet, Release, Replay, Replayed, Track, WouldReplay},
    registry::RoomRegistry,
    replay::Positions,
};
use crate::protocol::{ConnectionId, Encoding, GapReason, RoomName, Target, resume::Point};

/// Who comes back to several rooms is told of all their gaps at once: of those that are known after this time, or so often until
/// the bridge has answered for all that it was asked about.
const GAPPED_COLLECTION: Duration = Duration::from_millis(20);
/// One room's answer keeps no other waiting for longer.
const GAPPED_PATIENCE: Duration = Duration::from_secs(1);

/// To itself: what the bridge says a client missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Recalled {
    room: RoomName,
    worker: usize,
    waiting: Waiting,
    replayed: Replayed,
    entry: u64,
}

/// Which entry of a connection into a room is held there: it may leave, and come again, before it hears what it missed.
#[derive(Default)]
pub(super) struct Entries {
    held: HashMap<(ConnectionId, RoomName), u64, RandomState>,
    last: u64,
    /// Questions of each connection that the bridge has yet to answer.
    asked: HashMap<ConnectionId, usize, RandomState>,
}

impl Entries {
    fn begin(&mut self, connection: ConnectionId, room: &RoomName) -> u64 {
        self.last += 1;
        self.held.insert((connection, room.clone()), self.last);
        self.last
    }

    fn note_question(&mut self, connection: ConnectionId) {
        *self.asked.entry(connection).or_default() += 1;
    }

    fn note_answer(&mut self, connection: ConnectionId) {
        if let Entry::Occupied(mut asked) = self.asked.entry(connection) {
            *asked.get_mut() -= 1;
            if *asked.get() == 0 {
                asked.remove();
            }
        }
    }

    fn holds(&self, Recalled { room, waiting, entry, .. }: &Recalled) -> bool {
        self.held.get(&(waiting.place.connection, room.clone())) == Some(entry)
    }

    /// It is held no more.
    pub fn end(&mut self, connection: ConnectionId, room: &RoomName) {
        self.held.remove(&(connection, room.clone()));
    }
}

/// To itself: those who come in here were told of the gaps in front of it.
#[derive(Message)]
#[rtype(result = "()")]
struct Told(Vec<Recalled>);

impl Replayed {
    /// Before the first that is replayed, and not after the last: the client may go again before it has read them.
    fn stands(&self) -> Option<Point> {
        self.from.or(self.after.filter(|_| self.missed.is_empty()))
    }
}

impl RoomRegistry {
    /// Asks what a client missed that its group holds.
    #[expect(clippy::disallowed_methods, reason = "once per join, and it must not be lost")]
    pub(super) fn resume(&mut self, target: &Target, worker: usize, waiting: Waiting, ctx: &mut Context<Self>) {
        let Target::Room(room) = target.clone() else { return };
        let is_known = waiting.is_known();
        let since = waiting.resume.as_ref().filter(|_| !is_known).and_then(|resume| resume.since.clone());
        let is_resumed = since.is_some();
        let entry = if is_known { 0 } else { self.entries.begin(waiting.place.connection, &room) };
        let asked = self.parts.bridge.replay.send(Replay { room: room.clone(), since, is_trial: false });
        self.entries.note_question(waiting.place.connection);
        let registry = ctx.address();
        actix::spawn(async move {
            let lost = Replayed { gap: is_resumed.then_some(GapReason::BrokerLost), ..Replayed::default() };
            let replayed = asked.await.unwrap_or(lost);
            registry.do_send(Recalled { room, worker, waiting, replayed, entry });
        });
    }

    /// What the stream's ids must cover, once it has a second room with history.
    fn positions_for(&mut self, waiting: &Waiting, room: &RoomName, replayed: &Replayed) -> Option<Arc<Positions>> {
        let connection = waiting.place.connection;
        let client = self.connections.get_mut(&connection).filter(|_| waiting.place.encoding.has_stream_ids())?;
        if client.positions.is_some() {
            return client.positions.clone();
        }
        let since = waiting.resume.as_ref().and_then(|resume| resume.since.as_ref());
        let shown = since.zip(replayed.after).and_then(|(since, after)| after.key.read(since));
        if let Some(shown) = shown.filter(|shown| shown.rooms() > 1) {
            client.positions = Some(Arc::new(Positions::carrying(&shown)));
            return client.positions.clone();
        }
        let config = &self.parts.config;
        if client.first.is_none() && client.rooms.iter().filter(|room| config.rule_for(room).history.is_kept()).nth(1).is_some() {
            // The groups of its rooms don't wait for one another: none may show an id of its own behind one that covers more.
            client.positions = Some(Arc::default());
            return client.positions.clone();
        }
        let Some((first, point)) = client.first.as_deref().cloned().filter(|(first, _)| client.rooms.contains(first)) else {
            client.first = Some(Box::new((room.clone(), replayed.after)));
            return None;
        };
        if first == *room {
            return None;
        }
        let positions = Arc::new(Positions::default());
        point.into_iter().for_each(|point| positions.note(point));
        client.positions = Some(Arc::clone(&positions));
        if let Some(hall) = self.halls.get(&Target::Room(first)) {
            hall.order(client.worker.index, Track { connection, positions: Arc::clone(&positions) });
        }
        Some(positions)
    }

    /// Rooms may keep history from now on with members in them: the ids of each stream with several such rooms must cover them
    /// all, or a client would be shown as unknown in the others when it comes back.
    pub(super) fn track_streams(&mut self) {
        for (connection, client) in &mut self.connections {
            if !client.user_encoding.is_some_and(Encoding::has_stream_ids) {
                continue;
            }
            let config = &self.parts.config;
            let kept: Vec<&RoomName> = client.rooms.iter().filter(|room| config.rule_for(room).history.is_kept()).collect();
            if kept.len() < 2 {
                continue;
            }
            let positions = client.positions.get_or_insert_default();
            for room in kept {
                if let Some(hall) = self.halls.get(&Target::Room(room.clone())) {
                    hall.order(client.worker.index, Track { connection: *connection, positions: Arc::clone(positions) });
                }
            }
        }
    }
}

impl Handler<WouldReplay> for RoomRegistry {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, WouldReplay { rooms, since }: WouldReplay, _: &mut Context<Self>) -> Self::Result {
        if !rooms.iter().all(|room| self.parts.config.rule_for(room).history.is_kept()) {
            return Box::pin(ready(false));
        }
        let ask = |room| self.parts.bridge.replay.send(Replay { room, since: Some(since.clone()), is_trial: true });
        let answers = join_all(rooms.into_iter().map(ask));
        Box::pin(async move { answers.await.iter().all(|answer| answer.as_ref().is_ok_and(|replayed| replayed.gap.is_none())) })
    }
}

impl RoomRegistry {
    /// `None`, and the client has its answer, if it has left meanwhile.
    fn still_there(&mut self, recalled: Recalled) -> Option<Recalled> {
        let connection = recalled.waiting.place.connection;
        let is_member = self.connections.get(&connection).is_some_and(|client| client.rooms.contains(&recalled.room));
        let is_held = self.entries.holds(&recalled);
        if is_member && (recalled.waiting.is_known() || is_held) {
            return Some(recalled);
        }
        if is_held {
            self.entries.end(connection, &recalled.room);
        }
        // The connection may have ended.
        let _ = recalled.waiting.answer.send(Err(left_before_joined()));
        None
    }

    /// Lets in who is held.
    fn let_in(&mut self, recalled: Recalled, ctx: &mut Context<Self>) {
        let Some(recalled) = self.still_there(recalled) else { return };
        let Recalled { room, worker, waiting, replayed, .. } = recalled;
        let connection = waiting.place.connection;
        let is_known = waiting.is_known();
        if !is_known {
            self.entries.end(connection, &room);
        }
        let positions = self.positions_for(&waiting, &room, &replayed);
        let stands = replayed.stands();
        let Replayed { missed, after, is_ahead, .. } = replayed;
        let Waiting { greeting, resume, answer, .. } = waiting;
        let target = Target::Room(room);
        let Some(hall) = self.halls.get(&target) else { return };
        if is_known {
            hall.order(worker, Greet { connection, greeting, stands, answer });
        } else {
            let (is_resumed, answer) = (resume.is_some_and(|resume| resume.since.is_some()), Some(answer));
            hall.order(worker, Release { connection, greeting, stands, missed, after, is_ahead, is_resumed, positions, answer });
        }
        self.note_present(connection, &target, ctx);
    }

    /// Tells those who come back what can't be replayed, and lets them in only then: with the first event each is shown an id that
    /// is behind the hole, and one who is cut off before the notice would never hear of it.
    #[expect(clippy::disallowed_methods, reason = "once per connection that comes back, and it must not be lost")]
    fn tell_gapped(&mut self, ctx: &mut Context<Self>) {
        let mut by_connection: BTreeMap<ConnectionId, Vec<Recalled>> = BTreeMap::new();
        let connection_of = |recalled: &Recalled| recalled.waiting.place.connection;
        let is_over = |(since, _): &&(Instant, Recalled)| since.elapsed() >= GAPPED_PATIENCE;
        let overdue: BTreeSet<_> = self.gapped.iter().filter(is_over).map(|(_, recalled)| connection_of(recalled)).collect();
        let waits = |(_, recalled): &(Instant, Recalled)| {
            let connection = connection_of(recalled);
            self.entries.asked.contains_key(&connection) && !overdue.contains(&connection)
        };
        let (incomplete, complete): (Vec<_>, Vec<_>) = std::mem::take(&mut self.gapped).into_iter().partition(waits);
        if !incomplete.is_empty() {
            self.gapped = incomplete;
            ctx.run_later(GAPPED_COLLECTION, Self::tell_gapped);
        }
        for (_, recalled) in complete {
            let Some(mut recalled) = self.still_there(recalled) else { continue };
            // Whoever asked is answered first.
            let positions = self.positions_for(&recalled.waiting, &recalled.room, &recalled.replayed);
            let Waiting { place, greeting, .. } = &mut recalled.waiting;
            let member = Member { positions, ..Member::new(place.connection, place.encoding, Arc::clone(&place.outbox)) };
            member.greet(greeting.take(), recalled.replayed.stands());
            if let Some(reason) = recalled.replayed.gap {
                self.note_gap(member.connection, &Target::Room(recalled.room.clone()), reason, ctx);
            }
            by_connection.entry(member.connection).or_default().push(recalled);
        }
        for (connection, recalled) in by_connection {
            let (said, registry) = (self.tell_gaps_of(connection), ctx.address());
            actix::spawn(async move {
                // It is never sent, only dropped.
                _ = said.await;
                registry.do_send(Told(recalled));
            });
        }
    }
}

impl Handler<Recalled> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, recalled: Recalled, ctx: &mut Context<Self>) {
        self.entries.note_answer(recalled.waiting.place.connection);
        if recalled.replayed.gap.is_none() {
            return self.let_in(recalled, ctx);
        }
        if self.gapped.is_empty() {
            ctx.run_later(GAPPED_COLLECTION, Self::tell_gapped);
        }
        self.gapped.push((Instant::now(), recalled));
    }
}

impl Handler<Told> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Told(recalled): Told, ctx: &mut Context<Self>) {
        recalled.into_iter().for_each(|recalled| self.let_in(recalled, ctx));
    }
}
