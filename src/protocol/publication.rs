//! A publication: one event on its way to the many connections of a room or user. Each wire's bytes are made at most once
//! and shared by all connections that speak it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    engineio::Carrier,
    event::Event,
    names::{ConnectionId, RoomName, UserName},
    native,
    resume::Point,
    socketio::{self, Revision, Spelling},
    sse,
};

/// Whom an event is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Room(RoomName),
    User(UserName),
    /// Everyone on Socket.IO in this namespace.
    Namespace(socketio::Namespace),
}

impl From<RoomName> for Target {
    fn from(room: RoomName) -> Self {
        Self::Room(room)
    }
}

impl From<UserName> for Target {
    fn from(user: UserName) -> Self {
        Self::User(user)
    }
}

impl From<socketio::Namespace> for Target {
    fn from(namespace: socketio::Namespace) -> Self {
        Self::Namespace(namespace)
    }
}

/// How an event is spelled for a connection. Connections of equal encoding get the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A block of an event stream.
    Sse,
    /// A text frame of the native WebSocket.
    WebSocket,
    /// An event packet of Socket.IO, its attachments behind it: frames, or units of a poll's body.
    SocketIo {
        revision: Revision,
        carrier: Carrier,
        /// The namespace is so many leading bytes of the room's name: none for the root.
        namespace_length: u8,
        /// Each event ends with one argument more: the id to resume by, or null.
        shows_ids: bool,
    },
}

impl Encoding {
    /// Its ids say where a stream of many rooms stands, and not one room alone.
    pub const fn has_stream_ids(self) -> bool {
        matches!(self, Self::Sse | Self::SocketIo { shows_ids: true, .. })
    }

    /// Another carrier for Socket.IO; the other wires have but one.
    pub fn change_carrier(&mut self, new: Carrier) {
        if let Self::SocketIo { carrier, .. } = self {
            *carrier = new;
        }
    }
}

/// One event on its way to one room or user.
#[derive(Debug)]
pub struct Publication {
    pub event: Arc<Event>,
    pub target: Target,
    /// Where it stands in the room's order; only rooms with history have positions.
    pub point: Option<Point>,
    /// The id that a client shows to resume after this event, where its stream has no other room with history.
    pub resume_id: Option<Box<str>>,
    /// Connections that are not to get it, in order: the publisher's choice.
    pub except: SmallVec<[ConnectionId; 1]>,
    /// Equal on the publications of one event that was addressed to several rooms or users, so that a connection in two of
    /// them takes it once.
    pub duplicate_key: Option<u64>,
    /// Bytes per encoding, filled on first use. Locked once per encoding and worker, never per connection.
    encoded: Mutex<SmallVec<[(Encoding, Bytes); 2]>>,
}

impl Publication {
    pub fn new(target: Target, event: Arc<Event>) -> Self {
        Self {
            event,
            target,
            point: None,
            resume_id: None,
            except: SmallVec::new(),
            duplicate_key: None,
            encoded: Mutex::new(SmallVec::new()),
        }
    }

    /// Gives it its place in the room's order.
    pub fn place(&mut self, point: Point) {
        self.point = Some(point);
        self.resume_id = Some(point.id());
    }

    /// Leaves these connections out.
    pub fn leave_out(&mut self, connections: impl Iterator<Item = ConnectionId>) {
        self.except = connections.collect();
        self.except.sort_unstable();
    }

    /// Whether a connection is left out. Those of whole rooms may be many.
    pub fn excepts(&self, connection: ConnectionId) -> bool {
        self.except.binary_search(&connection).is_ok()
    }

    /// True where every connection of an encoding gets it, and gets the same bytes.
    pub fn is_for_all(&self) -> bool {
        self.except.is_empty() && self.duplicate_key.is_none()
    }

    /// The ready bytes for connections of this encoding.
    pub fn bytes(&self, encoding: Encoding) -> Bytes {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = encoded.iter().find(|(known, _)| *known == encoding) {
            return bytes.clone();
        }
        let bytes = self.encode(encoding, self.resume_id.as_deref());
        encoded.push((encoding, bytes.clone()));
        bytes
    }

    /// The bytes for the one connection whose stream has this id.
    pub fn bytes_under(&self, encoding: Encoding, id: &str) -> Bytes {
        self.encode(encoding, Some(id))
    }

    fn encode(&self, encoding: Encoding, id: Option<&str>) -> Bytes {
        match encoding {
            Encoding::Sse => sse::event_block(self, id),
            Encoding::WebSocket => native::event_frame(self),
            Encoding::SocketIo { revision, carrier, namespace_length, shows_ids } => {
                let last = shows_ids.then(|| socketio::encode::id_argument(id));
                socketio::encode::event_bytes(self, Spelling { revision, carrier }, namespace_length, last)
            }
        }
    }
}
