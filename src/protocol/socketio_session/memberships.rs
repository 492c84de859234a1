//! The rooms of a connection and the namespace that each is seen through.

use std::collections::HashMap;

use super::ticket::Ticket;
use crate::protocol::{command::Command, names::RoomName};

#[derive(Debug, Default)]
pub struct Memberships {
    rooms: HashMap<RoomName, Membership>,
}

#[derive(Debug)]
struct Membership {
    socket: u32,
    is_joined: bool,
    /// Joins and leaves that are on their way to the hub. With none, and not joined, the entry goes.
    unanswered: usize,
}

/// Why a room can't be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The connection has it by another namespace, and gets each event once.
    OtherNamespace,
    TooMany,
}

impl Memberships {
    /// The socket that a room is seen through.
    pub fn socket(&self, room: &RoomName) -> Option<u32> {
        self.rooms.get(room).map(|membership| membership.socket)
    }

    /// A join or leave goes to the hub.
    pub fn ask(&mut self, room: &RoomName, socket: u32, limit: usize) -> Result<(), Obstacle> {
        let is_full = self.rooms.len() >= limit;
        match self.rooms.get_mut(room) {
            Some(membership) if membership.socket != socket => return Err(Obstacle::OtherNamespace),
            Some(membership) => membership.unanswered += 1,
            None if is_full => return Err(Obstacle::TooMany),
            None => {
                self.rooms.insert(room.clone(), Membership { socket, is_joined: false, unanswered: 1 });
            }
        }
        Ok(())
    }

    /// The hub answered a join or leave: joined, left, or None where it refused.
    pub fn answered(&mut self, room: &str, socket: u32, is_joined: Option<bool>) {
        let Some(membership) = self.rooms.get_mut(room).filter(|membership| membership.socket == socket) else { return };
        membership.unanswered = membership.unanswered.saturating_sub(1);
        membership.is_joined = is_joined.unwrap_or(membership.is_joined);
        self.forget_if_over(room);
    }

    /// The server side put the connection into a room, or took it out.
    pub fn moved(&mut self, room: &RoomName, owner: u32, is_joined: bool) {
        let entry = self.rooms.entry(room.clone());
        let membership = entry.or_insert(Membership { socket: owner, is_joined, unanswered: 0 });
        membership.is_joined = is_joined;
        self.forget_if_over(room.as_str());
    }

    fn forget_if_over(&mut self, room: &str) {
        if self.rooms.get(room).is_some_and(|membership| !membership.is_joined && membership.unanswered == 0) {
            self.rooms.remove(room);
        }
    }

    /// The rooms that are seen through a socket.
    pub fn rooms_of(&self, socket: u32) -> Vec<RoomName> {
        let rooms = self.rooms.iter().filter(|(_, membership)| membership.socket == socket && membership.is_joined);
        rooms.map(|(room, _)| room.clone()).collect()
    }

    /// A namespace is gone: the commands that take it out of its rooms.
    pub fn leave_all(&mut self, socket: u32) -> Vec<Command> {
        let gone = self.rooms.extract_if(|_, membership| membership.socket == socket);
        gone.map(|(room, _)| {
            let reference = Ticket { socket, call: None, room: Some(room.as_str()) }.reference();
            Command::Leave { room, reference }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn replies_that_cross_later_wishes_leave_no_stale_room() {
        let mut rooms = Memberships::default();
        let lobby = room("lobby");
        for _ in 0..4 {
            rooms.ask(&lobby, 1, 8).unwrap();
        }
        for is_joined in [Some(true), Some(false), Some(true)] {
            rooms.answered("lobby", 1, is_joined);
            assert_eq!(rooms.socket(&lobby), Some(1));
        }
        rooms.answered("lobby", 1, Some(false));
        assert_eq!(rooms.socket(&lobby), None);
    }

    #[test]
    fn a_refused_join_is_forgotten_and_a_refused_leave_is_not() {
        let mut rooms = Memberships::default();
        let lobby = room("lobby");
        rooms.ask(&lobby, 1, 8).unwrap();
        rooms.answered("lobby", 1, None);
        assert_eq!(rooms.socket(&lobby), None);
        rooms.moved(&lobby, 1, true);
        rooms.ask(&lobby, 1, 8).unwrap();
        rooms.answered("lobby", 1, None);
        assert_eq!(rooms.socket(&lobby), Some(1));
    }

    #[test]
    fn a_room_is_seen_through_one_namespace_and_rooms_have_a_limit() {
        let mut rooms = Memberships::default();
        rooms.ask(&room("chat/lobby"), 1, 1).unwrap();
        assert_eq!(rooms.ask(&room("chat/lobby"), 0, 1), Err(Obstacle::OtherNamespace));
        assert_eq!(rooms.ask(&room("other"), 1, 1), Err(Obstacle::TooMany));
        assert_eq!(rooms.leave_all(1).len(), 1);
        rooms.ask(&room("other"), 1, 1).unwrap();
    }
}
