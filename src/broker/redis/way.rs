//! The two ways a link has to its Redis: the only one there is, or the primary of one shard of a cluster.

use std::{rc::Rc, sync::Arc};

use futures_util::future;
use redis::aio::MultiplexedConnection;

use super::{
    cluster::Cluster,
    connect::{Connections, Connector, LinkError},
    listen::Native,
};
use crate::protocol::resume::ResumeKey;

/// The last word on the clock's channel of a primary that is one no longer: nobody is to count by it any more.
pub(super) const FAREWELL: &str = "farewell";

pub(super) enum Way {
    One(Connector),
    Shard(Seat),
}

/// A shard's place in its cluster.
#[derive(Clone)]
pub(super) struct Seat {
    pub cluster: Rc<Cluster>,
    pub shard: usize,
}

impl Way {
    pub fn seat(&self) -> Option<&Seat> {
        match self {
            Self::One(_) => None,
            Self::Shard(seat) => Some(seat),
        }
    }

    pub async fn connect(&self, prefix: &str) -> Result<Connections, LinkError> {
        match self {
            Self::One(connector) => connector.connect(prefix).await,
            Self::Shard(Seat { cluster, shard }) => cluster.connect(*shard).await,
        }
    }

    /// Waits while nothing is to be served.
    pub async fn needed(&self) {
        if let Self::Shard(Seat { cluster, shard }) = self {
            cluster.needed(*shard).await;
        }
    }

    /// Waits until the Redis that is connected is not the right one any more.
    pub fn replaced(&self) -> impl Future<Output = ()> + use<> {
        let seat = self.seat().map(|seat| (seat.clone(), seat.cluster.primary(seat.shard)));
        async move {
            match seat {
                Some((Seat { cluster, shard }, Some(id))) => cluster.replaced(shard, id).await,
                // It was replaced between connecting and now.
                Some((_, None)) => {}
                None => future::pending().await,
            }
        }
    }

    /// Waits until the shard is another process than it was.
    pub async fn successor(&self, before: Option<Arc<str>>) {
        match self.seat() {
            Some(Seat { cluster, shard }) => cluster.succeeded(*shard, before).await,
            None => future::pending().await,
        }
    }

    /// The process that is this shard now.
    pub fn primary(&self) -> Option<Arc<str>> {
        self.seat().and_then(|seat| seat.cluster.primary(seat.shard))
    }

    pub fn set_commands(&self, commands: Option<MultiplexedConnection>) {
        if let Some(seat) = self.seat() {
            seat.cluster.set_commands(seat.shard, commands);
        }
    }

    pub fn look_again(&self) {
        if let Some(seat) = self.seat() {
            seat.cluster.look_again();
        }
    }

    /// A marker was seen.
    pub fn see(&self, marker_ms: u64) {
        if let Some(seat) = self.seat() {
            seat.cluster.see(marker_ms);
        }
    }

    /// The key of the last marker's time, and the time that the next one must be past.
    pub fn clock_limits(&self, prefix: &str) -> (String, u64) {
        match self {
            Self::One(_) => (format!("{prefix}:clock-ms"), 0),
            Self::Shard(seat) => (String::new(), seat.cluster.latest_ms()),
        }
    }

    /// Where another link of this node fetches the key that signs ids.
    pub fn key_elsewhere(&self, name: &str) -> Option<&Rc<Cluster>> {
        let Seat { cluster, shard } = self.seat()?;
        (cluster.layout().shard_of(name) != *shard).then_some(cluster)
    }

    pub fn set_key(&self, key: ResumeKey) {
        if let Some(seat) = self.seat() {
            seat.cluster.set_key(key);
        }
    }

    /// What nodes say to each other comes by every shard, and one is listened to.
    pub fn is_lead(&self) -> bool {
        self.seat().is_none_or(|seat| seat.cluster.lead() == Some(seat.shard))
    }
}

impl Seat {
    /// How a message is published: to the listeners of its slot where all nodes listen there, else to those of all nodes.
    pub fn publishing(&self, channel: &str, native: &Native) -> &'static str {
        if native.has(channel) { "SPUBLISH" } else { "PUBLISH" }
    }
}
