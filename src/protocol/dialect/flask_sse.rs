//! `flask-sse`: `{"data":…,"type"?,"id"?,"retry"?}`. `data` that is no string goes out as JSON text, as the package sends it.
//!
//! `retry` is the package's word on when its clients reconnect to it; when they reconnect here is the hub's, so it is dropped.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{
        event::{Argument, Event},
        names::EventName,
    },
    DecodeError, Delivery, event_name, payload, to_channel,
};

const SHAPE: &str = r#"an object {"data", "type"?, "id"?, "retry"?}"#;

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<Id>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(Box<str>),
    Number(i64),
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let payload: Payload<'_> = payload::object(bytes, SHAPE)?;
    let text = match payload.data.get() {
        quoted if quoted.starts_with('"') => payload::value::<Box<str>>(quoted, SHAPE)?,
        json => json.into(),
    };
    let name = payload.kind.as_deref().map_or_else(|| Ok(EventName::default()), event_name)?;
    let mut event = Event::new(name, [Argument::Text(text)]);
    event.id = payload.id.map(|id| match id {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string().into(),
    });
    Ok(to_channel(event))
}
