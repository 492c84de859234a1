//! The native WebSocket: one JSON object per text frame, in both directions.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{
    command::{Command, ErrorCode, Reference, Reply},
    event::{Argument, Event},
    json,
    names::{EventName, NameError, RoomName, UserName},
    notice::Notice,
    publication::{Publication, Target},
    websocket,
};

/// Deepest nesting of a client's message, the message itself counted.
pub const MAX_DEPTH: usize = 64;
/// How much of an unknown `type` an error repeats, in characters.
const MAX_ECHO: usize = 64;

/// One event as a complete WebSocket text frame.
pub fn event_frame(publication: &Publication) -> Bytes {
    let arguments = publication.event.json_arguments();
    let length = arguments.iter().map(|argument| argument.len() + 1).sum::<usize>();
    websocket::text_with(128 + length, |out| {
        out.extend_from_slice(br#"{"type":"event","#);
        match &publication.target {
            Target::Room(room) => put_field(out, r#""room":"#, room.as_str()),
            Target::User(_) => out.extend_from_slice(br#""user":true"#),
            Target::Namespace(namespace) => put_field(out, r#""namespace":"#, namespace.as_str()),
        }
        put_field(out, r#","event":"#, publication.event.name.as_str());
        put_arguments(out, &arguments);
        if let Some(id) = &publication.resume_id {
            put_field(out, r#","id":"#, id);
        }
        out.push(b'}');
    })
}

fn put_arguments(out: &mut Vec<u8>, arguments: &[Cow<'_, str>]) {
    match arguments {
        [] => out.extend_from_slice(br#","data":null"#),
        [data] => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data.as_bytes());
        }
        several => {
            out.extend_from_slice(br#","args":["#);
            out.extend_from_slice(several.join(",").as_bytes());
            out.push(b']');
        }
    }
}

fn put_field(out: &mut Vec<u8>, name: &str, value: impl Serialize) {
    out.extend_from_slice(name.as_bytes());
    put_json(out, &value);
}

fn put_json(out: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(out, value) {
        // A `Vec` takes every write, and what is written here has no map with keys that are not strings.
        unreachable!("JSON of strings and numbers always serializes: {error}");
    }
}

/// One reply as a complete WebSocket text frame.
pub fn reply_frame(reply: &Reply) -> Bytes {
    websocket::text_with(128, |out| put_json(out, &Answer::of(reply)))
}

/// A reply as it is spelled here.
#[derive(Serialize)]
struct Answer<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    fields: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Welcome {
        connection: String,
        user: Option<&'a UserName>,
    },
    Room {
        room: &'a RoomName,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    Ack {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    Pong {},
    Error {
        code: &'static str,
        message: &'a str,
    },
    Notice(Option<Notice<'a>>),
}

impl<'a> Answer<'a> {
    fn of(reply: &'a Reply) -> Self {
        let (r#type, fields, reference) = match reply {
            Reply::Welcome { connection, user } => {
                ("welcome", Fields::Welcome { connection: connection.to_string(), user: user.as_ref() }, None)
            }
            Reply::Joined { room, id, reference } => ("joined", Fields::Room { room, id: id.as_deref() }, Some(reference)),
            Reply::Left { room, reference } => ("left", Fields::Room { room, id: None }, Some(reference)),
            Reply::Ack { id, reference } => ("ack", Fields::Ack { id: id.as_deref() }, Some(reference)),
            Reply::Pong { reference } => ("pong", Fields::Pong {}, Some(reference)),
            Reply::Error { code, message, reference } => ("error", Fields::Error { code: code.as_str(), message }, Some(reference)),
            Reply::Gap { .. } => ("gap", Fields::Notice(Notice::of(reply)), None),
            Reply::Presence { .. } => ("presence", Fields::Notice(Notice::of(reply)), None),
        };
        Self { r#type, fields, r#ref: reference.and_then(as_raw) }
    }
}

/// A reference of this wire is JSON text since `read_reference`.
fn as_raw(reference: &Reference) -> Option<&RawValue> {
    serde_json::from_str(reference.0.as_deref()?).ok()
}

/// Why a client's message is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// No JSON at all. The connection counts these.
    #[error("{0}")]
    Malformed(String),
    /// A message of this language with something wrong in it.
    #[error("{message}")]
    Invalid { code: ErrorCode, message: String, reference: Reference },
}

impl Refused {
    /// What the client is told.
    pub fn into_reply(self) -> Reply {
        match self {
            Self::Malformed(message) => Reply::Error { code: ErrorCode::BadRequest, message, reference: Reference(None) },
            Self::Invalid { code, message, reference } => Reply::Error { code, message, reference },
        }
    }
}

/// Reads one message of a client.
pub fn parse(text: &str) -> Result<Command, Refused> {
    let malformed = |error: serde_json::Error| Refused::Malformed(format!("malformed message: {error}"));
    let invalid = |Fault { code, message }, reference| Refused::Invalid { code, message, reference };
    // Without this look, serde would read an array as the fields in their order.
    if !text.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<&RawValue>(text).map_err(malformed)?;
        return Err(invalid(Fault::bad_request("a message is a JSON object"), Reference(None)));
    }
    let message: Incoming<'_> = serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => invalid(Fault::bad_request(format!("the message is not as expected: {error}")), Reference(None)),
        false => malformed(error),
    })?;
    let reference = read_reference(message.r#ref).map_err(|fault| invalid(fault, Reference(None)))?;
    json::check_depth(text.as_bytes(), MAX_DEPTH)
        .map_err(|error| Fault::bad_request(format!("the message {error}")))
        .and_then(|()| message.command(reference.clone()))
        .map_err(|fault| invalid(fault, reference))
}

/// The fields of all messages, unread: so that a field of the wrong type is an answer with the `ref`, not a broken message.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    r#ref: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

/// What is wrong with a message, before it is joined to the message's reference.
struct Fault {
    code: ErrorCode,
    message: String,
}

impl Fault {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::BadRequest, message: message.into() }
    }

    fn name(code: ErrorCode, what: &str, error: NameError) -> Self {
        Self { code, message: format!("the {what}'s name {error}") }
    }
}

impl Incoming<'_> {
    fn command(&self, reference: Reference) -> Result<Command, Fault> {
        Ok(match &*required(self.r#type, "type")? {
            "join" => Command::Join { room: self.room()?, since: self.since()?, reference },
            "leave" => Command::Leave { room: self.room()?, reference },
            "publish" => Command::Publish { room: self.room()?, event: self.event()?, reference },
            "token" => Command::Token { token: required(self.token, "token")?.into(), reference },
            "ping" => Command::Ping { reference },
            unknown => {
                let shown: String = unknown.chars().take(MAX_ECHO).collect();
                return Err(Fault::bad_request(format!("unknown type {shown:?}")));
            }
        })
    }

    fn room(&self) -> Result<RoomName, Fault> {
        let name = required(self.room, "room")?;
        RoomName::parse(&name).map_err(|error| Fault::name(ErrorCode::RoomNameInvalid, "room", error))
    }

    /// An empty one is none, as with an EventSource that has seen no id yet.
    fn since(&self) -> Result<Option<Box<str>>, Fault> {
        Ok(optional(self.since, "since")?.filter(|id| !id.is_empty()).map(Into::into))
    }

    fn event(&self) -> Result<Event, Fault> {
        let name = match optional(self.event, "event")? {
            Some(name) => EventName::parse(&name).map_err(|error| Fault::name(ErrorCode::EventNameInvalid, "event", error))?,
            None => EventName::default(),
        };
        let arguments = match (self.data, self.args) {
            (Some(_), Some(_)) => return Err(Fault::bad_request("an event has data or args, not both")),
            (Some(data), None) => vec![data.to_owned()],
            (None, Some(args)) => serde_json::from_str(args.get()).map_err(|_| Fault::bad_request("args must be an array"))?,
            (None, None) => Vec::new(),
        };
        Ok(Event::new(name, arguments.into_iter().map(Argument::Json)))
    }
}

fn required(field: Option<&RawValue>, name: &str) -> Result<String, Fault> {
    optional(field, name)?.ok_or_else(|| Fault::bad_request(format!("{name} is missing")))
}

fn optional(field: Option<&RawValue>, name: &str) -> Result<Option<String>, Fault> {
    field.map(|raw| serde_json::from_str(raw.get())).transpose().map_err(|_| Fault::bad_request(format!("{name} must be a string")))
}

fn read_reference(raw: Option<&RawValue>) -> Result<Reference, Fault> {
    match raw.map(RawValue::get) {
        None => Ok(Reference(None)),
        Some(text) if text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) => Ok(Reference(Some(text.into()))),
        Some(_) => Err(Fault::bad_request("ref must be a number or a string")),
    }
}
