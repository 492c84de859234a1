//! Joining the replay of a room to its live stream without a hole or a double.
//!
//! A member that comes back is held: what its room publishes is kept for it, not sent. Then the bridge says what it missed and
//! up to which position, and the member gets its greeting, what it missed, and of what was kept only what is later. The order
//! holds because the group learns of the member before the bridge is asked, and both from the registry's thread.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use super::{members::Member, messages::Deliver};
use crate::protocol::{
    ConnectionId, Position,
    engineio::Carrier,
    resume::{Point, Resumed, RoomHash},
};

/// The members of a group whose replay is under way.
#[derive(Default)]
pub struct Holding(HashMap<ConnectionId, Held, RandomState>);

/// One of them, and what was published since it came.
pub struct Held {
    pub member: Member,
    pub kept: Vec<Deliver>,
    /// Not kept, because there were more than may wait for a connection.
    pub dropped: u64,
}

impl Holding {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, member: Member) {
        self.0.insert(member.connection, Held { member, kept: Vec::new(), dropped: 0 });
    }

    pub fn remove(&mut self, connection: ConnectionId) -> Option<Held> {
        self.0.remove(&connection)
    }

    pub fn get(&self, connection: ConnectionId) -> Option<&Member> {
        self.0.get(&connection).map(|held| &held.member)
    }

    /// A Socket.IO member moved from polling to a WebSocket.
    pub fn change_carrier(&mut self, connection: ConnectionId, carrier: Carrier) {
        if let Some(held) = self.0.get_mut(&connection) {
            held.member.encoding.change_carrier(carrier);
        }
    }

    /// Keeps a publication for each of them, within the bound of what may wait for a connection.
    pub fn keep(&mut self, delivery: &Deliver) {
        for held in self.0.values_mut() {
            if held.kept.len() < held.member.outbox.event_limit() {
                // Without the receipt: the publisher is not to wait for a replay.
                held.kept.push(Deliver { receipt: None, ..delivery.clone() });
            } else {
                held.dropped += 1;
            }
        }
    }

    /// The group's mailbox was full.
    pub fn miss(&mut self, events: u64) {
        self.0.values_mut().for_each(|held| held.dropped += events);
    }
}

/// Where a stream stands in each of its rooms with history. Only streams whose ids must say so have one: SSE and Socket.IO with
/// several such rooms. The rooms' groups on the connection's thread write it, with each event that they hand over.
#[derive(Debug, Default)]
pub struct Positions(Mutex<Stands>);

#[derive(Debug, Default)]
struct Stands {
    /// In the rooms that it has entered.
    entered: Vec<(RoomHash, Position)>,
    /// In the others of the id that it came with: who is cut before it has entered them all again must not lose its place there.
    carried: Vec<(RoomHash, Position)>,
}

impl Positions {
    /// Of a stream that came with this id.
    pub fn carrying(id: &Resumed) -> Self {
        Self(Mutex::new(Stands { entered: Vec::new(), carried: id.all().to_vec() }))
    }

    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the stream has come to this point.
    pub fn note(&self, point: Point) {
        self.lock().note(point);
    }

    /// The id of the stream once it has come to this point.
    pub fn id_at(&self, point: Point) -> Box<str> {
        let mut stands = self.lock();
        stands.note(point);
        if stands.carried.is_empty() {
            return point.key.id(&stands.entered);
        }
        let all: Vec<_> = stands.entered.iter().chain(&stands.carried).copied().collect();
        point.key.id(&all)
    }
}

impl Stands {
    fn note(&mut self, point: Point) {
        match self.entered.iter_mut().find(|(known, _)| *known == point.room) {
            Some((_, position)) => *position = point.position.max(*position),
            None => {
                self.carried.retain(|(known, _)| *known != point.room);
                self.entered.push((point.room, point.position));
            }
        }
    }
}
