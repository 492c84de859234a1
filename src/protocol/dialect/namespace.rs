//! Rooms of Socket.IO namespaces, for the two dialects whose publishers address them: `lobby` in `/` is the hub's `lobby`,
//! in `/chat` it is `chat/lobby`.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use super::{
    super::{event::Event, names::RoomName},
    Address, DecodeError, Delivery, Emit, MAX_DELIVERIES, fresh_duplicate_key, room_name,
};

/// A namespace whose name is valid: it begins with `/`, and a room's name can hold it.
pub struct Namespace<'a>(&'a str);

impl<'a> Namespace<'a> {
    pub fn parse(text: &'a str, expected: &'static str) -> Result<Self, DecodeError> {
        if !text.starts_with('/') {
            return Err(DecodeError::WrongShape { expected });
        }
        RoomName::parse(text).map_err(|source| DecodeError::NameInvalid { what: "namespace", source })?;
        Ok(Self(text))
    }

    pub fn name(&self) -> Box<str> {
        self.0.into()
    }

    /// The hub's name of a room.
    pub fn room(&self, room: &str) -> Result<RoomName, DecodeError> {
        // An empty name must not become the valid `chat/`.
        if self.0 == "/" || room.is_empty() { room_name(room) } else { room_name(&format!("{}/{room}", &self.0[1..])) }
    }

    /// The event to everyone in the namespace.
    pub fn emit_to_all(&self, event: Event) -> Emit {
        Emit::new(Address::Namespace(self.name()), event)
    }

    /// The event to each of these rooms, once, as one event.
    pub fn emit_to_rooms(&self, rooms: &[Cow<'_, str>], event: Event) -> Result<Vec<Emit>, DecodeError> {
        if rooms.len() > MAX_DELIVERIES {
            return Err(DecodeError::TooMany { limit: MAX_DELIVERIES });
        }
        let event = Arc::new(event);
        let duplicate_key = (rooms.len() > 1).then(fresh_duplicate_key);
        let mut known = HashSet::with_capacity(rooms.len());
        let mut emits = Vec::with_capacity(rooms.len());
        for room in rooms {
            let room = self.room(room)?;
            if known.insert(room.clone()) {
                let (to, event) = (Address::Room(room), Arc::clone(&event));
                emits.push(Emit { to, event, except: Arc::default(), except_rooms: Arc::default(), duplicate_key });
            }
        }
        Ok(emits)
    }
}

/// Deliveries that all leave out the same.
pub fn deliveries(emits: Vec<Emit>, except: Arc<[Box<str>]>, except_rooms: Arc<[RoomName]>) -> Vec<Delivery> {
    let leave_out = |emit| Emit { except: Arc::clone(&except), except_rooms: Arc::clone(&except_rooms), ..emit };
    emits.into_iter().map(|emit| Delivery::Emit(leave_out(emit))).collect()
}
