//! `django-sse`: `["event", "text"]`, a JSON array of two; the text goes to the browser as it is.
//!
//! A list of strings is one text of that many lines, as in the package. Data of other types publishes fine there and then
//! breaks the package's view; here it goes out as JSON text.

use serde_json::value::RawValue;

use super::{
    super::event::{Argument, Event},
    DecodeError, Delivery, event_name, payload, to_channel,
};

const SHAPE: &str = r#"an array ["event", data]"#;

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let parts: Vec<&RawValue> = payload::array(bytes, SHAPE)?;
    let [name, data] = parts[..] else { return Err(DecodeError::WrongShape { expected: SHAPE }) };
    let name: String = payload::value(name.get(), SHAPE)?;
    let text = match data.get().as_bytes().first() {
        Some(b'"') => payload::value::<String>(data.get(), SHAPE)?,
        Some(b'[') => joined_lines(data),
        _ => data.get().to_owned(),
    };
    Ok(to_channel(Event::new(event_name(&name)?, [Argument::Text(text.into())])))
}

fn joined_lines(list: &RawValue) -> String {
    match serde_json::from_str::<Vec<String>>(list.get()) {
        Ok(lines) => lines.join("\n"),
        Err(_) => list.get().to_owned(),
    }
}
