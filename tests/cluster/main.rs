//! Real hubs on a real Redis Cluster, and on a Redis that sentinels watch: what comes through, and what a failover or a
//! migration does to it.

mod cluster;
mod load;
mod sentinel;
#[path = "../support/mod.rs"]
mod support;
