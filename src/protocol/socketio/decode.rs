//! What a client of protocol 5 or 4 sends: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`, and the attachments
//! that follow. As strict as the reference server: whoever breaks a rule loses the session.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};
use smallvec::SmallVec;
use thiserror::Error;

use super::{MAX_ARGUMENTS, MAX_ATTACHMENTS, MAX_DEPTH, Revision, is_reserved};
use crate::protocol::{
    event::Argument,
    json::{self, TooDeep},
};

/// A text packet, borrowed from the frame it came in.
#[derive(Debug)]
pub enum Packet<'a> {
    Connect {
        namespace: &'a str,
        /// Revision 4: what follows `?` in the namespace.
        query: Option<&'a str>,
        /// Revision 5: the JSON object of `auth`.
        auth: Option<&'a RawValue>,
    },
    Disconnect {
        namespace: &'a str,
    },
    /// So many attachments are still to come.
    Event {
        namespace: &'a str,
        event: ClientEvent,
        attachments: usize,
    },
    /// The answer to an event of ours.
    Ack {
        namespace: &'a str,
        attachments: usize,
    },
}

/// An event as a client said it, the attachments included once they are all there.
#[derive(Debug, Clone)]
pub struct ClientEvent {
    pub name: Box<str>,
    pub arguments: SmallVec<[Argument; 2]>,
    pub attachments: Vec<Bytes>,
    /// The id under which the client waits for an answer.
    pub ack: Option<u64>,
}

impl ClientEvent {
    /// What it holds, in bytes.
    pub fn size(&self) -> usize {
        let arguments: usize = self.arguments.iter().map(|argument| argument.to_json().len()).sum();
        self.name.len() + arguments + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Which rule a packet breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("packet type {0:?} is unknown, or a server's")]
    UnknownType(Option<char>),
    #[error("number of attachments is none, or over {MAX_ATTACHMENTS}")]
    AttachmentCount,
    #[error("placeholder names no attachment of its own")]
    Placeholder,
    #[error("ack id does not fit 64 bits")]
    AckId,
    #[error("payload is not what its packet holds: {0}")]
    Payload(String),
    #[error("payload {0}")]
    TooDeep(#[from] TooDeep),
    #[error("event name {0:?} is reserved")]
    Reserved(Box<str>),
}

impl<'a> Packet<'a> {
    pub fn from_text(revision: Revision, text: &'a str) -> Result<Self, PacketError> {
        let kind = text.chars().next();
        let rest = text.get(1..).unwrap_or_default();
        let (attachments, rest) = match kind {
            Some('5' | '6') => split_attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, query, rest) = split_namespace(revision, rest);
        let (ack, payload) = split_ack(rest)?;
        json::check_depth(payload.as_bytes(), MAX_DEPTH)?;
        match kind {
            Some('0') => Ok(Self::Connect { namespace, query, auth: parse_auth(payload)? }),
            Some('1') if payload.is_empty() => Ok(Self::Disconnect { namespace }),
            Some('1') => Err(PacketError::Payload("a disconnect has none".into())),
            Some('2' | '5') => Ok(Self::Event { namespace, event: parse_event(payload, ack, attachments)?, attachments }),
            Some('3' | '6') => {
                parse_array(payload, ArrayOnly)?;
                Ok(Self::Ack { namespace, attachments })
            }
            other => Err(PacketError::UnknownType(other)),
        }
    }
}

fn split_attachments(rest: &str) -> Result<(usize, &str), PacketError> {
    let (digits, rest) = rest.split_once('-').ok_or(PacketError::AttachmentCount)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    match digits.parse() {
        Ok(count) if is_number && count <= MAX_ATTACHMENTS => Ok((count, rest)),
        _ => Err(PacketError::AttachmentCount),
    }
}

fn split_namespace(revision: Revision, rest: &str) -> (&str, Option<&str>, &str) {
    if !rest.starts_with('/') {
        return ("/", None, rest);
    }
    let (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    match namespace.split_once('?') {
        Some((path, query)) if revision == Revision::V4 => (path, Some(query), rest),
        _ => (namespace, None, rest),
    }
}

fn split_ack(rest: &str) -> Result<(Option<u64>, &str), PacketError> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (id, payload) = rest.split_at(digits);
    match id {
        "" => Ok((None, payload)),
        id => id.parse().map(|id| (Some(id), payload)).map_err(|_| PacketError::AckId),
    }
}

fn parse_auth(payload: &str) -> Result<Option<&RawValue>, PacketError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let auth: &RawValue = serde_json::from_str(payload).map_err(not_the_payload)?;
    if auth.get().starts_with('{') { Ok(Some(auth)) } else { Err(PacketError::Payload("auth is no object".into())) }
}

/// What the `auth` object of protocol 5 says that means something here. What has another shape is not said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Auth {
    pub token: Option<Box<str>>,
    /// The last id that the client saw. Empty, or null, of one that has seen none and wants ids.
    pub since: Option<Box<str>>,
    /// Socket.IO's own recovery: the session's secret name, and the last offset.
    pub recovery: Option<(Box<str>, Box<str>)>,
}

impl Auth {
    pub fn read(auth: &RawValue) -> Self {
        let mut auth = serde_json::from_str::<Value>(auth.get()).unwrap_or_default();
        let mut take = |name| auth.get_mut(name).map(Value::take);
        let text = |value| match value {
            Some(Value::String(text)) => Some(Box::from(text)),
            _ => None,
        };
        let since = match take("since") {
            Some(Value::Null) => Some(Box::default()),
            value => text(value),
        };
        Self { token: text(take("token")), since, recovery: text(take("pid")).zip(text(take("offset"))) }
    }
}

fn parse_event(payload: &str, ack: Option<u64>, attachments: usize) -> Result<ClientEvent, PacketError> {
    let mut arguments = parse_arguments(payload)?;
    if arguments.is_empty() {
        return Err(PacketError::Payload("an event without a name".into()));
    }
    let name = event_name(&arguments.remove(0))?;
    if is_reserved(&name) {
        return Err(PacketError::Reserved(name));
    }
    if attachments > 0 {
        check_placeholders(&arguments, attachments)?;
    }
    Ok(ClientEvent { name, arguments, attachments: Vec::new(), ack })
}

/// A name is a string or, as in the reference, a number.
fn event_name(argument: &Argument) -> Result<Box<str>, PacketError> {
    match serde_json::from_str(&argument.to_json()).map_err(not_the_payload)? {
        Value::String(name) => Ok(name.into()),
        Value::Number(number) => Ok(number.to_string().into()),
        _ => Err(PacketError::Payload("an event's name is a string or a number".into())),
    }
}

/// Whoever gets the event reads its placeholders; one that points nowhere would end their sessions, and one attachment in
/// many places would grow where it is written out as text.
fn check_placeholders(arguments: &[Argument], attachments: usize) -> Result<(), PacketError> {
    let mut is_used = [false; MAX_ATTACHMENTS];
    for argument in arguments {
        let value = serde_json::from_str(&argument.to_json()).map_err(not_the_payload)?;
        mark_placeholders(&value, &mut is_used[..attachments])?;
    }
    Ok(())
}

fn mark_placeholders(value: &Value, is_used: &mut [bool]) -> Result<(), PacketError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| mark_placeholders(item, is_used)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            match number.and_then(|number| is_used.get_mut(number)) {
                Some(mark) if !*mark => {
                    *mark = true;
                    Ok(())
                }
                _ => Err(PacketError::Placeholder),
            }
        }
        Value::Object(fields) => fields.values().try_for_each(|field| mark_placeholders(field, is_used)),
        _ => Ok(()),
    }
}

/// The elements of a JSON array, to the letter.
pub(in crate::protocol) fn parse_arguments(payload: &str) -> Result<SmallVec<[Argument; 2]>, PacketError> {
    parse_array(payload, Arguments)
}

fn parse_array<'a, V: Visitor<'a>>(payload: &'a str, visitor: V) -> Result<V::Value, PacketError> {
    let mut json = serde_json::Deserializer::from_str(payload);
    let value = json.deserialize_seq(visitor).map_err(not_the_payload)?;
    json.end().map_err(not_the_payload)?;
    Ok(value)
}

fn not_the_payload(error: serde_json::Error) -> PacketError {
    PacketError::Payload(error.to_string())
}

struct Arguments;

impl<'de> Visitor<'de> for Arguments {
    type Value = SmallVec<[Argument; 2]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {MAX_ARGUMENTS} arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut arguments = SmallVec::new();
        while let Some(raw) = elements.next_element::<Box<RawValue>>()? {
            if arguments.len() == MAX_ARGUMENTS {
                return Err(A::Error::invalid_length(MAX_ARGUMENTS + 1, &self));
            }
            arguments.push(Argument::Json(raw));
        }
        Ok(arguments)
    }
}

/// Checks that it is an array, and keeps nothing.
struct ArrayOnly;

impl<'de> Visitor<'de> for ArrayOnly {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
