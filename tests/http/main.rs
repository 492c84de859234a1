//! The door, from outside: the real binary on a free port, and clients that see every byte.

mod api;
mod authority;
mod conformance;
mod drain;
mod flood;
mod history;
mod limits;
mod lost_keys;
mod operations;
mod outage;
mod presence;
mod refusals;
mod scenarios;
mod sse;
mod start;
mod websocket;

#[path = "../support/mod.rs"]
mod support;
