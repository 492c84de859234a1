//! Words and wires: what is said, and how it is spelled on each client protocol and publisher dialect.
//!
//! Nothing here knows of actors, sockets, Redis, clocks or I/O: bytes and values in, bytes and values out, so that every
//! rule can be tested with a table.

pub mod close;
pub mod command;
pub mod dialect;
pub mod engineio;
pub mod event;
pub mod gossip;
pub mod json;
pub mod jsonp;
pub mod names;
pub mod native;
pub mod notice;
pub mod pattern;
pub mod position;
pub mod publication;
pub mod resume;
pub mod socketio;
pub mod socketio_echo;
pub mod socketio_legacy;
pub mod socketio_session;
pub mod socketio_wire;
pub mod source;
pub mod sse;
pub mod template;
pub mod utf16;
pub mod websocket;
pub mod wire;

pub use close::CloseReason;
pub use command::{Command, ErrorCode, GapReason, Reference, Reply};
pub use event::{Argument, Event};
pub use names::{ConnectionId, EventName, NameError, RoomName, UserName};
pub use pattern::{PatternError, RoomPattern};
pub use position::Position;
pub use publication::{Encoding, Publication, Target};
