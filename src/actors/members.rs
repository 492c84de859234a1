//! The members of a room or user on one worker: who they are, in a dense list that a fan-out can walk in slices.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{messages::Greeting, outbox::Outbox, replay::Positions};
use crate::protocol::{ConnectionId, Encoding, Position, Publication, engineio::Carrier, resume::Point};

#[derive(Debug, Clone)]
pub struct Member {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
    /// Where its stream stands, if its ids must say so for several rooms.
    pub positions: Option<Arc<Positions>>,
    /// It has seen all up to here already, on a node that was ahead of this one.
    pub after: Option<Position>,
}

impl Member {
    pub fn new(connection: ConnectionId, encoding: Encoding, outbox: Arc<Outbox>) -> Self {
        Self { connection, encoding, outbox, positions: None, after: None }
    }

    /// It gets what others of its encoding get.
    pub fn is_ordinary(&self) -> bool {
        self.positions.is_none() && self.after.is_none()
    }

    /// Whether a publication is for it: not one that it sent, or has seen.
    pub fn wants(&self, publication: &Publication) -> bool {
        let is_seen = || publication.point.is_some_and(|point| self.after.is_some_and(|after| point.position <= after));
        !publication.excepts(self.connection) && !is_seen() && publication.duplicate_key.is_none_or(|key| self.outbox.note_first(key))
    }

    /// The bytes of a publication under the id of its own stream, where that has one.
    pub fn own_bytes(&self, publication: &Publication) -> Option<Bytes> {
        let (positions, point) = (self.positions.as_ref()?, publication.point?);
        Some(publication.bytes_under(self.encoding, &positions.id_at(point)))
    }

    /// Tells it that it has come in, and where its stream stands then.
    pub fn greet(&self, greeting: Option<Greeting>, stands: Option<Point>) {
        let id = || stands.map(|point| self.positions.as_ref().map_or_else(|| point.id(), |positions| positions.id_at(point)));
        if let Some(bytes) = greeting.and_then(|greeting| greeting.spell(self.encoding, id())) {
            self.outbox.push_control(bytes);
        }
    }
}

#[derive(Default)]
pub struct Members {
    places: Vec<Member>,
    index: HashMap<ConnectionId, usize, RandomState>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// False if it is a member already; its place is kept and its encoding renewed.
    pub fn add(&mut self, member: Member) -> bool {
        if let Some(&place) = self.index.get(&member.connection) {
            self.places[place] = member;
            return false;
        }
        self.index.insert(member.connection, self.places.len());
        self.places.push(member);
        true
    }

    /// A Socket.IO member moved from polling to a WebSocket.
    pub fn change_carrier(&mut self, connection: ConnectionId, carrier: Carrier) {
        if let Some(&place) = self.index.get(&connection) {
            self.places[place].encoding.change_carrier(carrier);
        }
    }

    /// The last member takes the place of the one who leaves: not during a walk, which would miss it.
    pub fn remove(&mut self, connection: ConnectionId) -> Option<Member> {
        let place = self.index.remove(&connection)?;
        let member = self.places.swap_remove(place);
        if let Some(moved) = self.places.get(place) {
            self.index.insert(moved.connection, place);
        }
        Some(member)
    }

    /// All that comes from now on is later than what any of them has seen.
    pub fn forget_seen(&mut self) {
        self.places.iter_mut().for_each(|member| member.after = None);
    }

    pub fn get(&self, connection: ConnectionId) -> Option<&Member> {
        self.index.get(&connection).map(|&place| &self.places[place])
    }

    pub fn all(&self) -> &[Member] {
        &self.places
    }
}
