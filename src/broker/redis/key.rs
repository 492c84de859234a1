//! The key that signs ids: kept in Redis, where all nodes find it.

use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::{connect::LinkError, task::Task};
use crate::{
    broker::{clock, link::Keyed},
    protocol::resume::ResumeKey,
};

impl Task {
    fn key_name(&self) -> String {
        format!("{}:id-key", self.prefix)
    }

    /// Puts the key where Redis has lost it: flushed or evicted while nodes live, a new node would sign with another.
    pub(super) fn offer_key(&self, mut connection: MultiplexedConnection) {
        let name = self.key_name();
        if self.way.key_elsewhere(&name).is_some() {
            return;
        }
        let mut command = redis::cmd("SET");
        command.arg(name).arg(self.key.expose()).arg("NX");
        // Where it is refused, it was said when the link came up.
        actix::spawn(async move { _ = command.query_async::<()>(&mut connection).await });
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    pub(super) async fn share_key(&mut self, connection: MultiplexedConnection) -> Result<(), LinkError> {
        let name = self.key_name();
        let key = match self.way.key_elsewhere(&name) {
            None => timeout(clock::INTERVAL, self.fetch_key(&name, connection)).await.map_err(|_| LinkError::Silent)?,
            Some(cluster) => timeout(clock::INTERVAL, cluster.key()).await.map_err(|_| LinkError::NoKey)?,
        };
        if let Some(key) = key {
            self.key = key;
            self.bridge.do_send(Keyed(key));
        }
        Ok(())
    }

    /// The key that signs ids: the first node's that came. Without a right to keep one, ids hold on this node alone.
    async fn fetch_key(&mut self, name: &str, mut connection: MultiplexedConnection) -> Option<ResumeKey> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(name).arg(self.key.expose()).arg("NX").ignore().cmd("GET").arg(name);
        let key = match pipeline.query_async::<(Vec<u8>,)>(&mut connection).await {
            Ok((key,)) => key.try_into().map_err(|_| format!("{name} is no key of 16 bytes")),
            Err(error) => Err(error.to_string()),
        };
        match key.map(ResumeKey::new) {
            // A Redis that comes back empty is offered what the nodes have signed with, so that their ids still hold.
            Ok(key) => self.key = key,
            Err(error) => {
                log::warn!("ids to resume by hold on this node alone: {error}");
                self.way.set_key(self.key);
                return None;
            }
        }
        // All links of this node sign with the same.
        self.way.set_key(self.key);
        Some(self.key)
    }
}
