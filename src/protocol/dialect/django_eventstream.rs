//! `django-eventstream`: `{"channel":"c","event_type":"message","data":"<JSON text>","pub_id":null}` on one channel for all;
//! its `channel` is the room, its `data` ready text.

use serde::Deserialize;

use super::{
    super::event::{Argument, Event},
    Address, DecodeError, Delivery, Emit, event_name, payload, room_name,
};

const SHAPE: &str = r#"an object {"channel", "event_type", "data", "pub_id"?} of strings"#;

#[derive(Deserialize)]
struct Payload {
    channel: String,
    event_type: String,
    data: Box<str>,
    pub_id: Option<Box<str>>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let payload: Payload = payload::object(bytes, SHAPE)?;
    let mut event = Event::new(event_name(&payload.event_type)?, [Argument::Text(payload.data)]);
    event.id = payload.pub_id;
    Ok(vec![Delivery::Emit(Emit::new(Address::Room(room_name(&payload.channel)?), event))])
}
