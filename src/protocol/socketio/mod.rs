//! Socket.IO: the packets that Engine.IO carries (protocol 5 and 4), and how what the hub says is spelled in every revision
//! that is served, the first one included. What packets mean is [`super::socketio_session`]'s.

pub mod decode;
pub mod encode;
mod namespace;

use super::engineio;

pub use decode::{ClientEvent, Packet, PacketError};
pub use encode::Spelling;
pub use namespace::{Namespace, NamespaceError};

/// Most attachments of one packet. The clients' own parsers refuse more.
pub const MAX_ATTACHMENTS: usize = 10;
/// Most arguments of one event from a client, the room's name included.
pub const MAX_ARGUMENTS: usize = 128;
/// Deepest nesting of arrays and objects in what a client sends: what passes through is parsed by others.
pub const MAX_DEPTH: usize = 100;

/// The revision of the Socket.IO protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revision {
    /// socket.io 0.9, without Engine.IO.
    V1,
    /// socket.io-client 2, on Engine.IO 3.
    V4,
    /// socket.io-client 3 and 4, on Engine.IO 4.
    V5,
}

impl Revision {
    /// The revision that clients of an Engine.IO speak.
    pub const fn of(version: engineio::Version) -> Self {
        match version {
            engineio::Version::V3 => Self::V4,
            engineio::Version::V4 => Self::V5,
        }
    }
}

/// Names that a client's own emitter uses; no event that travels may have one.
pub fn is_reserved(name: &str) -> bool {
    matches!(name, "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener")
}
