//! The bus: what publishers send, what comes of it, and what nodes say to each other over it.

mod contract;
mod gossip;
mod model;
mod positions;
mod redis_access;
mod redis_faults;
mod resp;
mod resp_clients;
mod support;
