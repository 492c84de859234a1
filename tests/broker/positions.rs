//! Numbers that every node computes alone: several bridges on one real Redis, under load, with nodes that come late, lag and
//! lose. All agree on every number, and Redis keeps each publication once.

use std::collections::BTreeMap;

use callboard::protocol::{Position, Publication};
use futures_util::future;
use redis::aio::MultiplexedConnection;
use tokio::time::{Duration, sleep};

use crate::support::{Bus, Dice, Listener, Proxy, Redis, Setup, Way, eventually, room};

const ROOMS: [&str; 3] = ["kept-a", "kept-b", "kept-c"];
const CONFIG: &str = "[[room]]\nmatch = \"kept*\"\nhistory = { size = 100000, ttl = \"10m\" }\n";
const PUBLISHERS: u64 = 3;
const EVENTS: u64 = 1_500;

fn setup(node: &'static str, mailbox: usize) -> Setup {
    Setup { config: CONFIG, node, mailbox, ..Setup::default() }
}

/// A node with a listener in each room.
struct Node {
    bus: Bus,
    listeners: Vec<Listener>,
    /// What has come, in order, by room.
    seen: Vec<Vec<(u64, Option<Position>)>>,
}

impl Node {
    async fn start(url: &str, setup: Setup) -> Self {
        let bus = Bus::on_url(url, setup);
        let listeners = future::join_all(ROOMS.map(|name| bus.join(room(name)))).await;
        Self { bus, listeners, seen: vec![Vec::new(); ROOMS.len()] }
    }

    /// Takes in what has come so far; says how many that are by now, with those that were lost.
    fn look(&mut self) -> u64 {
        for (listener, seen) in self.listeners.iter_mut().zip(&mut self.seen) {
            seen.extend(listener.come().iter().map(|publication| (number(publication), publication.point.map(|point| point.position))));
        }
        self.seen.iter().map(|seen| seen.len() as u64).sum::<u64>() + self.listeners.iter().map(Listener::missed).sum::<u64>()
    }

    fn written(&self, outcome: &str) -> u64 {
        self.bus.metric(&format!(r#"callboard_history_writes_total{{outcome="{outcome}"}}"#))
    }
}

fn number(publication: &Publication) -> u64 {
    publication.event.json_arguments()[0].parse().unwrap()
}

/// Publishes as fast as Redis takes it, in bursts, each event under a number of its own.
async fn publish(mut connection: MultiplexedConnection, publisher: u64, seed: u64) {
    let mut dice = Dice::new(seed * 31 + publisher);
    let mut numbers = (0..EVENTS).map(|event| event * PUBLISHERS + publisher).peekable();
    while numbers.peek().is_some() {
        let mut pipeline = redis::pipe();
        for number in numbers.by_ref().take(dice.roll(1..40) as usize) {
            let channel = format!("callboard:room:{}", ROOMS[dice.roll(0..ROOMS.len() as u64) as usize]);
            pipeline.cmd("PUBLISH").arg(channel).arg(format!(r#"{{"event":"n","data":{number}}}"#)).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.unwrap();
        sleep(Duration::from_millis(dice.roll(0..40))).await;
    }
}

/// All numbers that one node gave are those of the others, and grow in the order of arrival.
fn assert_agreement(nodes: &[&Node], seed: u64) {
    for (place, name) in ROOMS.iter().enumerate() {
        let mut agreed = BTreeMap::new();
        for (node, name_of_node) in nodes.iter().zip(0..) {
            let mut last = Position::default();
            for (number, position) in &node.seen[place] {
                let Some(position) = *position else { continue };
                assert!(position > last, "seed {seed}: {name} on node {name_of_node}: {position} after {last}");
                last = position;
                let known = *agreed.entry(*number).or_insert(position);
                assert_eq!(position, known, "seed {seed}: event {number} of {name} on node {name_of_node}");
            }
        }
    }
}

async fn kept(redis: &Redis, name: &str) -> Vec<String> {
    let stream = format!("callboard:history:{{{name}}}");
    let entries: Vec<(String, Vec<(String, String)>)> = redis.ask(&["XRANGE", &stream, "-", "+"]).await;
    entries.into_iter().map(|(id, _)| id).collect()
}

async fn run(seed: u64) {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start(redis.port).await;
    let mut steady = Node::start(&redis.url(), setup("0000000a", 65_536)).await;
    let mut lagging = Node::start(&proxy.url(), setup("0000000b", 65_536)).await;
    // Its mailbox is far too small: markers are lost as well as events.
    let mut losing = Node::start(&redis.url(), setup("0000000c", 4)).await;
    for name in ROOMS {
        let record = format!("callboard:recording:{{{name}}}");
        eventually("the room is recorded", async || redis.ask::<u64>(&["EXISTS", &record]).await == 1).await;
    }
    let connections = future::join_all((0..PUBLISHERS).map(|_| redis.connect())).await;
    let load = connections.into_iter().zip(0..).map(|(connection, publisher)| publish(connection, publisher, seed));
    let mut dice = Dice::new(seed);
    let disturb = async {
        let mut late = Vec::new();
        for node in ["0000000d", "0000000e", "0000000f"] {
            sleep(Duration::from_millis(dice.roll(50..300))).await;
            proxy.set(Way::Slow);
            // Not for as long as the start takes: two seconds without a marker, and the lagging node connects anew.
            let lag = async {
                sleep(Duration::from_millis(dice.roll(50..700))).await;
                proxy.set(Way::Open);
            };
            late.push(future::join(Node::start(&redis.url(), setup(node, 65_536)), lag).await.0);
        }
        late
    };
    let (_, mut late) = future::join(future::join_all(load), disturb).await;
    let all = PUBLISHERS * EVENTS;
    eventually("all that was published has come or was missed by count", async || {
        [&mut steady, &mut lagging, &mut losing].into_iter().all(|node| node.look() == all)
    })
    .await;
    assert!(losing.listeners.iter().any(|listener| listener.missed() > 0), "seed {seed}: its mailbox was too large");
    late.iter_mut().for_each(|node| _ = node.look());
    let mut nodes = vec![&steady, &lagging, &losing];
    nodes.extend(&late);
    assert_agreement(&nodes, seed);
    assert!(steady.seen.iter().flatten().all(|(_, position)| position.is_some()), "seed {seed}");

    let written = |outcome| nodes.iter().map(|node| node.written(outcome)).sum::<u64>();
    eventually("everything is written", async || written("added") + written("lost") >= all).await;
    assert_eq!((written("added"), written("lost")), (all, 0), "seed {seed}");
    for (name, seen) in ROOMS.iter().zip(&steady.seen) {
        let expected: Vec<String> = seen.iter().filter_map(|(_, position)| Some(position.as_ref()?.to_string())).collect();
        assert_eq!(kept(&redis, name).await, expected, "seed {seed}: what is kept of {name}");
    }
    assert!(written("duplicate") > 0, "seed {seed}");
}

#[actix::test]
async fn all_nodes_number_alike_also_those_that_come_late_lag_or_lose_and_each_event_is_kept_once() {
    for seed in 1..=3 {
        run(seed).await;
    }
}

/// Two nodes begin at about the same time, and the later one is the faster at writing. The other's Redis user may not write
/// for a while.
#[actix::test]
async fn what_a_slow_node_had_numbered_before_a_faster_one_began_is_kept_in_its_place() {
    let redis = Redis::start(&[]).await;
    let _: () = redis.ask(&["ACL", "SETUSER", "slow", "on", ">secret", "~*", "&*", "+@all", "-xadd"]).await;
    let slow = Bus::on_url(&format!("redis://slow:secret@127.0.0.1:{}", redis.port), setup("0000000a", 65_536));
    let mut first = slow.join(room(ROOMS[0])).await;
    let mut connection = redis.connect().await;
    let mut publish = async |number: u64| {
        let payload = format!(r#"{{"event":"n","data":{number}}}"#);
        redis::cmd("PUBLISH").arg(format!("callboard:room:{}", ROOMS[0])).arg(payload).query_async::<()>(&mut connection).await.unwrap();
    };
    for number in 0..3 {
        publish(number).await;
    }
    let mut positions = Vec::new();
    for _ in 0..3 {
        positions.push(first.next().await.point.expect("a number").position.to_string());
    }
    let fast = Bus::on_url(&redis.url(), setup("0000000b", 65_536));
    let mut second = fast.join(room(ROOMS[0])).await;
    for number in 3..6 {
        publish(number).await;
        let (here, there) = (first.next().await.point.map(|point| point.position), second.next().await.point.map(|point| point.position));
        assert_eq!(here, there);
        positions.push(here.expect("a number").to_string());
    }
    eventually("the faster one has written", async || kept(&redis, ROOMS[0]).await == positions[3..]).await;
    let _: () = redis.ask(&["ACL", "SETUSER", "slow", "+xadd"]).await;
    eventually("all is kept, in its order", async || kept(&redis, ROOMS[0]).await == positions).await;
    assert_eq!(slow.metric(r#"callboard_history_writes_total{outcome="lost"}"#), 0);
    let record: Vec<String> = redis.ask(&["HMGET", &format!("callboard:recording:{{{}}}", ROOMS[0]), "start", "trimmed"]).await;
    let start: Position = record[0].parse().unwrap();
    assert!(start < positions[0].parse().unwrap(), "and known to be whole since before it: {record:?}");
    assert_eq!(record[1], "0-0");
}
