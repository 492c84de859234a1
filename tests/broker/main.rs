//! The bus: what publishers send, and what comes of it.

mod contract;
mod redis_access;
mod redis_faults;
mod resp;
mod resp_clients;
mod support;
