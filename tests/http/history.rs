//! Coming back: what a client missed is replayed, on whichever node and wire, and where it can't be, it is told so.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    eventually, http,
    hub::{Hub, Setup},
    publisher::Publisher,
    redis::Redis,
    sse::{Block, Stream},
    websocket::Socket,
};

const ROOMS: &str = r#"
[[room]]
match = "kept*"
publish = "members"
history = { size = 10, ttl = "1h" }
[[room]]
match = "*"
"#;

/// The same hub over either broker. Redis, where there is one, must live as long.
struct House {
    hub: Hub,
    redis: Option<Redis>,
}

fn houses() -> Vec<House> {
    let redis = Redis::start();
    let over_redis = node(&redis);
    vec![House { hub: Hub::start(ROOMS), redis: None }, House { hub: over_redis, redis: Some(redis) }]
}

fn node(redis: &Redis) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", &redis.url()).start()
}

fn publish(hub: &Hub, room: &str, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        hub.publish(&format!(r#"{{"room":"{room}","data":{number}}}"#));
    }
}

fn resume(hub: &Hub, rooms: &str, id: &str) -> Stream {
    Stream::request(hub.address, "GET", &format!("/sse?{rooms}"), &[("Last-Event-ID", id)], b"")
}

fn numbers(stream: &mut Stream, count: usize) -> Vec<String> {
    stream.take(count).into_iter().map(|(_, data)| data).collect()
}

fn id(block: &Block) -> String {
    block.id.clone().expect("an id")
}

/// The notice, which comes first: the events behind it show ids that are past the hole, and who is cut off before it was told would
/// never hear of it. Then so many events.
fn gap(stream: &mut Stream, count: usize) -> (serde_json::Value, Vec<String>) {
    let block = stream.next().expect("a notice");
    assert_eq!((&*block.event, &block.id), ("callboard:gap", &None));
    (serde_json::from_str(&block.data).expect("JSON"), numbers(stream, count))
}

#[test]
fn a_stream_goes_on_where_it_stopped_by_header_query_or_form() {
    for House { hub, redis: _redis } in houses() {
        let mut stream = Stream::open(hub.address, "/sse?room=kept");
        publish(&hub, "kept", 1..=2);
        let first = id(&stream.next().expect("an event"));
        drop(stream);
        publish(&hub, "kept", 3..=4);
        let form = format!("Last-Event-ID={first}");
        let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
        for mut resumed in [
            resume(&hub, "room=kept", &first),
            Stream::open(hub.address, &format!("/sse?room=kept&lastEventId={first}")),
            Stream::open(hub.address, &format!("/sse?room=kept&last_event_id={first}")),
            Stream::request(hub.address, "POST", "/sse/?room=kept", &form_type, form.as_bytes()),
        ] {
            assert_eq!(numbers(&mut resumed, 3), ["2", "3", "4"]);
            hub.publish(r#"{"room":"kept","event":"live","data":9}"#);
            assert_eq!(resumed.next().expect("an event").event, "live");
        }
    }
}

#[test]
fn an_id_covers_every_room_of_its_stream_also_the_empty_ones() {
    for House { hub, redis: _redis } in houses() {
        let mut stream = Stream::open(hub.address, "/sse?room=kept-a&room=kept-b&room=kept-silent");
        publish(&hub, "kept-a", [1]);
        publish(&hub, "kept-b", [2]);
        publish(&hub, "kept-a", [3]);
        assert_eq!(numbers(&mut stream, 2), ["1", "2"]);
        let last = id(&stream.next().expect("an event"));
        drop(stream);
        publish(&hub, "kept-b", [4]);
        publish(&hub, "kept-silent", [5]);
        publish(&hub, "kept-a", [6]);
        let mut resumed = resume(&hub, "room=kept-a&room=kept-b&room=kept-silent", &last);
        let mut missed = numbers(&mut resumed, 3);
        missed.sort();
        assert_eq!(missed, ["4", "5", "6"]);
        publish(&hub, "kept-b", [7]);
        assert_eq!(numbers(&mut resumed, 1), ["7"]);
    }
}

#[test]
fn an_id_that_is_none_of_ours_brings_all_that_is_kept_and_says_so() {
    for House { hub, redis: _redis } in houses() {
        let mut stream = Stream::open(hub.address, "/sse?room=kept");
        publish(&hub, "kept", 1..=3);
        let real = id(&stream.next().expect("an event"));
        let flipped = if real.ends_with('A') { 'B' } else { 'A' };
        let forged = format!("{}{flipped}", &real[..real.len() - 1]);
        for unknown in ["5", "1764000000000-4", "garbage %00", &forged] {
            let mut resumed = resume(&hub, "room=kept", unknown);
            assert_eq!(resumed.head.status, 200);
            let (notice, kept) = gap(&mut resumed, 3);
            assert_eq!(kept, ["1", "2", "3"], "{unknown}");
            assert_eq!(notice, json!({ "rooms": ["kept"], "reason": "unknown_position" }));
        }
    }
}

#[test]
fn what_was_trimmed_is_named_and_the_last_ten_are_replayed() {
    for House { hub, redis: _redis } in houses() {
        let mut stream = Stream::open(hub.address, "/sse?room=kept");
        publish(&hub, "kept", 1..=3);
        let first = id(&stream.next().expect("an event"));
        publish(&hub, "kept", 4..=11);
        assert_eq!(numbers(&mut resume(&hub, "room=kept", &first), 10), ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        publish(&hub, "kept", [12]);
        let (notice, kept) = gap(&mut resume(&hub, "room=kept", &first), 10);
        assert_eq!(kept, ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
        assert_eq!(notice, json!({ "rooms": ["kept"], "reason": "history_trimmed" }));
        eventually("the history has its size", || (hub.get("/api/rooms/kept").json()["history"]["length"] == 10).then_some(()));
    }
}

#[test]
fn rooms_without_history_are_named_in_one_notice() {
    for House { hub, redis: _redis } in houses() {
        let mut stream = Stream::open(hub.address, "/sse?room=kept&room=a&room=b");
        publish(&hub, "kept", [1]);
        let last = id(&stream.next().expect("an event"));
        let (notice, _) = gap(&mut resume(&hub, "room=kept&room=a&room=b", &last), 0);
        assert_eq!(notice, json!({ "rooms": ["a", "b"], "reason": "no_history" }));
    }
}

#[test]
fn what_is_no_id_is_an_unknown_position_in_every_room() {
    for House { hub, redis: _redis } in houses() {
        for text in ["garbage", "0-0", "null"] {
            let mut stream = resume(&hub, "room=a&room=b", text);
            assert_eq!(gap(&mut stream, 0), (json!({ "rooms": ["a", "b"], "reason": "unknown_position" }), Vec::new()), "{text}");
        }
    }
}

#[test]
fn a_web_socket_resumes_each_room_by_itself_also_from_its_join() {
    for House { hub, redis: _redis } in houses() {
        let mut socket = Socket::open(hub.address, "/ws?room=");
        socket.expect("welcome");
        socket.send(r#"{"type":"join","room":"kept","ref":1}"#);
        let joined = socket.expect("joined");
        let at_join = joined["id"].as_str().expect("an id").to_owned();
        publish(&hub, "kept", 1..=2);
        let at_first = socket.expect("event")["id"].as_str().expect("an id").to_owned();
        drop(socket);
        publish(&hub, "kept", [3]);
        for (since, expected) in [(at_join, vec![1, 2, 3]), (at_first, vec![2, 3])] {
            let mut socket = Socket::open(hub.address, "/ws?room=");
            socket.expect("welcome");
            socket.send(&json!({ "type": "join", "room": "kept", "since": since, "ref": 7 }).to_string());
            let joined = socket.expect("joined");
            assert_eq!((joined["ref"].as_i64(), joined["id"].as_str()), (Some(7), Some(&*since)));
            let missed: Vec<i64> = expected.iter().map(|_| socket.expect("event")["data"].as_i64().expect("a number")).collect();
            assert_eq!(missed, expected);
        }
    }
}

#[test]
fn a_web_socket_is_answered_then_told_of_the_gap_then_sent_what_is_kept() {
    for House { hub, redis: _redis } in houses() {
        let mut first = Socket::open(hub.address, "/ws?room=kept");
        first.expect("welcome");
        first.expect("joined");
        publish(&hub, "kept", 1..=3);
        (0..3).for_each(|_| _ = first.expect("event"));
        let mut socket = Socket::open(hub.address, "/ws?room=");
        socket.expect("welcome");
        socket.send(r#"{"type":"join","room":"kept","ref":1,"since":"unknown"}"#);
        let said: Vec<serde_json::Value> = (0..5).map(|_| socket.next()["type"].clone()).collect();
        assert_eq!(said, ["joined", "gap", "event", "event", "event"]);
    }
}

#[test]
fn all_rooms_that_an_id_does_not_cover_are_named_in_one_notice_before_any_event() {
    for House { hub, redis: _redis } in houses() {
        let rooms = "room=kept-a&room=kept-b&room=kept-c";
        let mut stream = Stream::open(hub.address, &format!("/sse?{rooms}"));
        ["kept-a", "kept-b", "kept-c"].iter().for_each(|room| publish(&hub, room, 1..=2));
        numbers(&mut stream, 6);
        let (notice, _) = gap(&mut resume(&hub, rooms, "unknown"), 6);
        let mut named: Vec<&str> = notice["rooms"].as_array().expect("rooms").iter().filter_map(|room| room.as_str()).collect();
        named.sort_unstable();
        assert_eq!((named, &notice["reason"]), (vec!["kept-a", "kept-b", "kept-c"], &json!("unknown_position")));
    }
}

/// Prove that another node replays what it did not deliver itself, in the same order and under the same ids.
#[test]
fn a_client_goes_on_at_another_node() {
    let redis = Redis::start();
    let (one, two) = (node(&redis), node(&redis));
    let mut stream = Stream::open(one.address, "/sse?room=kept");
    let mut other = Stream::open(two.address, "/sse?room=kept");
    let mut publisher = Publisher::connect(redis.port);
    for number in 1..=5 {
        publisher.publish("callboard:room:kept", &json!({ "data": number }).to_string());
    }
    let here: Vec<Block> = (0..5).map(|_| stream.next().expect("an event")).collect();
    let there: Vec<Block> = (0..5).map(|_| other.next().expect("an event")).collect();
    assert_eq!(here, there, "the same ids");
    for (seen, block) in here.iter().enumerate() {
        let mut resumed = resume(&two, "room=kept", &id(block));
        let rest: Vec<String> = (seen + 2..=5).map(|number| number.to_string()).collect();
        assert_eq!(numbers(&mut resumed, rest.len()), rest);
    }
}

#[test]
fn a_killed_node_costs_its_clients_nothing() {
    let redis = Redis::start();
    let (mut one, two) = (node(&redis), node(&redis));
    let mut stream = Stream::open(one.address, "/sse?room=kept");
    let _witness = Stream::open(two.address, "/sse?room=kept");
    let mut publisher = Publisher::connect(redis.port);
    let mut send = |number: u32| publisher.publish("callboard:room:kept", &json!({ "data": number }).to_string());
    (1..=3).for_each(&mut send);
    let last = (0..3).map(|_| stream.next().expect("an event")).last().expect("three of them");
    one.process.signal("KILL");
    one.process.wait();
    (4..=6).for_each(&mut send);
    let mut resumed = resume(&two, "room=kept", &id(&last));
    assert_eq!(numbers(&mut resumed, 3), ["4", "5", "6"]);
    send(7);
    assert_eq!(resumed.next().expect("an event").data, "7", "and no gap is told of");
}

/// A node that has the room since a moment ago asks those who have had it longer.
#[test]
fn a_node_that_never_had_the_room_replays_what_others_recorded() {
    let redis = Redis::start();
    let (one, two) = (node(&redis), node(&redis));
    let mut stream = Stream::open(one.address, "/sse?room=kept");
    publish(&one, "kept", 1..=3);
    let first = id(&stream.next().expect("an event"));
    let mut resumed = resume(&two, "room=kept", &first);
    publish(&one, "kept", [4]);
    assert_eq!(numbers(&mut resumed, 1), ["2"]);
    assert_eq!(numbers(&mut resumed, 1), ["3"]);
    assert_eq!(numbers(&mut resumed, 1), ["4"], "and no gap is told of");
}

/// The honest half: what nobody recorded is not presented as whole.
#[test]
fn a_hole_that_nobody_recorded_is_told_of() {
    let redis = Redis::start();
    let mut one = node(&redis);
    let mut stream = Stream::open(one.address, "/sse?room=kept");
    publish(&one, "kept", 1..=2);
    let first = id(&stream.next().expect("an event"));
    eventually("the history is written", || (one.get("/api/rooms/kept").json()["history"]["length"] == 2).then_some(()));
    one.process.signal("KILL");
    one.process.wait();
    Publisher::connect(redis.port).publish("callboard:room:kept", r#"{"data":3}"#);
    let two = node(&redis);
    let (notice, kept) = gap(&mut resume(&two, "room=kept", &first), 1);
    assert_eq!(kept, ["2"]);
    assert_eq!(notice, json!({ "rooms": ["kept"], "reason": "history_trimmed" }));
}

#[test]
fn an_idempotency_key_sends_once_on_all_nodes() {
    let redis = Redis::start();
    let (one, two) = (node(&redis), node(&redis));
    let mut stream = Stream::open(one.address, "/sse?room=kept");
    let body = r#"{"room":"kept","data":1,"idempotency_key":"order-7"}"#;
    let first = one.post("/api/publish", body).json();
    assert_eq!(first["delivered"], 1);
    for hub in [&one, &two] {
        let again = hub.post("/api/publish", body).json();
        assert_eq!((&again["id"], again["delivered"].as_i64()), (&first["id"], Some(0)));
    }
    publish(&one, "kept", [2]);
    assert_eq!(numbers(&mut stream, 2), ["1", "2"]);
}

/// Socket.IO has no ids to come back with, but its rooms may have history all the same.
#[test]
fn a_socket_io_client_hears_what_comes_in_a_room_with_history() {
    for House { hub, redis: _redis } in houses() {
        let open = hub.get("/socket.io/?EIO=4&transport=polling").text();
        let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("an open packet");
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("an id"));
        let say = |packet: &str| {
            let told = http::request(hub.address, "POST", &path, &[("Content-Type", "text/plain;charset=UTF-8")], packet.as_bytes());
            assert_eq!(told.text(), "ok");
        };
        say("40");
        assert!(hub.get(&path).text().starts_with("40"));
        publish(&hub, "kept", [1]);
        say(r#"42["subscribe","kept"]"#);
        assert_eq!(hub.get(&path).text(), r#"42["joined","kept"]"#);
        hub.publish(r#"{"room":"kept","event":"n","data":2}"#);
        assert_eq!(hub.get(&path).text(), r#"42["n",2]"#);
    }
}

fn reload(hub: &Hub, config: &str) {
    let reads = || hub.process.log().matches("the configuration was read again").count();
    let before = reads();
    hub.reload(config);
    eventually("the configuration is read again", || (reads() > before).then_some(()));
}

/// The same streams from beginning to end, whatever the rules say meanwhile.
#[test]
fn a_rule_that_changes_gives_rooms_a_history_another_size_and_none_and_drops_nobody() {
    let rule = |size: u32| format!("[[room]]\nmatch = \"*\"\nhistory = {{ size = {size}, ttl = \"1h\" }}\n");
    let redis = Redis::start();
    let over_redis = Setup::new("").variable("REDIS_URL", &redis.url()).start();
    for hub in [Hub::start(""), over_redis] {
        let mut stream = Stream::open(hub.address, "/sse?room=a&room=b");
        publish(&hub, "a", [0]);
        assert_eq!(stream.next().expect("an event").id, None);
        reload(&hub, &rule(5));
        // The first may come before the numbers do.
        let first = eventually("the events of both have ids", || {
            publish(&hub, "a", [1]);
            publish(&hub, "b", [1]);
            let [one, two] = [(); 2].map(|()| stream.next().expect("an event").id);
            one.and(two)
        });
        publish(&hub, "a", 2..=4);
        publish(&hub, "b", [5]);
        assert_eq!(numbers(&mut stream, 4), ["2", "3", "4", "5"]);
        let mut missed = numbers(&mut resume(&hub, "room=a&room=b", &first), 4);
        missed.sort();
        assert_eq!(missed, ["2", "3", "4", "5"], "one id covers both rooms");
        reload(&hub, &rule(2));
        let (notice, kept) = gap(&mut resume(&hub, "room=a", &first), 2);
        assert_eq!((kept, notice["reason"].as_str()), (vec!["3".to_owned(), "4".to_owned()], Some("history_trimmed")));
        reload(&hub, "");
        publish(&hub, "a", [6]);
        let last = stream.next().expect("an event");
        assert_eq!((last.data.as_str(), last.id), ("6", None));
        assert_eq!(gap(&mut resume(&hub, "room=a", &first), 0).0["reason"], "no_history");
    }
}

/// Nobody is kept waiting for more than two seconds: on a machine that takes longer a client is told that it may have missed
/// something, and comes back once more from what it has.
fn is_excused(event: &str, reason: &str, came_back: Instant) -> bool {
    event.contains("gap") && reason.contains("broker_lost") && came_back.elapsed() > Duration::from_secs(2)
}

/// A publisher at full speed, and a client that comes back again and again from where it happened to be, on any node.
#[test]
fn who_comes_back_at_any_moment_of_a_flood_has_no_hole_and_no_double() {
    const EVENTS: u32 = 2_000;
    let rules = "[[room]]\nmatch = \"*\"\nhistory = { size = 5000, ttl = \"1h\" }\n[mailbox]\nconnection = 8192\n";
    let redis = Redis::start();
    let hubs: [Hub; 2] = std::array::from_fn(|_| Setup::new(rules).variable("REDIS_URL", &redis.url()).start());
    let witness: Vec<Stream> = hubs.iter().map(|hub| Stream::open(hub.address, "/sse?room=kept")).collect();
    let port = redis.port;
    let mut socket = join(&hubs[1], None);
    let mut stream = Stream::open(hubs[0].address, "/sse?room=kept");
    let flood = std::thread::spawn(move || {
        let mut publisher = Publisher::connect(port);
        (1..=EVENTS).for_each(|number| publisher.publish("callboard:room:kept", &json!({ "data": number }).to_string()));
    });
    let (mut on_sse, mut on_socket, mut turn) = (0, 0, 0_usize);
    let (mut last, mut since) = (None, None);
    let (mut back_on_sse, mut back_on_socket) = (Instant::now(), Instant::now());
    while on_sse < EVENTS || on_socket < EVENTS {
        turn += 1;
        // Some leave at once, some stay for a while.
        let share = (turn * 7919 % 97 + 1) as u32;
        for _ in 0..share.min(EVENTS - on_sse) {
            let block = stream.next().expect("an event");
            if is_excused(&block.event, &block.data, back_on_sse) {
                break;
            }
            on_sse += 1;
            assert_eq!(block.data, on_sse.to_string(), "on SSE, turn {turn}");
            last = block.id;
        }
        for _ in 0..share.min(EVENTS - on_socket) {
            let event = socket.next();
            if is_excused(&event["type"].to_string(), &event["reason"].to_string(), back_on_socket) {
                break;
            }
            on_socket += 1;
            assert_eq!((event["type"].as_str(), event["data"].as_u64()), (Some("event"), Some(on_socket.into())), "turn {turn}");
            since = event["id"].as_str().map(str::to_owned);
        }
        let hub = &hubs[turn % 2];
        if let Some(last) = &last {
            back_on_sse = Instant::now();
            stream = resume(hub, "room=kept", last);
        }
        if let Some(since) = &since {
            back_on_socket = Instant::now();
            socket = join(hub, Some(since));
        }
    }
    flood.join().expect("a publisher");
    drop(witness);
}

fn join(hub: &Hub, since: Option<&str>) -> Socket {
    let mut socket = Socket::open(hub.address, "/ws?room=");
    socket.expect("welcome");
    let mut order = json!({ "type": "join", "room": "kept" });
    if let Some(since) = since {
        order["since"] = since.into();
    }
    socket.send(&order.to_string());
    socket.expect("joined");
    socket
}
