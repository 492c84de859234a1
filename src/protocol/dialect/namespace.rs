//! Whom the two dialects mean whose publishers address Socket.IO's namespaces: `lobby` in `/` is the hub's `lobby`, in `/chat`
//! it is `chat/lobby`.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use super::{
    super::{event::Event, names::RoomName, socketio::Namespace},
    Address, DecodeError, Delivery, Emit, MAX_DELIVERIES, fresh_duplicate_key,
};

/// What a payload names; the root where it names nothing.
pub fn parse(text: Option<&str>) -> Result<Namespace, DecodeError> {
    Ok(text.map_or(Ok(Namespace::root()), Namespace::parse)?)
}

/// The hub's name of a room.
pub fn room_of(namespace: &Namespace, room: &str) -> Result<RoomName, DecodeError> {
    namespace.hub_room(room).map_err(|source| DecodeError::NameInvalid { what: "room", source })
}

/// The event to everyone in the namespace.
pub fn emit_to_all(namespace: Namespace, event: Event) -> Emit {
    Emit::new(Address::Namespace(namespace), event)
}

/// The event to each of these rooms, once, as one event.
pub fn emit_to_rooms(namespace: &Namespace, rooms: &[Cow<'_, str>], event: Event) -> Result<Vec<Emit>, DecodeError> {
    if rooms.len() > MAX_DELIVERIES {
        return Err(DecodeError::TooMany { limit: MAX_DELIVERIES });
    }
    let event = Arc::new(event);
    let duplicate_key = (rooms.len() > 1).then(fresh_duplicate_key);
    let mut known = HashSet::with_capacity(rooms.len());
    let mut emits = Vec::with_capacity(rooms.len());
    for room in rooms {
        let room = room_of(namespace, room)?;
        if known.insert(room.clone()) {
            let (to, event) = (Address::Room(room), Arc::clone(&event));
            emits.push(Emit { to, event, except: Arc::default(), except_rooms: Arc::default(), duplicate_key });
        }
    }
    Ok(emits)
}

/// Deliveries that all leave out the same.
pub fn deliveries(emits: Vec<Emit>, except: Arc<[Box<str>]>, except_rooms: Arc<[RoomName]>) -> Vec<Delivery> {
    let leave_out = |emit| Emit { except: Arc::clone(&except), except_rooms: Arc::clone(&except_rooms), ..emit };
    emits.into_iter().map(|emit| Delivery::Emit(leave_out(emit))).collect()
}
