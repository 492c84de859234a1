//! `raw`: the whole payload is the data of event `message`, JSON when it parses, else a string.

use super::{super::event::Event, DecodeError, Delivery, payload, to_channel};

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let data = payload::json_or_string(payload::text(bytes)?)?;
    Ok(to_channel(Event::new(Default::default(), [data])))
}
