//! What nodes say to each other: two bridges on one real Redis, and the embedded broker, which says it back.

use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler};
use bytes::Bytes;
use callboard::{
    actors::{
        attendance::Attendance,
        messages::{BridgeDown, BridgeRestored, BridgeUp, BrokerError, NodeSaid, Revoked, Steer, TellNodes},
    },
    broker::{
        bridge::{BridgeParts, RedisBridge, Reports, nodes},
        link::Link,
        memory::MemoryBus,
        redis::{Connector, LinkParts, Place, RedisLink},
    },
    config::{BrokerUrl, Config},
    metrics::Metrics,
    protocol::{gossip::NodeChannel, resume::ResumeKey, source::Sources},
};
use tokio::{sync::mpsc, time::timeout};

use super::support::{PATIENCE, Redis};

const PREFIX: &str = "callboard";
const KEY: ResumeKey = ResumeKey::new([1; 16]);

/// What a registry would hear.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Up,
    Said(NodeChannel, Bytes),
}

struct Ear(mpsc::UnboundedSender<Heard>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<BridgeUp> for Ear {
    type Result = ();

    fn handle(&mut self, BridgeUp: BridgeUp, _: &mut Context<Self>) {
        self.0.send(Heard::Up).expect("a listener");
    }
}

impl Handler<BridgeDown> for Ear {
    type Result = ();

    fn handle(&mut self, BridgeDown: BridgeDown, _: &mut Context<Self>) {}
}

impl Handler<Steer> for Ear {
    type Result = ();
    fn handle(&mut self, _: Steer, _: &mut Context<Self>) {}
}

impl Handler<NodeSaid> for Ear {
    type Result = ();

    fn handle(&mut self, NodeSaid { channel, payload }: NodeSaid, _: &mut Context<Self>) {
        self.0.send(Heard::Said(channel, payload)).expect("a listener");
    }
}

impl Handler<Revoked> for Ear {
    type Result = ();

    fn handle(&mut self, _: Revoked, _: &mut Context<Self>) {}
}

impl Handler<BridgeRestored> for Ear {
    type Result = ();

    fn handle(&mut self, _: BridgeRestored, _: &mut Context<Self>) {}
}

struct Node {
    bridge: Addr<RedisBridge>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Node {
    fn start(link: impl FnOnce(Addr<RedisBridge>) -> Box<dyn Link> + 'static) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let ear = Ear(sender).start();
        let reports = Reports {
            restored: ear.clone().recipient(),
            revoked: ear.clone().recipient(),
            up: ear.clone().recipient(),
            down: ear.clone().recipient(),
            node_said: ear.clone().recipient(),
            steer: ear.recipient(),
        };
        let parts = BridgeParts {
            config: Arc::new(Config::default()),
            key: KEY,
            sources: Sources::new(Vec::new()).expect("no sources"),
            prefix: PREFIX.into(),
            mailbox: 1024,
            reports,
            readiness: Arc::default(),
            metrics: Metrics::new(),
            lifeline: None,
            attendance: Attendance::default(),
        };
        let bridge = RedisBridge::create(|ctx| {
            let mut bridge = RedisBridge::new(parts);
            bridge.attach(link(ctx.address()));
            bridge
        });
        Self { bridge, heard }
    }

    fn on_redis(redis: &Redis, name: &str) -> Self {
        let (url, node) = (redis.url(), name.to_owned());
        Self::start(move |bridge| {
            Box::new(RedisLink::start(LinkParts {
                place: Place::One(Connector::new(BrokerUrl::parse(&url).expect("a URL"), None).expect("an address")),
                prefix: PREFIX.into(),
                standing: nodes::standing(PREFIX).collect(),
                node,
                key: KEY,
                bridge,
                metrics: Metrics::new(),
            }))
        })
    }

    async fn hear(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("it comes in time").expect("a bridge")
    }

    async fn tell(&self, channel: NodeChannel, payload: &'static str) -> Result<(), BrokerError> {
        self.bridge.send(TellNodes { channel, payload: payload.into() }).await.expect("a bridge")
    }
}

fn said(channel: NodeChannel, payload: &'static str) -> Heard {
    Heard::Said(channel, payload.into())
}

#[actix::test]
async fn what_a_node_says_reaches_every_node_in_order_on_each_channel() {
    let redis = Redis::start(&[]).await;
    let mut nodes = [Node::on_redis(&redis, "a"), Node::on_redis(&redis, "b")];
    for node in &mut nodes {
        assert_eq!(node.hear().await, Heard::Up);
    }
    nodes[0].tell(NodeChannel::Presence, "one").await.expect("taken");
    nodes[0].tell(NodeChannel::Control, "two").await.expect("taken");
    nodes[1].tell(NodeChannel::Presence, "three").await.expect("taken");
    for node in &mut nodes {
        assert_eq!(node.hear().await, said(NodeChannel::Presence, "one"));
        assert_eq!(node.hear().await, said(NodeChannel::Control, "two"));
        assert_eq!(node.hear().await, said(NodeChannel::Presence, "three"));
    }
}

#[actix::test]
async fn a_node_that_lost_redis_says_so_and_hears_again_when_it_is_back() {
    let mut redis = Redis::start(&[]).await;
    let mut node = Node::on_redis(&redis, "a");
    assert_eq!(node.hear().await, Heard::Up);
    redis.kill();
    let refused = timeout(PATIENCE, async {
        while node.tell(NodeChannel::Presence, "lost").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    refused.await.expect("it is noticed");
    redis.restart().await;
    loop {
        match node.hear().await {
            Heard::Up => break,
            Heard::Said(_, payload) => assert_eq!(payload, "lost"),
        }
    }
    node.tell(NodeChannel::Presence, "again").await.expect("taken");
    assert_eq!(node.hear().await, said(NodeChannel::Presence, "again"));
}

#[actix::test]
async fn the_embedded_broker_says_it_back() {
    let mut node = Node::start(|bridge| Box::new(MemoryBus::new(bridge, nodes::standing(PREFIX).collect(), 64).link()));
    assert_eq!(node.hear().await, Heard::Up);
    node.tell(NodeChannel::Control, "one").await.expect("taken");
    assert_eq!(node.hear().await, said(NodeChannel::Control, "one"));
}

#[test]
fn only_the_two_channels_are_the_nodes_own() {
    for (channel, expected) in [
        ("callboard:presence", Some(NodeChannel::Presence)),
        ("callboard:control", Some(NodeChannel::Control)),
        ("callboard:clock", None),
        ("callboard:room:presence", None),
        ("callboardpresence", None),
        ("other:presence", None),
        ("presence", None),
        ("callboard:presence ", None),
    ] {
        assert_eq!(nodes::node_channel(channel, PREFIX), expected, "{channel}");
    }
}
