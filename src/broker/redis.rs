//! The link to Redis: one PubSub connection that listens and one multiplexed connection for commands, whatever the number of
//! clients and rooms. The only file that knows the `redis` crate.
//!
//! One task runs it, next to the bridge. It reads as fast as Redis sends and hands on within `mailbox.bridge`; it never waits
//! for a fan-out, because a reader that is late for 32 MB is cut off by Redis without a word.

mod archive;

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, Msg, RedisError, ServerErrorKind, TlsCertificates,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, sleep_until, timeout},
};

use self::archive::RedisArchive;
use super::{
    archive::Archive,
    backoff::Backoff,
    bridge::RedisBridge,
    clock::{self, Clock},
    link::{Confirmed, Inbound, InboundLost, Keyed, Link, LinkDown, LinkUp, Refused, Torn},
};
use crate::{
    actors::messages::BrokerError,
    config::BrokerUrl,
    metrics::Metrics,
    protocol::{
        resume::{ResumeKey, RoomHash},
        source::Standing,
    },
};

/// For connecting, and for each answer. A stopped Redis accepts connections and answers nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Channels in one SUBSCRIBE.
const CHANNELS_PER_COMMAND: usize = 512;
/// Messages handed on before the other work of the link has its turn.
const MESSAGES_PER_TURN: usize = 256;

/// Why there is no link.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("Redis does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the subscription is dead: the clock's markers do not come back")]
    Dead,
    #[error("Redis ended the subscription")]
    Ended,
    #[error("no sentinel knows a reachable master named {0:?}")]
    NoMaster(String),
}

impl LinkError {
    /// What an operator can do about it, where Redis' own words leave that open.
    fn advice(&self) -> &'static str {
        let Self::Redis(error) = self else { return "" };
        if error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS") || error.code() == Some("NOAUTH") {
            return "; check the user and password of broker.url (or REDIS_URL)";
        }
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                "; the ACL of this user lacks a right that the hub needs: see docs/operations/redis.md for the recipe"
            }
            _ => "",
        }
    }
}

/// What the bridge asks of the task.
enum Wish {
    Subscribe(Vec<Arc<str>>),
    Unsubscribe(Vec<Arc<str>>),
    Mark(u64, Vec<RoomHash>),
}

/// The bridge's end of the link.
pub struct RedisLink {
    /// Bounded by the rooms and users of this node: the registry asks once for each.
    wishes: mpsc::UnboundedSender<Wish>,
    /// The command connection, while there is one.
    commands: watch::Receiver<Option<MultiplexedConnection>>,
    prefix: String,
}

pub struct LinkParts {
    pub url: BrokerUrl,
    /// An extra root certificate for `rediss:`, PEM.
    pub tls_root: Option<Vec<u8>>,
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
        let clock_channel = Arc::from(format!("{}:clock", parts.prefix));
        let prefix = parts.prefix.clone();
        let task = Task {
            parts,
            clock_channel,
            wished,
            commands,
            wanted: HashSet::default(),
            lost: HashMap::default(),
            marks: Marks::default(),
            is_whole: true,
        };
        actix::spawn(task.run());
        Self { wishes, commands: command_connection, prefix }
    }

    fn wish(&self, wish: Wish) {
        // The task ends only with the process.
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
    matches!(error.kind(), ErrorKind::Server(_))
}

struct Task {
    parts: LinkParts,
    clock_channel: Arc<str>,
    wished: mpsc::UnboundedReceiver<Wish>,
    commands: watch::Sender<Option<MultiplexedConnection>>,
    /// All concrete channels that are to be subscribed, connected or not.
    wanted: HashSet<Arc<str>, RandomState>,
    /// Messages that the bridge's full mailbox refused, by channel.
    lost: HashMap<Arc<str>, u64, RandomState>,
    marks: Marks,
    /// The bridge has had every message since the last marker that it has had.
    is_whole: bool,
}

/// Markers out of turn that the bridge has asked for.
#[derive(Default)]
struct Marks {
    /// The last ticket that was asked for. The next marker carries it, out of turn or not.
    ticket: u64,
    rooms: Vec<RoomHash>,
    due: Option<Instant>,
}

/// One pair of connections, for as long as it lives.
struct Session {
    sink: PubSubSink,
    stream: PubSubStream,
    commands: MultiplexedConnection,
    clock: Clock,
    /// What is to be told to Redis, in order.
    orders: VecDeque<Order>,
}

enum Order {
    Subscribe(Vec<Arc<str>>),
    Unsubscribe(Vec<Arc<str>>),
}

/// What came of an order.
struct Carried {
    confirmed: Vec<Arc<str>>,
    refused: Vec<(Arc<str>, RedisError)>,
    failed: Option<RedisError>,
}

impl Task {
    #[expect(clippy::disallowed_methods, reason = "once per outage, and it must not be lost")]
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut last_error = String::new();
        loop {
            let error = match self.connect().await {
                Ok(session) => {
                    backoff.reset();
                    log::info!("subscribed to Redis with {} channels", self.wanted.len());
                    last_error.clear();
                    let error = self.serve(session).await;
                    self.commands.send_replace(None);
                    self.parts.bridge.do_send(LinkDown);
                    error
                }
                Err(error) => error,
            };
            let text = format!("Redis: {error}{}", error.advice());
            if text != last_error {
                log::warn!("{text}; trying again until it works");
                last_error = text;
            }
            sleep(backoff.pause()).await;
            if self.parts.bridge.connected() {
                continue;
            }
            return;
        }
    }

    /// Connects, proves the subscription by a marker that comes back, and subscribes to all that is wanted.
    async fn connect(&mut self) -> Result<Session, LinkError> {
        let client = timeout(PATIENCE, self.client()).await.map_err(|_| LinkError::Silent)??;
        let pubsub = timeout(PATIENCE, client.get_async_pubsub()).await.map_err(|_| LinkError::Silent)??;
        let options = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let connecting = client.get_multiplexed_async_connection_with_config(&options);
        let commands = timeout(PATIENCE, connecting).await.map_err(|_| LinkError::Silent)??;
        let (sink, stream) = pubsub.split();
        let clock = Clock::new(&self.parts.node, Instant::now());
        let mut session = Session { sink, stream, commands, clock, orders: VecDeque::new() };
        timeout(PATIENCE, self.listen_standing(&mut session)).await.map_err(|_| LinkError::Silent)??;
        timeout(PATIENCE, self.prove(&mut session)).await.map_err(|_| LinkError::Silent)??;
        timeout(PATIENCE, self.share_key(session.commands.clone())).await.map_err(|_| LinkError::Silent)?;
        self.subscribe_wanted(&mut session).await?;
        Ok(session)
    }

    async fn client(&self) -> Result<Client, LinkError> {
        match &self.parts.url {
            BrokerUrl::Redis(url) => Ok(self.open(url.expose())?),
            BrokerUrl::Sentinel(sentinel) => {
                for address in &sentinel.sentinels {
                    if let Some((host, port)) = self.ask_sentinel(address, &sentinel.master).await {
                        return Ok(self.open(sentinel.master_url(&host, port).expose())?);
                    }
                }
                Err(LinkError::NoMaster(sentinel.master.clone()))
            }
            BrokerUrl::Memory | BrokerUrl::Cluster(_) => unreachable!("the hub starts this link for one Redis only"),
        }
    }

    fn open(&self, url: &str) -> Result<Client, RedisError> {
        match &self.parts.tls_root {
            Some(root) if url.starts_with("rediss:") => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(root.clone()) };
                Client::build_with_tls(url, certificates)
            }
            _ => Client::open(url),
        }
    }

    async fn ask_sentinel(&self, address: &str, master: &str) -> Option<(String, u16)> {
        let client = self.open(address).ok()?;
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(master);
        question.query_async(&mut connection).await.ok()
    }

    async fn listen_standing(&self, session: &mut Session) -> Result<(), RedisError> {
        session.sink.subscribe(&*self.clock_channel).await?;
        for standing in &self.parts.standing {
            match standing {
                Standing::Channel(channel) => session.sink.subscribe(&**channel).await?,
                Standing::Pattern(pattern) => session.sink.psubscribe(&**pattern).await?,
            }
        }
        Ok(())
    }

    /// Sends a marker and waits to see it.
    async fn prove(&mut self, session: &mut Session) -> Result<(), LinkError> {
        let head = session.clock.next_marker(Instant::now());
        self.publish_marker(head, session.commands.clone()).await?;
        while let Some(message) = session.stream.next().await {
            if message.get_channel_name() == &*self.clock_channel && self.see_marker(session, &message) {
                return Ok(());
            }
        }
        Err(LinkError::Ended)
    }

    async fn subscribe_wanted(&mut self, session: &mut Session) -> Result<(), LinkError> {
        self.take_wishes(session);
        session.orders.clear();
        let wanted: Vec<Arc<str>> = self.wanted.iter().cloned().collect();
        for channels in wanted.chunks(CHANNELS_PER_COMMAND) {
            let carrying = carry(session.sink.clone(), Order::Subscribe(channels.to_vec()));
            let carried = timeout(PATIENCE, carrying).await.map_err(|_| LinkError::Silent)?;
            self.report(carried)?;
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn report(&mut self, carried: Carried) -> Result<(), RedisError> {
        if !carried.confirmed.is_empty() {
            self.parts.bridge.do_send(Confirmed { channels: carried.confirmed });
        }
        if let Some((channel, error)) = carried.refused.first() {
            log::warn!(
                "Redis refuses {} channels such as {channel:?}: {error}; allow the channel pattern in the ACL, or remove its [[source]]",
                carried.refused.len()
            );
        }
        for (channel, error) in carried.refused {
            self.wanted.remove(&channel);
            self.parts.bridge.do_send(Refused { channels: vec![channel], error: error.to_string() });
        }
        carried.failed.map_or(Ok(()), Err)
    }

    fn take_wishes(&mut self, session: &mut Session) {
        while let Ok(wish) = self.wished.try_recv() {
            self.note(wish, session);
        }
    }

    fn note(&mut self, wish: Wish, session: &mut Session) {
        match wish {
            Wish::Subscribe(channels) => {
                self.wanted.extend(channels.iter().cloned());
                match session.orders.back_mut() {
                    Some(Order::Subscribe(waiting)) if waiting.len() + channels.len() <= CHANNELS_PER_COMMAND => {
                        waiting.extend(channels);
                    }
                    _ => session.orders.push_back(Order::Subscribe(channels)),
                }
            }
            Wish::Mark(ticket, rooms) => {
                self.marks.ticket = self.marks.ticket.max(ticket);
                self.marks.rooms.extend(rooms);
                self.marks.due.get_or_insert_with(|| Instant::now() + clock::COALESCE);
            }
            Wish::Unsubscribe(channels) => {
                channels.iter().for_each(|channel| _ = self.wanted.remove(channel));
                session.orders.push_back(Order::Unsubscribe(channels));
            }
        }
    }

    /// Carries until something breaks; says what.
    #[expect(clippy::disallowed_methods, reason = "once per connection")]
    async fn serve(&mut self, mut session: Session) -> LinkError {
        self.commands.send_replace(Some(session.commands.clone()));
        self.parts.bridge.do_send(LinkUp);
        let mut ticks = interval(clock::INTERVAL);
        let mut carrying: LocalBoxFuture<'static, Carried> = future::pending().boxed_local();
        let mut is_carrying = false;
        let mut marking: LocalBoxFuture<'static, Result<(), RedisError>> = future::pending().boxed_local();
        loop {
            if !is_carrying && let Some(order) = session.orders.pop_front() {
                carrying = carry(session.sink.clone(), order).boxed_local();
                is_carrying = true;
            }
            tokio::select! {
                message = session.stream.next() => {
                    let Some(message) = message else { return LinkError::Ended };
                    if self.take_messages(&mut session, message).is_none() {
                        return LinkError::Ended;
                    }
                }
                Some(wish) = self.wished.recv() => {
                    self.note(wish, &mut session);
                    self.take_wishes(&mut session);
                }
                carried = &mut carrying => {
                    is_carrying = false;
                    carrying = future::pending().boxed_local();
                    if let Err(error) = self.report(carried) {
                        return error.into();
                    }
                }
                marked = &mut marking => {
                    marking = future::pending().boxed_local();
                    if let Err(error) = marked {
                        log::warn!("Redis took no clock marker: {error}{}", LinkError::Redis(error.clone()).advice());
                    }
                }
                () = due(self.marks.due) => {
                    let head = session.clock.extra_marker();
                    let marked = self.publish_marker(head, session.commands.clone());
                    // If it fails, the next marker does as well.
                    actix::spawn(async move { _ = marked.await });
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if session.clock.is_dead(now) {
                        return LinkError::Dead;
                    }
                    self.tell_lost();
                    let head = session.clock.next_marker(now);
                    marking = self.publish_marker(head, session.commands.clone()).boxed_local();
                }
            }
        }
    }

    /// Hands on what has come, up to a turn's worth. `None` when the stream has ended.
    fn take_messages(&mut self, session: &mut Session, first: Msg) -> Option<()> {
        self.hand_on(session, &first);
        for _ in 1..MESSAGES_PER_TURN {
            match session.stream.next().now_or_never() {
                Some(Some(message)) => self.hand_on(session, &message),
                Some(None) => return None,
                None => break,
            }
        }
        Some(())
    }

    fn hand_on(&mut self, session: &mut Session, message: &Msg) {
        let name = message.get_channel_name();
        if name == &*self.clock_channel {
            self.see_marker(session, message);
            return;
        }
        let channel = self.wanted.get(name).cloned().unwrap_or_else(|| Arc::from(name));
        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
        if !self.tell_torn() {
            *self.lost.entry(channel).or_default() += 1;
        } else if let Err(SendError::Full(refused)) = self.parts.bridge.try_send(Inbound { channel, payload }) {
            self.parts.metrics.mailbox_full("bridge");
            self.is_whole = false;
            *self.lost.entry(refused.channel).or_default() += 1;
        }
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
        command
            .arg(clock::MARKER_SCRIPT)
            .arg(0)
            .arg(&*self.clock_channel)
            .arg(head)
            .arg(tail)
            .arg(format!("{}:clock-ms", self.parts.prefix));
        async move { command.query_async(&mut connection).await }
    }

    /// The key that signs ids: the first node's that came. Without a right to keep one, ids hold on this node alone.
    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    async fn share_key(&self, mut connection: MultiplexedConnection) {
        let name = format!("{}:id-key", self.parts.prefix);
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&name).arg(self.parts.key.expose()).arg("NX").ignore().cmd("GET").arg(&name);
        let key = match pipeline.query_async::<(Vec<u8>,)>(&mut connection).await {
            Ok((key,)) => key.try_into().map_err(|_| format!("{name} is no key of 16 bytes")),
            Err(error) => Err(error.to_string()),
        };
        match key {
            Ok(key) => self.parts.bridge.do_send(Keyed(ResumeKey::new(key))),
            Err(error) => log::warn!("ids to resume by hold on this node alone: {error}"),
        }
    }

    /// True if the marker is ours.
    fn see_marker(&mut self, session: &mut Session, message: &Msg) -> bool {
        let Ok(marker) = std::str::from_utf8(message.get_payload_bytes()) else { return false };
        if let Some(marker) = session.clock.read(marker) {
            // A marker that is missed is a loss like any other: the bridge would count on where others begin anew.
            self.is_whole = self.tell_torn() && self.parts.bridge.try_send(marker).is_ok();
        }
        let round_trip = session.clock.see(marker, Instant::now());
        if let Some(round_trip) = round_trip {
            self.parts.metrics.clock_round_trip().set(round_trip.as_secs_f64());
        }
        round_trip.is_some()
    }

    /// Where something was lost, the bridge is told in front of the next message. False if there is no place for it.
    fn tell_torn(&mut self) -> bool {
        if !self.is_whole {
            self.is_whole = self.parts.bridge.try_send(Torn).is_ok();
        }
        self.is_whole
    }

    #[expect(clippy::disallowed_methods, reason = "once per second at most, and it must not be lost")]
    fn tell_lost(&mut self) {
        if !self.lost.is_empty() {
            let channels = std::mem::take(&mut self.lost).into_iter().collect();
            self.parts.bridge.do_send(InboundLost { channels });
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

/// Tells Redis. An ACL judges a command as a whole, so a refused one is tried again channel by channel.
async fn carry(mut sink: PubSubSink, order: Order) -> Carried {
    let mut carried = Carried { confirmed: Vec::new(), refused: Vec::new(), failed: None };
    match order {
        Order::Unsubscribe(channels) => carried.failed = sink.unsubscribe(names(&channels)).await.err(),
        Order::Subscribe(channels) => match sink.subscribe(names(&channels)).await {
            Ok(()) => carried.confirmed = channels,
            Err(error) if is_answer(&error) => {
                for channel in channels {
                    match sink.subscribe(&*channel).await {
                        Ok(()) => carried.confirmed.push(channel),
                        Err(error) if is_answer(&error) => carried.refused.push((channel, error)),
                        Err(error) => {
                            carried.failed = Some(error);
                            return carried;
                        }
                    }
                }
            }
            Err(error) => carried.failed = Some(error),
        },
    }
    carried
}

fn names(channels: &[Arc<str>]) -> Vec<&str> {
    channels.iter().map(|channel| &**channel).collect()
}
