//! Who of this node is in which room, for the publishers of Socket.IO who leave out the members of some rooms: the registry
//! writes it, the bridge reads it. Kept only where a source has such publishers; else it costs nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use crate::protocol::{ConnectionId, RoomName, Target};

type Rooms = HashMap<RoomName, HashSet<ConnectionId>>;

/// Bounded by the memberships of this node.
#[derive(Debug, Clone, Default)]
pub struct Attendance(Option<Arc<Mutex<Rooms>>>);

impl Attendance {
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// A connection has become a member, or is one no more.
    pub fn note(&self, connection: ConnectionId, target: &Target, is_member: bool) {
        let (Some(rooms), Target::Room(room)) = (&self.0, target) else { return };
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if is_member {
            rooms.entry(room.clone()).or_default().insert(connection);
        } else if let Some(members) = rooms.get_mut(room) {
            members.remove(&connection);
            if members.is_empty() {
                rooms.remove(room);
            }
        }
    }

    /// The members of any of these rooms.
    pub fn of<'a>(&self, rooms: impl IntoIterator<Item = &'a RoomName>) -> Vec<ConnectionId> {
        let Some(known) = &self.0 else { return Vec::new() };
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.into_iter().filter_map(|room| known.get(room)).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_are_known_who_are_in_a_room_now() {
        let attendance = Attendance::kept();
        let (room, id) = (RoomName::parse("a").unwrap(), |number| ConnectionId::new(1, number));
        let target = Target::Room(room.clone());
        attendance.note(id(1), &target, true);
        attendance.note(id(2), &target, true);
        attendance.note(id(1), &target, false);
        assert_eq!(attendance.of([&room]), [id(2)]);
        attendance.note(id(2), &target, false);
        assert_eq!(attendance.0.unwrap().lock().unwrap().len(), 0);
    }
}
