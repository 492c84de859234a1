//! The hub as a process, facing the internet: who is let in, who is not, and what a hostile client can do to its neighbours.

mod check;
mod expiry;
mod forward;
mod jwks;
mod limits;
mod malformed;
mod origins;
mod reload;
mod rules;
mod secrets;
mod slow_tls;
mod socketio;
mod support;
mod tls;
mod tls_streams;
mod tokens;

#[path = "../support/mod.rs"]
mod process;
