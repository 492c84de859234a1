//! `gevent-socketio`: `{"name":"event","args":["room", …]}`, as its users' `emit_to_channel` publishes it. The first argument
//! is the room. Applications differ in whether browsers see it: it is consumed, unless the source has `room_argument`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::event::{Argument, Event},
    DecodeError, Delivery, Options, event_name, payload, to_channel,
};

const SHAPE: &str = r#"an object {"name", "args": ["room", …]}"#;

#[derive(Deserialize)]
struct Payload<'a> {
    name: String,
    #[serde(borrow)]
    args: Vec<&'a RawValue>,
}

pub(super) fn decode(options: Options, bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let payload: Payload<'_> = payload::object(bytes, SHAPE)?;
    // Without its room the payload is of some other make, and its first argument may not be thrown away.
    if !payload.args.first().is_some_and(|room| room.get().starts_with('"')) {
        return Err(DecodeError::WrongShape { expected: SHAPE });
    }
    let consumed = usize::from(!options.room_argument);
    let arguments = payload.args.into_iter().skip(consumed).map(|raw| Argument::Json(raw.to_owned()));
    Ok(to_channel(Event::new(event_name(&payload.name)?, arguments)))
}
