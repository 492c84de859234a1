//! The members of a room or user on one worker: who they are, in a dense list that a fan-out can walk in slices.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::outbox::Outbox;
use crate::protocol::{ConnectionId, Encoding};

#[derive(Debug, Clone)]
pub struct Member {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
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

    /// The last member takes the place of the one who leaves: not during a walk, which would miss it.
    pub fn remove(&mut self, connection: ConnectionId) -> Option<Member> {
        let place = self.index.remove(&connection)?;
        let member = self.places.swap_remove(place);
        if let Some(moved) = self.places.get(place) {
            self.index.insert(moved.connection, place);
        }
        Some(member)
    }

    pub fn all(&self) -> &[Member] {
        &self.places
    }
}
