//! Socket.IO 0.9 (protocol 1), which the pages of 2012 speak: its handshake, its packets `type:id:endpoint:data` and the
//! framing of its polls. Scripts instead of bodies are in [`super::jsonp`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use super::{
    engineio::Carrier,
    event::Argument,
    json::{self, TooDeep},
    socketio::{MAX_DEPTH, decode::parse_arguments},
    utf16, websocket,
};

/// What is offered. Of `xhr-multipart` and `flashsocket` no client of use is left, `htmlfile` needs Internet Explorer.
pub const TRANSPORTS: &str = "websocket,xhr-polling,jsonp-polling";
/// Ends a poll that has nothing to say, so that the client asks anew.
pub const NOOP: &str = "8::";
/// Each side's sign of life.
pub const HEARTBEAT: &str = "2::";
/// For a session that is not known, or no longer served here: reconnect with a new handshake.
pub const RECONNECT: &str = "7:::1+0";
/// The answer to a POST.
pub const POSTED: &str = "1";
/// Stands around the length of each packet where a payload has several.
const MARK: char = '\u{fffd}';

/// A packet from a client, borrowed from the payload or frame it came in.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The namespace with its slash, or empty for the root.
    pub endpoint: &'a str,
    pub receipt: Receipt,
    pub content: Content<'a>,
}

/// What the sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    None,
    /// That the packet has arrived.
    Arrival(u64),
    /// What the event's handler says.
    Answer(u64),
}

#[derive(Debug)]
pub enum Content<'a> {
    Disconnect,
    Connect {
        query: Option<&'a str>,
    },
    Heartbeat,
    /// A named event; a message or JSON value, which have no name, are events called `message`.
    Event {
        name: Box<str>,
        arguments: SmallVec<[Argument; 2]>,
    },
    /// An ack, an error or a noop: nothing to do.
    Ignored,
}

/// Bytes that are no packet, or no payload of packets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("packet is not of the form type:id:endpoint:data")]
    Form,
    #[error("event or json is invalid: {0}")]
    Json(String),
    #[error("packet's JSON {0}")]
    TooDeep(#[from] TooDeep),
    #[error("payload announces a length that is no number, or not the packet's")]
    Length,
}

#[derive(Deserialize)]
struct Named<'a> {
    name: Box<str>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

impl<'a> Packet<'a> {
    pub fn from_text(text: &'a str) -> Result<Self, PacketError> {
        let (kind, rest) = text.split_once(':').ok_or(PacketError::Form)?;
        let (id, rest) = rest.split_once(':').ok_or(PacketError::Form)?;
        let (endpoint, data) = rest.split_once(':').unwrap_or((rest, ""));
        let content = match kind {
            "0" => Content::Disconnect,
            "1" => Content::Connect { query: data.strip_prefix('?') },
            "2" => Content::Heartbeat,
            "3" => Content::Event { name: "message".into(), arguments: smallvec![Argument::from_value(&Value::from(data))] },
            "4" => Content::Event { name: "message".into(), arguments: smallvec![Argument::Json(parse_json(data)?)] },
            "5" => parse_event(data)?,
            "6" | "7" | "8" => Content::Ignored,
            _ => return Err(PacketError::Form),
        };
        Ok(Self { endpoint, receipt: parse_receipt(id)?, content })
    }
}

fn parse_receipt(id: &str) -> Result<Receipt, PacketError> {
    let (digits, kind): (_, fn(u64) -> Receipt) = match id.strip_suffix('+') {
        Some(digits) => (digits, Receipt::Answer),
        None => (id, Receipt::Arrival),
    };
    match digits {
        "" => Ok(Receipt::None),
        _ if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().map(kind).map_err(|_| PacketError::Form),
        _ => Err(PacketError::Form),
    }
}

fn parse_json(data: &str) -> Result<Box<RawValue>, PacketError> {
    json::check_depth(data.as_bytes(), MAX_DEPTH)?;
    serde_json::from_str(data).map_err(|error| PacketError::Json(error.to_string()))
}

fn parse_event(data: &str) -> Result<Content<'_>, PacketError> {
    json::check_depth(data.as_bytes(), MAX_DEPTH)?;
    let named: Named<'_> = serde_json::from_str(data).map_err(|error| PacketError::Json(error.to_string()))?;
    let arguments = match named.args.map(RawValue::get) {
        None => SmallVec::new(),
        Some(args) => parse_arguments(args).map_err(|error| PacketError::Json(error.to_string()))?,
    };
    Ok(Content::Event { name: named.name, arguments })
}

/// The body of a handshake's answer. A zero heartbeat means none.
pub fn handshake(sid: &str, heartbeat: Duration, close: Duration) -> String {
    let heartbeat = if heartbeat.is_zero() { String::new() } else { heartbeat.as_secs().to_string() };
    format!("{sid}:{heartbeat}:{}:{TRANSPORTS}", close.as_secs())
}

/// The endpoint of a namespace that is named without its slash.
pub(super) fn endpoint(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!("/{namespace}") }
}

pub(super) fn event(namespace: &str, name: &str, arguments: &[impl AsRef<str>]) -> String {
    let name = Value::from(name);
    let endpoint = endpoint(namespace);
    if arguments.is_empty() {
        return format!(r#"5::{endpoint}:{{"name":{name}}}"#);
    }
    let arguments: SmallVec<[&str; 4]> = arguments.iter().map(AsRef::as_ref).collect();
    format!(r#"5::{endpoint}:{{"name":{name},"args":[{}]}}"#, arguments.join(","))
}

/// "The packet has arrived".
pub(super) fn arrival(namespace: &str, id: u64) -> String {
    format!("6::{}:{id}", endpoint(namespace))
}

/// An error packet of reason 2, without advice: the client is not to try again by itself.
pub(super) fn unauthorized(namespace: &str) -> String {
    format!("7::{}:2", endpoint(namespace))
}

/// The ready bytes of a packet: a frame, or a unit that [`body`] joins.
pub fn ready(carrier: Carrier, packet: &str) -> Bytes {
    match carrier {
        Carrier::WebSocket => websocket::text(packet),
        Carrier::Polling => Bytes::from(format!("{MARK}{}{MARK}{packet}", utf16::length(packet))),
    }
}

/// The payload that answers a poll with these units. A single packet stands bare.
pub fn body(units: &[Bytes]) -> Bytes {
    if let [only] = units {
        return bare(only);
    }
    let mut payload = BytesMut::with_capacity(units.iter().map(Bytes::len).sum());
    units.iter().for_each(|unit| payload.extend_from_slice(unit));
    payload.freeze()
}

/// What waited for a poll, as WebSocket frames: for a client whose first poll came before its WebSocket.
pub fn frames(unit: &Bytes) -> Vec<Bytes> {
    vec![websocket::text(&String::from_utf8_lossy(&bare(unit)))]
}

fn bare(unit: &Bytes) -> Bytes {
    let text = std::str::from_utf8(unit).unwrap_or_default();
    let packet = text.strip_prefix(MARK).and_then(|framed| framed.split_once(MARK));
    packet.map_or_else(|| unit.clone(), |(_, packet)| unit.slice_ref(packet.as_bytes()))
}

/// The packets of a posted payload, one at a time. Ends after the first error.
pub fn read(payload: &str) -> Packets<'_> {
    Packets { rest: Some(payload) }
}

#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let split = match rest.strip_prefix(MARK) {
            None => Ok((rest, "")),
            Some(framed) => split_framed(framed).ok_or(PacketError::Length),
        };
        Some(split.and_then(|(packet, rest)| {
            let packet = Packet::from_text(packet)?;
            self.rest = (!rest.is_empty()).then_some(rest);
            Ok(packet)
        }))
    }
}

fn split_framed(framed: &str) -> Option<(&str, &str)> {
    let (digits, rest) = framed.split_once(MARK)?;
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    utf16::split_at(rest, digits.parse().ok().filter(|_| is_number)?)
}
