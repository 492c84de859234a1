//! The actors, driven directly: no HTTP, no Redis. Where a socket matters it is a loopback pair; where time matters the clock
//! is paused.

mod connection;
mod gossip;
mod group;
mod line;
mod outbox;
mod overflow;
mod presence;
mod pulse;
mod registry;
mod resumption;
mod support;
mod tls;
