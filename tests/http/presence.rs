//! Presence on three real nodes with one Redis: who is there, as clients of both wires and the API see it, whatever becomes of
//! a node. And the application's orders, which reach every node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    hub::{Hub, Setup, binary},
    redis::Redis,
    sse::Stream,
    stopwatch::Stopwatch,
    websocket::{End, Socket},
};

const CONFIG: &str = r#"
[server]
drain = "100ms"
[auth]
jwt = { secret = "a secret of thirty-two characters" }
[[room]]
match = "lounge"
presence = true
[[room]]
match = "private"
join = "granted"
[[room]]
match = "*"
"#;

fn nodes(redis: &Redis) -> [Hub; 3] {
    std::array::from_fn(|_| Setup::new(CONFIG).variable("REDIS_URL", &redis.url()).start())
}

fn token(user: &str) -> String {
    let config = crate::support::unique_path("token.toml");
    std::fs::write(&config, CONFIG).expect("a file for the configuration");
    let output = binary().args(["token", "--user", user, "--config"]).arg(&config).output().expect("a token");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn path(wire: &str, user: &str) -> String {
    format!("/{wire}?room=lounge&token={}", token(user))
}

fn socket(hub: &Hub, user: &str) -> Socket {
    let mut socket = Socket::open(hub.address, &path("ws", user));
    socket.expect("welcome");
    socket.expect("joined");
    socket
}

fn stream(hub: &Hub, user: &str) -> Stream {
    Stream::open(hub.address, &path("sse", user))
}

fn notice(joined: &[&str], left: &[&str]) -> Value {
    json!({"type": "presence", "room": "lounge", "joined": joined, "left": left})
}

fn next_of_stream(stream: &mut Stream) -> (String, Value) {
    let block = stream.next().expect("an event");
    (block.event, serde_json::from_str(&block.data).expect("JSON"))
}

fn as_event(notice: Value) -> (String, Value) {
    let mut data = notice;
    data.as_object_mut().expect("an object").remove("type");
    ("callboard:presence".into(), data)
}

fn members(hub: &Hub) -> Value {
    hub.get("/api/rooms/lounge").json()
}

fn wait_for_members(hubs: &[Hub], expected: &Value) {
    for hub in hubs {
        eventually("the members are as expected", || (members(hub)["members"] == *expected).then_some(()));
    }
}

#[test]
fn three_nodes_know_who_is_where_also_when_one_of_them_is_killed() {
    let redis = Redis::start();
    let mut hubs = nodes(&redis);
    let mut alice = socket(&hubs[0], "alice");
    assert_eq!(alice.next(), notice(&["alice"], &[]));
    wait_for_members(&hubs, &json!([{"user": "alice", "connections": 1}]));
    let mut bob = stream(&hubs[1], "bob");
    assert_eq!(alice.next(), notice(&["bob"], &[]));
    // His node may have heard of alice within the same moment.
    let (event, told) = next_of_stream(&mut bob);
    assert_eq!(event, "callboard:presence");
    assert!(told["joined"].as_array().is_some_and(|joined| joined.contains(&json!("bob"))), "{told}");
    let carol = socket(&hubs[2], "carol");
    assert_eq!(alice.next(), notice(&["carol"], &[]));
    assert_eq!(next_of_stream(&mut bob), as_event(notice(&["carol"], &[])));
    // A second tab, a second node, and somebody without a name: no notice, but counts.
    let second_tab = stream(&hubs[2], "alice");
    let nobody = Stream::open(hubs[1].address, "/sse?room=lounge");
    wait_for_members(
        &hubs,
        &json!([
            {"user": "alice", "connections": 2},
            {"user": "bob", "connections": 1},
            {"user": "carol", "connections": 1},
        ]),
    );
    for hub in &hubs {
        eventually("the anonymous are counted", || (members(hub)["anonymous"] == 1 && members(hub)["connections"] == 5).then_some(()));
    }
    // kill -9: carol is gone within 15 s, alice is still here.
    hubs[2].process.signal("KILL");
    hubs[2].process.wait();
    let since_the_kill = Stopwatch::start([hubs[0].process.pid(), redis.process.pid()]);
    assert_eq!(alice.next(), notice(&[], &["carol"]));
    let took = since_the_kill.read();
    assert!(took.is_within(Duration::from_millis(15_500)), "{took}");
    assert_eq!(next_of_stream(&mut bob), as_event(notice(&[], &["carol"])));
    wait_for_members(&hubs[..2], &json!([{"user": "alice", "connections": 1}, {"user": "bob", "connections": 1}]));
    drop((carol, second_tab, nobody));
}

#[test]
fn a_page_that_is_loaded_again_on_another_node_neither_leaves_nor_joins() {
    let redis = Redis::start();
    let hubs = nodes(&redis);
    let mut watcher = socket(&hubs[0], "watcher");
    assert_eq!(watcher.next(), notice(&["watcher"], &[]));
    let mut page = stream(&hubs[0], "alice");
    assert_eq!(watcher.next(), notice(&["alice"], &[]));
    for hub in [&hubs[1], &hubs[2], &hubs[0]] {
        drop(page);
        page = stream(hub, "alice");
    }
    let bob = stream(&hubs[1], "bob");
    assert_eq!(watcher.next(), notice(&["bob"], &[]));
    drop(page);
    assert_eq!(watcher.next(), notice(&[], &["alice"]));
    drop(bob);
    assert_eq!(watcher.next(), notice(&[], &["bob"]));
}

#[test]
fn the_members_of_a_node_that_is_stopped_are_not_waited_for() {
    let redis = Redis::start();
    let mut hubs = nodes(&redis);
    let mut alice = socket(&hubs[0], "alice");
    assert_eq!(alice.next(), notice(&["alice"], &[]));
    let bob = socket(&hubs[1], "bob");
    assert_eq!(alice.next(), notice(&["bob"], &[]));
    let since_the_end = Stopwatch::start([hubs[0].process.pid(), hubs[1].process.pid(), redis.process.pid()]);
    hubs[1].terminate();
    assert!(hubs[1].process.wait().success());
    assert_eq!(alice.next(), notice(&[], &["bob"]));
    let took = since_the_end.read();
    assert!(took.is_within(Duration::from_secs(10)), "{took}");
    drop(bob);
}

#[test]
fn the_applications_orders_reach_every_node() {
    let redis = Redis::start();
    let hubs = nodes(&redis);
    let mut alice = [socket(&hubs[1], "alice"), socket(&hubs[2], "alice")];
    let mut read = |kind: &str| {
        for socket in &mut alice {
            let found = std::iter::repeat_with(|| socket.next()).find(|message| message["type"] != "presence").expect("a message");
            assert_eq!((found["type"].as_str(), found["room"].as_str()), (Some(kind), Some("private")));
        }
    };
    // Nobody could join this room by itself.
    let order = r#"{"user":"alice","room":"private"}"#;
    assert_eq!(hubs[0].post("/api/join", order).json(), json!({"connections": 0}));
    read("joined");
    assert_eq!(hubs[1].post("/api/join", order).json(), json!({"connections": 1}));
    assert_eq!(hubs[0].post("/api/leave", order).json(), json!({"connections": 0}));
    read("left");
    let bob = socket(&hubs[2], "bob");
    assert_eq!(hubs[0].post("/api/disconnect", r#"{"user":"alice"}"#).json(), json!({"connections": 0}));
    for socket in &mut alice {
        assert_eq!(socket.end(), End::Code(1000));
    }
    wait_for_members(&hubs, &json!([{"user": "bob", "connections": 1}]));
    drop(bob);
}

#[test]
fn an_order_that_cannot_leave_the_node_is_no_success() {
    let mut redis = Redis::start();
    let hub = Setup::new(CONFIG).variable("REDIS_URL", &redis.url()).start();
    let mut alice = socket(&hub, "alice");
    redis.process.signal("KILL");
    redis.process.wait();
    eventually("the hub misses its Redis", || (hub.get("/readyz").status == 503).then_some(()));
    let answer = hub.post("/api/disconnect", r#"{"user":"alice"}"#);
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "broker_unavailable"));
    assert_eq!(alice.end(), End::Code(1000));
}
