//! The bus: how events come to this node and leave it. One bridge actor routes; a link carries, to Redis or to nowhere further
//! than this process.
//!
//! The contract between the two is [`link`]; one suite of tests holds both links to it (`tests/broker`). Only [`redis`] knows
//! the `redis` crate, and nothing here knows of clients.

pub mod archive;
pub mod backoff;
pub mod bridge;
pub mod claims;
pub mod clock;
pub mod cluster;
pub mod company;
pub mod history;
pub mod journal;
pub mod link;
pub mod memory;
pub mod recall;
pub mod recording;
pub mod redis;
pub mod resp;
pub mod timeline;
