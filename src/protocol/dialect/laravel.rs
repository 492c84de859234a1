//! `laravel`: `{"event":"App\\Events\\X","data":{…},"socket":"<id>" or null}`. The event's name goes out verbatim; `socket` is
//! the connection that caused the event and is not to get it (`broadcast(…)->toOthers()`).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        event::{Argument, Event},
        json,
    },
    Address, DecodeError, Delivery, Emit, event_name, payload,
};

const SHAPE: &str = r#"an object {"event", "data", "socket"?}"#;

#[derive(Deserialize)]
struct Payload<'a> {
    event: String,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    socket: Option<Box<str>>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let payload: Payload<'_> = payload::object(bytes, SHAPE)?;
    let data = payload.data.map(|raw| Argument::Json(raw.to_owned()));
    let mut emit = Emit::new(Address::Channel, Event::new(event_name(&payload.event)?, data));
    emit.except = payload.socket.into_iter().collect();
    Ok(vec![Delivery::Emit(emit)])
}
