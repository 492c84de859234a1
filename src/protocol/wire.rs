//! A wire: what one connection speaks. It turns the client's bytes into commands and the hub's replies into bytes; how events
//! are spelled is its [`Encoding`], which connections share.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    close::CloseReason,
    command::{Command, Reply},
    names::RoomName,
    native,
    notice::Notice,
    publication::{Encoding, Target},
    socketio::{Namespace, Spelling, encode::id_argument},
    socketio_session::ConnectRequest,
    socketio_wire::SocketIoWire,
    sse,
    websocket::{self, Decoder, Message},
};

/// The kinds of wire, as metrics and logs call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireName {
    Sse,
    WebSocket,
    SocketIo,
}

impl WireName {
    pub const ALL: [Self; 3] = [Self::Sse, Self::WebSocket, Self::SocketIo];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
            Self::SocketIo => "socketio",
        }
    }
}

/// How a connection is kept alive, and how it shows that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// What the hub sends.
    pub bytes: &'static [u8],
    pub every: Duration,
    /// A client that says nothing for so long after it is gone. `None`: the wire gives it no voice.
    pub answer_within: Option<Duration>,
}

/// What a client's bytes mean.
#[derive(Debug)]
pub enum Received {
    Command(Command),
    /// A command that follows from what the client did before: it is obeyed whatever the client's rate.
    Due(Command),
    /// A Socket.IO client wants to connect a namespace: decide.
    Namespace(ConnectRequest),
    /// It has left one.
    NamespaceLeft(Namespace),
    /// To be sent back as it is: a pong.
    Answer(Bytes),
    /// A message that is no command, and what the client is told of it.
    Refused(Bytes),
    /// The conversation is over; these bytes, if any, are the last.
    Close(CloseReason, Option<Bytes>),
}

/// Messages that are no JSON, before the connection is closed with 1003.
const MALFORMED_LIMIT: u8 = 3;

#[derive(Debug)]
pub enum Wire {
    /// Server-Sent Events: the client has no voice.
    Sse,
    /// The native WebSocket.
    /// Boxed, so that a stream, which has no decoder, does not pay for it.
    WebSocket { decoder: Box<Decoder>, malformed: u8 },
    /// A WebSocket that returns what it gets: for conformance suites, behind `--conformance`.
    Echo { decoder: Box<Decoder> },
    /// Socket.IO of any revision, on either of its carriers.
    SocketIo(Box<SocketIoWire>),
}

impl Wire {
    pub fn web_socket(max_frame: usize) -> Self {
        Self::WebSocket { decoder: Box::new(Decoder::new(max_frame)), malformed: 0 }
    }

    pub fn echo(max_message: usize) -> Self {
        Self::Echo { decoder: Box::new(Decoder::new(max_message)) }
    }

    pub fn name(&self) -> WireName {
        match self {
            Self::Sse => WireName::Sse,
            Self::WebSocket { .. } | Self::Echo { .. } => WireName::WebSocket,
            Self::SocketIo(_) => WireName::SocketIo,
        }
    }

    /// How a room's events are spelled for this connection.
    pub fn encoding(&self, room: &RoomName) -> Encoding {
        match self {
            Self::Sse => Encoding::Sse,
            Self::WebSocket { .. } | Self::Echo { .. } => Encoding::WebSocket,
            Self::SocketIo(wire) => wire.encoding(room),
        }
    }

    /// How its user's own events are spelled; none where they have no place: Socket.IO before its root namespace is connected.
    pub fn user_encoding(&self) -> Option<Encoding> {
        match self {
            Self::Sse => Some(Encoding::Sse),
            Self::WebSocket { .. } | Self::Echo { .. } => Some(Encoding::WebSocket),
            Self::SocketIo(wire) => wire.session().user_encoding(),
        }
    }

    /// The hub's word to this client, if the wire has one for it.
    pub fn reply(&mut self, reply: &Reply) -> SmallVec<[Bytes; 2]> {
        match self {
            Self::Sse => sse::reply(reply).into_iter().collect(),
            Self::WebSocket { .. } | Self::Echo { .. } => SmallVec::from_iter([native::reply_frame(reply)]),
            Self::SocketIo(wire) => wire.reply(reply),
        }
    }

    /// What the client is told of a join or leave; it goes out when the hub has done it.
    pub fn announce_move(&self, reply: &Reply) -> Option<Bytes> {
        match self {
            Self::Sse => None,
            Self::WebSocket { .. } | Self::Echo { .. } => Some(native::reply_frame(reply)),
            Self::SocketIo(wire) => wire.announce_move(reply),
        }
    }

    /// False where nobody is there to hear of a join or leave any more: a Socket.IO namespace that was left in the same breath.
    pub fn hears_of(&self, moved: &Reply) -> bool {
        match self {
            Self::Sse | Self::WebSocket { .. } | Self::Echo { .. } => true,
            Self::SocketIo(wire) => wire.announce_move(moved).is_some(),
        }
    }

    /// Takes the hub's answer to an announced join or leave, and says what else there is to say.
    pub fn settle_move(&mut self, reply: &Reply) -> Option<Bytes> {
        match self {
            Self::Sse | Self::WebSocket { .. } | Self::Echo { .. } => None,
            Self::SocketIo(wire) => wire.settle_move(reply),
        }
    }

    /// The last bytes; `retry` is when an SSE client should come back.
    pub fn goodbye(&self, reason: CloseReason, retry: Duration) -> SmallVec<[Bytes; 2]> {
        match self {
            Self::Sse => match reason {
                CloseReason::Draining => SmallVec::from_iter([sse::goodbye(retry)]),
                CloseReason::Disconnected => SmallVec::from_iter([sse::dismissal()]),
                _ => SmallVec::new(),
            },
            Self::WebSocket { .. } | Self::Echo { .. } => SmallVec::from_iter([websocket::close(reason.code(), reason.text())]),
            Self::SocketIo(wire) => wire.goodbye(reason),
        }
    }

    /// Reads what the client sent, however it was cut into pieces.
    pub fn receive(&mut self, mut input: &[u8], out: &mut Vec<Received>) {
        let (decoder, mut malformed) = match self {
            // Whatever a client sends behind the request for a stream says nothing.
            Self::Sse => return,
            Self::SocketIo(wire) => return wire.receive(input, out),
            Self::WebSocket { decoder, malformed } => (decoder, Some(malformed)),
            Self::Echo { decoder } => (decoder, None),
        };
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => {
                    let received = read_message(message, malformed.as_deref_mut());
                    let is_last = matches!(received, Some(Received::Close(..)));
                    out.extend(received);
                    if is_last {
                        return;
                    }
                }
                Ok(None) => return,
                Err(reason) => {
                    out.push(Received::Close(reason, Some(websocket::close(reason.code(), reason.text()))));
                    return;
                }
            }
        }
    }
}

/// `malformed` counts a native client's unreadable messages; without it, messages are echoed.
fn read_message(message: Message, malformed: Option<&mut u8>) -> Option<Received> {
    match (message, malformed) {
        (Message::Ping(payload), _) => Some(Received::Answer(websocket::pong(&payload))),
        (Message::Pong(_), _) => None,
        (Message::Close(code, _), _) => Some(Received::Close(CloseReason::Gone, Some(websocket::close_echo(code)))),
        (Message::Text(text), None) => Some(Received::Answer(websocket::text(&text))),
        (Message::Binary(bytes), None) => Some(Received::Answer(websocket::binary(&bytes))),
        (Message::Text(text), Some(malformed)) => Some(read_text(&text, malformed)),
        (Message::Binary(_), Some(malformed)) => {
            Some(refuse(native::Refused::Malformed("a message is JSON in a text frame, not binary".into()), malformed))
        }
    }
}

fn read_text(text: &str, malformed: &mut u8) -> Received {
    match native::parse(text) {
        Ok(command) => Received::Command(command),
        Err(refused) => refuse(refused, malformed),
    }
}

fn refuse(refused: native::Refused, malformed: &mut u8) -> Received {
    if matches!(refused, native::Refused::Malformed(_)) {
        *malformed += 1;
        if *malformed >= MALFORMED_LIMIT {
            let reason = CloseReason::Unsupported;
            return Received::Close(reason, Some(websocket::close(reason.code(), reason.text())));
        }
    }
    Received::Refused(native::reply_frame(&refused.into_reply()))
}

impl Encoding {
    /// The hub's word about a room, a user or a namespace to every client of this encoding there, if it has one for it.
    pub fn reply_in(self, target: &Target, reply: &Reply) -> Option<Bytes> {
        match (self, target) {
            (Self::SocketIo { revision, carrier, .. }, Target::Namespace(namespace)) => {
                let notice = Notice::of(reply)?;
                let spelling = Spelling { revision, carrier };
                Some(spelling.event(&namespace.as_str()[1..], notice.event_name(), &[notice.to_json()]))
            }
            _ => self.reply(reply),
        }
    }

    /// The hub's word to every client of this encoding, if it has one for it.
    pub fn reply(self, reply: &Reply) -> Option<Bytes> {
        match self {
            Self::Sse => sse::reply(reply),
            Self::WebSocket => Some(native::reply_frame(reply)),
            Self::SocketIo { revision, carrier, namespace_length, shows_ids } => {
                let (namespace, reply) = seen_from_namespace(reply, usize::from(namespace_length));
                let spelling = Spelling { revision, carrier };
                if let Reply::Joined { room, id, .. } = &reply {
                    let last = shows_ids.then(|| id_argument(id.as_deref()));
                    return Some(spelling.moved(&namespace, "joined", room.as_str(), last));
                }
                let notice = Notice::of(&reply)?;
                Some(spelling.event(&namespace, notice.event_name(), &[notice.to_json()]))
            }
        }
    }
}

/// The namespace that leads the room's name, and the word with the room as that namespace's clients call it.
fn seen_from_namespace(reply: &Reply, length: usize) -> (String, Reply) {
    let split = |room: &RoomName| {
        let (namespace, rest) = room.as_str().split_at_checked(length)?;
        let client_room = RoomName::parse(rest.strip_prefix('/').unwrap_or(rest)).ok()?;
        Some((namespace.to_owned(), client_room))
    };
    let mut reply = reply.clone();
    let room = match &mut reply {
        Reply::Gap { rooms, .. } => rooms.first_mut(),
        Reply::Presence { room, .. } | Reply::Joined { room, .. } => Some(room),
        _ => None,
    };
    match room.and_then(|room| split(room).map(|(namespace, client_room)| (namespace, std::mem::replace(room, client_room)))) {
        Some((namespace, _)) => (namespace, reply),
        None => (String::new(), reply),
    }
}
