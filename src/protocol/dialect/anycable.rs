//! `anycable`: `{"stream":"s","data":"<text>","meta":{"exclude_socket":"id"}}`, or an array of them, on one channel for all.
//! The stream is the room. `data` is the message as text: JSON where it parses, as its own clients read it, else a string.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{super::event::Event, Address, DecodeError, Delivery, Emit, MAX_DELIVERIES, payload, room_name};

const SHAPE: &str = r#"an object {"stream", "data", "meta"?} or an array of them"#;

#[derive(Deserialize)]
struct Broadcast {
    stream: String,
    data: String,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    exclude_socket: Option<Box<str>>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let text = payload::text(bytes)?;
    payload::check_depth(text)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(vec![broadcast(text)?]);
    }
    let messages: Vec<&RawValue> = payload::value(text, SHAPE)?;
    if messages.len() > MAX_DELIVERIES {
        return Err(DecodeError::TooMany { limit: MAX_DELIVERIES });
    }
    messages.into_iter().map(|message| broadcast(message.get())).collect()
}

fn broadcast(text: &str) -> Result<Delivery, DecodeError> {
    let message: Broadcast = payload::object_text(text, SHAPE)?;
    let event = Event::new(Default::default(), [payload::json_or_string(&message.data)?]);
    let mut emit = Emit::new(Address::Room(room_name(&message.stream)?), event);
    emit.except = message.meta.and_then(|meta| meta.exclude_socket).into_iter().collect();
    Ok(Delivery::Emit(emit))
}
