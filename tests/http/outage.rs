//! What becomes of history where the broker goes away: another node's record fills the hole, and one that nobody recorded is
//! told of.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    eventually,
    hub::{Hub, Setup},
    publisher::Publisher,
    redis::Redis,
    sse::{Block, Stream},
    websocket::Socket,
};

const ROOMS: &str = r#"
[[room]]
match = "kept*"
history = { size = 10, ttl = "1h" }
[[room]]
match = "*"
"#;

fn node(url: &str) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", url).start()
}

fn publish(hub: &Hub, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        hub.publish(&format!(r#"{{"room":"kept","data":{number}}}"#));
    }
}

fn read(stream: &mut Stream, count: usize) -> Vec<Block> {
    (0..count).map(|_| stream.next().expect("an event")).collect()
}

fn data(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.data.as_str()).collect()
}

fn gap(block: &Block) -> Value {
    assert_eq!(block.event, "callboard:gap", "{block:?}");
    serde_json::from_str(&block.data).expect("JSON")
}

fn resume(hub: &Hub, id: &str) -> Stream {
    Stream::request(hub.address, "GET", "/sse?room=kept", &[("Last-Event-ID", id)], b"")
}

/// The next of this type.
fn until(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = socket.next();
        if message["type"] == kind {
            return message;
        }
    }
}

/// A node whose Redis user can be shut out while all others are served.
struct Outcast {
    hub: Hub,
    admin: Publisher,
}

impl Outcast {
    fn start(redis: &Redis) -> Self {
        let mut admin = Publisher::connect(redis.port);
        assert_eq!(admin.command(&["ACL", "SETUSER", "outcast", "on", ">secret", "~*", "&*", "+@all"]), "+OK");
        let hub = node(&format!("redis://outcast:secret@127.0.0.1:{}", redis.port));
        Self { hub, admin }
    }

    fn shut_out(&mut self) {
        assert_eq!(self.admin.command(&["ACL", "SETUSER", "outcast", "off"]), "+OK");
        self.admin.command(&["CLIENT", "KILL", "USER", "outcast"]);
        self.hub.wait_for_metric("callboard_broker_up", 0.0);
    }

    fn let_in(&mut self) {
        assert_eq!(self.admin.command(&["ACL", "SETUSER", "outcast", "on"]), "+OK");
        self.hub.wait_for_metric("callboard_broker_up", 1.0);
    }
}

/// One node that can be shut out and one that can't, with a member of the room at each.
fn two_nodes() -> (Redis, Outcast, Hub, [Stream; 2]) {
    let redis = Redis::start();
    let (outcast, other) = (Outcast::start(&redis), node(&redis.url()));
    let members = [outcast.hub.address, other.address].map(|address| Stream::open(address, "/sse?room=kept"));
    (redis, outcast, other, members)
}

#[test]
fn a_node_that_was_cut_off_delivers_what_others_recorded_meanwhile_and_tells_of_no_gap() {
    let (_redis, mut outcast, other, [mut here, mut there]) = two_nodes();
    publish(&other, 1..=2);
    let mut seen = read(&mut here, 2);
    outcast.shut_out();
    publish(&other, 3..=5);
    outcast.let_in();
    for expected in ["3", "4", "5"] {
        let block = here.next().expect("an event");
        assert_eq!(block.data, expected);
        seen.push(block);
    }
    publish(&other, [6]);
    seen.extend(read(&mut here, 1));
    assert_eq!(data(&seen), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(seen, read(&mut there, 6), "in the same order, under the same ids");
    let last = seen[2].id.as_deref().expect("an id");
    assert_eq!(data(&read(&mut resume(&outcast.hub, last), 3)), ["4", "5", "6"], "and it replays them itself");
}

#[test]
fn who_comes_to_a_node_that_is_cut_off_gets_nothing_twice_and_is_told_of_no_gap() {
    let (_redis, mut outcast, other, [mut here, mut there]) = two_nodes();
    publish(&other, 1..=2);
    let before = read(&mut here, 2);
    outcast.shut_out();
    publish(&other, 3..=5);
    let seen = read(&mut there, 4);
    let mut from_elsewhere = resume(&outcast.hub, seen[3].id.as_deref().expect("an id"));
    let mut from_before = resume(&outcast.hub, before[0].id.as_deref().expect("an id"));
    assert_eq!(data(&read(&mut from_before, 1)), ["2"], "what the node had itself");
    outcast.let_in();
    publish(&other, [6]);
    assert_eq!(data(&read(&mut from_elsewhere, 2)), ["5", "6"]);
    assert_eq!(data(&read(&mut from_before, 4)), ["3", "4", "5", "6"]);
    assert_eq!(data(&read(&mut here, 4)), ["3", "4", "5", "6"]);
}

#[test]
fn the_id_of_a_stream_that_began_at_a_node_that_is_cut_off_covers_its_silent_rooms() {
    let redis = Redis::start();
    let mut outcast = Outcast::start(&redis);
    let _members = Stream::open(outcast.hub.address, "/sse?room=kept&room=kept-silent");
    outcast.shut_out();
    let mut stream = Stream::open(outcast.hub.address, "/sse?room=kept&room=kept-silent");
    outcast.let_in();
    publish(&outcast.hub, [1]);
    let first = std::iter::from_fn(|| stream.next()).find(|block| block.event != "callboard:gap").expect("an event");
    publish(&outcast.hub, [2]);
    let id = first.id.as_deref().expect("an id");
    let mut resumed = Stream::request(outcast.hub.address, "GET", "/sse?room=kept&room=kept-silent", &[("Last-Event-ID", id)], b"");
    assert_eq!(data(&read(&mut resumed, 1)), ["2"]);
}

#[test]
fn what_nobody_recorded_during_an_outage_is_told_of_as_a_gap() {
    let redis = Redis::start();
    let mut outcast = Outcast::start(&redis);
    let mut stream = Stream::open(outcast.hub.address, "/sse?room=kept");
    publish(&outcast.hub, [1]);
    let first = read(&mut stream, 1).remove(0);
    eventually("it is written", || (outcast.hub.get("/api/rooms/kept").json()["history"]["length"] == 1).then_some(()));
    outcast.shut_out();
    Publisher::connect(redis.port).publish("callboard:room:kept", r#"{"data":2}"#);
    outcast.let_in();
    assert_eq!(gap(&read(&mut stream, 1)[0]), json!({ "rooms": ["kept"], "reason": "broker_lost" }));
    publish(&outcast.hub, [3]);
    assert_eq!(data(&read(&mut stream, 1)), ["3"]);
    let resumed = read(&mut resume(&outcast.hub, first.id.as_deref().expect("an id")), 2);
    assert_eq!(gap(&resumed[0]), json!({ "rooms": ["kept"], "reason": "history_trimmed" }));
    assert_eq!(resumed[1].data, "3");
}

#[test]
fn who_is_in_a_room_that_the_broker_serves_no_more_is_told_and_may_come_back_when_it_does() {
    let redis = Redis::start();
    let mut outcast = Outcast::start(&redis);
    let (mut stream, mut socket) =
        (Stream::open(outcast.hub.address, "/sse?room=kept"), Socket::open(outcast.hub.address, "/ws?room=kept"));
    let mut other = Socket::open(outcast.hub.address, "/ws?room=other");
    publish(&outcast.hub, [1]);
    assert_eq!(data(&read(&mut stream, 1)), ["1"]);
    let channels = ["clock", "presence", "control", "room:other"].map(|name| format!("&callboard:{name}"));
    let narrow = ["ACL", "SETUSER", "outcast", "resetchannels"].into_iter().chain(channels.iter().map(String::as_str));
    outcast.admin.command(&narrow.collect::<Vec<_>>());
    outcast.admin.command(&["CLIENT", "KILL", "USER", "outcast"]);
    assert_eq!(gap(&read(&mut stream, 1)[0]), json!({ "rooms": ["kept"], "reason": "broker_lost" }));
    let refused = until(&mut socket, "error");
    assert_eq!(until(&mut socket, "left")["room"], "kept");
    socket.send(r#"{"type":"join","room":"kept","ref":1}"#);
    let again = until(&mut socket, "error");
    assert_eq!((&again["error"]["code"], &again["ref"]), (&refused["error"]["code"], &json!(1)), "{again}");
    Publisher::connect(redis.port).publish("callboard:room:other", r#"{"data":"still served"}"#);
    assert_eq!(until(&mut other, "event")["data"], "still served");
    assert_eq!(outcast.admin.command(&["ACL", "SETUSER", "outcast", "allchannels"]), "+OK");
    socket.send(r#"{"type":"join","room":"kept","ref":2}"#);
    assert_eq!(until(&mut socket, "joined")["ref"], 2);
    publish(&outcast.hub, [2]);
    assert_eq!(until(&mut socket, "event")["data"], 2);
}

#[test]
fn in_front_of_the_notice_nothing_comes_that_is_past_the_hole() {
    let redis = Redis::start();
    let hub = node(&redis.url());
    let mut stream = Stream::open(hub.address, "/sse?room=kept");
    publish(&hub, [1]);
    read(&mut stream, 1);
    let port = redis.port;
    drop(redis);
    hub.wait_for_metric("callboard_broker_up", 0.0);
    let _redis = Redis::start_at(port, &[]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut publisher = Publisher::connect(port);
            let mut numbers = 2..;
            while !is_over.load(Ordering::Relaxed) {
                publisher.publish("callboard:room:kept", &format!(r#"{{"data":{}}}"#, numbers.next().expect("a number")));
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let blocks = read(&mut stream, 50);
        is_over.store(true, Ordering::Relaxed);
        let is_notice: Vec<_> = blocks.iter().map(|block| block.event == "callboard:gap").collect();
        assert_eq!(is_notice.iter().position(|is_notice| *is_notice), Some(0), "{blocks:?}");
        let numbers: Vec<u32> = data(&blocks[1..]).iter().map(|number| number.parse().expect("a number")).collect();
        assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "after it, none is missing: {numbers:?}");
    });
}

#[test]
fn a_redis_that_comes_back_empty_takes_no_history_for_whole() {
    let redis = Redis::start();
    let hub = node(&redis.url());
    let mut stream = Stream::open(hub.address, "/sse?room=kept");
    publish(&hub, 1..=2);
    let before = read(&mut stream, 2);
    eventually("it is written", || (hub.get("/api/rooms/kept").json()["history"]["length"] == 2).then_some(()));
    let port = redis.port;
    drop(redis);
    hub.wait_for_metric("callboard_broker_up", 0.0);
    let _redis = Redis::start_at(port, &[]);
    assert_eq!(gap(&read(&mut stream, 1)[0]), json!({ "rooms": ["kept"], "reason": "broker_lost" }));
    publish(&hub, 3..=4);
    let after = read(&mut stream, 2);
    assert_eq!(data(&after), ["3", "4"]);
    let resumed = read(&mut resume(&hub, before[0].id.as_deref().expect("an id")), 3);
    assert_eq!((gap(&resumed[0])["reason"].as_str(), data(&resumed[1..])), (Some("history_trimmed"), vec!["3", "4"]));
    let whole = read(&mut resume(&hub, after[0].id.as_deref().expect("an id")), 1);
    assert_eq!(data(&whole), ["4"], "what came since is whole");
}

#[test]
fn what_redis_carried_out_too_late_for_its_publisher_is_not_published_again_under_the_same_key() {
    let redis = Redis::start();
    let hub = node(&redis.url());
    let mut listener = Publisher::connect(redis.port);
    listener.command_lines(&["SUBSCRIBE", "callboard:room:r"], 6);
    let body = r#"{"room":"r","data":1,"idempotency_key":"order-7"}"#;
    redis.process.signal("STOP");
    let late = hub.post("/api/publish", body);
    assert_eq!((late.status, late.error_code().as_str()), (503, "broker_unavailable"));
    redis.process.signal("CONT");
    hub.wait_for_metric("callboard_broker_up", 1.0);
    let again = eventually("it is published", || Some(hub.post("/api/publish", body)).filter(|answer| answer.status == 200));
    assert_eq!(hub.post("/api/publish", body).json()["id"], again.json()["id"]);
    hub.post("/api/publish", r#"{"room":"r","data":"the last"}"#);
    let payloads: Vec<String> = std::iter::from_fn(|| Some(listener.line())).filter(|line| line.starts_with('{')).take(2).collect();
    assert!(payloads[0].contains(r#""data":1"#) && payloads[1].contains("the last"), "{payloads:?}");
}
