//! Who holds state. Every actor runs on a plain `Context`, knows nothing of HTTP or Redis, and can be driven by a test with
//! nothing but messages.
//!
//! Events go down: a bridge hands a publication to the groups of its room or user, one per worker thread, and each puts the
//! ready bytes into the outboxes of its members. Wishes go up: a connection asks the registry, the registry asks the bridge.

pub mod attendance;
mod client;
pub mod connection;
pub mod fan_out;
mod gaps;
pub mod gossip;
mod grant;
pub mod group;
pub mod hall;
mod inquiry;
pub mod lease;
pub mod line;
pub mod members;
pub mod messages;
pub mod orders;
pub mod outbox;
pub mod presence;
pub mod publishing;
pub mod pulse;
pub mod queue;
pub mod rate;
pub mod receipt;
pub mod recovery;
pub mod registry;
pub mod replay;
mod resumption;
mod revoking;
pub mod roster;
pub mod session;
mod session_recovery;
pub mod sessions;
pub mod socket;
mod steering;
pub mod tls;
pub mod worker;

pub use connection::Connection;
pub use group::{Room, User};
pub use outbox::Outbox;
pub use registry::RoomRegistry;
