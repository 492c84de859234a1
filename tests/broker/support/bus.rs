//! A bus as the registry sees it, on either broker.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{Actor, Addr, Context, Handler};
use bytes::Bytes;
use callboard::{
    actors::{
        attendance::Attendance,
        messages::{
            AccountForMissed, BridgeDown, BridgeRestored, BridgeUp, BrokerError, Deliver, Feed, NodeSaid, Publish, Published, Revoked,
            Steer, Subscribe, Unsubscribe,
        },
    },
    broker::{
        bridge::{BridgeParts, RedisBridge, Reports},
        memory::MemoryBus,
        redis::{Connector, LinkParts, Place, RedisLink},
        resp::Sink,
    },
    config::{BrokerUrl, Config},
    lifeline::Readiness,
    metrics::Metrics,
    protocol::{
        Argument, Event, EventName, Publication, RoomName, Target, UserName,
        dialect::{Dialect, Options},
        resume::ResumeKey,
        source::{Source, Sources},
    },
};
use redis::aio::MultiplexedConnection;
use tokio::{sync::mpsc, time::timeout};

use super::{PATIENCE, Redis, eventually, logs};

const KEY: ResumeKey = ResumeKey::new([1; 16]);

pub fn room(name: &str) -> Target {
    Target::Room(RoomName::parse(name).unwrap())
}

pub fn user(name: &str) -> Target {
    Target::User(UserName::parse(name).unwrap())
}

/// An event with one text for its data.
pub fn event(name: &str, data: &str) -> Event {
    Event::new(EventName::parse(name).unwrap(), [Argument::from_value(&data.into())])
}

pub fn source(channel: &str, dialect: Dialect, room: Option<&str>) -> Source {
    Source::new(channel, dialect, Options::default(), room.map(|name| RoomName::parse(name).unwrap())).unwrap()
}

/// What a test may want otherwise.
#[derive(Clone)]
pub struct Setup {
    pub sources: Vec<Source>,
    pub mailbox: usize,
    pub tls_root: Option<Vec<u8>>,
    /// The text of a config.toml.
    pub config: &'static str,
    /// The node's name on the clock.
    pub node: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        let sources = vec![
            source("callboard:room:{room}", Dialect::Callboard, None),
            source("callboard:user:{user}", Dialect::Callboard, None),
            source("sse", Dialect::DjangoSse, Some("sse")),
            source("sse_{user}", Dialect::DjangoSse, None),
            source("socketio_{room}", Dialect::GeventSocketio, None),
        ];
        Self { sources, mailbox: 65_536, tls_root: None, config: "", node: "00000001" }
    }
}

/// Which broker.
#[derive(Debug, Clone, Copy)]
pub enum Fixture {
    Memory,
    Redis,
}

impl Fixture {
    /// A bus that is up.
    pub async fn start(self, setup: Setup) -> Bus {
        match self {
            Self::Memory => Bus::on_memory(setup),
            Self::Redis => {
                let redis = Redis::start(&[]).await;
                let mut bus = Bus::on_url(&redis.url(), setup);
                bus.wait_until_up().await;
                bus.publisher = Publisher::Redis(redis.connect().await);
                bus.redis = Some(redis);
                bus
            }
        }
    }
}

pub struct Bus {
    pub bridge: Addr<RedisBridge>,
    pub readiness: Arc<Readiness>,
    pub metrics: Metrics,
    pub restored: mpsc::UnboundedReceiver<Vec<Target>>,
    pub publisher: Publisher,
    redis: Option<Redis>,
}

/// Some program that publishes.
#[derive(Clone)]
pub enum Publisher {
    Nobody,
    Memory(MemoryBus),
    Redis(MultiplexedConnection),
}

impl Publisher {
    pub async fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) {
        assert!(self.try_publish(channel, payload).await, "the publisher's connection is gone");
    }

    /// False if the broker is gone.
    pub async fn try_publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> bool {
        match self {
            Self::Nobody => panic!("this bus has no publisher"),
            Self::Memory(bus) => bus.publish(channel, Bytes::copy_from_slice(payload.as_ref())).await.is_ok(),
            Self::Redis(connection) => {
                let mut command = redis::cmd("PUBLISH");
                command.arg(channel).arg(payload.as_ref());
                command.query_async::<()>(&mut connection.clone()).await.is_ok()
            }
        }
    }
}

impl Bus {
    fn on_memory(setup: Setup) -> Self {
        let mut publisher = Publisher::Nobody;
        let standing = Sources::new(setup.sources.clone()).unwrap().standing();
        let bus = Self::start(setup, |bridge, actor, _| {
            let memory = MemoryBus::new(bridge, standing, 4096);
            actor.attach(Box::new(memory.link()));
            publisher = Publisher::Memory(memory);
        });
        Self { publisher, ..bus }
    }

    /// On a Redis that may not be there.
    pub fn on_url(url: &str, setup: Setup) -> Self {
        let standing = Sources::new(setup.sources.clone()).unwrap().standing();
        let connector = Connector::new(BrokerUrl::parse(url).unwrap(), setup.tls_root.clone()).unwrap();
        let node = setup.node;
        Self::start(setup, |bridge, actor, metrics| {
            actor.attach(Box::new(RedisLink::start(LinkParts {
                place: Place::One(connector),
                prefix: "callboard".into(),
                standing,
                node: node.into(),
                key: KEY,
                bridge,
                metrics,
            })));
        })
    }

    fn start(setup: Setup, attach: impl FnOnce(Addr<RedisBridge>, &mut RedisBridge, Metrics)) -> Self {
        logs::remember();
        let (restored_to, restored) = mpsc::unbounded_channel();
        let reports = ReportLog { restored: restored_to }.start();
        let (readiness, metrics) = (Arc::new(Readiness::default()), Metrics::new());
        let parts = BridgeParts {
            config: Arc::new(Config::read(Some((Path::new("test.toml"), setup.config)), std::iter::empty()).unwrap()),
            sources: Sources::new(setup.sources).unwrap(),
            key: KEY,
            prefix: "callboard".into(),
            mailbox: setup.mailbox,
            reports: Reports {
                restored: reports.clone().recipient(),
                revoked: reports.clone().recipient(),
                up: reports.clone().recipient(),
                down: reports.clone().recipient(),
                node_said: reports.clone().recipient(),
                steer: reports.recipient(),
            },
            readiness: Arc::clone(&readiness),
            metrics: metrics.clone(),
            lifeline: None,
            attendance: Attendance::default(),
        };
        let bridge = RedisBridge::create(|ctx| {
            let mut bridge = RedisBridge::new(parts);
            attach(actix::AsyncContext::address(ctx), &mut bridge, metrics.clone());
            bridge
        });
        Self { bridge, readiness, metrics, restored, publisher: Publisher::Nobody, redis: None }
    }

    /// The Redis of [`Fixture::Redis`].
    pub fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("this bus is on Redis")
    }

    pub fn is_up(&self) -> bool {
        self.readiness.is_broker_up()
    }

    pub async fn wait_until_up(&self) {
        eventually("the link is up", async || self.is_up()).await;
    }

    pub async fn wait_until_down(&self) {
        eventually("the link is down", async || !self.is_up()).await;
    }

    pub async fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) {
        self.publisher.publish(channel, payload).await;
    }

    /// Publishes as the registry or the door does.
    pub async fn send(&self, targets: &[Target], event: Event) -> Result<Published, BrokerError> {
        let order = Publish { targets: targets.iter().cloned().collect(), event, except: Vec::new(), idempotency_key: None };
        self.bridge.send(order).await.unwrap()
    }

    /// A listener of the first worker, subscribed.
    pub async fn join(&self, target: Target) -> Listener {
        let listener = Listener::new(target);
        listener.subscribe(self).await.unwrap();
        listener
    }

    pub async fn leave(&self, listener: &Listener) {
        self.bridge.send(Unsubscribe { target: listener.target.clone(), worker: listener.feed.worker }).await.unwrap();
    }

    /// All that was published before on the bus has come down when this returns.
    pub async fn settle(&self) {
        let mut fence = self.join(room("fence")).await;
        self.publish("callboard:room:fence", r#"{"event":"fence"}"#).await;
        fence.next().await;
        self.leave(&fence).await;
    }

    /// The value of a sample, 0 where there is none.
    pub fn metric(&self, sample: &str) -> u64 {
        let text = self.metrics.render();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }
}

struct ReportLog {
    restored: mpsc::UnboundedSender<Vec<Target>>,
}

impl Actor for ReportLog {
    type Context = Context<Self>;
}

impl Handler<Revoked> for ReportLog {
    type Result = ();

    fn handle(&mut self, _: Revoked, _: &mut Self::Context) {}
}

impl Handler<BridgeRestored> for ReportLog {
    type Result = ();

    fn handle(&mut self, BridgeRestored { mut targets }: BridgeRestored, _: &mut Self::Context) {
        targets.sort();
        let _ = self.restored.send(targets);
    }
}

/// What nodes say to each other is heard elsewhere.
impl Handler<BridgeUp> for ReportLog {
    type Result = ();

    fn handle(&mut self, BridgeUp: BridgeUp, _: &mut Self::Context) {}
}

impl Handler<BridgeDown> for ReportLog {
    type Result = ();

    fn handle(&mut self, BridgeDown: BridgeDown, _: &mut Self::Context) {}
}

impl Handler<Steer> for ReportLog {
    type Result = ();
    fn handle(&mut self, _: Steer, _: &mut Context<Self>) {}
}

impl Handler<NodeSaid> for ReportLog {
    type Result = ();

    fn handle(&mut self, _: NodeSaid, _: &mut Self::Context) {}
}

/// Stands in for the group of a room or user on one worker.
pub struct Listener {
    pub target: Target,
    pub feed: Feed,
    came: mpsc::UnboundedReceiver<Arc<Publication>>,
}

impl Listener {
    pub fn new(target: Target) -> Self {
        Self::with(target, 0, 0, 65_536)
    }

    pub fn with(target: Target, worker: usize, members: usize, mailbox: usize) -> Self {
        let (tell, came) = mpsc::unbounded_channel();
        let group = Group { tell, members, mailbox }.start();
        let feed = Feed { worker, deliver_to: group.clone().recipient(), missed: Arc::default(), account_to: group.recipient() };
        Self { target, feed, came }
    }

    /// What subscribes it.
    pub fn order(&self) -> Subscribe {
        Subscribe { target: self.target.clone(), feed: self.feed.clone() }
    }

    pub async fn subscribe(&self, bus: &Bus) -> Result<(), BrokerError> {
        bus.bridge.send(self.order()).await.unwrap()
    }

    pub async fn next(&mut self) -> Arc<Publication> {
        timeout(PATIENCE, self.came.recv()).await.unwrap_or_else(|_| panic!("nothing came for {:?}", self.target)).unwrap()
    }

    /// Name and first argument of the next.
    pub async fn next_event(&mut self) -> (String, String) {
        said(&*self.next().await)
    }

    /// What has come so far.
    pub fn so_far(&mut self) -> Vec<(String, String)> {
        self.come().iter().map(|publication| said(publication)).collect()
    }

    /// The publications that have come since the last look.
    pub fn come(&mut self) -> Vec<Arc<Publication>> {
        std::iter::from_fn(|| self.came.try_recv().ok()).collect()
    }

    pub fn missed(&self) -> u64 {
        AtomicU64::load(&self.feed.missed, Ordering::Acquire)
    }
}

fn said(publication: &Publication) -> (String, String) {
    let data = publication.event.json_arguments().first().map_or_else(String::new, ToString::to_string);
    (publication.event.name.to_string(), data)
}

struct Group {
    tell: mpsc::UnboundedSender<Arc<Publication>>,
    members: usize,
    mailbox: usize,
}

impl Actor for Group {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.mailbox);
    }
}

impl Handler<Deliver> for Group {
    type Result = ();

    fn handle(&mut self, Deliver { publication, receipt, .. }: Deliver, _: &mut Self::Context) {
        if let Some(receipt) = receipt {
            receipt.add(self.members);
        }
        let _ = self.tell.send(publication);
    }
}

impl Handler<AccountForMissed> for Group {
    type Result = ();

    /// Leaves the count for the test to look at.
    fn handle(&mut self, AccountForMissed: AccountForMissed, _: &mut Self::Context) {}
}
