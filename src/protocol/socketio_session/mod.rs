//! The dialogue of one Socket.IO connection, of any revision: which namespaces it has, what its packets ask of the hub, and
//! what the hub's replies are as packets. It holds no socket and no clock.
//!
//! The caller feeds it packets ([`Session::receive`], [`Session::receive_legacy`]) and does what comes back: decides on a
//! namespace ([`Session::accept`], [`Session::refuse`]), sends commands to the hub and hands their replies in
//! ([`Session::reply`]). Every table in it has a bound.

mod calls;
mod events;
mod memberships;
mod replies;
mod sockets;
mod terms;
mod ticket;

use bytes::Bytes;
use serde_json::{Value, value::RawValue};
use smallvec::SmallVec;
use thiserror::Error;

use self::{
    calls::Calls,
    memberships::Memberships,
    sockets::{Early, Sockets},
};
use super::{
    close::CloseReason,
    command::Command,
    engineio::{self, Carrier},
    names::RoomName,
    publication::Encoding,
    socketio::{self, ClientEvent, Namespace, Revision, Spelling},
    socketio_legacy::{self, Content, Receipt},
};

pub use self::{sockets::MAX_EARLY, terms::Terms};

/// Most namespaces of one connection.
pub const MAX_NAMESPACES: usize = 32;

/// What a session may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the attachments of one packet together: `socketio.max_payload`.
    pub attachment_bytes: usize,
    /// Rooms: `http.max_rooms_per_connection`.
    pub rooms: usize,
}

/// One Socket.IO connection.
#[derive(Debug)]
pub struct Session {
    spelling: Spelling,
    limits: Limits,
    sockets: Sockets,
    memberships: Memberships,
    calls: Calls,
    /// A packet whose attachments are still to come.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    /// None for an ack: its attachments are counted and dropped.
    event: Option<NamespacedEvent>,
    missing: usize,
    bytes: usize,
}

/// An event that a client sent on one of its namespaces. [`Session::perform`] gives it its meaning.
#[derive(Debug, Clone)]
pub struct NamespacedEvent {
    pub namespace: Namespace,
    pub event: ClientEvent,
    /// The socket's number: a namespace that is left and joined again is another one.
    socket: u32,
    /// Protocol 1: tell at once that it has arrived.
    arrival: Option<u64>,
}

/// What a packet asks for.
#[derive(Debug)]
pub enum Received {
    /// Nothing: a sign of life, an ack, a part of a packet.
    Nothing,
    Send(Bytes),
    /// Decide, then call [`Session::accept`] or [`Session::refuse`].
    Connect(ConnectRequest),
    /// Hand it to [`Session::perform`].
    Event(NamespacedEvent),
    /// The client left a namespace.
    Left(Departure),
    /// The client said goodbye.
    Closed,
}

/// A client has left a namespace.
#[derive(Debug)]
pub struct Departure {
    pub namespace: Option<Namespace>,
    /// These take it out of the namespace's rooms.
    pub leaves: Vec<Command>,
}

/// A client wants to connect a namespace.
#[derive(Debug, Clone)]
pub struct ConnectRequest {
    pub namespace: Namespace,
    /// Protocol 5: the `auth` object, to be read with [`socketio::decode::Auth`].
    pub auth: Option<Box<RawValue>>,
    /// Protocols 4 and 1: the query behind the namespace.
    pub query: Option<Box<str>>,
}

/// What an event comes to: packets to send at once, commands for the hub.
#[derive(Debug, Default)]
pub struct Outcome {
    pub packets: SmallVec<[Bytes; 2]>,
    pub commands: SmallVec<[Command; 1]>,
}

/// Why the connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    #[error("engine.io packet {0} is a server's, or belongs to another version or state")]
    UnexpectedPacket(&'static str),
    #[error(transparent)]
    Packet(#[from] socketio::PacketError),
    #[error("namespace {0:?} is not connected")]
    NotConnected(Box<str>),
    #[error("namespace {0:?} is connected already")]
    AlreadyConnected(Box<str>),
    #[error(transparent)]
    Namespace(#[from] socketio::NamespaceError),
    #[error("attachment came without a packet that announced it")]
    UnexpectedAttachment,
    #[error("text came where an attachment was announced")]
    MissingAttachment,
    #[error("attachments of one packet are over {0} bytes")]
    AttachmentBytes(usize),
    #[error("a namespace that is not connected yet was sent more than may wait for it")]
    TooMuchTooEarly,
}

impl SessionError {
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::AttachmentBytes(_) => CloseReason::TooLarge,
            Self::TooMuchTooEarly => CloseReason::Policy,
            _ => CloseReason::ProtocolError,
        }
    }
}

impl Session {
    /// A session after its handshake. In protocols 4 and 1 the root namespace awaits [`Session::accept`] without being asked
    /// for; in protocol 5 the client asks.
    pub fn new(revision: Revision, carrier: Carrier, limits: Limits) -> Self {
        let mut sockets = Sockets::default();
        if revision != Revision::V5 {
            sockets.open(Namespace::root());
        }
        Self {
            spelling: Spelling { revision, carrier },
            limits,
            sockets,
            memberships: Memberships::default(),
            calls: Calls::default(),
            partial: None,
        }
    }

    /// The session moved to another transport; from now on packets and encodings are its.
    pub fn carry_by(&mut self, carrier: Carrier) {
        self.spelling.carrier = carrier;
    }

    pub const fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// True while no namespace is connected: after `socketio.connect_timeout` such a connection is closed.
    pub fn is_idle(&self) -> bool {
        !self.sockets.connected().any(|_| true)
    }

    /// True while a namespace is connected or decided on.
    pub fn has_namespaces(&self) -> bool {
        self.sockets.len() > 0
    }

    /// True where the client has connected this namespace: `/` gets its user's own events.
    pub fn is_connected(&self, namespace: &str) -> bool {
        self.sockets.connected().any(|socket| socket.namespace.as_str() == namespace)
    }

    /// How events of a room are spelled for this connection.
    pub fn encoding(&self, room: &RoomName) -> Encoding {
        let socket = self.memberships.socket(room).and_then(|number| self.sockets.numbered(number));
        let socket = socket.or_else(|| self.sockets.owner(room));
        self.encoding_of(socket.map_or(0, |socket| socket.namespace.prefix_length()), socket.is_some_and(|socket| socket.shows_ids))
    }

    /// How its user's own events are spelled, which are the root namespace's; none where that is not connected.
    pub fn user_encoding(&self) -> Option<Encoding> {
        let root = self.sockets.connected().find(|socket| socket.namespace.is_root())?;
        Some(self.root_encoding(root.shows_ids))
    }

    /// How events of the root namespace are spelled, once it is connected on such terms.
    pub const fn root_encoding(&self, shows_ids: bool) -> Encoding {
        self.encoding_of(0, shows_ids)
    }

    /// How events to all of a namespace are spelled, once it is connected on such terms.
    pub fn namespace_encoding(&self, namespace: &Namespace, shows_ids: bool) -> Encoding {
        self.encoding_of(namespace.prefix_length(), shows_ids)
    }

    const fn encoding_of(&self, namespace_length: u8, shows_ids: bool) -> Encoding {
        let Spelling { revision, carrier } = self.spelling;
        Encoding::SocketIo { revision, carrier, namespace_length, shows_ids }
    }

    /// Takes a packet of Engine.IO.
    pub fn receive(&mut self, packet: engineio::Packet<'_>) -> Result<Received, SessionError> {
        use engineio::Packet;
        match (packet, self.spelling.revision) {
            (Packet::Text(text), _) => self.receive_text(text),
            (Packet::Binary(data), _) => self.receive_attachment(data),
            (Packet::Close, _) => Ok(Received::Closed),
            (Packet::Pong(_), Revision::V5) => Ok(Received::Nothing),
            (Packet::Ping(data), Revision::V4) => {
                Ok(Received::Send(Packet::Pong(data).ready(engineio::Version::V3, self.spelling.carrier)))
            }
            (Packet::Ping(_), _) => Err(SessionError::UnexpectedPacket("ping")),
            (Packet::Pong(_), _) => Err(SessionError::UnexpectedPacket("pong")),
            (Packet::Open(_), _) => Err(SessionError::UnexpectedPacket("open")),
            // A client that has upgraded says so once more, or ends a poll: the reference server lets it pass.
            (Packet::Upgrade | Packet::Noop, _) => Ok(Received::Nothing),
        }
    }

    fn receive_text(&mut self, text: &str) -> Result<Received, SessionError> {
        use socketio::Packet;
        if self.partial.is_some() {
            return Err(SessionError::MissingAttachment);
        }
        match Packet::from_text(self.spelling.revision, text)? {
            Packet::Connect { namespace, query, auth } => {
                if self.is_connected(namespace) {
                    return Err(SessionError::AlreadyConnected(namespace.into()));
                }
                // A page that disconnects and connects at once asks twice, and waits for one answer.
                if let Some(socket) = self.sockets.named(namespace) {
                    socket.stay();
                    return Ok(Received::Nothing);
                }
                self.connect(namespace, query, auth)
            }
            Packet::Disconnect { namespace } => {
                let known = self.sockets.named(namespace).map(|socket| socket.number);
                self.depart(known.ok_or_else(|| SessionError::NotConnected(namespace.into()))?)
            }
            Packet::Event { namespace, event, attachments } => {
                let event = self.namespaced(namespace, event, None)?;
                self.await_attachments(Some(event), attachments)
            }
            Packet::Ack { namespace, attachments } => {
                let is_known = self.sockets.named(namespace).is_some();
                if !is_known {
                    return Err(SessionError::NotConnected(namespace.into()));
                }
                self.await_attachments(None, attachments)
            }
        }
    }

    fn await_attachments(&mut self, event: Option<NamespacedEvent>, missing: usize) -> Result<Received, SessionError> {
        if missing > 0 {
            self.partial = Some(Partial { event, missing, bytes: 0 });
            return Ok(Received::Nothing);
        }
        event.map_or(Ok(Received::Nothing), |event| self.complete(event))
    }

    /// An event is whole. One whose namespace is not decided on yet waits for that.
    fn complete(&mut self, event: NamespacedEvent) -> Result<Received, SessionError> {
        if self.sockets.is_awaiting(event.socket) {
            let (number, limit) = (event.socket, self.limits.attachment_bytes);
            self.sockets.keep_early(number, Early::Event(event), limit)?;
            return Ok(Received::Nothing);
        }
        Ok(Received::Event(event))
    }

    /// The client leaves a namespace, which may not be decided on yet.
    fn depart(&mut self, number: u32) -> Result<Received, SessionError> {
        if self.sockets.is_awaiting(number) {
            self.sockets.keep_early(number, Early::Leave, self.limits.attachment_bytes)?;
            return Ok(Received::Nothing);
        }
        Ok(Received::Left(self.leave(number)))
    }

    /// What the client said on a namespace before it was connected, one by one.
    pub fn next_early(&mut self, namespace: &Namespace) -> Option<Received> {
        Some(match self.sockets.next_early(namespace)? {
            (_, Early::Event(event)) => Received::Event(event),
            (number, Early::Leave) => Received::Left(self.leave(number)),
        })
    }

    fn receive_attachment(&mut self, data: Bytes) -> Result<Received, SessionError> {
        let mut partial = self.partial.take().ok_or(SessionError::UnexpectedAttachment)?;
        partial.bytes = partial.bytes.saturating_add(data.len());
        if partial.bytes > self.limits.attachment_bytes {
            return Err(SessionError::AttachmentBytes(self.limits.attachment_bytes));
        }
        if let Some(event) = &mut partial.event {
            event.event.attachments.push(data);
        }
        partial.missing -= 1;
        if partial.missing > 0 {
            self.partial = Some(partial);
            return Ok(Received::Nothing);
        }
        partial.event.map_or(Ok(Received::Nothing), |event| self.complete(event))
    }

    /// Takes a packet of protocol 1.
    pub fn receive_legacy(&mut self, packet: socketio_legacy::Packet<'_>) -> Result<Received, SessionError> {
        let namespace = if packet.endpoint.is_empty() { "/" } else { packet.endpoint };
        match packet.content {
            Content::Heartbeat | Content::Ignored => Ok(Received::Nothing),
            Content::Disconnect if namespace == "/" => Ok(Received::Closed),
            Content::Disconnect => {
                let known = self.sockets.named(namespace).map(|socket| socket.number);
                known.map_or(Ok(Received::Nothing), |number| self.depart(number))
            }
            Content::Connect { query } => match self.sockets.named(namespace) {
                // A page may connect an endpoint from two of its scripts.
                Some(socket) => {
                    socket.stay();
                    Ok(Received::Nothing)
                }
                None => self.connect(namespace, query, None),
            },
            Content::Event { name, arguments } => {
                let (ack, arrival) = match packet.receipt {
                    Receipt::None => (None, None),
                    Receipt::Arrival(id) => (None, Some(id)),
                    Receipt::Answer(id) => (Some(id), None),
                };
                let event = ClientEvent { name, arguments, attachments: Vec::new(), ack };
                let event = self.namespaced(namespace, event, arrival)?;
                self.complete(event)
            }
        }
    }

    fn connect(&mut self, namespace: &str, query: Option<&str>, auth: Option<&RawValue>) -> Result<Received, SessionError> {
        let namespace = Namespace::parse(namespace)?;
        if self.sockets.len() >= MAX_NAMESPACES {
            return Ok(Received::Send(self.spelling.refused(&namespace.as_str()[1..], "Too many namespaces", None)));
        }
        self.sockets.open(namespace.clone());
        Ok(Received::Connect(ConnectRequest { namespace, auth: auth.map(ToOwned::to_owned), query: query.map(Into::into) }))
    }

    /// Connects a namespace that awaits it. The id names its socket and is not the connection's.
    pub fn accept(&mut self, namespace: &Namespace, sid: &str, terms: Terms) -> Option<Bytes> {
        let pid = terms.pid.clone();
        let is_connected = self.sockets.connect(namespace, terms);
        is_connected.then(|| self.spelling.connected(&namespace.as_str()[1..], sid, pid.as_deref()))
    }

    /// A namespace is in this room again, where its client was before.
    pub fn restore(&mut self, namespace: &Namespace, room: &RoomName) {
        if let Some(number) = self.sockets.named(namespace.as_str()).map(|socket| socket.number) {
            self.memberships.moved(room, number, true);
        }
    }

    /// What the client may come back to: the namespaces that have a name to recover by, and the rooms of each.
    pub fn recoverable(&self) -> impl Iterator<Item = (&str, &Namespace, Vec<RoomName>)> {
        let named = self.sockets.connected().filter_map(|socket| Some((socket.pid.as_deref()?, socket)));
        named.map(|(pid, socket)| (pid, &socket.namespace, self.memberships.rooms_of(socket.number)))
    }

    /// Refuses a namespace that awaits an answer. The message for one that does not exist is `Invalid namespace`.
    pub fn refuse(&mut self, namespace: &Namespace, message: &str, data: Option<&Value>) -> Option<Bytes> {
        self.sockets.refuse(namespace).then(|| self.spelling.refused(&namespace.as_str()[1..], message, data))
    }

    fn namespaced(&mut self, namespace: &str, event: ClientEvent, arrival: Option<u64>) -> Result<NamespacedEvent, SessionError> {
        let socket = self.sockets.named(namespace);
        let socket = socket.ok_or_else(|| SessionError::NotConnected(namespace.into()))?;
        Ok(NamespacedEvent { namespace: socket.namespace.clone(), event, socket: socket.number, arrival })
    }

    /// Forgets a socket, its rooms and the answers it waits for.
    fn leave(&mut self, socket: u32) -> Departure {
        let namespace = self.sockets.close(socket);
        self.calls.forget(socket);
        Departure { namespace, leaves: self.memberships.leave_all(socket) }
    }

    /// The application disconnects a namespace: what its client is told, and what follows.
    pub fn quit(&mut self, namespace: &Namespace) -> Option<(Bytes, Departure)> {
        let number = self.sockets.connected().find(|socket| socket.namespace == *namespace)?.number;
        Some((self.spelling.disconnected(&namespace.as_str()[1..]), self.leave(number)))
    }

    /// The last packets before the transport is closed for this reason. Told `disconnect`, a client stays away; told nothing,
    /// or to handshake anew, it reconnects. Told `close` it reconnects too, unless it is python-socketio's (5.18): who may come
    /// back gets its poll back instead, and finds out by the refusal of the next one.
    pub fn goodbye(&self, reason: CloseReason) -> SmallVec<[Bytes; 2]> {
        let is_final = matches!(reason, CloseReason::Disconnected | CloseReason::Expired | CloseReason::Policy);
        let Spelling { revision, carrier } = self.spelling;
        match (revision, carrier) {
            _ if is_final => self.sockets.connected().map(|socket| self.spelling.disconnected(&socket.namespace.as_str()[1..])).collect(),
            (Revision::V1, _) => SmallVec::from_iter([socketio_legacy::ready(carrier, socketio_legacy::RECONNECT)]),
            (_, Carrier::WebSocket) => SmallVec::new(),
            (_, Carrier::Polling) => {
                let version = if revision == Revision::V4 { engineio::Version::V3 } else { engineio::Version::V4 };
                let last = if reason.invites_back() { engineio::Packet::Noop } else { engineio::Packet::Close };
                SmallVec::from_iter([last.ready(version, carrier)])
            }
        }
    }
}
