//! The bodies of long-polling: several packets in one payload, both ways.
//!
//! What waits for a client's next GET are *units*: payloads of usually one packet, so that an event is spelled once for all
//! who poll, and a body is their concatenation.

use base64::Engine;
use bytes::{Bytes, BytesMut};

use super::{BASE64, Carrier, Packet, PacketError, V3_BINARY_MESSAGE, Version};
use crate::protocol::{jsonp, utf16};

/// Stands between the packets of a version 4 payload. JSON text can't hold it unescaped.
const SEPARATOR: char = '\x1e';
/// Ends the length in a binary payload of version 3.
const END_OF_LENGTH: u8 = 0xff;
/// More digits than the length of any payload has.
const MAX_LENGTH_DIGITS: usize = 10;

/// What a client's GET can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text, binary packets as base64: version 4, and version 3 with `b64=1`.
    Text,
    /// Version 3 without `b64`: bytes as soon as one packet is binary.
    Octets,
    /// A script that calls back: `j=index`.
    Jsonp(u32),
}

/// The answer to a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub content_type: &'static str,
    pub bytes: Bytes,
}

pub(super) fn text_unit(version: Version, packet: &str) -> Bytes {
    match version {
        Version::V4 => Bytes::copy_from_slice(packet.as_bytes()),
        Version::V3 => Bytes::from(format!("{}:{packet}", utf16::length(packet))),
    }
}

pub(super) fn binary_unit(version: Version, data: &[u8]) -> Bytes {
    let mut packet = String::from(match version {
        Version::V4 => "b",
        Version::V3 => "b4",
    });
    BASE64.encode_string(data, &mut packet);
    text_unit(version, &packet)
}

/// How many packets a unit of version 4 holds. One of version 3 counts as one.
pub fn packets_in(unit: &[u8]) -> usize {
    1 + unit.iter().filter(|byte| **byte == SEPARATOR as u8).count()
}

/// Joins units to one unit.
pub fn join(version: Version, units: &[Bytes]) -> Bytes {
    if let [only] = units {
        return only.clone();
    }
    let mut payload = BytesMut::with_capacity(units.iter().map(|unit| unit.len() + 1).sum());
    for unit in units {
        if version == Version::V4 && !payload.is_empty() {
            payload.extend_from_slice(&[SEPARATOR as u8]);
        }
        payload.extend_from_slice(unit);
    }
    payload.freeze()
}

/// The body that answers a GET with these units.
pub fn body(version: Version, form: Form, units: &[Bytes]) -> Body {
    let payload = join(version, units);
    match (version, form) {
        (_, Form::Jsonp(index)) => {
            Body { content_type: jsonp::CONTENT_TYPE, bytes: jsonp::engineio(index, &String::from_utf8_lossy(&payload)) }
        }
        (Version::V3, Form::Octets) => match octets(&payload) {
            Some(bytes) => Body { content_type: "application/octet-stream", bytes },
            None => text_body(payload),
        },
        _ => text_body(payload),
    }
}

fn text_body(bytes: Bytes) -> Body {
    Body { content_type: "text/plain; charset=UTF-8", bytes }
}

/// The same packets as bytes. None where no packet is binary: then the text stays.
fn octets(payload: &[u8]) -> Option<Bytes> {
    let packets = || read(Version::V3, std::str::from_utf8(payload).unwrap_or_default()).flatten();
    if !packets().any(|packet| matches!(packet, Packet::Binary(_))) {
        return None;
    }
    let mut bytes = BytesMut::with_capacity(payload.len());
    for packet in packets() {
        let (marker, packet) = match &packet {
            Packet::Binary(data) => (1, [&[V3_BINARY_MESSAGE], &data[..]].concat()),
            // A unit of version 4 is the packet without any framing.
            other => (0, other.ready(Version::V4, Carrier::Polling).to_vec()),
        };
        bytes.extend_from_slice(&[marker]);
        bytes.extend(packet.len().to_string().bytes().map(|digit| digit - b'0'));
        bytes.extend_from_slice(&[END_OF_LENGTH]);
        bytes.extend_from_slice(&packet);
    }
    Some(bytes.freeze())
}

/// What waited for a poll, as WebSocket frames: for a client that upgrades meanwhile.
pub fn frames(version: Version, units: &[Bytes]) -> Vec<Bytes> {
    let packets = units.iter().flat_map(|unit| read(version, std::str::from_utf8(unit).unwrap_or_default()).flatten());
    packets.map(|packet| packet.ready(version, Carrier::WebSocket)).collect()
}

/// The packets of a text payload, one at a time, so that a body of many small packets takes no memory beside itself. Ends
/// after the first error.
pub fn read(version: Version, payload: &str) -> Packets<'_> {
    Packets { version, rest: Some(payload) }
}

#[derive(Debug, Clone)]
pub struct Packets<'a> {
    version: Version,
    /// None at the end.
    rest: Option<&'a str>,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let split = match self.version {
            Version::V4 => Ok(rest.split_once(SEPARATOR).map_or((rest, None), |(packet, rest)| (packet, Some(rest)))),
            Version::V3 => split_by_length(rest),
        };
        Some(split.and_then(|(packet, rest)| {
            let packet = Packet::from_text(self.version, packet)?;
            self.rest = rest;
            Ok(packet)
        }))
    }
}

fn split_by_length(rest: &str) -> Result<(&str, Option<&str>), PacketError> {
    if rest.is_empty() {
        return Err(PacketError::Empty);
    }
    let (digits, rest) = rest.split_once(':').ok_or(PacketError::Length)?;
    let units = length_of(digits.bytes().map(|digit| digit.wrapping_sub(b'0')))?;
    let (packet, rest) = utf16::split_at(rest, units).ok_or(PacketError::Length)?;
    Ok((packet, (!rest.is_empty()).then_some(rest)))
}

fn length_of(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, PacketError> {
    if digits.len() == 0 || digits.len() > MAX_LENGTH_DIGITS {
        return Err(PacketError::Length);
    }
    let add = |length: u64, digit: u8| (digit <= 9).then(|| length * 10 + u64::from(digit));
    let length = digits.into_iter().try_fold(0, add).ok_or(PacketError::Length)?;
    usize::try_from(length).map_err(|_| PacketError::Length)
}

/// The packets of a version 3 body of type `application/octet-stream`. Version 4 has none: [`super::Refusal::BadRequest`].
pub fn read_octets(payload: &[u8]) -> OctetPackets<'_> {
    OctetPackets { rest: Some(payload) }
}

#[derive(Debug, Clone)]
pub struct OctetPackets<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for OctetPackets<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        Some(split_octets(rest).map(|(packet, rest)| {
            self.rest = (!rest.is_empty()).then_some(rest);
            packet
        }))
    }
}

fn split_octets(rest: &[u8]) -> Result<(Packet<'_>, &[u8]), PacketError> {
    let (&marker, rest) = rest.split_first().ok_or(PacketError::Empty)?;
    let digits = rest.iter().take(MAX_LENGTH_DIGITS + 1).position(|byte| *byte == END_OF_LENGTH).ok_or(PacketError::Length)?;
    let length = length_of(rest[..digits].iter().copied())?;
    let (packet, rest) = rest[digits + 1..].split_at_checked(length).ok_or(PacketError::Length)?;
    let packet = match marker {
        0 => Packet::from_text(Version::V3, std::str::from_utf8(packet).map_err(|_| PacketError::Utf8)?)?,
        1 => Packet::from_binary(Version::V3, Bytes::copy_from_slice(packet))?,
        other => return Err(PacketError::UnknownType(char::from(other))),
    };
    Ok((packet, rest))
}
