//! Redis loses what it was to keep while nodes live: evicted, flushed, run out, restarted without its data. Who comes back gets
//! everything that is still held, and is told that it is not all.

use serde_json::{Value, json};

use crate::support::{
    eventually,
    hub::{Hub, Setup},
    publisher::Publisher,
    redis::Redis,
    sse::{Block, Stream},
};

/// More than a node keeps in memory.
const EVENTS: u32 = 300;
const IN_MEMORY: u32 = 256;

const ROOMS: &str = r#"
[http]
max_rooms_per_connection = 400
# Nothing must hide that a notice does not come.
sse_keepalive = "1m"
[[room]]
match = "brief*"
history = { size = 100, ttl = "1s" }
[[room]]
match = "*"
history = { size = 1000, ttl = "5m" }
"#;

fn node(redis: &Redis) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", &redis.url()).start()
}

fn publish(hub: &Hub, room: &str, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        hub.publish(&format!(r#"{{"room":"{room}","data":{number}}}"#));
    }
}

fn kept(hub: &Hub, room: &str) -> u64 {
    hub.get(&format!("/api/rooms/{room}")).json()["history"]["length"].as_u64().expect("a number")
}

fn resume(hub: &Hub, rooms: &str, id: &str) -> Stream {
    Stream::request(hub.address, "GET", &format!("/sse?{rooms}"), &[("Last-Event-ID", id)], b"")
}

fn id(block: &Block) -> String {
    block.id.clone().expect("an id")
}

fn read(stream: &mut Stream, count: usize) -> Vec<Block> {
    (0..count).map(|_| stream.next().expect("an event")).collect()
}

/// What came before the first notice, and the notice.
fn up_to_gap(stream: &mut Stream) -> (Vec<u32>, Value) {
    let mut before = Vec::new();
    loop {
        let block = stream.next().expect("an event");
        match block.event.as_str() {
            "callboard:gap" => return (before, serde_json::from_str(&block.data).expect("JSON")),
            _ => before.push(block.data.parse().expect("a number")),
        }
    }
}

fn trimmed(room: &str) -> Value {
    json!({ "rooms": [room], "reason": "history_trimmed" })
}

/// What each of the harms leaves in Redis of the first events, for a node that was not there.
#[test]
fn what_redis_evicts_or_flushes_while_nodes_live_is_told_of_on_every_node() {
    let (stream, record) = ("callboard:history:{r}", "callboard:recording:{r}");
    for (harm, left) in [(&["DEL", stream][..], 0), (&["DEL", record], EVENTS), (&["DEL", stream, record], 0), (&["FLUSHALL"], 0)] {
        let redis = Redis::start();
        let one = node(&redis);
        let mut there = Stream::open(one.address, "/sse?room=r");
        publish(&one, "r", 1..=EVENTS);
        let first = id(&read(&mut there, EVENTS as usize)[0]);
        eventually("all is written", || (kept(&one, "r") == u64::from(EVENTS)).then_some(()));
        let mut admin = Publisher::connect(redis.port);
        admin.command(harm);
        eventually("the key of ids is there", || (admin.command(&["EXISTS", "callboard:id-key"]) == ":1").then_some(()));
        publish(&one, "r", EVENTS + 1..=EVENTS + 2);
        let fresh = id(&read(&mut there, 2)[0]);
        eventually("what came since is written", || (kept(&one, "r") == u64::from(left + 2)).then_some(()));

        let (before, notice) = up_to_gap(&mut resume(&one, "room=r", &first));
        let held = if left > 0 { 2 } else { EVENTS + 2 - IN_MEMORY + 1 };
        assert_eq!((before, notice), ((held..=EVENTS + 2).collect(), trimmed("r")), "{harm:?}: where it was recorded");
        let two = node(&redis);
        let (before, notice) = up_to_gap(&mut resume(&two, "room=r", &first));
        let held = if left > 0 { 2 } else { EVENTS + 1 };
        assert_eq!((before, notice), ((held..=EVENTS + 2).collect(), trimmed("r")), "{harm:?}: elsewhere");
        for hub in [&one, &two] {
            let next = read(&mut resume(hub, "room=r", &fresh), 1).remove(0);
            assert_eq!((next.event.as_str(), next.data), ("message", (EVENTS + 2).to_string()), "{harm:?}: what came since is whole");
        }
    }
}

#[test]
fn nodes_whose_redis_comes_back_empty_go_on_with_the_same_ids() {
    let redis = Redis::start();
    let hubs = [node(&redis), node(&redis)];
    let mut streams = hubs.each_ref().map(|hub| Stream::open(hub.address, "/sse?room=r"));
    publish(&hubs[0], "r", 1..=2);
    let old = streams.each_mut().map(|stream| id(&read(stream, 2)[0]));
    assert_eq!(old[0], old[1]);
    let writes = |hub: &Hub, outcome| hub.metric(&format!(r#"callboard_history_writes_total{{outcome="{outcome}"}}"#));
    for hub in &hubs {
        // Else it would be written to the next one.
        eventually("it is written", || (writes(hub, "added") + writes(hub, "duplicate") == 2.0).then_some(()));
    }
    let port = redis.port;
    drop(redis);
    hubs.iter().for_each(|hub| hub.wait_for_metric("callboard_broker_up", 0.0));
    let redis = Redis::start_at(port, &[]);
    for stream in &mut streams {
        assert_eq!(up_to_gap(stream), (vec![], json!({ "rooms": ["r"], "reason": "broker_lost" })));
    }
    // Both are back.
    let publish_new = |number: u32| {
        eventually("it is taken", || {
            (hubs[0].post("/api/publish", &format!(r#"{{"room":"r","data":{number}}}"#)).status == 200).then_some(())
        });
    };
    (3..=4).for_each(publish_new);
    let new = streams.each_mut().map(|stream| read(stream, 2));
    assert_eq!(new[0], new[1], "under the same ids");
    for hub in [&hubs[0], &hubs[1], &node(&redis)] {
        assert_eq!(up_to_gap(&mut resume(hub, "room=r", &old[0])), (vec![3, 4], trimmed("r")));
        assert_eq!(read(&mut resume(hub, "room=r", &id(&new[0][0])), 1)[0].data, "4");
    }
}

#[test]
fn what_has_run_out_is_told_of() {
    let redis = Redis::start();
    let hub = node(&redis);
    let mut stream = Stream::open(hub.address, "/sse?room=brief");
    publish(&hub, "brief", 1..=2);
    let first = id(&read(&mut stream, 2)[0]);
    eventually("it is written", || (kept(&hub, "brief") == 2).then_some(()));
    eventually("it has run out", || (kept(&hub, "brief") == 0).then_some(()));
    assert_eq!(up_to_gap(&mut resume(&hub, "room=brief", &first)), (vec![], trimmed("brief")));
    let other = node(&redis);
    assert_eq!(up_to_gap(&mut resume(&other, "room=brief", &first)), (vec![], trimmed("brief")));
}

/// An id covers 256 rooms.
#[test]
fn rooms_past_the_bound_of_an_id_are_named_and_replayed_as_far_as_they_are_kept() {
    const ALL: usize = 270;
    let redis = Redis::start();
    let hub = node(&redis);
    let rooms: Vec<String> = (0..ALL).map(|number| format!("r{number:03}")).collect();
    let query = rooms.iter().map(|room| format!("room={room}")).collect::<Vec<_>>().join("&");
    let mut stream = Stream::open(hub.address, &format!("/sse?{query}"));
    rooms.iter().for_each(|room| publish(&hub, room, [1]));
    let last = id(&read(&mut stream, ALL)[ALL - 1]);
    drop(stream);
    rooms.iter().for_each(|room| publish(&hub, room, [2]));
    let (before, notice) = up_to_gap(&mut resume(&hub, &query, &last));
    let past = notice["rooms"].as_array().expect("rooms").len();
    assert_eq!((past, notice["reason"].as_str()), (ALL - 256, Some("unknown_position")));
    let count = |number| before.iter().filter(|came| **came == number).count();
    assert_eq!((count(1), count(2)), (past, ALL), "all that is kept of those, and what was missed of the others");
}
