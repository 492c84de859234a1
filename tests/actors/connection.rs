//! The connection: the dialogue with a client over the native WebSocket, on a socket pair, with a registry behind it.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr};
use bytes::Bytes;
use callboard::{
    actors::{
        Connection, Outbox,
        connection::{ConnectionOptions, ConnectionParts},
        lease::{Capacity, Tally},
        messages::{Attach, Open, Wish},
        outbox::Incoming,
    },
    auth::{Identity, Keyring},
    config::{Config, Overflow},
    metrics::DropReason,
    protocol::{
        CloseReason, Command, ErrorCode, Reply, Target,
        wire::{Heartbeat, Wire, WireName},
    },
};
use serde_json::json;
use tokio::time::Instant;

use super::support::{
    Answering, CLOSE, House, Peer, config, deliver, delivered, dropped, frame, id, outbox, pair, pass, patiently, publication, room, settle,
};

const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection of which we hold the client's end.
struct Client {
    house: House,
    connection: Addr<Connection>,
    outbox: Arc<Outbox>,
    peer: Peer,
    capacity: Capacity,
}

fn options(house: &House) -> Arc<ConnectionOptions> {
    Arc::new(ConnectionOptions {
        registry: house.registry.clone(),
        keyring: Arc::new(Keyring::new(None).expect("no file is needed")),
        heartbeat: Heartbeat { bytes: b"\x89\x00", every: Duration::from_secs(25), answer_within: Some(Duration::from_secs(10)) },
        stall_limit: Duration::from_secs(10),
        messages_per_second: 5,
        retry: Duration::from_secs(3),
        drain: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(45),
        recoveries: None,
        hears_namespaces: false,
        users: Tally::default(),
        max_per_user: 0,
    })
}

impl Client {
    /// Started, not opened yet.
    async fn new(config: Config, early: &'static [u8]) -> Self {
        tokio::time::pause();
        let house = House::new(config);
        let (socket, peer) = pair();
        let outbox = outbox(16, WireName::WebSocket, &house.metrics);
        let capacity = Capacity::new(1);
        let parts = ConnectionParts {
            id: id(1),
            wire: Wire::web_socket(1024),
            outbox: Arc::clone(&outbox),
            identity: Arc::new(Identity::anonymous()),
            options: options(&house),
            lease: capacity.take().expect("a place"),
            session: None,
        };
        let connection = Connection::new(parts).start();
        let client = Self { house, connection, outbox, peer, capacity };
        client.connection.send(Attach { socket, early: Bytes::from_static(early) }).await.expect("a connection");
        client
    }

    async fn opened(config: Config, rooms: &[&str]) -> Self {
        let mut client = Self::new(config, b"").await;
        let rooms = rooms.iter().map(|name| room(name)).collect();
        assert_eq!(client.connection.send(Open { rooms, since: None }).await.expect("a connection"), Ok(()));
        assert_eq!(client.peer.json().await, json!({"type": "welcome", "connection": id(1).to_string(), "user": null}));
        client
    }

    /// The answer to a message.
    async fn ask(&mut self, message: serde_json::Value) -> serde_json::Value {
        self.peer.say(message).await;
        self.peer.json().await
    }

    /// Asserts that nothing is left of it.
    async fn is_gone(&self) {
        pass(Duration::from_secs(10)).await;
        assert!(!self.connection.connected() && self.outbox.is_ended());
        assert_eq!((self.capacity.taken(), self.house.metrics.connections(WireName::WebSocket).get()), (0, 0));
        assert_eq!((self.house.metrics.rooms().get(), self.house.groups()), (0, 0));
    }
}

fn open_to_all() -> Config {
    config("[[room]]\nmatch = \"closed\"\njoin = \"granted\"\n[[room]]\nmatch = \"*\"\npublish = \"members\"\n")
}

#[actix::test]
async fn each_command_is_answered_with_its_reference() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    let joined = client.ask(json!({"type": "join", "room": "r", "ref": 1})).await;
    assert_eq!(joined, json!({"type": "joined", "room": "r", "ref": 1}));
    let ack = client.ask(json!({"type": "publish", "room": "r", "event": "e", "data": 1, "ref": "two"})).await;
    assert_eq!(ack, json!({"type": "ack", "id": "p1", "ref": "two"}));
    assert_eq!(client.ask(json!({"type": "ping", "ref": 3})).await, json!({"type": "pong", "ref": 3}));
    client.house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    assert_eq!(client.peer.json().await, json!({"type": "event", "room": "r", "event": "e", "data": 1}));
    assert_eq!(client.ask(json!({"type": "leave", "room": "r", "ref": 4})).await, json!({"type": "left", "room": "r", "ref": 4}));
}

#[actix::test]
async fn what_is_refused_is_an_error_with_its_reference_and_closes_nothing() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    for (message, code) in [
        (json!({"type": "join", "room": "closed", "ref": 1}), "forbidden"),
        (json!({"type": "leave", "room": "r", "ref": 1}), "not_joined"),
        (json!({"type": "publish", "room": "r", "event": "e", "data": 1, "ref": 1}), "forbidden"),
        (json!({"type": "join", "room": "", "ref": 1}), "room_name_invalid"),
    ] {
        let answer = client.ask(message).await;
        assert_eq!((&answer["type"], &answer["code"], &answer["ref"]), (&json!("error"), &json!(code), &json!(1)), "{answer}");
    }
    assert_eq!(client.ask(json!({"type": "ping", "ref": 5})).await, json!({"type": "pong", "ref": 5}));
}

#[actix::test]
async fn a_connection_opens_with_a_welcome_and_all_of_its_rooms() {
    let mut client = Client::opened(open_to_all(), &["a", "b"]).await;
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let message = client.peer.json().await;
        assert_eq!(message["type"], "joined");
        rooms.push(message["room"].clone());
    }
    rooms.sort_by_key(ToString::to_string);
    assert_eq!(rooms, [json!("a"), json!("b")]);
}

#[actix::test]
async fn a_connection_that_may_not_have_all_of_its_rooms_has_none_and_ends() {
    let client = Client::new(open_to_all(), b"").await;
    let rooms = vec![room("a"), room("closed"), room("b")];
    let answer = client.connection.send(Open { rooms, since: None }).await.expect("a connection");
    assert_eq!(answer.map_err(|refusal| refusal.code), Err(ErrorCode::Forbidden));
    client.is_gone().await;
}

#[actix::test]
async fn a_room_that_the_broker_refuses_refuses_the_connection() {
    let client = Client::new(open_to_all(), b"").await;
    client.house.answer(Answering::No);
    let answer = client.connection.send(Open { rooms: vec![room("a")], since: None }).await.expect("a connection");
    assert_eq!(answer.map_err(|refusal| refusal.code), Err(ErrorCode::BrokerUnavailable));
    client.is_gone().await;
}

#[actix::test]
async fn bytes_behind_the_request_are_read() {
    let mut client = Client::new(open_to_all(), b"\x89\x82\0\0\0\0hi").await;
    assert_eq!(client.peer.frame().await, Some((PONG, b"hi".to_vec())));
}

#[actix::test]
async fn too_many_messages_are_refused_and_then_the_client_is() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    // A burst of two seconds' worth passes.
    for number in 0..10 {
        assert_eq!(client.ask(json!({"type": "ping", "ref": number})).await["type"], "pong");
    }
    for number in 0..20 {
        let answer = client.ask(json!({"type": "ping", "ref": number})).await;
        assert_eq!((&answer["code"], &answer["ref"]), (&json!("rate_limited"), &json!(number)));
    }
    client.peer.say(json!({"type": "ping"})).await;
    assert_eq!(client.peer.close_code().await, 1008);
    client.peer.hang_up();
    client.is_gone().await;
}

#[actix::test]
async fn a_client_that_rests_after_a_warning_is_not_closed_for_it_later() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    for _ in 0..5 {
        let mut warnings = 0;
        for _ in 0..20 {
            warnings += usize::from(client.ask(json!({"type": "ping"})).await["type"] == "error");
        }
        assert_eq!(warnings, 10);
        pass(Duration::from_secs(3)).await;
    }
}

#[actix::test]
async fn three_malformed_messages_close_with_1003() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    for _ in 0..2 {
        client.peer.send_frame(1, b"{nonsense").await;
        assert_eq!(client.peer.json().await["code"], "bad_request");
    }
    client.peer.send_frame(1, b"[").await;
    assert_eq!(client.peer.close_code().await, 1003);
}

#[actix::test]
async fn messages_that_are_no_commands_never_close_but_count_at_the_rate() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    for _ in 0..10 {
        client.peer.send_frame(1, b"[]").await;
        assert_eq!(client.peer.json().await["code"], "bad_request");
    }
    client.peer.send_frame(1, b"{}").await;
    assert_eq!(client.peer.json().await["code"], "rate_limited");
}

#[actix::test]
async fn a_ping_frame_is_answered_with_its_payload_and_a_close_frame_with_its_code() {
    let mut client = Client::opened(open_to_all(), &["r"]).await;
    client.peer.json().await;
    client.peer.send_frame(PING, b"are you there").await;
    assert_eq!(client.peer.frame().await, Some((PONG, b"are you there".to_vec())));
    client.peer.send_frame(CLOSE, &3000_u16.to_be_bytes()).await;
    assert_eq!(client.peer.close_code().await, 3000);
    client.peer.hang_up();
    client.is_gone().await;
}

#[actix::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let mut client = Client::opened(open_to_all(), &["a", "b"]).await;
    assert_eq!((client.capacity.taken(), client.house.metrics.rooms().get()), (1, 2));
    client.peer.hang_up();
    client.is_gone().await;
}

#[actix::test]
async fn a_client_that_answers_no_ping_is_cut() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    let began = Instant::now();
    assert_eq!(client.peer.frame().await, Some((PING, Vec::new())));
    assert_eq!(client.peer.close_code().await, CloseReason::TimedOut.code());
    assert_eq!(began.elapsed().as_secs(), 35);
}

#[actix::test]
async fn a_slow_consumer_that_reads_on_finds_whole_frames_and_then_1013() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    let target = Target::from(room("r"));
    let bytes = frame(&json!({"type": "event", "data": "x".repeat(3000)}).to_string());
    let incoming = Incoming { bytes: &bytes, target: &target, overflow: Overflow::Disconnect, key: 0 };
    let mut published = 0;
    let mut written = 0;
    while dropped(&client.house.metrics) == 0 {
        written += u64::from(client.outbox.push_event(&incoming) == callboard::actors::outbox::Pushed::Written);
        published += 1;
    }
    settle().await;
    let mut received = 0;
    let code = loop {
        let (opcode, payload) = client.peer.frame().await.expect("a goodbye");
        if opcode == CLOSE {
            break u16::from_be_bytes([payload[0], payload[1]]);
        }
        assert_eq!(payload[..], bytes[4..]);
        received += 1;
    };
    assert_eq!((code, client.peer.frame().await), (1013, None));
    pass(Duration::from_secs(2)).await;
    let metrics = &client.house.metrics;
    assert_eq!(received, written + delivered(metrics));
    assert_eq!(received + dropped(metrics), published);
    assert_eq!(metrics.dropped(DropReason::SlowConsumer).get(), dropped(metrics));
    assert!(!client.connection.connected());
}

#[actix::test]
async fn a_slow_consumer_that_leaves_even_its_goodbye_unread_is_cut_after_five_seconds() {
    let client = Client::opened(open_to_all(), &["r"]).await;
    let target = Target::from(room("r"));
    let bytes = frame(&"x".repeat(1 << 20));
    for _ in 0..3 {
        client.outbox.push_event(&Incoming { bytes: &bytes, target: &target, overflow: Overflow::Disconnect, key: 0 });
    }
    client.outbox.close(CloseReason::SlowConsumer);
    let began = Instant::now();
    while client.connection.connected() {
        pass(Duration::from_millis(10)).await;
    }
    assert!((5_000..5_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    client.is_gone().await;
    assert_eq!(dropped(&client.house.metrics), 3);
}

#[actix::test]
async fn a_draining_hub_says_1012_after_what_was_published_before() {
    let mut client = Client::opened(open_to_all(), &["r"]).await;
    client.peer.json().await;
    client.house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), "last"))).expect("a place");
    settle().await;
    client.outbox.close(CloseReason::Draining);
    assert_eq!(client.peer.json().await["data"], "last");
    assert_eq!(client.peer.close_code().await, 1012);
}

#[actix::test]
async fn the_door_may_wish_in_the_clients_name_and_the_registry_may_tell_it() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    client
        .connection
        .send(Wish(Command::Join { room: room("r"), since: None, reference: Default::default() }))
        .await
        .expect("a connection");
    assert_eq!(client.peer.json().await, json!({"type": "joined", "room": "r"}));
    client.outbox.tell(Reply::Pong { reference: Default::default() }, None);
    assert_eq!(client.peer.json().await, json!({"type": "pong"}));
}

#[actix::test]
async fn a_client_that_caught_up_is_told_how_many_events_it_lost() {
    let mut client = Client::opened(open_to_all(), &[]).await;
    let target = Target::from(room("r"));
    let bytes = frame(&json!({"type": "event", "data": "x".repeat(3000)}).to_string());
    while dropped(&client.house.metrics) < 7 {
        client.outbox.push_event(&Incoming { bytes: &bytes, target: &target, overflow: Overflow::DropNewest, key: 0 });
    }
    let gap = loop {
        let message = patiently(client.peer.json()).await;
        if message["type"] != "event" {
            break message;
        }
    };
    assert_eq!(gap, json!({"type": "gap", "rooms": ["r"], "reason": "overflow", "dropped": 7}));
}
