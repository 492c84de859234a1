//! The embedded broker: a link that ends where it begins. Nothing leaves the process, nothing is ever lost on the way, and the
//! same code routes behind it.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use actix::{Addr, Handler, Message, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::{
    TryFutureExt,
    future::{self, LocalBoxFuture},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    archive::Archive,
    bridge::RedisBridge,
    claims::{Claim, Claims},
    link::{Confirmed, Inbound, Link, LinkUp, Marker, Once, Tracked},
    resp::{PublishError, Sink},
};
use crate::{
    actors::{messages::BrokerError, receipt::Receipt},
    protocol::{resume::RoomHash, source::Standing},
};

/// Every so great part of the window, a publication's end is waited for; so many of them may be under way.
const WINDOW_PARTS: usize = 16;
const AWAITED: usize = 6;

/// Shared by the link and the RESP listener; both live on the bridge's thread.
#[derive(Clone)]
pub struct MemoryBus(Rc<Bus>);

struct Bus {
    bridge: Addr<RedisBridge>,
    /// The last marker's time: each is later than the one before it.
    marked_ms: Cell<u64>,
    channels: RefCell<HashMap<Arc<str>, Flow, RandomState>>,
    /// What stands before the star of each pattern.
    prefixes: Vec<Arc<str>>,
    /// Of what comes by patterns.
    by_pattern: Flow,
    window: usize,
    claims: RefCell<Claims>,
}

/// What RESP publishers have under way on one channel. Rooms are fanned out to on other threads, and a publisher is not to be
/// faster than they are.
#[derive(Clone)]
struct Flow {
    /// Those that are waited for; as many as there are places.
    places: Arc<Semaphore>,
    /// Publications since the last of them.
    since: Rc<Cell<usize>>,
}

impl Flow {
    fn new(window: usize) -> Self {
        let places = if window < WINDOW_PARTS { window } else { AWAITED };
        Self { places: Arc::new(Semaphore::new(places.max(1))), since: Rc::default() }
    }

    /// Waits until one more may be under way; with a place, its end is waited for.
    async fn turn(&self, window: usize) -> Option<OwnedSemaphorePermit> {
        loop {
            if self.since.get() < window / WINDOW_PARTS {
                self.since.set(self.since.get() + 1);
                return None;
            }
            // The semaphore is never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok();
            if self.since.get() >= window / WINDOW_PARTS {
                self.since.set(0);
                return place;
            }
        }
    }
}

pub struct MemoryLink(MemoryBus);

impl MemoryBus {
    /// `standing`: what every node listens to all the time. `window`: RESP publications that may be under way on one channel, no more
    /// than may wait for the room or user behind it.
    pub fn new(bridge: Addr<RedisBridge>, standing: Vec<Standing>, window: usize) -> Self {
        let mut channels = HashMap::default();
        let mut prefixes = Vec::new();
        for subscription in standing {
            match subscription {
                Standing::Channel(channel) => _ = channels.insert(channel, Flow::new(window)),
                // A pattern of ours is plain text and one star at its end.
                Standing::Pattern(pattern) => prefixes.push(Arc::from(pattern.trim_end_matches('*'))),
            }
        }
        let (channels, by_pattern) = (RefCell::new(channels), Flow::new(window));
        Self(Rc::new(Bus { bridge, marked_ms: Cell::new(0), channels, prefixes, by_pattern, window, claims: RefCell::default() }))
    }

    /// The link for the bridge, which is told that it is up.
    #[expect(clippy::disallowed_methods, reason = "once per process")]
    pub fn link(&self) -> MemoryLink {
        self.0.bridge.do_send(LinkUp);
        MemoryLink(self.clone())
    }

    /// The channel, shared, if anybody listens to it.
    fn listened(&self, channel: &str) -> Option<(Arc<str>, Flow)> {
        let bus = &self.0;
        let known = bus.channels.borrow().get_key_value(channel).map(|(channel, flow)| (Arc::clone(channel), flow.clone()));
        let is_matched = || bus.prefixes.iter().any(|prefix| channel.starts_with(&**prefix));
        known.or_else(|| is_matched().then(|| (Arc::from(channel), bus.by_pattern.clone())))
    }
}

impl Link for MemoryLink {
    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn subscribe(&mut self, channels: Vec<Arc<str>>) {
        let bus = &self.0.0;
        for channel in &channels {
            bus.channels.borrow_mut().entry(Arc::clone(channel)).or_insert_with(|| Flow::new(bus.window));
        }
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
            let Some((channel, _)) = self.0.listened(channel) else { return Ok(0) };
            match self.0.0.bridge.try_send(Inbound { channel, payload: payload.clone() }) {
                Ok(()) => Ok(1),
                Err(SendError::Full(_)) => Err(BrokerError::Overloaded),
                Err(SendError::Closed(_)) => Err(BrokerError::Unavailable),
            }
        });
        let result = result.collect();
        Box::pin(future::ready(result))
    }

    fn publish_once(
        &mut self,
        claim: Claim,
        channels: Vec<Arc<str>>,
        payload: Bytes,
    ) -> LocalBoxFuture<'static, Result<Once, BrokerError>> {
        if let Some(known) = self.0.0.claims.borrow_mut().claim(&claim.key, &claim.id, Instant::now()) {
            return Box::pin(future::ready(Ok(Once::Known(known))));
        }
        let (sent, bus) = (self.publish(channels, payload), self.0.clone());
        Box::pin(sent.map_ok(Once::Sent).inspect_err(move |_| bus.0.claims.borrow_mut().release(&claim.key)))
    }

    fn release(&mut self, claim: Claim) -> LocalBoxFuture<'static, ()> {
        self.0.0.claims.borrow_mut().release(&claim.key);
        Box::pin(future::ready(()))
    }
}

/// What publishers send over RESP. It waits while the bridge's mailbox is full, or the room behind the channel is late, which stops
/// the reading of that publisher's socket; a publisher to Redis would be slowed by the same means.
impl Sink for MemoryBus {
    async fn publish(&self, channel: &str, payload: Bytes) -> Result<u64, PublishError> {
        let Some((channel, flow)) = self.listened(channel) else { return Ok(0) };
        let inbound = Inbound { channel, payload };
        match flow.turn(self.0.window).await {
            None => self.hand_over(inbound).await?,
            Some(place) => {
                let (receipt, told) = Receipt::new();
                self.hand_over(Tracked { inbound, receipt }).await?;
                actix::spawn(async move {
                    _ = told.await;
                    drop(place);
                });
            }
        }
        Ok(1)
    }
}

impl MemoryBus {
    /// Without waiting for each one's turn, so that a pipelined burst reaches its room as a burst.
    async fn hand_over<M: Message<Result = ()> + Send + 'static>(&self, message: M) -> Result<(), PublishError>
    where
        RedisBridge: Handler<M>,
    {
        match self.0.bridge.try_send(message) {
            Ok(()) => Ok(()),
            Err(SendError::Full(message)) => self.0.bridge.send(message).await.map_err(|_| PublishError::Closed),
            Err(SendError::Closed(_)) => Err(PublishError::Closed),
        }
    }
}
