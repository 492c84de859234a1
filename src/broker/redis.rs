//! The link to Redis: one PubSub connection that listens and one multiplexed connection for commands, whatever the number of
//! clients and rooms. Only this file and its folder know the `redis` crate.
//!
//! One task runs it, next to the bridge. It reads as fast as Redis sends and hands on within `mailbox.bridge`; it never waits
//! for a fan-out, because a reader that is late for 32 MB is cut off by Redis without a word.

mod archive;
mod connect;
mod orders;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{Addr, prelude::SendError};
use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::{
    FutureExt, StreamExt,
    future::{self, LocalBoxFuture},
    stream,
};
use redis::{ErrorKind, Msg, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, watch},
    task::unconstrained,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use self::{
    archive::RedisArchive,
    connect::{Connections, LinkError, answer},
    orders::{CHANNELS_PER_COMMAND, Carried, Order, Orders, Wish, carry, is_forbidden},
};
use super::{
    archive::Archive,
    backoff::Backoff,
    bridge::RedisBridge,
    clock::{self, Clock},
    link::{Confirmed, Inbound, InboundLost, Keyed, Link, LinkDown, LinkUp, Refused, Torn},
};
use crate::{
    actors::messages::BrokerError,
    metrics::Metrics,
    protocol::{
        resume::{ResumeKey, RoomHash},
        source::Standing,
    },
};

pub use self::connect::{AddressError, Connector};

/// Messages handed on before the other work of the link has its turn.
const MESSAGES_PER_TURN: usize = 256;
/// SUBSCRIBE commands on their way at once when all is subscribed anew: a thousandth of a second there and back must not be
/// paid for each five hundred channels.
const COMMANDS_IN_FLIGHT: usize = 16;
/// A connection that held for so long was a good one: the next loss is answered at once. One that did not is not, or a Redis
/// that lets us in only to throw us out would be asked twenty times a second.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);
/// How often refused channels are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The bridge's end of the link.
pub struct RedisLink {
    /// The task takes them before each attempt to connect, so an outage heaps up no more than a few seconds' worth.
    wishes: mpsc::UnboundedSender<Wish>,
    /// The command connection, while the link is up.
    commands: watch::Receiver<Option<MultiplexedConnection>>,
    prefix: String,
}

pub struct LinkParts {
    pub connector: Connector,
    /// `broker.prefix`.
    pub prefix: String,
    /// What every node listens to all the time.
    pub standing: Vec<Standing>,
    /// This node's name on the clock.
    pub node: String,
    /// Offered to the nodes as the key that signs their ids.
    pub key: ResumeKey,
    pub bridge: Addr<RedisBridge>,
    pub metrics: Metrics,
}

impl RedisLink {
    /// Starts the task on this thread. It connects, and connects again, for as long as the bridge lives.
    pub fn start(parts: LinkParts) -> Self {
        let (wishes, wished) = mpsc::unbounded_channel();
        let (commands, command_connection) = watch::channel(None);
        let task = Task {
            connector: parts.connector,
            clock_channel: Arc::from(format!("{}:clock", parts.prefix)),
            standing: parts.standing,
            clock: Clock::new(&parts.node),
            bridge: parts.bridge,
            metrics: parts.metrics,
            wished,
            commands,
            wanted: HashSet::default(),
            orders: Orders::default(),
            lost: HashMap::default(),
            refusal_logged: None,
            marks: Marks::default(),
            is_whole: true,
            prefix: parts.prefix.clone(),
            key: parts.key,
        };
        actix::spawn(task.run());
        Self { wishes, commands: command_connection, prefix: parts.prefix }
    }

    fn wish(&self, wish: Wish) {
        // The task ends only with the bridge.
        let _ = self.wishes.send(wish);
    }
}

impl Link for RedisLink {
    fn subscribe(&mut self, channels: Vec<Arc<str>>) {
        self.wish(Wish::Subscribe(channels));
    }

    fn unsubscribe(&mut self, channels: Vec<Arc<str>>) {
        self.wish(Wish::Unsubscribe(channels));
    }

    fn mark(&mut self, ticket: u64, rooms: Vec<RoomHash>) {
        self.wish(Wish::Mark(ticket, rooms));
    }

    fn archive(&self) -> Option<Rc<dyn Archive>> {
        Some(Rc::new(RedisArchive::new(self.prefix.clone(), self.commands.clone())))
    }

    fn publish(&mut self, channels: Vec<Arc<str>>, payload: Bytes) -> LocalBoxFuture<'static, Result<(), BrokerError>> {
        let Some(mut connection) = self.commands.borrow().clone() else {
            return Box::pin(future::ready(Err(BrokerError::Unavailable)));
        };
        let mut pipeline = redis::pipe();
        for channel in &channels {
            pipeline.cmd("PUBLISH").arg(&**channel).arg(&payload[..]).ignore();
        }
        Box::pin(async move {
            match pipeline.query_async::<()>(&mut connection).await {
                Ok(()) => Ok(()),
                Err(error) if is_answer(&error) => Err(BrokerError::Refused(error.to_string())),
                Err(_) => Err(BrokerError::Unavailable),
            }
        })
    }
}

/// Redis has answered, and the answer is no.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

struct Task {
    connector: Connector,
    clock_channel: Arc<str>,
    standing: Vec<Standing>,
    clock: Clock,
    bridge: Addr<RedisBridge>,
    metrics: Metrics,
    wished: mpsc::UnboundedReceiver<Wish>,
    commands: watch::Sender<Option<MultiplexedConnection>>,
    /// All concrete channels that are to be subscribed, connected or not, refused or not: an ACL may change.
    wanted: HashSet<Arc<str>, RandomState>,
    orders: Orders,
    /// Messages that the bridge's full mailbox refused, by channel.
    lost: HashMap<Arc<str>, u64, RandomState>,
    refusal_logged: Option<Instant>,
    marks: Marks,
    /// The bridge has had every message since the last marker that it has had.
    is_whole: bool,
    prefix: String,
    key: ResumeKey,
}

/// Markers out of turn that the bridge has asked for.
#[derive(Default)]
struct Marks {
    /// The last ticket that was asked for. The next marker carries it, out of turn or not.
    ticket: u64,
    rooms: Vec<RoomHash>,
    due: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut last_error = String::new();
        while self.bridge.connected() {
            let error = match self.connect().await {
                Ok(connections) => {
                    log::info!("subscribed to Redis with {} channels", self.wanted.len());
                    last_error.clear();
                    let since = Instant::now();
                    let error = self.serve(connections).await;
                    if since.elapsed() >= GOOD_CONNECTION {
                        backoff.reset();
                    }
                    error
                }
                Err(error) => error,
            };
            let text = format!("Redis: {error}{}", error.advice());
            if text != last_error {
                log::warn!("{text}; trying again until it works");
                last_error = text;
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// Connects, proves the subscription by a marker that comes back, and subscribes to all that is wanted.
    async fn connect(&mut self) -> Result<Connections, LinkError> {
        self.take_wishes();
        let mut connections = self.connector.connect().await?;
        answer(self.listen_standing(&mut connections)).await?;
        answer(self.prove(&mut connections)).await?;
        timeout(clock::INTERVAL, self.share_key(connections.commands.clone())).await.map_err(|_| LinkError::Silent)?;
        self.subscribe_wanted(&connections).await?;
        Ok(connections)
    }

    async fn listen_standing(&mut self, connections: &mut Connections) -> Result<(), RedisError> {
        connections.sink.subscribe(&*self.clock_channel).await?;
        for standing in &self.standing {
            let (name, answer) = match standing {
                Standing::Channel(channel) => (channel, connections.sink.subscribe(&**channel).await),
                Standing::Pattern(pattern) => (pattern, connections.sink.psubscribe(&**pattern).await),
            };
            match answer {
                Ok(()) => {}
                // The other sources work without it.
                Err(error) if is_forbidden(&error) => log_refusal(name, 1, &error, &mut self.refusal_logged),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a marker and waits to see it.
    async fn prove(&mut self, connections: &mut Connections) -> Result<(), LinkError> {
        self.clock.restart();
        self.mark(connections).await?;
        while let Some(message) = connections.stream.next().await {
            if self.hand_on(&message).is_some() {
                return Ok(());
            }
        }
        Err(LinkError::Ended)
    }

    /// Reports only when all is done: a subscription that is lost again before the link is up was none.
    async fn subscribe_wanted(&mut self, connections: &Connections) -> Result<(), LinkError> {
        self.take_wishes();
        self.orders = Orders::default();
        let wanted: Vec<_> = self.wanted.iter().cloned().collect();
        let orders: Vec<_> = wanted.chunks(CHANNELS_PER_COMMAND).map(|channels| Order::Subscribe(channels.to_vec())).collect();
        let carrying = orders.into_iter().map(|order| answer(carry(connections.sink.clone(), order)));
        let mut all = Carried::default();
        let mut carried = stream::iter(carrying).buffered(COMMANDS_IN_FLIGHT);
        while let Some(carried) = carried.next().await {
            all.extend(carried?);
        }
        self.report(all);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn report(&mut self, carried: Carried) {
        let Carried { confirmed, refused } = carried;
        if !confirmed.is_empty() {
            self.bridge.do_send(Confirmed { channels: confirmed });
        }
        if let Some((channel, error)) = refused.first() {
            log_refusal(channel, refused.len(), error, &mut self.refusal_logged);
            let error = error.to_string();
            self.bridge.do_send(Refused { channels: refused.into_iter().map(|(channel, _)| channel).collect(), error });
        }
    }

    fn take_wishes(&mut self) {
        while let Ok(wish) = self.wished.try_recv() {
            self.note(wish);
        }
    }

    fn note(&mut self, wish: Wish) {
        match &wish {
            Wish::Mark(ticket, rooms) => {
                self.marks.ticket = self.marks.ticket.max(*ticket);
                self.marks.rooms.extend(rooms);
                self.marks.due.get_or_insert_with(|| Instant::now() + clock::COALESCE);
                return;
            }
            Wish::Subscribe(channels) => self.wanted.extend(channels.iter().cloned()),
            Wish::Unsubscribe(channels) => channels.iter().for_each(|channel| _ = self.wanted.remove(channel)),
        }
        self.orders.note(wish);
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    async fn serve(&mut self, mut connections: Connections) -> LinkError {
        self.commands.send_replace(Some(connections.commands.clone()));
        self.bridge.do_send(LinkUp);
        let error = self.carry_on(&mut connections).await;
        self.commands.send_replace(None);
        self.bridge.do_send(LinkDown);
        error
    }

    /// Carries until something breaks; says what.
    async fn carry_on(&mut self, connections: &mut Connections) -> LinkError {
        let mut ticks = interval(clock::INTERVAL);
        // After a standstill of this thread, a marker must have its second to come back before the next is due.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut carrying = None;
        let mut marking = None;
        loop {
            if carrying.is_none() {
                carrying = self.orders.next().map(|order| carry(connections.sink.clone(), order).boxed_local());
            }
            tokio::select! {
                message = connections.stream.next() => {
                    if self.take_messages(connections, message).is_none() {
                        return LinkError::Ended;
                    }
                }
                Some(wish) = self.wished.recv() => {
                    self.note(wish);
                    self.take_wishes();
                }
                Some(carried) = finished(&mut carrying) => match carried {
                    Ok(carried) => self.report(carried),
                    Err(error) => return error.into(),
                },
                Some(Err(error)) = finished(&mut marking) => {
                    if !is_answer(&error) && !error.is_timeout() {
                        return error.into();
                    }
                    // If it stays so, the missing markers end the connection.
                    log::warn!("Redis took no clock marker: {error}");
                }
                () = due(self.marks.due) => {
                    let head = self.clock.extra_marker();
                    let marked = self.publish_marker(head, connections.commands.clone());
                    // If it fails, the next marker does as well.
                    actix::spawn(async move { _ = marked.await });
                }
                _ = ticks.tick() => {
                    if self.clock.is_dead() {
                        return LinkError::Dead;
                    }
                    self.tell_lost();
                    marking = Some(self.mark(connections).boxed_local());
                }
            }
        }
    }

    /// Hands on all that has come, up to a turn's worth. `None` when the stream has ended.
    ///
    /// The crate's reader puts no bound to what waits here, so this must not be the slower of the two: it is exempt from the
    /// runtime's own turns, which end after 128 messages where the reader's end after as many reads of the socket.
    fn take_messages(&mut self, connections: &mut Connections, first: Option<Msg>) -> Option<()> {
        self.hand_on(&first?);
        for _ in 1..MESSAGES_PER_TURN {
            match unconstrained(connections.stream.next()).now_or_never() {
                Some(message) => self.hand_on(&message?),
                None => break,
            };
        }
        Some(())
    }

    /// To the bridge, or to the clock: then the answer is some round trip if the marker is ours.
    fn hand_on(&mut self, message: &Msg) -> Option<Duration> {
        let name = message.get_channel_name();
        if name == &*self.clock_channel {
            let text = std::str::from_utf8(message.get_payload_bytes()).ok()?;
            if let Some(marker) = self.clock.read(text) {
                // A marker that is missed is a loss like any other: the bridge would count on where others begin anew.
                self.is_whole = self.tell_torn() && self.bridge.try_send(marker).is_ok();
            }
            let round_trip = self.clock.see(text, Instant::now())?;
            self.metrics.clock_round_trip().set(round_trip.as_secs_f64());
            return Some(round_trip);
        }
        let channel = self.wanted.get(name).cloned().unwrap_or_else(|| Arc::from(name));
        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
        if !self.tell_torn() {
            self.metrics.mailbox_full("bridge");
            *self.lost.entry(channel).or_default() += 1;
        } else if let Err(SendError::Full(refused)) = self.bridge.try_send(Inbound { channel, payload }) {
            self.metrics.mailbox_full("bridge");
            self.is_whole = false;
            *self.lost.entry(refused.channel).or_default() += 1;
        }
        None
    }

    /// Where something was lost, the bridge is told in front of the next message. False if there is no place for it.
    fn tell_torn(&mut self) -> bool {
        if !self.is_whole {
            self.is_whole = self.bridge.try_send(Torn).is_ok();
        }
        self.is_whole
    }

    #[expect(clippy::disallowed_methods, reason = "once per second at most, and it must not be lost")]
    fn tell_lost(&mut self) {
        if !self.lost.is_empty() {
            let channels = std::mem::take(&mut self.lost).into_iter().collect();
            self.bridge.do_send(InboundLost { channels });
        }
    }

    fn mark(&mut self, connections: &Connections) -> impl Future<Output = Result<(), RedisError>> + use<> {
        let head = self.clock.next_marker(Instant::now());
        self.publish_marker(head, connections.commands.clone())
    }

    /// Every marker answers all that was asked for before it.
    fn publish_marker(
        &mut self,
        head: String,
        mut connection: MultiplexedConnection,
    ) -> impl Future<Output = Result<(), RedisError>> + use<> {
        let tail = clock::tail(self.marks.ticket, &std::mem::take(&mut self.marks.rooms));
        self.marks.due = None;
        let mut command = redis::cmd("EVAL");
        command.arg(clock::MARKER_SCRIPT).arg(0).arg(&*self.clock_channel).arg(head).arg(tail).arg(format!("{}:clock-ms", self.prefix));
        async move { command.query_async(&mut connection).await }
    }

    /// The key that signs ids: the first node's that came. Without a right to keep one, ids hold on this node alone.
    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    async fn share_key(&self, mut connection: MultiplexedConnection) {
        let name = format!("{}:id-key", self.prefix);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&name).arg(self.key.expose()).arg("NX").ignore().cmd("GET").arg(&name);
        let key = match pipeline.query_async::<(Vec<u8>,)>(&mut connection).await {
            Ok((key,)) => key.try_into().map_err(|_| format!("{name} is no key of 16 bytes")),
            Err(error) => Err(error.to_string()),
        };
        match key {
            Ok(key) => self.bridge.do_send(Keyed(ResumeKey::new(key))),
            Err(error) => log::warn!("ids to resume by hold on this node alone: {error}"),
        }
    }
}

/// Waits until then; forever without a time.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => future::pending().await,
    }
}

/// What a future came to that may not be there; it is gone then.
async fn finished<T>(slot: &mut Option<LocalBoxFuture<'static, T>>) -> Option<T> {
    let output = slot.as_mut()?.await;
    *slot = None;
    Some(output)
}

fn log_refusal(channel: &str, count: usize, error: &RedisError, logged: &mut Option<Instant>) {
    if logged.is_none_or(|then| then.elapsed() >= LOG_INTERVAL) {
        *logged = Some(Instant::now());
        log::warn!(
            "Redis refuses {count} channels such as {channel:?}: {error}; allow it in the ACL (docs/operations/redis.md), or remove its \
             [[source]]; not logged again for a minute"
        );
    }
}
