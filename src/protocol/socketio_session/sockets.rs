//! The namespaces of a connection: which are connected, and which await the caller's decision.

use crate::protocol::{names::RoomName, socketio::Namespace};

/// One namespace of a connection.
#[derive(Debug)]
pub struct Socket {
    /// Grows with each, so that a late reply never reaches a successor.
    pub number: u32,
    pub namespace: Namespace,
    is_connected: bool,
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
        self.open.push(Socket { number: self.next, namespace, is_connected: false });
        self.next = self.next.wrapping_add(1);
    }

    /// The number of a namespace, decided on or not.
    pub fn named(&self, namespace: &str) -> Option<u32> {
        self.open.iter().find(|socket| socket.namespace.as_str() == namespace).map(|socket| socket.number)
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

    /// True where the namespace awaited it.
    pub fn connect(&mut self, namespace: &Namespace) -> bool {
        let waiting = self.open.iter_mut().find(|socket| !socket.is_connected && socket.namespace == *namespace);
        waiting.map(|socket| socket.is_connected = true).is_some()
    }

    /// True where the namespace awaited a decision.
    pub fn refuse(&mut self, namespace: &Namespace) -> bool {
        let before = self.open.len();
        self.open.retain(|socket| socket.is_connected || socket.namespace != *namespace);
        self.open.len() < before
    }

    pub fn close(&mut self, number: u32) {
        self.open.retain(|socket| socket.number != number);
    }
}
