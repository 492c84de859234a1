//! The members of a room or user on one worker: who they are, in a dense list that a fan-out can walk in slices while members
//! come and go.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::outbox::Outbox;
use crate::protocol::{ConnectionId, Encoding, engineio::Carrier};

#[derive(Debug, Clone)]
pub struct Member {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
}

#[derive(Default)]
pub struct Members {
    /// A member who left during a walk leaves its place empty, so that nobody is skipped or met twice.
    places: Vec<Option<Member>>,
    index: HashMap<ConnectionId, usize, RandomState>,
    is_walked: bool,
}

impl Members {
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// False if it is a member already; the place is kept and its encoding renewed.
    pub fn add(&mut self, member: Member) -> bool {
        if let Some(&place) = self.index.get(&member.connection) {
            self.places[place] = Some(member);
            return false;
        }
        self.index.insert(member.connection, self.places.len());
        self.places.push(Some(member));
        true
    }

    /// A Socket.IO member moved from polling to a WebSocket.
    pub fn change_carrier(&mut self, connection: ConnectionId, carrier: Carrier) {
        if let Some(Some(member)) = self.index.get(&connection).map(|place| &mut self.places[*place]) {
            member.encoding.change_carrier(carrier);
        }
    }

    pub fn remove(&mut self, connection: ConnectionId) -> Option<Member> {
        let place = self.index.remove(&connection)?;
        if self.is_walked {
            return self.places[place].take();
        }
        let member = self.places.swap_remove(place);
        if let Some(moved) = self.places.get(place).and_then(Option::as_ref) {
            self.index.insert(moved.connection, place);
        }
        member
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.places.iter().flatten()
    }

    /// Begins a walk over those who are members now; whoever comes later is not part of it. Returns its end.
    pub fn begin_walk(&mut self) -> usize {
        self.is_walked = true;
        self.places.len()
    }

    /// The members in these places.
    pub fn slice(&self, from: usize, to: usize) -> impl Iterator<Item = &Member> {
        self.places[from..to].iter().flatten()
    }

    pub fn end_walk(&mut self) {
        self.is_walked = false;
        if self.places.len() == self.index.len() {
            return;
        }
        self.places.retain(Option::is_some);
        self.index.clear();
        self.index.extend(self.places.iter().flatten().enumerate().map(|(place, member)| (member.connection, place)));
    }
}
