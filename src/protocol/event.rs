//! An event: a name and its arguments, as its publisher said them. Arguments stay the JSON text that arrived, so that what
//! the hub does not understand passes through it unchanged and nothing is encoded twice.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, value::RawValue};
use smallvec::SmallVec;

use super::names::EventName;

/// One argument of an event.
#[derive(Debug, Clone)]
pub enum Argument {
    /// JSON text, valid when it was made. Its white space is the publisher's: it may span lines.
    Json(Box<RawValue>),
    /// Ready text of a text dialect (django-sse, flask-sse, django-eventstream): passed through on SSE, a string elsewhere.
    Text(Box<str>),
}

impl Argument {
    /// The argument as JSON text.
    pub fn to_json(&self) -> Cow<'_, str> {
        match self {
            Self::Json(raw) => Cow::Borrowed(raw.get()),
            Self::Text(text) => Cow::Owned(Value::from(&**text).to_string()),
        }
    }

    pub fn from_value(value: &Value) -> Self {
        match serde_json::value::to_raw_value(value) {
            Ok(raw) => Self::Json(raw),
            // A `Value` has no keys that are not strings and no writer that fails.
            Err(error) => unreachable!("a JSON value always serializes: {error}"),
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub name: EventName,
    /// None, one (the usual `data`) or several.
    pub arguments: SmallVec<[Argument; 1]>,
    /// Binary parts. Where an argument holds one, its JSON says `{"_placeholder":true,"num":N}`, as in Socket.IO.
    pub attachments: Vec<Bytes>,
    /// The publisher's own id, echoed to the publisher and used to recognise a repetition.
    pub id: Option<Box<str>>,
}

impl Event {
    pub fn new(name: EventName, arguments: impl IntoIterator<Item = Argument>) -> Self {
        Self { name, arguments: arguments.into_iter().collect(), ..Self::default() }
    }

    /// The arguments as JSON text for wires without binary: each attachment stands as base64 text where it belongs.
    pub fn json_arguments(&self) -> SmallVec<[Cow<'_, str>; 1]> {
        self.arguments
            .iter()
            .map(|argument| match argument {
                Argument::Json(raw) if !self.attachments.is_empty() => self.inline_attachments(raw),
                other => other.to_json(),
            })
            .collect()
    }

    fn inline_attachments<'a>(&self, raw: &'a RawValue) -> Cow<'a, str> {
        match serde_json::from_str::<Value>(raw.get()) {
            Ok(mut value) => {
                self.replace_placeholders(&mut value);
                Cow::Owned(value.to_string())
            }
            // Deeper than serde_json recurses: left as it is. Dialects bound the depth long before.
            Err(_) => Cow::Borrowed(raw.get()),
        }
    }

    fn replace_placeholders(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_placeholders(item)),
            Value::Object(fields) => {
                let number = fields.get("num").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                match (fields.get("_placeholder"), number.and_then(|n| self.attachments.get(n))) {
                    (Some(Value::Bool(true)), Some(bytes)) => *value = Value::from(BASE64_STANDARD.encode(bytes)),
                    _ => fields.values_mut().for_each(|field| self.replace_placeholders(field)),
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_stand_as_base64_where_their_placeholders_were() {
        let mut event = Event::new(
            EventName::default(),
            [Argument::from_value(&serde_json::json!({"a": [{"_placeholder": true, "num": 0}], "b": {"num": 0}}))],
        );
        event.attachments.push(Bytes::from_static(&[1, 2]));
        assert_eq!(event.json_arguments()[0], r#"{"a":["AQI="],"b":{"num":0}}"#);
    }

    #[test]
    fn json_passes_through_to_the_letter() {
        let raw = RawValue::from_string("{ \"n\": 1.0e400,\n \"n\": 2 }".into()).unwrap();
        let event = Event::new(EventName::default(), [Argument::Json(raw)]);
        assert_eq!(event.json_arguments()[0], "{ \"n\": 1.0e400,\n \"n\": 2 }");
    }
}
