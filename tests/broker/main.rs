//! The bus: what publishers send, and what comes of it.

mod resp;
mod resp_clients;
