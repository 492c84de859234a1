//! The native WebSocket's dialogue.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    hub::Hub,
    websocket::{End, Socket},
};

/// A member of the rooms of `query`, past the greeting.
fn member(hub: &Hub, query: &str) -> Socket {
    let mut socket = Socket::open(hub.address, &format!("/ws?{query}"));
    socket.expect("welcome");
    for _ in query.split('&') {
        socket.expect("joined");
    }
    socket
}

#[test]
fn welcome_comes_first_then_each_room_of_the_query() {
    let hub = Hub::start("");
    let mut socket = Socket::open(hub.address, "/ws?room=b&room=a&room=b");
    let welcome = socket.next();
    assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &Value::Null));
    assert!(welcome["connection"].as_str().is_some_and(|id| !id.is_empty()), "{welcome}");
    let mut joined = [socket.expect("joined"), socket.expect("joined")].map(|joined| joined["room"].to_string());
    joined.sort();
    assert_eq!(joined, [r#""a""#, r#""b""#]);
    assert_eq!(socket.ask(r#"{"type":"ping","ref":1}"#), json!({"type":"pong","ref":1}));
}

#[test]
fn without_a_room_in_the_query_the_default_ones_are_joined() {
    let hub = Hub::start("");
    let mut socket = Socket::open(hub.address, "/ws");
    socket.expect("welcome");
    assert_eq!(socket.next(), json!({"type":"joined","room":"sse"}));
}

#[test]
fn a_client_joins_leaves_and_pings() {
    let hub = Hub::start("");
    let mut socket = member(&hub, "room=a");
    assert_eq!(socket.ask(r#"{"type":"join","room":"b","ref":"x"}"#), json!({"type":"joined","room":"b","ref":"x"}));
    hub.publish(r#"{"room":"b","event":"e","data":[1]}"#);
    assert_eq!(socket.next(), json!({"type":"event","room":"b","event":"e","data":[1]}));
    assert_eq!(socket.ask(r#"{"type":"leave","room":"b","ref":2}"#), json!({"type":"left","room":"b","ref":2}));
    hub.publish(r#"{"room":"b","data":2}"#);
    hub.publish(r#"{"room":"a","data":3}"#);
    assert_eq!(socket.next(), json!({"type":"event","room":"a","event":"message","data":3}));
    assert_eq!(socket.ask(r#"{"type":"ping","ref":null}"#)["type"], "pong");
}

#[test]
fn a_member_publishes_where_the_rule_lets_it_and_hears_itself() {
    let hub = Hub::start("[[room]]\nmatch = \"open*\"\npublish = \"members\"");
    let mut one = member(&hub, "room=open&room=closed");
    let mut other = member(&hub, "room=open");
    one.send(r#"{"type":"publish","room":"open","event":"e","data":{"a":1},"ref":7}"#);
    let mut answers = [one.next(), one.next()];
    answers.sort_by_key(|answer| answer["type"].to_string());
    assert_eq!((&answers[0]["type"], &answers[0]["ref"]), (&json!("ack"), &json!(7)));
    assert_eq!(answers[1], json!({"type":"event","room":"open","event":"e","data":{"a":1}}));
    assert_eq!(other.next(), answers[1]);
    let refused = one.ask(r#"{"type":"publish","room":"closed","data":1,"ref":8}"#);
    assert_eq!((&refused["type"], &refused["code"], &refused["ref"]), (&json!("error"), &json!("forbidden"), &json!(8)));
    let stranger = other.ask(r#"{"type":"publish","room":"open-too","data":1,"ref":9}"#);
    assert_eq!((&stranger["type"], &stranger["ref"]), (&json!("error"), &json!(9)), "not a member: {stranger}");
}

#[test]
fn a_wrong_message_is_answered_and_closes_nothing() {
    let hub = Hub::start("");
    let mut socket = member(&hub, "room=a");
    let long = "x".repeat(201);
    for (message, code) in [
        (r#"{"type":"join","room":"","ref":1}"#.to_owned(), "room_name_invalid"),
        (format!(r#"{{"type":"join","room":"{long}","ref":1}}"#), "room_name_invalid"),
        (r#"{"type":"join","room":"a\nb","ref":1}"#.to_owned(), "room_name_invalid"),
        (r#"{"type":"join","ref":1}"#.to_owned(), "bad_request"),
        (r#"{"type":"sing","ref":1}"#.to_owned(), "bad_request"),
        (r#"{"type":"publish","room":"a","event":"a\nb","ref":1}"#.to_owned(), "event_name_invalid"),
    ] {
        let answer = socket.ask(&message);
        assert_eq!((&answer["type"], &answer["code"], &answer["ref"]), (&json!("error"), &json!(code), &json!(1)), "{message}: {answer}");
    }
    assert_eq!(socket.ask(r#"{"type":"ping"}"#)["type"], "pong");
}

#[test]
fn malformed_messages_close_the_third_time() {
    let hub = Hub::start("");
    let mut neighbour = member(&hub, "room=a");
    let mut socket = member(&hub, "room=a");
    for _ in 0..2 {
        assert_eq!(socket.ask("{not json")["code"], "bad_request");
    }
    for other in ["[]", "{}", "null"] {
        assert_eq!(socket.ask(other)["code"], "bad_request", "{other} is JSON, and no message");
    }
    socket.send("{not json");
    assert_eq!(socket.end(), End::Code(1003));
    hub.publish(r#"{"room":"a","data":1}"#);
    assert_eq!(neighbour.next()["data"], 1);
}

#[test]
fn a_message_over_max_frame_closes_with_1009() {
    let hub = Hub::start("[http]\nmax_frame = \"1KiB\"");
    let mut fitting = member(&hub, "room=a");
    let filler = |length: usize| format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(length - 22));
    assert_eq!(filler(1024).len(), 1024);
    assert_eq!(fitting.ask(&filler(1024))["type"], "pong");
    fitting.send(&filler(1025));
    assert_eq!(fitting.end(), End::Code(1009));
}

#[test]
fn a_client_that_says_goodbye_hears_it_back() {
    let hub = Hub::start("");
    let mut socket = member(&hub, "room=a");
    socket.send_message(Message::Close(None));
    assert!(matches!(socket.end(), End::Code(1000 | 1005)));
    hub.wait_for_metric(r#"callboard_connections{wire="websocket"}"#, 0.0);
}

#[test]
fn a_silent_client_is_pinged_and_one_that_never_answers_is_closed() {
    let hub = Hub::start("[http]\nws_ping = \"2s\"");
    let mut answering = member(&hub, "room=a");
    let mut dead = member(&hub, "room=a");
    // It reads at TCP's level only, so no pong goes out.
    let mut buffer = [0; 256];
    let mut bytes = Vec::new();
    // Meanwhile the other reads, and so answers.
    std::thread::scope(|scope| {
        let alive = scope.spawn(|| answering.next());
        loop {
            match std::io::Read::read(dead.stream(), &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(bytes.starts_with(&[0x89, 0]), "a ping first: {bytes:?}");
        hub.publish(r#"{"room":"a","data":1}"#);
        assert_eq!(alive.join().expect("an open socket")["data"], 1);
    });
}
