//! `socket.io-emitter`: the MessagePack of `@socket.io/redis-emitter` 5, and of servers with `@socket.io/redis-adapter` 8:
//! `[uid, {type: 2, data: [event, …args], nsp}, {rooms, flags, except}]`, keys in any order.
//!
//! The rooms are those of the payload: a channel's suffix only narrows what a server need read, and names may hold its `#`.

use std::borrow::Cow;

use rmpv::ValueRef;

use super::{
    super::event::Event,
    DecodeError, Delivery, event_name, msgpack,
    namespace::{self, deliveries, emit_to_all, emit_to_rooms},
    payload,
};

const SHAPE: &str = "an array [uid, {type: 2, data: [event, …], nsp}, {rooms, flags, except}] of Socket.IO";
const WRONG_SHAPE: DecodeError = DecodeError::WrongShape { expected: SHAPE };
/// Socket.IO's packet types EVENT and BINARY_EVENT.
const EVENT_TYPES: [u64; 2] = [2, 5];

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let message = msgpack::read(bytes)?;
    let [_uid, packet, options] = msgpack::array(&message).ok_or(WRONG_SHAPE)? else { return Err(WRONG_SHAPE) };
    if !field(packet, "type")?.and_then(ValueRef::as_u64).is_some_and(|number| EVENT_TYPES.contains(&number)) {
        return Err(WRONG_SHAPE);
    }
    let name = field(packet, "nsp")?.map(|name| msgpack::text(name).ok_or(WRONG_SHAPE)).transpose()?;
    let namespace = namespace::parse(name)?;
    let event = read_event(field(packet, "data")?.ok_or(WRONG_SHAPE)?)?;
    // No list of rooms is not the same as an empty one, which means everyone: the safe reading is to drop it.
    let rooms = names(field(options, "rooms")?.ok_or(WRONG_SHAPE)?)?;
    // In Socket.IO a session is also a room of that name, so each of these may be either. What can't be a room's name here
    // has no members to leave out.
    let excepted = field(options, "except")?.map_or(Ok(Vec::new()), names)?;
    let except = excepted.iter().map(|name| Box::from(&**name)).collect();
    let except_rooms = excepted.iter().filter_map(|name| namespace.hub_room(name).ok()).collect();
    let emits = match &rooms[..] {
        [] => vec![emit_to_all(namespace, event)],
        rooms => emit_to_rooms(&namespace, rooms, event)?,
    };
    Ok(deliveries(emits, except, except_rooms))
}

fn read_event(data: &ValueRef<'_>) -> Result<Event, DecodeError> {
    let [name, arguments @ ..] = msgpack::array(data).ok_or(WRONG_SHAPE)? else { return Err(WRONG_SHAPE) };
    let name = event_name(msgpack::text(name).ok_or(WRONG_SHAPE)?)?;
    let (arguments, attachments) = msgpack::to_arguments(arguments).ok_or(WRONG_SHAPE)?;
    payload::check_placeholders(&arguments, &attachments, SHAPE)?;
    Ok(Event { name, arguments, attachments, id: None })
}

/// A map's value, nil being the same as absent.
fn field<'a, 'b>(map: &'b ValueRef<'a>, key: &str) -> Result<Option<&'b ValueRef<'a>>, DecodeError> {
    let ValueRef::Map(fields) = map else { return Err(WRONG_SHAPE) };
    let found = fields.iter().find(|(name, _)| msgpack::text(name) == Some(key));
    Ok(found.map(|(_, value)| value).filter(|value| !matches!(value, ValueRef::Nil)))
}

/// Names of rooms: texts, or integers.
fn names<'b>(list: &'b ValueRef<'_>) -> Result<Vec<Cow<'b, str>>, DecodeError> {
    msgpack::array(list).ok_or(WRONG_SHAPE)?.iter().map(name).collect()
}

fn name<'b>(value: &'b ValueRef<'_>) -> Result<Cow<'b, str>, DecodeError> {
    match value {
        ValueRef::Integer(number) => Ok(Cow::Owned(number.to_string())),
        other => msgpack::text(other).map(Cow::Borrowed).ok_or(WRONG_SHAPE),
    }
}
