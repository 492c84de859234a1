//! Socket.IO against the running hub: raw requests and frames for the rules of Engine.IO 4 and 3 and of protocol 1, hostile
//! clients, and the real ones under Node and Python.

mod clients;
mod conformance;
mod drain;
mod early;
mod emitter;
mod engine;
mod hostile;
mod identity;
mod legacy;
mod official;
mod origins;
mod polling;
mod proxies;
mod recovery;
mod support;
mod tls;

#[path = "../support/mod.rs"]
mod shared;
