//! On what terms a namespace is connected: whether its events show ids, what it missed, and by what name it may recover.

use crate::protocol::names::RoomName;

/// What a client gets beside its namespace. Only protocol 5 has a way to ask for any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Each event ends with one argument more: the id to resume by, or null.
    pub shows_ids: bool,
    /// The last id that the client saw, for the rooms that it will subscribe to.
    pub since: Option<Box<str>>,
    /// The name that Socket.IO's own recovery knows the session by.
    pub pid: Option<Box<str>>,
}

/// A client's last id and the rooms that have been entered with it: each once, for a room that is left and entered again
/// begins anew.
#[derive(Debug)]
pub struct LastSeen {
    id: Box<str>,
    entered: Vec<RoomName>,
}

impl LastSeen {
    pub fn new(id: Box<str>) -> Self {
        Self { id, entered: Vec::new() }
    }

    /// The id for the first join of a room; of so many rooms at most, for no stream has more.
    pub fn take(&mut self, room: &RoomName, limit: usize) -> Option<Box<str>> {
        if self.entered.len() >= limit || self.entered.contains(room) {
            return None;
        }
        self.entered.push(room.clone());
        Some(self.id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_id_serves_each_room_once_and_no_more_rooms_than_a_connection_has() {
        let room = |name| RoomName::parse(name).unwrap();
        let mut seen = LastSeen::new("id".into());
        assert_eq!(seen.take(&room("a"), 2).as_deref(), Some("id"));
        assert_eq!(seen.take(&room("a"), 2), None);
        assert_eq!(seen.take(&room("b"), 2).as_deref(), Some("id"));
        assert_eq!(seen.take(&room("c"), 2), None);
    }
}
