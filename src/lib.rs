//! Callboard: what is published to Redis reaches every browser in the room.
//!
//! The map, from the bottom up; a module imports only from those above it in this list (`tests/architecture.rs`):
//!
//! - [`protocol`]: words and wires. Names, events, the bytes of every client protocol and publisher dialect. Pure.
//! - [`auth`], [`config`], [`metrics`], [`lifeline`]: who may, how much, how often; what ends the process.
//! - [`actors`]: who holds state. Rooms, users, connections and the registry that knows them all.
//! - [`broker`] and [`http`]: the bus and the door. They never see each other.
//! - [`hub`]: puts them together. [`cli`]: the commands of the binary.
#![forbid(unsafe_code)]

pub mod cli;
pub mod protocol;
