//! The wires as the clients speak them, without I/O: the bytes of a handshake, and what the hub's bytes say.

use std::mem;

use serde_json::Value;

use crate::ledger::{Reason, Room};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    WebSocket,
    Sse,
    /// Socket.IO 5 over a WebSocket.
    SocketIo,
    /// Socket.IO 5 over long polling.
    Polling,
}

/// What a client reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Event {
        room: Room,
        number: u32,
        id: Option<String>,
    },
    Gap {
        rooms: Vec<Room>,
        reason: Reason,
    },
    Joined {
        room: Room,
        id: Option<String>,
    },
    /// Socket.IO: the session is open, and its namespace may be connected.
    Greeted,
    /// Bytes that the wire wants to be answered with.
    Answer(Vec<u8>),
    /// Socket.IO: the namespace is connected, rooms may be joined.
    Connected,
    /// The hub ends the conversation and says why.
    Goodbye(String),
    Refused(String),
}

/// An event's data: its room, its number, and as many bytes more as wanted.
pub fn mark(room: Room, number: u32, padding: usize) -> String {
    format!("~{}:{number}~{}", room.0, "x".repeat(padding))
}

fn read_mark(text: &str) -> Option<(Room, u32)> {
    let (room, number) = text.split('~').nth(1)?.split_once(':')?;
    Some((Room(room.parse().ok()?), number.parse().ok()?))
}

/// How many of fifty clients speak it.
const fn share(wire: Wire) -> usize {
    let (mut client, mut count) = (0, 0);
    while client < 50 {
        if Wire::of(client) as u8 == wire as u8 {
            count += 1;
        }
        client += 1;
    }
    count
}

const _: () = assert!(share(Wire::WebSocket) == 25 && share(Wire::Sse) == 20 && share(Wire::SocketIo) == 4 && share(Wire::Polling) == 1);

impl Wire {
    /// The mix of a crowd: half WebSocket, 40 % SSE, 8 % Socket.IO over WebSocket, 2 % over polling; and of its parts, whether
    /// they are told apart by node or by room.
    pub const fn of(client: usize) -> Self {
        match client * 13 % 50 {
            0 => Self::Polling,
            1..=4 => Self::SocketIo,
            5..=29 => Self::WebSocket,
            _ => Self::Sse,
        }
    }

    /// The request that opens the stream.
    pub fn handshake(self, rooms: &[Room], last_id: Option<&str>) -> String {
        let (path, headers) = match self {
            Self::Sse => {
                let rooms: Vec<_> = rooms.iter().map(|room| format!("room={}", room.name())).collect();
                let resume = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
                (format!("/sse?{}", rooms.join("&")), resume)
            }
            Self::WebSocket => ("/ws?room=".to_owned(), UPGRADE.to_owned()),
            Self::SocketIo => ("/socket.io/?EIO=4&transport=websocket".to_owned(), UPGRADE.to_owned()),
            Self::Polling => unreachable!("polls are requests of their own"),
        };
        format!("GET {path} HTTP/1.1\r\nHost: hub\r\n{headers}\r\n")
    }

    /// The messages by which rooms are joined once the conversation is open.
    pub fn joins(self, rooms: &[Room], since: impl Fn(Room) -> Option<String>) -> Vec<u8> {
        match self {
            Self::Sse => Vec::new(),
            Self::WebSocket => {
                let join = |room: &Room| {
                    let since = since(*room).map(|id| format!(r#","since":"{id}""#)).unwrap_or_default();
                    frame(TEXT, format!(r#"{{"type":"join","room":"{}"{since}}}"#, room.name()).as_bytes())
                };
                rooms.iter().flat_map(join).collect()
            }
            Self::SocketIo => frame(TEXT, subscribe(rooms).as_bytes()),
            Self::Polling => subscribe(rooms).into_bytes(),
        }
    }

    /// Socket.IO: connects the namespace, and asks for ids; with one, for what was missed.
    pub fn connect(self, since: &str) -> Vec<u8> {
        let packet = format!(r#"40{{"since":"{since}"}}"#);
        if self == Self::SocketIo { frame(TEXT, packet.as_bytes()) } else { packet.into_bytes() }
    }
}

const UPGRADE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn subscribe(rooms: &[Room]) -> String {
    let names: Vec<_> = rooms.iter().map(|room| format!(r#""{}""#, room.name())).collect();
    format!(r#"42["subscribe",{}]"#, names.join(","))
}

/// A client's frame, under a mask of zeros (RFC 6455 §5.3 asks for random ones because of proxies; there is none here).
fn frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match body.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(length).expect("a short message").to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

/// Turns a stream's bytes into items.
pub struct Decoder {
    wire: Wire,
    buffer: Vec<u8>,
    block: Block,
}

/// An SSE event of which some lines have come.
#[derive(Default)]
struct Block {
    event: String,
    data: String,
    id: Option<String>,
}

impl Decoder {
    pub fn new(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new(), block: Block::default() }
    }

    pub fn feed(&mut self, bytes: &[u8], items: &mut Vec<Item>) {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        let buffer = mem::take(&mut self.buffer);
        while let Some(length) = match self.wire {
            Wire::Sse => self.line(&buffer[at..], items),
            _ => self.frame(&buffer[at..], items),
        } {
            at += length;
        }
        self.buffer = buffer;
        self.buffer.drain(..at);
    }

    fn line(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = str::from_utf8(&bytes[..end]).expect("UTF-8");
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut self.block.event),
            Some(("data", text)) => text.clone_into(&mut self.block.data),
            Some(("id", id)) => self.block.id = Some(id.to_owned()),
            Some(("", comment)) if comment.starts_with("draining") => items.push(Item::Goodbye("draining".into())),
            _ if line.is_empty() && !self.block.data.is_empty() => items.extend(mem::take(&mut self.block).item()),
            _ => {}
        }
        Some(end + 1)
    }

    fn frame(&self, bytes: &[u8], items: &mut Vec<Item>) -> Option<usize> {
        let (start, length) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
            length => (2, usize::from(length)),
        };
        let body = bytes.get(start..start + length)?;
        match bytes[0] & 0x0f {
            TEXT => {
                let text = str::from_utf8(body).expect("UTF-8");
                match self.wire {
                    Wire::WebSocket => items.extend(native(text)),
                    _ => items.extend(packet(text).map(|item| match item {
                        Item::Answer(answer) => Item::Answer(frame(TEXT, &answer)),
                        other => other,
                    })),
                }
            }
            PING => items.push(Item::Answer(frame(PONG, body))),
            CLOSE => {
                let code = body.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                items.push(Item::Goodbye(code.to_string()));
            }
            _ => {}
        }
        Some(start + length)
    }
}

impl Block {
    fn item(self) -> Option<Item> {
        match &*self.event {
            "callboard:gap" => Some(gap(&serde_json::from_str(&self.data).expect("JSON"))),
            name if name.starts_with("callboard:") => None,
            _ => read_mark(&self.data).map(|(room, number)| Item::Event { room, number, id: self.id }),
        }
    }
}

fn gap(notice: &Value) -> Item {
    let rooms = notice["rooms"].as_array().into_iter().flatten().filter_map(|name| Room::from_name(name.as_str()?)).collect();
    Item::Gap { rooms, reason: Reason::from_name(notice["reason"].as_str().unwrap_or_default()) }
}

/// A message of the native WebSocket.
fn native(text: &str) -> Option<Item> {
    if let Some((room, number)) = text.starts_with(r#"{"type":"event""#).then(|| read_mark(text)).flatten() {
        let id = text.rsplit_once(r#""id":""#).and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned);
        return Some(Item::Event { room, number, id });
    }
    let message: Value = serde_json::from_str(text).expect("JSON");
    match message["type"].as_str()? {
        "gap" => Some(gap(&message)),
        "joined" => Some(Item::Joined { room: Room::from_name(message["room"].as_str()?)?, id: message["id"].as_str().map(str::to_owned) }),
        "error" => Some(Item::Refused(text.to_owned())),
        _ => None,
    }
}

/// A packet of Engine.IO 4.
pub fn packet(text: &str) -> Option<Item> {
    match text.get(..2) {
        _ if text == "2" => Some(Item::Answer(b"3".to_vec())),
        _ if text == "1" => Some(Item::Goodbye("closed".into())),
        _ if text.starts_with('0') => Some(Item::Greeted),
        Some("40") => Some(Item::Connected),
        Some("41") => Some(Item::Goodbye("disconnect".into())),
        Some("42") => {
            if let Some((room, number)) = text.starts_with(r#"42["e""#).then(|| read_mark(text)).flatten() {
                // ["e","data","id"], or null for an id.
                return Some(Item::Event { room, number, id: text.split('"').nth(5).map(str::to_owned) });
            }
            let event: Value = serde_json::from_str(&text[2..]).expect("JSON");
            match event[0].as_str()? {
                "callboard:gap" => Some(gap(&event[1])),
                "joined" => Some(Item::Joined { room: Room::from_name(event[1].as_str()?)?, id: event[2].as_str().map(str::to_owned) }),
                "callboard:error" => Some(Item::Refused(text.to_owned())),
                _ => None,
            }
        }
        _ => None,
    }
}
