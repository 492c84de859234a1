//! The bus: what publishers send, what comes of it, and what nodes say to each other over it.

mod gossip;
mod resp;
mod resp_clients;

#[path = "../support/mod.rs"]
mod support;
