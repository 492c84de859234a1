//! WebSocket frames (RFC 6455), the server's side: the client's bytes in, messages out, and ready frames for the client.
//! The handshake and the answers to ping and close are the connection's.
//!
//! Why not actix's codec: it buffers a frame of any declared length before it looks at the limit, knows neither fragments
//! nor their UTF-8, and encodes once per connection where the hub encodes once per event.

use bytes::{BufMut, Bytes};

mod decoder;

pub use decoder::Decoder;

/// What a client sent, whole: fragments are put together, text is UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// Code and reason, if the client gave them. Nothing comes after it.
    Close(Option<u16>, String),
}

/// What a frame carries (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

const FINAL: u8 = 0x80;
/// Longest payload of a control frame, and of a length that needs no further bytes (§5.5, §5.2).
const MAX_CONTROL: usize = 125;
/// Longest header of ours, which has no mask.
const MAX_SERVER_HEADER: usize = 10;

/// One text message.
pub fn text(payload: &str) -> Bytes {
    frame(Opcode::Text, payload.as_bytes())
}

/// One binary message.
pub fn binary(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, payload)
}

/// Payload beyond 125 bytes is cut off.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The answer to a ping, with the ping's payload; beyond 125 bytes it is cut off.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, &payload[..payload.len().min(MAX_CONTROL)])
}

/// The reason is cut to what fits, at a character's boundary.
pub fn close(code: u16, reason: &str) -> Bytes {
    let longest = reason.len().min(MAX_CONTROL - 2);
    let end = (0..=longest).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    let reason = &reason[..end];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.put_u16(code);
    payload.extend_from_slice(reason.as_bytes());
    frame(Opcode::Close, &payload)
}

/// The answer to a client's close frame: its code, without one if it gave none (§5.5.1).
pub fn close_echo(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => close(code, ""),
        None => frame(Opcode::Close, &[]),
    }
}

/// One text message that `write` appends in place, for what is put together from parts. `capacity` is the payload's
/// probable size.
pub fn text_with(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(MAX_SERVER_HEADER + capacity);
    out.resize(MAX_SERVER_HEADER, 0);
    write(&mut out);
    let length = out.len() - MAX_SERVER_HEADER;
    // The header's size shows only now: it goes right in front of the payload, and what is left before it is not sent.
    let start = MAX_SERVER_HEADER - header_size(length);
    put_header(&mut &mut out[start..MAX_SERVER_HEADER], Opcode::Text, length);
    Bytes::from(out).slice(start..)
}

fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(header_size(payload.len()) + payload.len());
    put_header(&mut out, opcode, payload.len());
    out.extend_from_slice(payload);
    out.into()
}

const fn header_size(length: usize) -> usize {
    match length {
        0..=MAX_CONTROL => 2,
        126..=0xffff => 4,
        _ => MAX_SERVER_HEADER,
    }
}

/// The header of an unfragmented, unmasked frame whose payload of `length` bytes the caller writes after it.
pub fn put_header(out: &mut impl BufMut, opcode: Opcode, length: usize) {
    out.put_u8(FINAL | opcode as u8);
    match header_size(length) {
        2 => out.put_u8(length as u8),
        4 => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}
