//! What every broker promises. One suite, run on each.

use std::sync::Arc;

use bytes::Bytes;
use callboard::{
    actors::messages::{BrokerError, Publish, Published},
    broker::link::Inbound,
    protocol::{ConnectionId, Target, dialect::Dialect},
};
use futures_util::future;

use crate::support::{Bus, Fixture, Listener, Setup, event, logged, room, source, user};

macro_rules! on_every_broker {
    ($($test:ident)*) => {
        mod memory {
            $(#[actix::test] async fn $test() { super::$test(super::Fixture::Memory).await })*
        }
        mod redis {
            $(#[actix::test] async fn $test() { super::$test(super::Fixture::Redis).await })*
        }
    };
}

on_every_broker! {
    an_event_published_after_the_answer_comes_down
    ten_thousand_events_of_several_publishers_come_down_once_and_in_order
    what_is_published_without_waiting_keeps_its_order
    nothing_comes_after_the_last_worker_has_left
    a_room_is_fed_by_each_of_its_channels_once
    users_have_events_of_their_own
    an_unreadable_payload_is_counted_and_logged_once_and_nothing_else
    a_publish_tells_its_id_and_how_many_took_it
    a_publish_that_nobody_here_listens_to_is_no_error
    two_publishes_under_one_id_are_told_apart
    an_event_for_several_carries_one_key
    an_event_for_one_carries_no_key
    excepted_connections_are_named_to_the_groups
    the_feeds_of_all_workers_get_it
    a_worker_that_leaves_takes_nothing_from_the_others
    standing_dialects_reach_their_rooms
    a_room_without_channels_of_its_own_is_joined_at_once
    what_a_full_group_refuses_is_counted_for_it_alone
    a_room_that_is_left_and_joined_again_is_heard
    the_bridge_is_ready_and_counts_no_reconnects
}

async fn start(fixture: Fixture) -> Bus {
    fixture.start(Setup::default()).await
}

fn native(name: &str, data: &str) -> String {
    format!(r#"{{"event":"{name}","data":"{data}"}}"#)
}

fn pair(name: &str, data: &str) -> (String, String) {
    (name.to_owned(), format!("\"{data}\""))
}

async fn an_event_published_after_the_answer_comes_down(fixture: Fixture) {
    let bus = start(fixture).await;
    for round in 0..20 {
        let mut listener = bus.join(room(&format!("r{round}"))).await;
        bus.publish(&format!("callboard:room:r{round}"), &native("e", "x")).await;
        assert_eq!(listener.next_event().await, pair("e", "x"));
    }
}

async fn ten_thousand_events_of_several_publishers_come_down_once_and_in_order(fixture: Fixture) {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 2_500;
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let bus = &bus;
        async move {
            for number in 0..EACH {
                bus.publish("callboard:room:r", &native(&format!("p{publisher}"), &number.to_string())).await;
            }
        }
    });
    let listening = async {
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * EACH {
            let (name, data) = listener.next_event().await;
            let publisher: usize = name[1..].parse().unwrap();
            assert_eq!(data, format!("\"{}\"", next[publisher]), "of publisher {publisher}");
            next[publisher] += 1;
        }
    };
    future::join(future::join_all(publishers), listening).await;
    bus.settle().await;
    assert_eq!(listener.so_far(), []);
    assert_eq!(listener.missed(), 0);
    assert_eq!(bus.metric(r#"callboard_events_published_total{source="callboard:room:{room}"}"#), 10_001, "and the fence");
}

/// As a batch does, and a client that publishes faster than it is answered.
async fn what_is_published_without_waiting_keeps_its_order(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    let sent = (0..1000).map(|number| bus.bridge.send(publish(room("r"), number)));
    for answer in future::join_all(sent.collect::<Vec<_>>()).await {
        answer.unwrap().unwrap();
    }
    for number in 0..1000 {
        assert_eq!(listener.next_event().await, pair("e", &number.to_string()));
    }
}

fn publish(target: Target, number: u32) -> Publish {
    Publish { targets: [target].into_iter().collect(), event: event("e", &number.to_string()), except: Vec::new(), idempotency_key: None }
}

async fn nothing_comes_after_the_last_worker_has_left(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    bus.publish("callboard:room:r", &native("e", "before")).await;
    assert_eq!(listener.next_event().await, pair("e", "before"));
    bus.leave(&listener).await;
    bus.publish("callboard:room:r", &native("e", "after")).await;
    bus.settle().await;
    assert_eq!(listener.so_far(), []);
}

async fn a_room_is_fed_by_each_of_its_channels_once(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("sse")).await;
    bus.publish("callboard:room:sse", &native("native", "1")).await;
    bus.publish("sse", r#"["django","2"]"#).await;
    bus.publish("socketio_sse", r#"{"name":"gevent","args":["sse","3"]}"#).await;
    bus.settle().await;
    assert_eq!(listener.so_far(), [pair("native", "1"), pair("django", "2"), pair("gevent", "3")]);
}

#[actix::test]
async fn in_a_flood_the_bridge_leaves_the_reader_its_turns() {
    // What the bridge's mailbox holds here.
    const FLOOD: usize = 4000;
    let bus = start(Fixture::Memory).await;
    let mut listener = bus.join(room("r")).await;
    let (channel, payload) = (Arc::from("callboard:room:r"), Bytes::from(native("e", "x")));
    for _ in 0..FLOOD {
        bus.bridge.try_send(Inbound { channel: Arc::clone(&channel), payload: payload.clone() }).expect("a place");
    }
    let mut turns = 0;
    let mut came = 0;
    while came < FLOOD {
        tokio::task::yield_now().await;
        came += listener.so_far().len();
        turns += 1;
    }
    assert!(turns > 5, "all {FLOOD} were taken within {turns} turns of the thread");
}

async fn users_have_events_of_their_own(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut alice = bus.join(user("alice")).await;
    let mut bob = bus.join(user("bob")).await;
    let mut namesake = bus.join(room("alice")).await;
    bus.publish("callboard:user:alice", &native("native", "1")).await;
    bus.publish("sse_alice", r#"["django","2"]"#).await;
    bus.publish("sse_bob", r#"["django","3"]"#).await;
    bus.settle().await;
    assert_eq!(alice.so_far(), [pair("native", "1"), pair("django", "2")]);
    assert_eq!(bob.so_far(), [pair("django", "3")]);
    assert_eq!(namesake.so_far(), []);
}

async fn an_unreadable_payload_is_counted_and_logged_once_and_nothing_else(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("sse")).await;
    for _ in 0..3 {
        bus.publish("callboard:room:sse", "{not json").await;
    }
    bus.publish("callboard:room:sse", "[]").await;
    bus.publish("sse", "{not json").await;
    bus.publish("sse", r#"["django","still here"]"#).await;
    assert_eq!(listener.next_event().await, pair("django", "still here"));
    let count = |source: &str| -> u64 {
        let text = bus.metrics.render();
        let start = format!("callboard_source_errors_total{{source=\"{source}\"");
        text.lines().filter_map(|line| line.strip_prefix(&start)?.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    assert_eq!((count("callboard:room:{room}"), count("sse")), (4, 1));
    assert_eq!(logged("further ones are only counted").len(), 2, "once for each source");
    assert_eq!(logged("not json"), [""; 0], "no payload stands in the log");
}

async fn a_publish_tells_its_id_and_how_many_took_it(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut first = Listener::with(room("r"), 0, 3, 16);
    let second = Listener::with(room("r"), 1, 4, 16);
    first.subscribe(&bus).await.unwrap();
    second.subscribe(&bus).await.unwrap();
    let mut named = event("e", "x");
    named.id = Some("mine".into());
    assert_eq!(bus.send(&[room("r")], named).await, Ok(Published { id: "mine".into(), delivered: 7 }));
    assert_eq!(first.next().await.event.id.as_deref(), Some("mine"));

    let given = bus.send(&[room("r")], event("e", "x")).await.unwrap();
    assert_eq!((given.id.len(), given.delivered), (32, 7));
    assert_eq!(first.next().await.event.id, Some(given.id));
}

async fn a_publish_that_nobody_here_listens_to_is_no_error(fixture: Fixture) {
    let bus = start(fixture).await;
    assert_eq!(bus.send(&[room("empty")], event("e", "x")).await.map(|published| published.delivered), Ok(0));
}

async fn two_publishes_under_one_id_are_told_apart(fixture: Fixture) {
    let bus = start(fixture).await;
    let small = Listener::with(room("small"), 0, 1, 16);
    let large = Listener::with(room("large"), 0, 9, 16);
    small.subscribe(&bus).await.unwrap();
    large.subscribe(&bus).await.unwrap();
    let same = |data| {
        let mut event = event("e", data);
        event.id = Some("same".into());
        event
    };
    let (to_small, to_large) = ([room("small")], [room("large")]);
    let (first, second) = future::join(bus.send(&to_small, same("1")), bus.send(&to_large, same("2"))).await;
    assert_eq!((first.unwrap().delivered, second.unwrap().delivered), (1, 9));
}

async fn an_event_for_several_carries_one_key(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut one = Listener::with(room("one"), 0, 1, 16);
    let mut two = Listener::with(user("two"), 0, 2, 16);
    one.subscribe(&bus).await.unwrap();
    two.subscribe(&bus).await.unwrap();
    let published = bus.send(&[room("one"), user("two"), room("nobody's")], event("e", "x")).await.unwrap();
    assert_eq!(published.delivered, 3);
    let (first, second) = (one.next().await, two.next().await);
    assert_eq!(first.duplicate_key, second.duplicate_key);
    assert!(first.duplicate_key.is_some());
}

async fn an_event_for_one_carries_no_key(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    bus.send(&[room("r")], event("e", "x")).await.unwrap();
    assert!(listener.next().await.is_for_all());
}

async fn excepted_connections_are_named_to_the_groups(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    let except = ConnectionId::new(7, 9);
    let order = Publish { targets: [room("r")].into_iter().collect(), event: event("e", "x"), except: vec![except], idempotency_key: None };
    bus.bridge.send(order).await.unwrap().unwrap();
    assert_eq!(listener.next().await.except[..], [except]);
    bus.publish("callboard:room:r", &format!(r#"{{"event":"e","except":["{except}","no connection"]}}"#)).await;
    assert_eq!(listener.next().await.except[..], [except]);
}

async fn the_feeds_of_all_workers_get_it(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listeners: Vec<_> = (0..3).map(|worker| Listener::with(room("r"), worker, 0, 16)).collect();
    future::join_all(listeners.iter().map(|listener| listener.subscribe(&bus))).await;
    bus.publish("callboard:room:r", &native("e", "x")).await;
    for listener in &mut listeners {
        assert_eq!(listener.next_event().await, pair("e", "x"));
    }
    bus.settle().await;
    assert!(listeners.iter_mut().all(|listener| listener.so_far().is_empty()));
}

async fn a_worker_that_leaves_takes_nothing_from_the_others(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut stays = bus.join(room("r")).await;
    let mut leaves = Listener::with(room("r"), 1, 0, 16);
    leaves.subscribe(&bus).await.unwrap();
    bus.leave(&leaves).await;
    bus.publish("callboard:room:r", &native("e", "x")).await;
    assert_eq!(stays.next_event().await, pair("e", "x"));
    assert_eq!(leaves.so_far(), []);
}

fn with_standing_sources() -> Setup {
    let mut setup = Setup::default();
    setup.sources.extend([
        source("flask-socketio", Dialect::PythonSocketio, None),
        source("__anycable__", Dialect::Anycable, None),
        source("socket.io#*", Dialect::SocketioEmitter, None),
    ]);
    setup
}

const EMIT: &str = r#"{"method":"emit","event":"python","data":["1"],"binary":false,"namespace":"/","room":"room1","skip_sid":null,"callback":null,"host_id":"h"}"#;
/// What a server of socket.io 4 with the Redis adapter sends for `io.to("room1").emit("news", {a: 1})`.
const PACKED: &str =
    "93a677454a54357783a47479706502a46461746192a46e65777381a16101a36e7370a12f83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

async fn standing_dialects_reach_their_rooms(fixture: Fixture) {
    let bus = fixture.start(with_standing_sources()).await;
    let mut listener = bus.join(room("room1")).await;
    bus.publish("flask-socketio", EMIT).await;
    bus.publish("__anycable__", r#"{"stream":"room1","data":"\"2\""}"#).await;
    bus.publish("socket.io#/#room1#", unhex(PACKED)).await;
    bus.settle().await;
    assert_eq!(listener.so_far(), [pair("python", "1"), pair("message", "2"), ("news".into(), r#"{"a":1}"#.into())]);
}

async fn a_room_without_channels_of_its_own_is_joined_at_once(fixture: Fixture) {
    let sources = vec![source("flask-socketio", Dialect::PythonSocketio, None), source("callboard:room:{room}", Dialect::Callboard, None)];
    let bus = fixture.start(Setup { sources, ..Setup::default() }).await;
    // No source says `{user}`.
    bus.join(user("alice")).await;
}

async fn what_a_full_group_refuses_is_counted_for_it_alone(fixture: Fixture) {
    const EVENTS: u64 = 500;
    let bus = start(fixture).await;
    let mut narrow = Listener::with(room("r"), 0, 0, 1);
    let mut wide = Listener::with(room("r"), 1, 0, 65_536);
    narrow.subscribe(&bus).await.unwrap();
    wide.subscribe(&bus).await.unwrap();
    // All at once, so that they reach the bridge in batches.
    let payload = native("e", "x");
    future::join_all((0..EVENTS).map(|_| bus.publish("callboard:room:r", &payload))).await;
    bus.settle().await;
    let came = narrow.so_far().len() as u64;
    assert_eq!(wide.so_far().len() as u64, EVENTS);
    assert_eq!(wide.missed(), 0);
    assert_eq!(came + narrow.missed(), EVENTS);
    assert!(narrow.missed() > 0, "the mailbox was never full");
    assert_eq!(bus.metric(r#"callboard_mailbox_full_total{actor="room"}"#), narrow.missed());
}

async fn a_room_that_is_left_and_joined_again_is_heard(fixture: Fixture) {
    let bus = start(fixture).await;
    let mut listener = bus.join(room("r")).await;
    for round in 0..50 {
        bus.leave(&listener).await;
        listener.subscribe(&bus).await.unwrap();
        bus.publish("callboard:room:r", &native("e", &round.to_string())).await;
        assert_eq!(listener.next_event().await, pair("e", &round.to_string()));
    }
}

async fn the_bridge_is_ready_and_counts_no_reconnects(fixture: Fixture) {
    let bus = start(fixture).await;
    bus.settle().await;
    assert!(bus.readiness.is_ready());
    assert_eq!(bus.metric("callboard_broker_up"), 1);
    assert_eq!(bus.metric("callboard_broker_reconnects_total"), 0);
    assert_eq!(bus.metric("callboard_broker_gaps_total"), 0);
}

/// Here a full mailbox is not silent either: the hub's own publisher is told, and programs wait.
#[actix::test]
async fn the_embedded_broker_refuses_when_the_bridge_is_full() {
    let bus = Fixture::Memory.start(Setup { mailbox: 2, ..Setup::default() }).await;
    let mut listener = bus.join(room("r")).await;
    let targets = vec![room("r"); 20];
    assert_eq!(bus.send(&targets, event("e", "x")).await, Err(BrokerError::Overloaded));
    let payload = native("e", "y");
    future::join_all((0..100).map(|_| bus.publish("callboard:room:r", &payload))).await;
    let came: Vec<_> = listener.so_far().into_iter().filter(|came| *came == pair("e", "y")).collect();
    assert_eq!(came.len(), 100);
}

#[actix::test]
async fn an_unreadable_payload_is_logged_again_after_a_minute() {
    let bus = Fixture::Memory.start(Setup::default()).await;
    let _listener = bus.join(room("sse")).await;
    tokio::time::pause();
    for (seconds, lines) in [(0, 1), (59, 1), (1, 2), (59, 2)] {
        tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
        bus.publish("sse", "{not json").await;
        bus.settle().await;
        assert_eq!(logged("further ones are only counted").len(), lines);
    }
}
