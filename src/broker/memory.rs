//! The embedded broker: a link that ends where it begins. Nothing leaves the process, nothing is ever lost on the way, and the
//! same code routes behind it.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    rc::Rc,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use actix::{Addr, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::future::{self, LocalBoxFuture};

use super::{
    archive::Archive,
    bridge::RedisBridge,
    link::{Confirmed, Inbound, Link, LinkUp, Marker},
    resp::{PublishError, Sink},
};
use crate::{
    actors::messages::BrokerError,
    protocol::{resume::RoomHash, source::Standing},
};

/// Shared by the link and the RESP listener; both live on the bridge's thread.
#[derive(Clone)]
pub struct MemoryBus(Rc<Bus>);

struct Bus {
    bridge: Addr<RedisBridge>,
    /// The last marker's time: each is later than the one before it.
    marked_ms: Cell<u64>,
    channels: RefCell<HashSet<Arc<str>, RandomState>>,
    /// What stands before the star of each pattern.
    prefixes: Vec<Arc<str>>,
}

pub struct MemoryLink(MemoryBus);

impl MemoryBus {
    /// `standing`: what every node listens to all the time.
    pub fn new(bridge: Addr<RedisBridge>, standing: Vec<Standing>) -> Self {
        let mut channels = HashSet::default();
        let mut prefixes = Vec::new();
        for subscription in standing {
            match subscription {
                Standing::Channel(channel) => _ = channels.insert(channel),
                // A pattern of ours is plain text and one star at its end.
                Standing::Pattern(pattern) => prefixes.push(Arc::from(pattern.trim_end_matches('*'))),
            }
        }
        Self(Rc::new(Bus { bridge, marked_ms: Cell::new(0), channels: RefCell::new(channels), prefixes }))
    }

    /// The link for the bridge, which is told that it is up.
    #[expect(clippy::disallowed_methods, reason = "once per process")]
    pub fn link(&self) -> MemoryLink {
        self.0.bridge.do_send(LinkUp);
        MemoryLink(self.clone())
    }

    /// The channel, shared, if anybody listens to it.
    fn listened(&self, channel: &str) -> Option<Arc<str>> {
        let known = self.0.channels.borrow().get(channel).cloned();
        known.or_else(|| self.0.prefixes.iter().any(|prefix| channel.starts_with(&**prefix)).then(|| Arc::from(channel)))
    }
}

impl Link for MemoryLink {
    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn subscribe(&mut self, channels: Vec<Arc<str>>) {
        let bus = &self.0.0;
        bus.channels.borrow_mut().extend(channels.iter().cloned());
        bus.bridge.do_send(Confirmed { channels });
    }

    fn unsubscribe(&mut self, channels: Vec<Arc<str>>) {
        let mut known = self.0.0.channels.borrow_mut();
        channels.iter().for_each(|channel| _ = known.remove(channel));
    }

    /// The subscription is made when it is asked for, so the marker is due at once.
    #[expect(clippy::disallowed_methods, reason = "once per room with history, and it must not be lost")]
    fn mark(&mut self, _: Vec<RoomHash>) {
        let bus = &self.0.0;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(bus.marked_ms.get() + 1);
        bus.marked_ms.set(ms);
        bus.bridge.do_send(Marker { ms, wanted: Vec::new(), is_foreign: false });
    }

    fn archive(&self) -> Option<Rc<dyn Archive>> {
        None
    }

    fn publish(&mut self, channels: Vec<Arc<str>>, payload: Bytes) -> LocalBoxFuture<'static, Result<Vec<u64>, BrokerError>> {
        let result = channels.iter().map(|channel| {
            let Some(channel) = self.0.listened(channel) else { return Ok(0) };
            match self.0.0.bridge.try_send(Inbound { channel, payload: payload.clone() }) {
                Ok(()) => Ok(1),
                Err(SendError::Full(_)) => Err(BrokerError::Overloaded),
                Err(SendError::Closed(_)) => Err(BrokerError::Unavailable),
            }
        });
        let result = result.collect();
        Box::pin(future::ready(result))
    }
}

/// What publishers send over RESP. It waits while the bridge's mailbox is full, which stops the reading of that publisher's
/// socket; a publisher to Redis would be slowed by the same means.
impl Sink for MemoryBus {
    async fn publish(&self, channel: &str, payload: Bytes) -> Result<u64, PublishError> {
        let Some(channel) = self.listened(channel) else { return Ok(0) };
        // Without waiting for each one's turn, a pipelined burst reaches its room as a burst.
        match self.0.bridge.try_send(Inbound { channel, payload }) {
            Ok(()) => {}
            Err(SendError::Full(inbound)) => self.0.bridge.send(inbound).await.map_err(|_| PublishError::Closed)?,
            Err(SendError::Closed(_)) => return Err(PublishError::Closed),
        }
        Ok(1)
    }
}
