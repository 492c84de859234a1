//! The namespaces of a connection: which are connected, and which await the caller's decision.

use std::collections::VecDeque;

use super::{
    NamespacedEvent, SessionError,
    terms::{LastSeen, Terms},
};
use crate::protocol::{names::RoomName, socketio::Namespace};

/// What may wait in all for namespaces that are not decided on yet: a client that does not wait for the answer sends a few.
pub const MAX_EARLY: usize = 64;

/// One namespace of a connection.
#[derive(Debug)]
pub struct Socket {
    /// Grows with each, so that a late reply never reaches a successor.
    pub number: u32,
    pub namespace: Namespace,
    pub shows_ids: bool,
    pub pid: Option<Box<str>>,
    pub seen: Option<LastSeen>,
    is_connected: bool,
    /// What the client has said before it was connected, in order.
    early: VecDeque<Early>,
}

/// Something that waits for its namespace.
#[derive(Debug)]
pub enum Early {
    Event(NamespacedEvent),
    Leave,
}

impl Socket {
    /// The client wants it once more: it stays, where it was about to leave.
    pub fn stay(&mut self) {
        if matches!(self.early.back(), Some(Early::Leave)) {
            self.early.pop_back();
        }
    }

    fn early_bytes(&self) -> usize {
        self.early.iter().map(Early::size).sum()
    }
}

impl Early {
    fn size(&self) -> usize {
        match self {
            Self::Event(event) => event.event.size(),
            Self::Leave => 0,
        }
    }
}

#[derive(Debug, Default)]
pub struct Sockets {
    /// At most [`super::MAX_NAMESPACES`]: [`super::Session`] sees to it.
    open: Vec<Socket>,
    next: u32,
}

impl Sockets {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Adds a namespace that awaits a decision.
    pub fn open(&mut self, namespace: Namespace) {
        self.open.push(Socket {
            number: self.next,
            namespace,
            shows_ids: false,
            pid: None,
            seen: None,
            is_connected: false,
            early: VecDeque::new(),
        });
        self.next = self.next.wrapping_add(1);
    }

    /// A namespace, decided on or not.
    pub fn named(&mut self, namespace: &str) -> Option<&mut Socket> {
        self.open.iter_mut().find(|socket| socket.namespace.as_str() == namespace)
    }

    /// True where the socket of this number is not decided on.
    pub fn is_awaiting(&self, number: u32) -> bool {
        self.open.iter().any(|socket| socket.number == number && !socket.is_connected)
    }

    /// Keeps something until its namespace is decided on; within so many bytes in all.
    pub fn keep_early(&mut self, number: u32, early: Early, byte_limit: usize) -> Result<(), SessionError> {
        let kept: usize = self.open.iter().map(|socket| socket.early.len()).sum();
        let bytes: usize = self.open.iter().map(Socket::early_bytes).sum();
        if kept >= MAX_EARLY || bytes.saturating_add(early.size()) > byte_limit {
            return Err(SessionError::TooMuchTooEarly);
        }
        if let Some(socket) = self.open.iter_mut().find(|socket| socket.number == number) {
            socket.early.push_back(early);
        }
        Ok(())
    }

    pub fn connected(&self) -> impl Iterator<Item = &Socket> {
        self.open.iter().filter(|socket| socket.is_connected)
    }

    /// The connected socket of this number.
    pub fn numbered(&self, number: u32) -> Option<&Socket> {
        self.connected().find(|socket| socket.number == number)
    }

    /// The connected namespace that a room belongs to by its name: the longest.
    pub fn owner(&self, room: &RoomName) -> Option<&Socket> {
        let candidates = self.connected().filter(|socket| socket.namespace.client_room(room).is_some());
        candidates.max_by_key(|socket| socket.namespace.prefix_length())
    }

    /// The id that a room is entered with.
    pub fn last_seen(&mut self, number: u32, room: &RoomName, limit: usize) -> Option<Box<str>> {
        let socket = self.open.iter_mut().find(|socket| socket.number == number)?;
        socket.seen.as_mut()?.take(room, limit)
    }

    /// True where the namespace awaited it.
    pub fn connect(&mut self, namespace: &Namespace, terms: Terms) -> bool {
        let Some(socket) = self.named(namespace.as_str()).filter(|socket| !socket.is_connected) else { return false };
        let Terms { shows_ids, since, pid } = terms;
        (socket.is_connected, socket.shows_ids, socket.pid) = (true, shows_ids, pid);
        socket.seen = since.map(LastSeen::new);
        true
    }

    /// What waited for a namespace that is connected now, one by one.
    pub fn next_early(&mut self, namespace: &Namespace) -> Option<(u32, Early)> {
        let socket = self.named(namespace.as_str()).filter(|socket| socket.is_connected)?;
        let early = socket.early.pop_front();
        early.map(|early| (socket.number, early))
    }

    /// True where the namespace awaited a decision.
    pub fn refuse(&mut self, namespace: &Namespace) -> bool {
        let before = self.open.len();
        self.open.retain(|socket| socket.is_connected || socket.namespace != *namespace);
        self.open.len() < before
    }

    pub fn close(&mut self, number: u32) -> Option<Namespace> {
        let place = self.open.iter().position(|socket| socket.number == number)?;
        Some(self.open.remove(place).namespace)
    }
}
