//! The registry among other nodes: presence as members see it, and orders that every node carries out.

use std::{sync::Arc, time::Duration};

use callboard::{
    actors::{
        messages::{
            BridgeUp, BrokerError, ConnectionEnded, ConnectionLookup, Disconnect, Drain, Enrol, Leave, NodeSaid, Reconfigure,
            RoomMemberList, RoomMembers,
        },
        worker::Worker,
    },
    auth::Identity,
    config::Config,
    protocol::{
        ConnectionId,
        gossip::{ConnectionReport, NodeChannel, Subject},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::{Answering, Guest, House, config, drain_json, frame, joined, joining, named, pass, room, settle, user};

const RULES: &str = "[http]\nmax_rooms_per_connection = 3\n[[room]]\nmatch = \"demo*\"\npresence = true\n[[room]]\nmatch = \"*\"\n";
/// Longer than announcements are gathered.
const SOON: Duration = Duration::from_millis(200);
/// Longer than a leave is held back.
const HELD: Duration = Duration::from_millis(2200);

fn house() -> House {
    tokio::time::pause();
    House::new(config(RULES))
}

async fn node_says(house: &House, channel: NodeChannel, payload: Value) {
    house.registry.send(NodeSaid { channel, payload: payload.to_string().into() }).await.expect("a registry");
    pass(SOON).await;
}

async fn members(house: &House, name: &str) -> RoomMembers {
    house.registry.send(RoomMemberList { room: room(name) }).await.expect("a registry")
}

async fn enrol(house: &House, subject: Subject, name: &str, is_member: bool) -> Result<usize, BrokerError> {
    let answer = house.registry.send(Enrol { subject, room: room(name), is_member }).await.expect("a registry");
    settle().await;
    answer
}

/// What the nodes were told on this channel.
fn told(house: &House, channel: NodeChannel) -> Vec<Value> {
    let told = house.seen.borrow();
    told.told_nodes.iter().filter(|(on, _)| *on == channel).map(|(_, payload)| payload.clone()).collect()
}

fn notices(guest: &Guest) -> Vec<Value> {
    drain_json(&guest.outbox).into_iter().filter(|message| message["type"] == "presence").collect()
}

fn presence(joined: &[&str], left: &[&str]) -> Value {
    json!({"type": "presence", "room": "demo", "joined": joined, "left": left})
}

/// True if the connection has been told to end: nothing more is taken for it.
fn is_closed(guest: &Guest) -> bool {
    drain_json(&guest.outbox);
    guest.outbox.push_control(frame("{}"));
    drain_json(&guest.outbox).is_empty()
}

fn alice() -> Subject {
    Subject::User(user("alice"))
}

/// A Socket.IO client may show its token after it has joined.
#[actix::test]
async fn who_says_later_who_it_is_leaves_no_ghost_behind() {
    let house = house();
    let watcher = house.connect(1, named("watcher")).await;
    house.join(&watcher, "demo").await.expect("a member");
    let guest = house.connect(2, Identity::anonymous()).await;
    house.join(&guest, "demo").await.expect("a member");
    pass(SOON).await;
    assert_eq!(members(&house, "demo").await, RoomMembers { users: vec![(user("watcher"), 1)], anonymous: 1 });
    let (_, connect) = house.guest(2, named("alice"), Worker::current());
    house.registry.send(connect).await.expect("a registry").expect("a welcome");
    assert_eq!(members(&house, "demo").await, RoomMembers { users: vec![(user("alice"), 1), (user("watcher"), 1)], anonymous: 0 });
    house.registry.send(ConnectionEnded { connection: guest.id }).await.expect("a registry");
    assert_eq!(members(&house, "demo").await, RoomMembers { users: vec![(user("watcher"), 1)], anonymous: 0 });
    pass(HELD).await;
    assert_eq!(notices(&watcher), [presence(&["watcher"], &[]), presence(&["alice"], &[]), presence(&[], &["alice"])]);
}

#[actix::test]
async fn members_are_told_of_each_other_and_other_nodes_too() {
    let house = house();
    let (alice, bob) = (house.connect(1, named("alice")).await, house.connect(2, named("bob")).await);
    house.join(&alice, "demo").await.expect("a member");
    pass(SOON).await;
    house.join(&bob, "demo").await.expect("a member");
    pass(SOON).await;
    assert_eq!(notices(&alice), [presence(&["alice"], &[]), presence(&["bob"], &[])]);
    assert_eq!(notices(&bob), [presence(&["bob"], &[])]);
    house.registry.send(ConnectionEnded { connection: bob.id }).await.expect("a registry");
    pass(HELD).await;
    assert_eq!(notices(&alice), [presence(&[], &["bob"])]);
    let changes: Vec<Value> = told(&house, NodeChannel::Presence).into_iter().map(|said| said["rooms"][0]["users"].clone()).collect();
    assert_eq!(changes, [json!([["alice", 1]]), json!([["bob", 1]]), json!([["bob", 0]])]);
}

#[actix::test]
async fn who_is_let_in_late_is_present_only_then_and_hears_of_itself() {
    let house = house();
    let alice = house.connect(1, named("alice")).await;
    house.answer(Answering::Later);
    let answer = actix::spawn(house.registry.send(joining(&alice, "demo")));
    pass(SOON).await;
    assert_eq!(members(&house, "demo").await, RoomMembers::default());
    house.answer_waiting(Ok(())).await;
    answer.await.expect("a task").expect("a registry").expect("a member");
    pass(SOON).await;
    assert_eq!(notices(&alice), [presence(&["alice"], &[])]);
}

#[actix::test]
async fn every_way_out_of_a_room_is_a_leave_once() {
    let house = house();
    let (watcher, anonymous) = (house.connect(1, named("watcher")).await, house.connect(2, Identity::anonymous()).await);
    house.join(&watcher, "demo").await.expect("a member");
    house.join(&anonymous, "demo").await.expect("a member");
    for number in 3..=5 {
        let guest = house.connect(number, named("alice")).await;
        for _ in 0..2 {
            house.join(&guest, "demo").await.expect("a member");
        }
        pass(SOON).await;
        assert_eq!(members(&house, "demo").await.users, [(user("alice"), 1), (user("watcher"), 1)]);
        notices(&watcher);
        match number {
            3 => _ = house.registry.send(Leave { connection: guest.id, room: room("demo"), farewell: None }).await,
            4 => _ = enrol(&house, alice(), "demo", false).await,
            _ => _ = house.registry.send(ConnectionEnded { connection: guest.id }).await,
        }
        pass(HELD).await;
        house.registry.send(ConnectionEnded { connection: guest.id }).await.expect("a registry");
        pass(HELD).await;
        assert_eq!(notices(&watcher), [presence(&[], &["alice"])], "way {number}");
        assert_eq!(members(&house, "demo").await, RoomMembers { users: vec![(user("watcher"), 1)], anonymous: 1 });
    }
}

#[actix::test]
async fn who_was_turned_away_is_no_member_although_it_asked_twice() {
    let house = house();
    let (first, second) = (house.connect(1, named("alice")).await, house.connect(2, named("alice")).await);
    house.answer(Answering::No);
    let both = futures_util::future::join(house.join(&first, "demo"), house.join(&first, "demo")).await;
    assert!(both.0.is_err() && both.1.is_err());
    house.answer(Answering::Yes);
    house.join(&second, "demo").await.expect("a member");
    assert_eq!(members(&house, "demo").await.users, [(user("alice"), 1)]);
}

#[actix::test]
async fn the_members_of_other_nodes_are_listed_and_told_of() {
    let house = house();
    house.registry.send(BridgeUp).await.expect("a registry");
    let bob = house.connect(1, named("bob")).await;
    house.join(&bob, "demo").await.expect("a member");
    pass(SOON).await;
    notices(&bob);
    let rooms = json!([{"room": "demo", "users": [["alice", 2], ["bob", 1]], "anonymous": 3}]);
    node_says(&house, NodeChannel::Presence, json!({"node": 9, "sequence": 1, "type": "change", "rooms": rooms})).await;
    assert_eq!(notices(&bob), [presence(&["alice"], &[])]);
    assert_eq!(members(&house, "demo").await, RoomMembers { users: vec![(user("alice"), 2), (user("bob"), 2)], anonymous: 3 });
    pass(Duration::from_secs(16)).await;
    assert_eq!(notices(&bob), [presence(&[], &["alice"])]);
}

#[actix::test]
async fn rooms_without_presence_say_nothing_and_list_this_node() {
    let house = house();
    let alice = house.connect(1, named("alice")).await;
    house.join(&alice, "quiet").await.expect("a member");
    pass(Duration::from_secs(60)).await;
    assert_eq!((notices(&alice), told(&house, NodeChannel::Presence)), (vec![], vec![]));
    assert_eq!(members(&house, "quiet").await.users, [(user("alice"), 1)]);
}

#[actix::test]
async fn a_hub_without_presence_takes_no_notice_of_other_nodes() {
    tokio::time::pause();
    let house = House::new(config("[[room]]\nmatch = \"*\"\n"));
    node_says(&house, NodeChannel::Presence, json!({"not": "read"})).await;
    assert!(!house.metrics.render().contains("callboard_source_errors_total{"));
}

#[actix::test]
async fn a_rule_that_is_changed_counts_those_who_are_there() {
    tokio::time::pause();
    let (with, without) = (config(RULES), config("[[room]]\nmatch = \"*\"\n"));
    let house = House::new(without.clone());
    let alice = house.connect(1, named("alice")).await;
    house.join(&alice, "demo").await.expect("a member");
    house.registry.send(Reconfigure(Arc::new(with))).await.expect("a registry");
    pass(SOON).await;
    assert_eq!(notices(&alice), [presence(&["alice"], &[])]);
    let said: Vec<Value> = told(&house, NodeChannel::Presence).into_iter().map(|said| said["type"].clone()).collect();
    assert_eq!(said, ["sync", "heartbeat"]);
    house.registry.send(Reconfigure(Arc::new(without))).await.expect("a registry");
    pass(SOON).await;
    assert_eq!(told(&house, NodeChannel::Presence).last().map(|said| said["rooms"][0]["users"].clone()), Some(json!([["alice", 0]])));
}

#[actix::test]
async fn a_drain_ends_with_a_goodbye() {
    let house = house();
    let alice = house.connect(1, named("alice")).await;
    house.join(&alice, "demo").await.expect("a member");
    pass(SOON).await;
    house.registry.send(Drain { over: Duration::from_secs(1) }).await.expect("a registry");
    house.registry.send(ConnectionEnded { connection: alice.id }).await.expect("a registry");
    pass(Duration::from_secs(60)).await;
    let said = told(&house, NodeChannel::Presence);
    assert_eq!(said.last().map(|said| said["type"].clone()), Some(json!("goodbye")));
}

#[actix::test]
async fn an_order_is_carried_out_here_and_passed_on() {
    let house = house();
    let (first, second) = (house.connect(1, named("alice")).await, house.connect(2, named("alice")).await);
    let other = house.connect(3, named("bob")).await;
    assert_eq!(enrol(&house, alice(), "a", true).await, Ok(2));
    for guest in [&first, &second] {
        assert_eq!(drain_json(&guest.outbox), [joined("a")]);
    }
    assert_eq!(enrol(&house, alice(), "a", false).await, Ok(2));
    assert_eq!(enrol(&house, alice(), "a", false).await, Ok(0), "they were no members");
    assert_eq!(drain_json(&first.outbox), [json!({"type": "left", "room": "a"})]);
    assert_eq!(house.registry.send(Disconnect { subject: alice() }).await.expect("a registry"), Ok(2));
    assert!(is_closed(&first) && is_closed(&second) && !is_closed(&other));
    assert_eq!(
        told(&house, NodeChannel::Control),
        [
            json!({"node": 1, "subject": {"user": "alice"}, "type": "join", "room": "a"}),
            json!({"node": 1, "subject": {"user": "alice"}, "type": "leave", "room": "a"}),
            json!({"node": 1, "subject": {"user": "alice"}, "type": "leave", "room": "a"}),
            json!({"node": 1, "subject": {"user": "alice"}, "type": "disconnect"}),
        ]
    );
}

#[actix::test]
async fn an_order_for_a_connection_of_another_node_is_passed_on_and_one_of_this_node_is_not() {
    let house = house();
    let guest = house.connect(1, named("alice")).await;
    let elsewhere = "0000000900000001".parse().expect("an id");
    assert_eq!(enrol(&house, Subject::Connection(guest.id), "a", true).await, Ok(1));
    assert_eq!(told(&house, NodeChannel::Control), Vec::<Value>::new());
    assert_eq!(enrol(&house, Subject::Connection(elsewhere), "a", true).await, Ok(0));
    let expected = json!({"node": 1, "subject": {"connection": "0000000900000001"}, "type": "join", "room": "a"});
    assert_eq!(told(&house, NodeChannel::Control), [expected]);
}

#[actix::test]
async fn the_orders_of_other_nodes_are_carried_out_and_ones_own_not_twice() {
    let house = house();
    let guest = house.connect(1, named("alice")).await;
    for (node, expected) in [(1, vec![]), (9, vec![joined("a")]), (9, vec![])] {
        let order = json!({"node": node, "subject": {"user": "alice"}, "type": "join", "room": "a"});
        node_says(&house, NodeChannel::Control, order).await;
        assert_eq!(drain_json(&guest.outbox), expected);
    }
    node_says(&house, NodeChannel::Control, json!({"node": 9, "subject": {"connection": guest.id}, "type": "leave", "room": "a"})).await;
    assert_eq!(drain_json(&guest.outbox), [json!({"type": "left", "room": "a"})]);
    node_says(&house, NodeChannel::Control, json!({"node": 9, "subject": {"user": "alice"}, "type": "disconnect"})).await;
    assert!(is_closed(&guest));
    assert_eq!(told(&house, NodeChannel::Control), Vec::<Value>::new(), "nothing is passed on twice");
}

async fn look_up(house: &House, connection: ConnectionId) -> Result<Option<ConnectionReport>, BrokerError> {
    house.registry.send(ConnectionLookup { connection }).await.expect("a registry")
}

#[actix::test]
async fn a_connection_of_another_node_is_asked_about_there_and_nobody_waits_long_for_a_dead_one() {
    let house = house();
    let elsewhere: ConnectionId = "0000000900000001".parse().expect("an id");
    let report = json!({"wire": "sse", "user": "alice", "rooms": ["a"], "queued": 3, "dropped": 4});
    // As many rooms as the default lets a connection be in, and more, with long names.
    let rooms: Vec<_> = (0..1_000).map(|number| format!("{number:0>190}")).collect();
    let large = json!({"wire": "ws", "user": null, "rooms": rooms, "queued": 0, "dropped": 0});
    for found in [report, large, Value::Null] {
        let asked = house.registry.send(ConnectionLookup { connection: elsewhere });
        let answered = actix::spawn(asked);
        settle().await;
        let question = told(&house, NodeChannel::Control).pop().expect("a question");
        assert_eq!((&question["node"], &question["about"]), (&json!(1), &json!("0000000900000001")));
        for to in [2, 1] {
            node_says(&house, NodeChannel::Control, json!({"to": to, "number": question["number"], "found": found})).await;
        }
        let answer = answered.await.expect("a task").expect("a registry").expect("an answer");
        assert_eq!(serde_json::to_value(answer).expect("JSON"), found);
    }
    let asked_at = Instant::now();
    assert_eq!(look_up(&house, elsewhere).await, Ok(None));
    assert!(asked_at.elapsed() < Duration::from_millis(1100));
    house.answer(Answering::No);
    assert_eq!(look_up(&house, elsewhere).await, Err(BrokerError::Unavailable));
}

#[actix::test]
async fn a_node_answers_for_its_own_connections_alone() {
    let house = house();
    let guest = house.connect(1, named("alice")).await;
    house.join(&guest, "a").await.expect("a member");
    assert_eq!(look_up(&house, guest.id).await.expect("an answer").expect("a connection").rooms, [room("a")]);
    let gone = ConnectionId::new(1, 77);
    assert_eq!(look_up(&house, gone).await, Ok(None));
    assert_eq!(told(&house, NodeChannel::Control), Vec::<Value>::new(), "nobody else would know");
    for about in [json!(guest.id), json!(gone), json!("0000000800000001")] {
        node_says(&house, NodeChannel::Control, json!({"node": 9, "number": 5, "about": about})).await;
    }
    let answers = told(&house, NodeChannel::Control);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["found"]["user"], json!("alice"));
    assert_eq!(answers[1], json!({"to": 9, "number": 5, "found": null}));
}

#[actix::test]
async fn an_order_that_does_not_read_is_counted_and_does_nothing() {
    let house = house();
    let guest = house.connect(1, named("alice")).await;
    for order in [
        json!({"node": 9, "subject": {"user": "alice"}, "type": "join"}),
        json!({"node": 9, "subject": {"user": "alice"}, "type": "join", "room": "a\nb"}),
        json!({"node": 9, "subject": {"user": "alice"}, "type": "join", "room": "a".repeat(201)}),
        json!({"node": 9, "subject": {"everybody": true}, "type": "disconnect"}),
        json!([1, 2]),
    ] {
        node_says(&house, NodeChannel::Control, order).await;
    }
    assert_eq!((drain_json(&guest.outbox), is_closed(&guest)), (vec![], false));
    let metrics = house.metrics.render();
    assert!(metrics.contains("callboard_source_errors_total{source=\"control\",reason=\"malformed\"} 5"), "{metrics}");
}

#[actix::test]
async fn an_order_that_the_other_nodes_did_not_get_is_done_here_and_no_success() {
    let house = house();
    let guest = house.connect(1, named("alice")).await;
    house.answer(Answering::No);
    assert_eq!(house.registry.send(Disconnect { subject: alice() }).await.expect("a registry"), Err(BrokerError::Unavailable));
    assert!(is_closed(&guest));
}

#[actix::test]
async fn the_application_may_enrol_whom_the_rule_would_not_let_in_but_not_into_one_room_too_many() {
    tokio::time::pause();
    let house = House::new(config("[http]\nmax_rooms_per_connection = 2\n[[room]]\nmatch = \"*\"\njoin = \"granted\"\n"));
    let guest = house.connect(1, named("alice")).await;
    assert!(house.join(&guest, "a").await.is_err());
    for (name, concerned) in [("a", 1), ("b", 1), ("a", 1), ("c", 0)] {
        assert_eq!(enrol(&house, alice(), name, true).await, Ok(concerned), "{name}");
    }
    assert_eq!(drain_json(&guest.outbox), [joined("a"), joined("b")]);
}

#[actix::test]
async fn the_default_rules_have_presence_in_demo_rooms_only() {
    let config = Config::default();
    assert!(config.rule_for(&room("demo")).presence && !config.rule_for(&room("other")).presence);
}
