//! `callboard`: the hub's own payload, which any publisher may write and the hub itself publishes.
//!
//! `{"event":"e","data":…}` or `{"event":"e","args":[…]}`. Optional: `id` (the publisher's own), `except` (connection ids),
//! and, of the hub's making, `binary` (base64 attachments) and `key` (the same on one event's payloads to several rooms).
//! Keys it doesn't know are ignored: a newer node may write more than an older one reads.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    super::{
        event::{Argument, Event},
        json,
        names::{ConnectionId, EventName},
    },
    Address, DecodeError, Delivery, Emit, event_name, payload,
};

const SHAPE: &str = r#"an object {"event", "data" or "args"}"#;

#[derive(Deserialize)]
struct Payload<'a> {
    event: Option<String>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<Vec<&'a RawValue>>,
    id: Option<Box<str>>,
    except: Option<Vec<Box<str>>>,
    binary: Option<Vec<String>>,
    key: Option<u64>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
    let read: Result<Payload<'_>, DecodeError> = payload::object(bytes, SHAPE);
    if !read.as_ref().is_ok_and(|payload| payload.binary.is_some()) {
        let id = read.as_ref().ok().and_then(|payload| payload.id.as_deref());
        payload::check_size(bytes, id.map_or(payload::MAX_PAYLOAD_BYTES, largest))?;
    }
    let payload = read?;
    if payload.event.is_none() && payload.data.is_none() && payload.args.is_none() {
        // Some other object: its publisher forgot to wrap it.
        return Err(DecodeError::WrongShape { expected: SHAPE });
    }
    let arguments = match (payload.data, payload.args) {
        (Some(_), Some(_)) => return Err(DecodeError::WrongShape { expected: SHAPE }),
        (Some(data), None) => vec![data],
        (None, args) => args.unwrap_or_default(),
    };
    let mut event = Event::new(
        payload.event.as_deref().map_or_else(|| Ok(EventName::default()), event_name)?,
        arguments.into_iter().map(|raw| Argument::Json(raw.to_owned())),
    );
    event.id = payload.id;
    event.attachments = payload::attachments(payload.binary.iter().flatten().map(String::as_str), SHAPE)?;
    payload::check_placeholders(&event.arguments, &event.attachments, SHAPE)?;
    Ok(vec![Delivery::Emit(Emit {
        to: Address::Channel,
        event: Arc::new(event),
        except: payload.except.unwrap_or_default().into(),
        except_rooms: Arc::default(),
        duplicate_key: payload.key,
    })])
}

/// How long a payload with this id may be. The id and what else the hub adds to an event do not count.
pub fn largest(id: &str) -> usize {
    payload::MAX_PAYLOAD_BYTES + payload::ENVELOPE_BYTES + id.len()
}

/// The payload that the hub publishes; [`decode`] reads the same event from it. Ready text becomes a JSON string: on a
/// native channel there are no text dialects.
pub fn encode(event: &Event, except: &[ConnectionId], duplicate_key: Option<u64>) -> Vec<u8> {
    let (data, args) = match &event.arguments[..] {
        [] => (None, None),
        [data] => (Some(Json(data)), None),
        several => (None, Some(several.iter().map(Json).collect())),
    };
    let outgoing = Outgoing {
        event: &event.name,
        data,
        args,
        id: event.id.as_deref(),
        except: except.iter().map(ConnectionId::to_string).collect(),
        binary: event.attachments.iter().map(|bytes| BASE64_STANDARD.encode(bytes)).collect(),
        key: duplicate_key,
    };
    match serde_json::to_vec(&outgoing) {
        Ok(bytes) => bytes,
        // Its keys are strings, its values are texts and JSON that is valid already, and a vector takes every write.
        Err(error) => unreachable!("a native payload always serializes: {error}"),
    }
}

#[derive(Serialize)]
struct Outgoing<'a> {
    event: &'a EventName,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<Json<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    binary: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<u64>,
}

struct Json<'a>(&'a Argument);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Argument::Json(raw) => raw.serialize(serializer),
            Argument::Text(text) => serializer.serialize_str(text),
        }
    }
}
