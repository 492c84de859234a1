//! A roster: who is in one room with presence, on which node, and who of them the members here were told of. Plain
//! bookkeeping; only [`Presence`](super::presence::Presence) has rosters.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::messages::RoomMembers;
use crate::protocol::UserName;

#[derive(Default)]
pub struct Roster {
    /// By node.
    shares: HashMap<u32, NodeShare, RandomState>,
    /// Users whose coming was told and whose leaving was not, and since when they are absent.
    shown: HashMap<UserName, Option<Instant>, RandomState>,
}

/// The members that one node has.
#[derive(Default)]
struct NodeShare {
    users: HashMap<UserName, Count, RandomState>,
    anonymous: Count,
}

/// Connections, and the announcement of the node that last said so.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    connections: u32,
    sequence: u64,
}

/// What a look at a user showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Tell that it joined.
    Came,
    /// Look again after a while, whether it is still gone.
    IsMissing,
    /// As it was told.
    AsBefore,
}

impl Roster {
    /// Connections of a user, or of nobody in particular, on one node.
    pub fn of_node(&self, node: u32, user: Option<&UserName>) -> u32 {
        let Some(share) = self.shares.get(&node) else { return 0 };
        match user {
            Some(user) => share.users.get(user).map_or(0, |count| count.connections),
            None => share.anonymous.connections,
        }
    }

    pub fn set(&mut self, node: u32, user: Option<&UserName>, connections: u32, sequence: u64) {
        if connections == 0 && !self.shares.contains_key(&node) {
            return;
        }
        let share = self.shares.entry(node).or_default();
        let count = Count { connections, sequence };
        match user {
            Some(user) if connections > 0 => _ = share.users.insert(user.clone(), count),
            Some(user) => _ = share.users.remove(user),
            None => share.anonymous = count,
        }
        if share.is_empty() {
            self.shares.remove(&node);
        }
    }

    /// Forgets what a node has not said again since this announcement. Returns the users concerned.
    pub fn forget_before(&mut self, node: u32, sequence: u64) -> Vec<UserName> {
        let Some(share) = self.shares.get_mut(&node) else { return Vec::new() };
        let forgotten = share.users.extract_if(|_, count| count.sequence < sequence).map(|(user, _)| user).collect();
        if share.anonymous.sequence < sequence {
            share.anonymous = Count::default();
        }
        if share.is_empty() {
            self.shares.remove(&node);
        }
        forgotten
    }

    /// Compares what is with what was told of this user.
    pub fn look_at(&mut self, user: &UserName, now: Instant) -> Seen {
        let is_here = self.has(user);
        match self.shown.get_mut(user) {
            None if is_here => {
                self.shown.insert(user.clone(), None);
                Seen::Came
            }
            Some(absent) if is_here => {
                *absent = None;
                Seen::AsBefore
            }
            Some(absent @ None) => {
                *absent = Some(now);
                Seen::IsMissing
            }
            None | Some(Some(_)) => Seen::AsBefore,
        }
    }

    /// True if the user has been absent for so long; then its leaving counts as told.
    pub fn has_left(&mut self, user: &UserName, hold: Duration, now: Instant) -> bool {
        let has_left = self.shown.get(user).copied().flatten().is_some_and(|since| now.duration_since(since) >= hold);
        if has_left {
            self.shown.remove(user);
        }
        has_left
    }

    fn has(&self, user: &UserName) -> bool {
        self.shares.values().any(|share| share.users.contains_key(user))
    }

    /// One node's users with their connections, and its anonymous connections; `None` if it has nobody.
    pub fn share_of(&self, node: u32) -> Option<(Vec<(UserName, u32)>, u32)> {
        let share = self.shares.get(&node)?;
        let users = share.users.iter().map(|(user, count)| (user.clone(), count.connections)).collect();
        Some((users, share.anonymous.connections))
    }

    /// Of all nodes.
    pub fn members(&self) -> RoomMembers {
        let mut users: HashMap<&UserName, usize, RandomState> = HashMap::default();
        let mut anonymous = 0;
        for share in self.shares.values() {
            anonymous += share.anonymous.connections as usize;
            share.users.iter().for_each(|(user, count)| *users.entry(user).or_default() += count.connections as usize);
        }
        let mut users: Vec<(UserName, usize)> = users.into_iter().map(|(user, connections)| (user.clone(), connections)).collect();
        users.sort();
        RoomMembers { users, anonymous }
    }

    /// Nobody is in it, and everybody knows.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty() && self.shown.is_empty()
    }
}

impl NodeShare {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.anonymous.connections == 0
    }
}
