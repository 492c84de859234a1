//! `action-cable`: the whole payload is the JSON message of a broadcasting.

use serde_json::value::RawValue;

use super::{
    super::event::{Argument, Event},
    DecodeError, Delivery, payload, to_channel,
};

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let text = payload::text(bytes)?;
    payload::check_depth(text)?;
    let message: &RawValue = payload::value(text, "JSON")?;
    Ok(to_channel(Event::new(Default::default(), [Argument::Json(message.to_owned())])))
}
