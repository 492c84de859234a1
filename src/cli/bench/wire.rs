//! The wires as the generator speaks them: the bytes of a handshake, and where one unit of a stream ends. Only as much is
//! understood as the counting needs, so that receiving costs less than sending.

use std::fmt::Write;

use clap::ValueEnum;

use super::{h2, marker::Marker};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    Sse,
    Ws,
    /// SSE over HTTP/2 of an https server, without traffic.
    H2,
    /// Socket.IO 4.x: protocol 5 on Engine.IO 4, by WebSocket from the start.
    #[value(name = "socketio")]
    SocketIo,
}

/// What a client sends to become a WebSocket. The key is RFC 6455's own example: nothing here depends on its being secret or
/// fresh.
const UPGRADE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Whose events a subscriber asks for.
#[derive(Debug, Clone, Copy)]
pub enum Subscription<'a> {
    Room(&'a str),
    /// The token that proves the user.
    User {
        token: &'a str,
    },
}

impl Wire {
    /// What opens a stream, or several on one connection of HTTP/2. Room names of the generator need no escape in a query.
    pub fn handshake(self, host: &str, subscription: Subscription<'_>, streams: u32) -> Vec<u8> {
        let (path, headers) = match self {
            Self::H2 => return h2::handshake(host, subscription, streams),
            Self::Sse => ("/sse", "Accept: text/event-stream\r\n"),
            Self::Ws => ("/ws", UPGRADE),
            Self::SocketIo => ("/socket.io/?EIO=4&transport=websocket", UPGRADE),
        };
        let mut head = format!("GET {path}");
        // Writing into a String can't fail.
        let _ = match subscription {
            // A room is asked for in the session: `subscribe`.
            Subscription::Room(_) if self == Self::SocketIo => write!(head, " HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"),
            Subscription::Room(room) => write!(head, "?room={room} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"),
            Subscription::User { token } => {
                write!(head, " HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
            }
        };
        head.into_bytes()
    }

    /// The status that accepts the handshake.
    pub fn accepting_status(self) -> u16 {
        match self {
            Self::Sse | Self::H2 => 200,
            Self::Ws | Self::SocketIo => 101,
        }
    }

    /// The first whole unit of a stream and its length, or none while it is incomplete. `size` is the payload's, so that its
    /// padding need not be searched.
    pub fn next_unit(self, bytes: &[u8], size: usize) -> Option<(Unit<'_>, usize)> {
        match self {
            Self::Sse => sse_block(bytes, size),
            Self::H2 => h2::frame(bytes),
            Self::Ws => frame(bytes, native_text),
            Self::SocketIo => frame(bytes, socketio_text),
        }
    }
}

/// A unit of a stream, by what the generator has to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit<'a> {
    Event(Marker),
    /// To be answered with a pong of the same bytes.
    Ping(&'a [u8]),
    /// Engine.IO's own ping, to be answered with [`HEARTBEAT`].
    Heartbeat,
    /// The Engine.IO session is open, to be answered with [`CONNECT`].
    Open,
    /// HTTP/2: the head of one more stream has come; whether it is what was asked for.
    Answered(bool),
    /// HTTP/2: what the server wishes, to be acknowledged.
    Settings,
    /// HTTP/2: a stream, or all, came to an end.
    Ended,
    /// The wire's notice that events may have been missed.
    Gap,
    /// The server confirms that the room's events come from here on.
    Joined,
    /// The server greets: a user's events come from here on, and in Socket.IO a room can be asked for.
    Welcome,
    /// A comment, a presence notice and the like.
    Other,
}

/// The status and length of a response head.
pub fn parse_head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
    Some((status.unwrap_or(0), end + 4))
}

pub const TEXT: u8 = 1;
const PING: u8 = 9;
pub const PONG: u8 = 10;
/// Engine.IO's pong.
pub const HEARTBEAT: &[u8] = b"3";
/// Socket.IO's wish for the namespace `/`.
pub const CONNECT: &[u8] = b"40";
const LONGEST_SHORT_FRAME: usize = 125;

/// The wish of a Socket.IO client to join a room.
pub fn subscribe(room: &str) -> String {
    format!(r#"42["subscribe","{room}"]"#)
}

/// A client's frame of at most 125 bytes, with a mask of zeros, which leaves the bytes as they are (RFC 6455 §5.3 asks for
/// unpredictable masks on account of proxies; there is none here).
pub fn client_frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len() <= LONGEST_SHORT_FRAME);
    let mut frame = vec![0x80 | opcode, 0x80 | body.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(body);
    frame
}

/// Walks lines to the empty one. Chunk sizes of a chunked response pass as lines of no meaning.
fn sse_block(bytes: &[u8], size: usize) -> Option<(Unit<'_>, usize)> {
    let mut unit = Unit::Other;
    let mut at = 0;
    loop {
        let line = bytes.get(at..)?;
        let mut known = 0;
        if line.starts_with(b"data:") {
            // `data:"~` or `data: "~`, or without quotes where a server passes text through.
            if let Some(marker_at) = line.iter().take(8).position(|byte| *byte == Marker::START) {
                unit = Marker::parse(line.get(marker_at..marker_at + Marker::BYTES)?).map_or(Unit::Other, Unit::Event);
                known = marker_at + size;
            }
        } else if line.starts_with(b"event: callboard:gap") {
            unit = Unit::Gap;
        }
        let length = line.get(known..)?.iter().position(|byte| *byte == b'\n')? + known;
        at += length + 1;
        if length == 0 {
            return Some((unit, at));
        }
    }
}

/// One frame of a server, which has no mask (RFC 6455 §5.2), its text told by `read_text`.
fn frame(bytes: &[u8], read_text: fn(&[u8]) -> Unit<'_>) -> Option<(Unit<'_>, usize)> {
    let (opcode, short) = (bytes.first()? & 15, usize::from(bytes.get(1)? & 127));
    let (start, length): (usize, usize) = match short {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        _ => (2, short),
    };
    let body = bytes.get(start..start.checked_add(length)?)?;
    let unit = match opcode {
        TEXT => read_text(body),
        PING if length <= LONGEST_SHORT_FRAME => Unit::Ping(body),
        _ => Unit::Other,
    };
    Some((unit, start + length))
}

fn find_marker(body: &[u8]) -> Option<Marker> {
    let at = body.iter().position(|byte| *byte == Marker::START)?;
    Marker::parse(&body[at..])
}

fn native_text(body: &[u8]) -> Unit<'_> {
    if let Some(marker) = find_marker(body) {
        return Unit::Event(marker);
    }
    let says = |kind: &[u8]| body.starts_with(b"{\"type\":\"") && body[9..].starts_with(kind);
    match () {
        () if says(b"joined\"") => Unit::Joined,
        () if says(b"welcome\"") => Unit::Welcome,
        () if says(b"gap\"") => Unit::Gap,
        () => Unit::Other,
    }
}

fn socketio_text(body: &[u8]) -> Unit<'_> {
    match body {
        b"2" => Unit::Heartbeat,
        [b'0', ..] => Unit::Open,
        [b'4', b'0', ..] => Unit::Welcome,
        _ => match find_marker(body) {
            Some(marker) => Unit::Event(marker),
            None if body.starts_with(b"42[\"joined\"") => Unit::Joined,
            None if body.starts_with(b"42[\"callboard:gap\"") => Unit::Gap,
            None => Unit::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker { stream: 3, sequence: 9, due_ns: 81 };

    fn payload() -> String {
        let mut out = Vec::new();
        MARKER.append_to(&mut out, 256);
        String::from_utf8(out).unwrap()
    }

    fn text_frame(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81];
        match text.len() {
            short @ ..126 => frame.push(short as u8),
            long => frame.extend([126, (long >> 8) as u8, long as u8]),
        }
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// Whatever is cut off, a unit is whole or none.
    fn check(wire: Wire, bytes: &[u8], expected: Unit<'_>) {
        for end in 0..bytes.len() {
            assert_eq!(wire.next_unit(&bytes[..end], 256), None, "cut at {end}");
        }
        let mut followed = bytes.to_vec();
        followed.extend_from_slice(b"event: x\n\n");
        assert_eq!(wire.next_unit(&followed, 256), Some((expected, bytes.len())));
    }

    #[test]
    fn an_sse_block_is_found_whole_or_not_at_all() {
        let payload = payload();
        check(Wire::Sse, format!("event: bench\ndata: \"{payload}\"\n\n").as_bytes(), Unit::Event(MARKER));
        check(Wire::Sse, format!("id: 7-1\nevent: bench\ndata:{payload}\n\n").as_bytes(), Unit::Event(MARKER));
        check(Wire::Sse, format!("14f\r\ndata: \"{payload}\"\n\n").as_bytes(), Unit::Event(MARKER));
        check(Wire::Sse, b"event: callboard:gap\ndata: {\"rooms\":[]}\n\n", Unit::Gap);
        check(Wire::Sse, b"retry: 3000\n: hello\n\n", Unit::Other);
    }

    #[test]
    fn a_comment_of_one_newline_does_not_hide_the_event_behind_it() {
        let block = format!(":\nevent: bench\ndata: \"{}\"\n\n", payload());
        check(Wire::Sse, block.as_bytes(), Unit::Event(MARKER));
    }

    #[test]
    fn a_websocket_frame_is_found_whole_or_not_at_all() {
        let event = format!(r#"{{"type":"event","room":"r","event":"bench","data":"{}"}}"#, payload());
        check(Wire::Ws, &text_frame(&event), Unit::Event(MARKER));
        check(Wire::Ws, &text_frame(r#"{"type":"joined","room":"r"}"#), Unit::Joined);
        check(Wire::Ws, &text_frame(r#"{"type":"welcome","connection":"1","user":null}"#), Unit::Welcome);
        check(Wire::Ws, &text_frame(r#"{"type":"gap","rooms":["r"]}"#), Unit::Gap);
        check(Wire::Ws, b"\x89\x02hi", Unit::Ping(b"hi"));
        check(Wire::Ws, b"\x88\x02\x03\xe8", Unit::Other);
    }

    #[test]
    fn a_socketio_packet_is_told_by_its_digits() {
        check(Wire::SocketIo, &text_frame(r#"0{"sid":"x","upgrades":[],"pingInterval":25000}"#), Unit::Open);
        check(Wire::SocketIo, &text_frame("2"), Unit::Heartbeat);
        check(Wire::SocketIo, &text_frame(r#"40{"sid":"x"}"#), Unit::Welcome);
        check(Wire::SocketIo, &text_frame(r#"42["joined","r"]"#), Unit::Joined);
        check(Wire::SocketIo, &text_frame(r#"42["callboard:gap",{"rooms":["r"]}]"#), Unit::Gap);
        check(Wire::SocketIo, &text_frame(&format!(r#"42["bench","{}"]"#, payload())), Unit::Event(MARKER));
        check(Wire::SocketIo, &text_frame("6"), Unit::Other);
        check(Wire::SocketIo, b"\x89\x00", Unit::Ping(b""));
    }

    #[test]
    fn a_length_of_64_bits_is_read_and_an_absurd_one_waits() {
        let mut frame = vec![0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x'];
        assert_eq!(Wire::Ws.next_unit(&frame, 256), Some((Unit::Other, 11)));
        frame[2..10].fill(0xff);
        assert_eq!(Wire::Ws.next_unit(&frame, 256), None);
    }

    #[test]
    fn a_response_head_gives_its_status_and_length() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nrest"), Some((200, 25)));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\na: b\r\n"), None);
        assert_eq!(parse_head(b"nonsense\r\n\r\n"), Some((0, 12)));
    }
}
