//! HTTP/2 (RFC 9113) as far as the generator needs it for connections without traffic: one that asks for event streams and learns
//! that they are open. Field blocks are written without a table (RFC 7541 §6.2.2); of those that come only the status is read,
//! and events not at all.

use super::wire::{Subscription, Unit};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;
/// More than any run receives, so that no window is ever to be raised.
const WIDEST_WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;

// Places in the static table (RFC 7541, appendix A).
const METHOD_GET: u8 = 0x82;
const SCHEME_HTTPS: u8 = 0x87;
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const ACCEPT: u8 = 19;
const AUTHORIZATION: u8 = 23;
const STATUS_200: u8 = 0x88;

/// What a client sends first: the preface, and the wish for so many event streams.
pub fn handshake(host: &str, subscription: Subscription<'_>, streams: u32) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let mut settings = INITIAL_WINDOW.to_be_bytes().to_vec();
    settings.extend_from_slice(&WIDEST_WINDOW.to_be_bytes());
    append(&mut out, SETTINGS, 0, 0, &settings);
    append(&mut out, WINDOW_UPDATE, 0, 0, &(WIDEST_WINDOW - DEFAULT_WINDOW).to_be_bytes());
    let mut fields = vec![METHOD_GET, SCHEME_HTTPS];
    field(&mut fields, AUTHORITY, host);
    match subscription {
        Subscription::Room(room) => field(&mut fields, PATH, &format!("/sse?room={room}")),
        Subscription::User { token } => {
            field(&mut fields, PATH, "/sse");
            field(&mut fields, AUTHORIZATION, &format!("Bearer {token}"));
        }
    }
    field(&mut fields, ACCEPT, "text/event-stream");
    for number in 0..streams {
        append(&mut out, HEADERS, END_STREAM_AND_HEADERS, 2 * number + 1, &fields);
    }
    out
}

/// The answer to a ping.
pub fn pong(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, PING, ACK, 0, body);
    out
}

/// The answer to the server's settings.
pub fn settings_ack() -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, SETTINGS, ACK, 0, &[]);
    out
}

/// One frame of a server.
pub fn frame(bytes: &[u8]) -> Option<(Unit<'_>, usize)> {
    let head = bytes.get(..FRAME_HEAD)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let body = bytes.get(FRAME_HEAD..FRAME_HEAD + length)?;
    let is_ack = head[4] & ACK != 0;
    let unit = match head[3] {
        // A change of the table's size may come first (RFC 7541 §6.3).
        HEADERS => Unit::Answered(body.iter().find(|byte| **byte & 0xe0 != 0x20) == Some(&STATUS_200)),
        SETTINGS if !is_ack => Unit::Settings,
        PING if !is_ack => Unit::Ping(body),
        RST_STREAM | GOAWAY => Unit::Ended,
        _ => Unit::Other,
    };
    Some((unit, FRAME_HEAD + length))
}

fn append(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// A field that no table keeps, its name by the number in the static table.
fn field(out: &mut Vec<u8>, name: u8, value: &str) {
    integer(out, 0, 4, usize::from(name));
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value.as_bytes());
}

/// RFC 7541 §5.1.
fn integer(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let most = (1 << prefix_bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(0x80 | (rest % 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, kind, flags, 1, body);
        out
    }

    fn check(bytes: &[u8], expected: Unit<'_>) {
        for end in 0..bytes.len() {
            assert_eq!(frame(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(frame(bytes), Some((expected, bytes.len())));
    }

    #[test]
    fn numbers_are_written_as_the_standard_shows_them() {
        // RFC 7541, appendix C.1.
        for (prefix, value, expected) in [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42])] {
            let mut out = Vec::new();
            integer(&mut out, 0, prefix, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_frame_is_found_whole_or_not_at_all() {
        check(&framed(0, 0, b"retry: 3000\n:\n\n"), Unit::Other);
        check(&framed(HEADERS, 4, &[0x3f, 0x20, STATUS_200, 0x76]), Unit::Answered(true));
        check(&framed(HEADERS, 4, &[0x8d]), Unit::Answered(false));
        check(&framed(SETTINGS, 0, &[0, 4, 0, 0, 1, 1]), Unit::Settings);
        check(&framed(SETTINGS, ACK, &[]), Unit::Other);
        check(&framed(PING, 0, b"12345678"), Unit::Ping(b"12345678"));
        check(&framed(GOAWAY, 0, &[0; 8]), Unit::Ended);
    }
}
