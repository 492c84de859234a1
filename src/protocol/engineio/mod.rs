//! Engine.IO 4 and 3, the layer that carries Socket.IO: packets, the payloads of a poll, the open packet, the upgrade, the
//! refusals of HTTP; its heartbeat is kept by the connections' pulse. What the packets say is [`super::socketio`]'s.

pub mod polling;
pub mod refusal;
pub mod upgrade;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use super::websocket;

pub use refusal::Refusal;

/// The byte that opens a binary frame of Engine.IO 3: the type "message" as a number, not as a digit.
const V3_BINARY_MESSAGE: u8 = 4;

/// Clients pad as they like: `btoa` does, some embedded ones don't.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The Engine.IO that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// socket.io-client 2: the client pings, payloads are framed by length.
    V3,
    /// socket.io-client 3 and 4: the server pings, payloads are framed by a separator.
    V4,
}

impl Version {
    /// From the `EIO` of a query. Anything else is [`Refusal::UnsupportedVersion`].
    pub fn parse(eio: &str) -> Option<Self> {
        match eio {
            "3" => Some(Self::V3),
            "4" => Some(Self::V4),
            _ => None,
        }
    }
}

/// What carries the packets to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Ready bytes are complete WebSocket frames.
    WebSocket,
    /// Ready bytes are units that [`polling::body`] joins.
    Polling,
}

/// One packet, borrowed from the payload or frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    Open(&'a str),
    Close,
    Ping(&'a str),
    Pong(&'a str),
    /// A message: a packet of Socket.IO.
    Text(&'a str),
    /// A message: an attachment of Socket.IO.
    Binary(Bytes),
    Upgrade,
    Noop,
}

/// Bytes that are no packet, or no payload of packets. The session that sent them is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PacketError {
    #[error("packet is empty")]
    Empty,
    #[error("packet type {0:?} is unknown")]
    UnknownType(char),
    #[error("binary packet is no base64")]
    Base64,
    #[error("payload announces a length that is no number, or not the packet's")]
    Length,
    #[error("payload's packet is no utf-8")]
    Utf8,
}

impl<'a> Packet<'a> {
    /// Reads a text frame, or one packet of a text payload.
    pub fn from_text(version: Version, text: &'a str) -> Result<Self, PacketError> {
        let kind = text.chars().next().ok_or(PacketError::Empty)?;
        let data = &text[kind.len_utf8()..];
        match kind {
            '0' => Ok(Self::Open(data)),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data)),
            '3' => Ok(Self::Pong(data)),
            '4' => Ok(Self::Text(data)),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            'b' => Self::from_base64(version, data),
            other => Err(PacketError::UnknownType(other)),
        }
    }

    /// Reads a binary frame.
    pub fn from_binary(version: Version, frame: Bytes) -> Result<Self, PacketError> {
        match (version, frame.first()) {
            (Version::V4, _) => Ok(Self::Binary(frame)),
            (Version::V3, Some(&V3_BINARY_MESSAGE)) => Ok(Self::Binary(frame.slice(1..))),
            (Version::V3, Some(&other)) => Err(PacketError::UnknownType(char::from(other))),
            (Version::V3, None) => Err(PacketError::Empty),
        }
    }

    fn from_base64(version: Version, data: &str) -> Result<Self, PacketError> {
        let data = match version {
            Version::V4 => data,
            Version::V3 => data.strip_prefix('4').ok_or(PacketError::UnknownType('b'))?,
        };
        BASE64.decode(data).map(|bytes| Self::Binary(Bytes::from(bytes))).map_err(|_| PacketError::Base64)
    }

    /// The ready bytes of the packet.
    pub fn ready(&self, version: Version, carrier: Carrier) -> Bytes {
        let (kind, data) = match self {
            Self::Binary(data) => return ready_binary(version, carrier, data),
            Self::Open(data) => ('0', *data),
            Self::Close => ('1', ""),
            Self::Ping(data) => ('2', *data),
            Self::Pong(data) => ('3', *data),
            Self::Text(data) => ('4', *data),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
        };
        ready_text(version, carrier, &format!("{kind}{data}"))
    }
}

/// The ready bytes of a text packet that is already written out, its type's digit in front.
pub fn ready_text(version: Version, carrier: Carrier, packet: &str) -> Bytes {
    match carrier {
        Carrier::WebSocket => websocket::text(packet),
        Carrier::Polling => polling::text_unit(version, packet),
    }
}

/// The ready bytes of a binary message.
pub fn ready_binary(version: Version, carrier: Carrier, data: &[u8]) -> Bytes {
    match (carrier, version) {
        (Carrier::Polling, _) => polling::binary_unit(version, data),
        (Carrier::WebSocket, Version::V4) => websocket::binary(data),
        (Carrier::WebSocket, Version::V3) => websocket::binary(&[&[V3_BINARY_MESSAGE], data].concat()),
    }
}

/// What the open packet tells a client: the first packet of a session on either transport.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open<'a> {
    pub sid: &'a str,
    /// `["websocket"]` while polling, empty on a WebSocket.
    pub upgrades: &'a [&'a str],
    /// Milliseconds.
    pub ping_interval: u64,
    /// Milliseconds.
    pub ping_timeout: u64,
    /// Bytes of a POST body or frame from the client.
    pub max_payload: u64,
}

impl Open<'_> {
    /// The ready bytes of the open packet.
    pub fn ready(&self, version: Version, carrier: Carrier) -> Bytes {
        match serde_json::to_string(self) {
            Ok(json) => Packet::Open(&json).ready(version, carrier),
            Err(error) => unreachable!("strings and numbers always serialize: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_type_is_no_packet() {
        for (text, error) in [("", PacketError::Empty), ("abc", PacketError::UnknownType('a')), ("é", PacketError::UnknownType('é'))] {
            assert_eq!(Packet::from_text(Version::V4, text), Err(error), "{text:?}");
        }
        assert_eq!(Packet::from_text(Version::V4, "b?"), Err(PacketError::Base64));
        assert_eq!(Packet::from_text(Version::V3, "bAQID"), Err(PacketError::UnknownType('b')));
        assert_eq!(Packet::from_binary(Version::V3, Bytes::new()), Err(PacketError::Empty));
    }

    #[test]
    fn a_binary_frame_of_version_3_says_that_it_is_a_message() {
        assert_eq!(Packet::from_binary(Version::V3, Bytes::from_static(&[4, 1, 2])), Ok(Packet::Binary(Bytes::from_static(&[1, 2]))));
        assert_eq!(Packet::from_binary(Version::V4, Bytes::from_static(&[4, 1, 2])), Ok(Packet::Binary(Bytes::from_static(&[4, 1, 2]))));
        assert_eq!(ready_binary(Version::V3, Carrier::WebSocket, &[1]), websocket::binary(&[4, 1]));
        assert_eq!(ready_binary(Version::V4, Carrier::WebSocket, &[1]), websocket::binary(&[1]));
    }

    #[test]
    fn the_open_packet_has_the_fields_in_the_order_of_the_reference() {
        let open = Open { sid: "s", upgrades: &["websocket"], ping_interval: 25_000, ping_timeout: 20_000, max_payload: 1_000_000 };
        assert_eq!(
            open.ready(Version::V4, Carrier::Polling),
            r#"0{"sid":"s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }
}
