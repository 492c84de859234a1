//! What the tests share: sockets that are hard to fill, outboxes that can be looked into, a bridge that does as it is told.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, ResponseFuture, WeakRecipient};
use bytes::Bytes;
use callboard::{
    actors::{
        Outbox, RoomRegistry,
        attendance::Attendance,
        messages::{
            BrokerError, Connect, Deliver, Feed, Greeting, Join, Publish, Published, Reconfigure, Refusal, Replay, Replayed, Subscribe,
            TellNodes, Unsubscribe,
        },
        outbox::{Notice, OutboxLimits},
        receipt::Receipt,
        registry::{Bridge, RegistryParts},
        socket::Socket,
        worker::Worker,
    },
    auth::Identity,
    config::Config,
    lifeline::Lifeline,
    metrics::{DropReason, Metrics},
    protocol::{
        Argument, ConnectionId, Encoding, Event, EventName, Position, Publication, Reply, RoomName, Target, UserName,
        gossip::NodeChannel,
        resume::{Point, ResumeKey},
        wire::WireName,
    },
};
use futures_util::FutureExt;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, UnixStream},
    sync::oneshot,
    time::{Instant, timeout},
};

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;

// ---- names and events -------------------------------------------------------------------------------------------------------

pub fn room(name: &str) -> RoomName {
    RoomName::parse(name).expect("a room's name")
}

pub fn user(name: &str) -> UserName {
    UserName::parse(name).expect("a user's name")
}

pub fn id(number: u32) -> ConnectionId {
    ConnectionId::new(1, number)
}

pub fn event(name: &str, data: &Value) -> Event {
    Event::new(EventName::parse(name).expect("an event's name"), [Argument::from_value(data)])
}

pub fn publication(target: impl Into<Target>, data: impl Into<Value>) -> Publication {
    Publication::new(target.into(), Arc::new(event("e", &data.into())))
}

pub fn deliver(publication: Publication) -> Deliver {
    Deliver { publication: Arc::new(publication), received: Instant::now(), receipt: None }
}

pub fn deliver_with_receipt(publication: Publication) -> (Deliver, oneshot::Receiver<usize>) {
    let (receipt, told) = Receipt::new();
    (Deliver { receipt: Some(receipt), ..deliver(publication) }, told)
}

// ---- outboxes ---------------------------------------------------------------------------------------------------------------

pub fn outbox(events: usize, wire: WireName, metrics: &Metrics) -> Arc<Outbox> {
    Arc::new(Outbox::new(OutboxLimits { events, bytes: 16 << 20 }, wire, metrics.clone()))
}

/// What waits, as a response body would take it.
pub fn drain(outbox: &Outbox) -> Vec<u8> {
    let mut cx = TaskContext::from_waker(Waker::noop());
    let mut bytes = Vec::new();
    while let Poll::Ready(Some(chunk)) = outbox.poll_chunk(&mut cx) {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// The WebSocket messages that wait.
pub fn drain_json(outbox: &Outbox) -> Vec<Value> {
    let mut bytes = drain(outbox);
    let mut messages = Vec::new();
    while let Some((opcode, payload)) = take_frame(&mut bytes) {
        assert_eq!(opcode, TEXT);
        messages.push(serde_json::from_slice(&payload).expect("JSON"));
    }
    assert!(bytes.is_empty(), "a torn frame: {bytes:?}");
    messages
}

/// The data of the events that wait, in order.
pub fn drain_data(outbox: &Outbox) -> Vec<Value> {
    data_of(drain_json(outbox))
}

pub fn data_of(messages: Vec<Value>) -> Vec<Value> {
    messages.into_iter().filter(|message| message["type"] == "event").map(|message| message["data"].clone()).collect()
}

pub fn dropped(metrics: &Metrics) -> u64 {
    DropReason::ALL.into_iter().map(|reason| metrics.dropped(reason).get()).sum()
}

pub fn delivered(metrics: &Metrics) -> u64 {
    WireName::ALL.into_iter().map(|wire| metrics.delivered(wire).get()).sum()
}

// ---- sockets ----------------------------------------------------------------------------------------------------------------

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// The client's end of a connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

/// Two ends of a connection that holds as little as the kernel allows. Not of TCP, whose timers run on the kernel's clock: what
/// they delay would never come while ours is paused.
pub fn pair() -> (Socket, Peer) {
    let (hub, client) = UnixStream::pair().expect("two sockets");
    SockRef::from(&hub).set_send_buffer_size(1).expect("a send buffer");
    (Socket::Unix(hub), Peer { stream: Box::new(client), unread: Vec::new() })
}

/// The same over TCP, for where the clock runs.
pub async fn tcp_pair() -> (Socket, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let client = TcpSocket::new_v4().expect("a socket");
    client.set_recv_buffer_size(1).expect("a receive buffer");
    let stream = client.connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("its other end");
    SockRef::from(&accepted).set_send_buffer_size(1).expect("a send buffer");
    // A socket new to tokio's reactor takes nothing before the reactor has run once.
    accepted.writable().await.expect("an open socket");
    (Socket::Tcp(accepted), Peer { stream: Box::new(stream), unread: Vec::new() })
}

impl Peer {
    /// The next frame; `None` when the hub has ended the connection.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.unread) {
                return Some(frame);
            }
            if patiently(self.stream.read_buf(&mut self.unread)).await.expect("no reset") == 0 {
                assert!(self.unread.is_empty(), "a torn frame: {} bytes", self.unread.len());
                return None;
            }
        }
    }

    pub async fn json(&mut self) -> Value {
        let (opcode, payload) = self.frame().await.expect("a message");
        assert_eq!(opcode, TEXT, "{payload:?}");
        serde_json::from_slice(&payload).expect("JSON")
    }

    /// The code of the close frame that comes next, after which the connection ends.
    pub async fn close_code(&mut self) -> u16 {
        let (opcode, payload) = self.frame().await.expect("a close frame");
        assert_eq!(opcode, CLOSE, "{}", String::from_utf8_lossy(&payload));
        assert_eq!(self.frame().await, None, "nothing follows a close frame");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Closes the client's end, without a word.
    pub fn hang_up(&mut self) {
        self.stream = Box::new(tokio::io::empty());
    }

    /// What can be read at once; says how much that was.
    pub async fn read_available(&mut self) -> usize {
        let mut buffer = vec![0; 64 << 10];
        let mut total = 0;
        while let Some(Ok(count)) = self.stream.read(&mut buffer).now_or_never() {
            total += count;
        }
        total
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.unread);
        patiently(self.stream.read_to_end(&mut bytes)).await.expect("no reset");
        bytes
    }

    pub async fn say(&mut self, message: Value) {
        self.send_frame(TEXT, message.to_string().as_bytes()).await;
    }

    /// As browsers send: masked, here with zeros.
    pub async fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("a short frame");
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.expect("an open socket");
    }
}

/// Takes one whole unmasked frame from the front.
fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let opcode = bytes[0] & 0x0f;
    bytes.drain(..start + length);
    Some((opcode, payload))
}

/// Fails where a test would hang. Under a paused clock the wait costs nothing.
pub async fn patiently<T>(waited: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(600), waited).await.expect("it comes within ten minutes")
}

/// Lets paused time go by.
pub async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Lets everything that is ready run. Nothing here takes more than a few turns of the scheduler.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

// ---- the bridge -------------------------------------------------------------------------------------------------------------

/// What the bridge answers to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    Yes,
    No,
    /// When it is told to.
    Later,
}

#[derive(Default)]
pub struct Seen {
    pub subscribed: usize,
    pub feeds: HashMap<Target, Feed>,
    /// All groups that ever were.
    pub groups: Vec<WeakRecipient<Deliver>>,
    pub unsubscribed: Vec<Target>,
    pub published: Vec<Target>,
    /// What the other nodes were told.
    pub told_nodes: Vec<(NodeChannel, Value)>,
    /// Whether replays are answered when the test says so; else nothing was missed, and the room stands at its first marker.
    pub holds_replays: bool,
    pub replays: Vec<oneshot::Sender<Replayed>>,
    waiting: Vec<oneshot::Sender<Result<(), BrokerError>>>,
}

pub struct ProbeBridge {
    answering: Rc<RefCell<Answering>>,
    seen: Rc<RefCell<Seen>>,
}

impl Actor for ProbeBridge {
    type Context = Context<Self>;
}

impl Handler<Subscribe> for ProbeBridge {
    type Result = ResponseFuture<Result<(), BrokerError>>;

    fn handle(&mut self, order: Subscribe, _: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        let mut seen = self.seen.borrow_mut();
        seen.subscribed += 1;
        seen.groups.push(order.feed.deliver_to.downgrade());
        seen.feeds.insert(order.target, order.feed);
        match *self.answering.borrow() {
            Answering::Yes => answer.send(Ok(())).expect("a listener"),
            Answering::No => answer.send(Err(refused())).expect("a listener"),
            Answering::Later => seen.waiting.push(answer),
        }
        Box::pin(async move { answered.await.unwrap_or(Err(BrokerError::Unavailable)) })
    }
}

impl Handler<Unsubscribe> for ProbeBridge {
    type Result = ();

    fn handle(&mut self, order: Unsubscribe, _: &mut Context<Self>) {
        let mut seen = self.seen.borrow_mut();
        seen.feeds.remove(&order.target);
        seen.unsubscribed.push(order.target);
    }
}

impl Handler<Publish> for ProbeBridge {
    type Result = Result<Published, BrokerError>;

    fn handle(&mut self, order: Publish, _: &mut Context<Self>) -> Self::Result {
        self.seen.borrow_mut().published.extend(order.targets);
        Ok(Published { id: "p1".into(), delivered: 1 })
    }
}

impl Handler<TellNodes> for ProbeBridge {
    type Result = Result<(), BrokerError>;

    fn handle(&mut self, order: TellNodes, _: &mut Context<Self>) -> Self::Result {
        if *self.answering.borrow() == Answering::No {
            return Err(BrokerError::Unavailable);
        }
        let payload = serde_json::from_slice(&order.payload).expect("JSON");
        self.seen.borrow_mut().told_nodes.push((order.channel, payload));
        Ok(())
    }
}

/// What signs the ids of rooms with history.
pub const KEY: ResumeKey = ResumeKey::new([0; 16]);

impl Handler<Replay> for ProbeBridge {
    type Result = ResponseFuture<Replayed>;

    fn handle(&mut self, Replay { room, .. }: Replay, _: &mut Context<Self>) -> Self::Result {
        let mut seen = self.seen.borrow_mut();
        if !seen.holds_replays {
            let here = Point { room: KEY.room(&room), position: Position { marker_ms: 1, count: 0 }, key: KEY };
            return Box::pin(async move { Replayed { after: Some(here), from: Some(here), ..Replayed::default() } });
        }
        let (answer, answered) = oneshot::channel();
        seen.replays.push(answer);
        Box::pin(async move { answered.await.unwrap_or_default() })
    }
}

impl Handler<Reconfigure> for ProbeBridge {
    type Result = ();

    fn handle(&mut self, _: Reconfigure, _: &mut Context<Self>) {}
}

pub fn refused() -> BrokerError {
    BrokerError::Refused("NOPERM".into())
}

// ---- a hub without ends -----------------------------------------------------------------------------------------------------

/// A registry and the bridge that it talks to.
pub struct House {
    pub registry: Addr<RoomRegistry>,
    pub metrics: Metrics,
    answering: Rc<RefCell<Answering>>,
    pub seen: Rc<RefCell<Seen>>,
}

/// Somebody whom the registry knows as a connection.
pub struct Guest {
    pub id: ConnectionId,
    pub outbox: Arc<Outbox>,
}

impl Guest {
    /// What it has been told since it was last asked.
    pub fn told(&self) -> Vec<Reply> {
        let notices = std::iter::from_fn(|| self.outbox.take_notice());
        notices.filter_map(|notice| if let Notice::Told(reply) = notice { Some(reply) } else { None }).collect()
    }
}

impl House {
    pub fn new(config: Config) -> Self {
        Self::with_lifeline(config, None)
    }

    pub fn with_lifeline(config: Config, lifeline: Option<Lifeline>) -> Self {
        let (answering, seen) = (Rc::new(RefCell::new(Answering::Yes)), Rc::<RefCell<Seen>>::default());
        let bridge = ProbeBridge { answering: Rc::clone(&answering), seen: Rc::clone(&seen) }.start();
        let metrics = Metrics::new();
        let parts = RegistryParts {
            config: Arc::new(config),
            bridge: Bridge {
                subscribe: bridge.clone().recipient(),
                unsubscribe: bridge.clone().recipient(),
                publish: bridge.clone().recipient(),
                tell_nodes: bridge.clone().recipient(),
                replay: bridge.clone().recipient(),
                reconfigure: bridge.recipient(),
            },
            node: 1,
            metrics: metrics.clone(),
            lifeline,
            attendance: Attendance::default(),
        };
        Self { registry: RoomRegistry::new(parts).start(), metrics, answering, seen }
    }

    pub fn answer(&self, answering: Answering) {
        *self.answering.borrow_mut() = answering;
    }

    /// Those who wait for an answer to a subscription.
    pub fn take_waiting(&self) -> Vec<oneshot::Sender<Result<(), BrokerError>>> {
        std::mem::take(&mut self.seen.borrow_mut().waiting)
    }

    /// Answers all subscriptions that wait.
    pub async fn answer_waiting(&self, answer: Result<(), BrokerError>) {
        self.take_waiting().into_iter().for_each(|waiting| _ = waiting.send(answer.clone()));
        settle().await;
    }

    pub fn feed(&self, target: impl Into<Target>) -> Feed {
        self.seen.borrow().feeds[&target.into()].clone()
    }

    /// Groups that still run.
    pub fn groups(&self) -> usize {
        self.seen.borrow().groups.iter().filter(|group| group.upgrade().is_some_and(|group| group.connected())).count()
    }

    pub fn unsubscribed(&self) -> usize {
        self.seen.borrow().unsubscribed.len()
    }

    pub fn subscribed(&self) -> usize {
        self.seen.borrow().subscribed
    }

    pub async fn connect(&self, number: u32, identity: Identity) -> Guest {
        let (guest, connect) = self.guest(number, identity, Worker::current());
        self.registry.send(connect).await.expect("a registry").expect("a welcome");
        guest
    }

    pub fn guest(&self, number: u32, identity: Identity, worker: Arc<Worker>) -> (Guest, Connect) {
        let guest = Guest { id: id(number), outbox: outbox(256, WireName::WebSocket, &self.metrics) };
        let (identity, outbox) = (Arc::new(identity), Arc::clone(&guest.outbox));
        let connect = Connect { connection: guest.id, identity, outbox, user_encoding: Some(Encoding::WebSocket), summon: None, worker };
        (guest, connect)
    }

    /// The answer to a join, whose greeting is the JSON text of the room's name.
    pub async fn join(&self, guest: &Guest, name: &str) -> Result<(), Refusal> {
        self.registry.send(joining(guest, name)).await.expect("a registry")
    }
}

pub fn joining(guest: &Guest, name: &str) -> Join {
    let greeting = Some(Greeting { room: room(name), reference: Default::default() });
    Join { connection: guest.id, room: room(name), encoding: Encoding::WebSocket, since: None, greeting, is_granted: false }
}

pub fn joined(name: &str) -> Value {
    json!({"type": "joined", "room": name})
}

pub fn named(name: &str) -> Identity {
    Identity { user: Some(user(name)), ..Identity::anonymous() }
}

pub fn config(toml: &str) -> Config {
    Config::read(Some((std::path::Path::new("test.toml"), toml)), std::iter::empty()).expect("a configuration")
}

pub fn frame(text: &str) -> Bytes {
    callboard::protocol::websocket::text(text)
}
