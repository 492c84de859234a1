//! Namespaces: the parts of an application that share one connection. Here a namespace is a prefix of the hub's room names.

use std::{fmt, sync::Arc};

use thiserror::Error;

use crate::protocol::names::{NameError, RoomName};

/// Longest namespace in bytes: room names hold it and want some bytes of their own.
const MAX_BYTES: usize = 128;

/// A namespace, its leading slash included: `/`, `/chat`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

/// The text is no namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("namespace does not start with a slash, is longer than {MAX_BYTES} bytes or holds a comma or control character")]
pub struct NamespaceError;

impl Namespace {
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    pub fn parse(text: &str) -> Result<Self, NamespaceError> {
        let is_valid = text.starts_with('/') && text.len() <= MAX_BYTES && !text.contains(|c: char| c == ',' || c.is_control());
        if is_valid { Ok(Self(Arc::from(text))) } else { Err(NamespaceError) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.prefix().is_empty()
    }

    /// How many bytes of its rooms' names are the namespace's.
    pub fn prefix_length(&self) -> u8 {
        // At most `MAX_BYTES`.
        self.prefix().len() as u8
    }

    fn prefix(&self) -> &str {
        &self.0[1..]
    }

    /// The hub's name of a room of this namespace.
    pub fn hub_room(&self, room: &str) -> Result<RoomName, NameError> {
        match self.prefix() {
            "" => RoomName::parse(room),
            // An empty name must not pass for the prefix's sake.
            _ if room.is_empty() => Err(NameError::Empty),
            prefix => RoomName::parse(&format!("{prefix}/{room}")),
        }
    }

    /// What the clients of this namespace call a room of the hub. None where the room is not the namespace's.
    pub fn client_room<'a>(&self, room: &'a RoomName) -> Option<&'a str> {
        match self.prefix() {
            "" => Some(room.as_str()),
            prefix => room.as_str().strip_prefix(prefix)?.strip_prefix('/').filter(|name| !name.is_empty()),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_prefix_of_its_rooms() {
        let chat = Namespace::parse("/chat").unwrap();
        let lobby = chat.hub_room("lobby").unwrap();
        assert_eq!(lobby.as_str(), "chat/lobby");
        assert_eq!(chat.client_room(&lobby), Some("lobby"));
        assert_eq!(Namespace::root().client_room(&lobby), Some("chat/lobby"));
        assert_eq!(chat.client_room(&RoomName::parse("chatter/lobby").unwrap()), None);
        assert_eq!(chat.hub_room(""), Err(NameError::Empty));
    }

    #[test]
    fn what_would_break_a_packet_is_no_namespace() {
        for text in ["", "chat", "/a,b", "/a\u{1e}", &format!("/{}", "a".repeat(128))] {
            assert_eq!(Namespace::parse(text), Err(NamespaceError), "{text:?}");
        }
        assert!(Namespace::parse(&format!("/{}", "a".repeat(127))).is_ok());
    }
}
