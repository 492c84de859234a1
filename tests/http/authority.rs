//! Identities at the door: where a token may stand, whom it admits, and that a user's own events come along.

use std::fs;

use serde_json::json;

use crate::support::{
    hub::{Hub, binary},
    publisher::Publisher,
    sse::Stream,
    unique_path,
    websocket::Socket,
};

const JWT: &str = "[auth.jwt]\nsecret = \"a secret of more than thirty-two bytes\"\n";

/// What `callboard token` makes under this configuration.
fn token(config: &str, arguments: &[&str]) -> String {
    let path = unique_path("token.toml");
    fs::write(&path, config).expect("a file for the configuration");
    let output = binary().arg("token").args(arguments).arg("--config").arg(&path).output().expect("callboard token");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_users_own_events_come_along_on_every_wire() {
    let hub = Hub::start(JWT);
    let alice = token(JWT, &["--user", "alice"]);
    let mut stream = Stream::request(hub.address, "GET", "/sse?room=a", &[("Authorization", &format!("Bearer {alice}"))], b"");
    let mut socket = Socket::open(hub.address, &format!("/ws?room=a&token={alice}"));
    assert_eq!(socket.expect("welcome")["user"], "alice");
    socket.expect("joined");
    let mut stranger = Stream::open(hub.address, "/sse?room=a");
    let mut publisher = Publisher::connect(hub.resp);
    hub.publish(r#"{"user":"alice","event":"own","data":1}"#);
    publisher.publish("callboard:user:alice", r#"{"event":"own","data":2}"#);
    publisher.publish("sse_alice", r#"["own", "3"]"#);
    hub.publish(r#"{"room":"a","user":"alice","event":"both","data":4}"#);
    assert_eq!(
        stream.take(4),
        [("own", "1"), ("own", "2"), ("own", "3"), ("both", "4")].map(|(name, data)| (name.to_owned(), data.to_owned()))
    );
    assert_eq!(socket.next(), json!({"type":"event","user":true,"event":"own","data":1}));
    assert_eq!(socket.take(3).len(), 3);
    hub.publish(r#"{"room":"a","event":"end"}"#);
    assert_eq!(stranger.take(2), [("both", "4"), ("end", "null")].map(|(name, data)| (name.to_owned(), data.to_owned())));
}

#[test]
fn a_token_may_stand_in_a_header_a_cookie_the_query_or_a_subprotocol() {
    let hub = Hub::start(JWT);
    let alice = token(JWT, &["--user", "alice"]);
    let bearer = format!("Bearer {alice}");
    let cookie = format!("theme=dark; callboard_token={alice}");
    let offered = format!("callboard, token.{alice}");
    let query = format!("/ws?token={alice}");
    for (path, headers) in [
        ("/ws", vec![("Authorization", bearer.as_str())]),
        ("/ws", vec![("Cookie", cookie.as_str())]),
        ("/ws", vec![("Sec-WebSocket-Protocol", offered.as_str())]),
        (&query, vec![]),
    ] {
        let mut socket = Socket::request(hub.address, path, &headers).unwrap_or_else(|response| panic!("{response:?}"));
        assert_eq!(socket.next()["user"], "alice", "{headers:?}");
        let selected = socket.head.headers().get("sec-websocket-protocol").map(|value| value.to_str().expect("a name"));
        assert_eq!(selected, headers.iter().any(|(name, _)| name.starts_with("Sec")).then_some("callboard"));
    }
}

#[test]
fn a_token_that_is_invalid_is_refused_even_where_anyone_may_connect() {
    let hub = Hub::start(JWT);
    let foreign = token("[auth.jwt]\nsecret = \"another secret of more than 32 bytes\"\n", &["--user", "alice"]);
    for token in ["x", "a.b.c", foreign.as_str()] {
        let answer = hub.get(&format!("/sse?token={token}"));
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "unauthorized"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let refused = Socket::request(hub.address, &format!("/ws?token={token}"), &[]).err().expect("a refusal");
        assert_eq!(refused.status(), 401);
    }
}

#[test]
fn without_an_identity_nobody_comes_in_where_anonymous_is_false() {
    let config = format!("[auth]\nanonymous = false\n{JWT}");
    let hub = Hub::start(&config);
    assert_eq!(hub.get("/sse").status, 401);
    let refused = Socket::request(hub.address, "/ws", &[]).err().expect("a refusal");
    assert_eq!(refused.status(), 401);
    Stream::open(hub.address, &format!("/sse?token={}", token(&config, &["--user", "alice"])));
}

#[test]
fn a_granted_room_takes_whom_the_token_names_it_to() {
    let config = format!("{JWT}[[room]]\nmatch = \"team-*\"\njoin = \"granted\"\npublish = \"granted\"\n");
    let hub = Hub::start(&config);
    let alice = token(&config, &["--user", "alice", "--join", "team-*", "--publish", "team-1"]);
    let mut socket = Socket::open(hub.address, &format!("/ws?room=team-1&room=team-2&token={alice}"));
    socket.expect("welcome");
    socket.expect("joined");
    socket.expect("joined");
    assert_eq!(socket.ask(r#"{"type":"publish","room":"team-2","data":1}"#)["code"], "forbidden");
    socket.send(r#"{"type":"publish","room":"team-1","data":1}"#);
    let mut kinds = [socket.next(), socket.next()].map(|message| message["type"].to_string());
    kinds.sort();
    assert_eq!(kinds, [r#""ack""#, r#""event""#]);
    let bob = token(&config, &["--user", "bob"]);
    let answer = hub.get(&format!("/sse?room=team-1&token={bob}"));
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    let mut refused = Socket::open(hub.address, &format!("/ws?room=team-1&token={bob}"));
    refused.expect("welcome");
    assert_eq!(refused.next()["code"], "forbidden");
}
