//! Limits: each has its answer and its metric, and who keeps within them notices nothing.

use std::{io::Write, sync::Arc, time::Duration};

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{
    process::stopwatch::Stopwatch,
    support::{Hub, WITH_TOKENS, end, eventually, token_of},
};

/// What a client that does not keep up its end may cost.
const PROMISED: Duration = Duration::from_secs(10);

#[test]
fn the_next_connection_of_an_address_is_refused_and_of_another_is_not() {
    let hub = Hub::start("[server]\nmax_connections_per_ip = 2\ntrusted_proxies = ['127.0.0.0/8']");
    let from = |address: &'static str| hub.get("/sse", &[("X-Forwarded-For", address)]);
    let (first, second) = (from("203.0.113.1"), from("203.0.113.1"));
    assert_eq!((first.status, second.status), (200, 200));
    let third = from("6.6.6.6, 203.0.113.1");
    assert_eq!((third.status, third.header("retry-after").is_some()), (429, true));
    assert_eq!(third.error_code(), "too_many_connections");
    assert_eq!(hub.handshake("/ws", &[("X-Forwarded-For", "203.0.113.1")]).status, 429);
    assert_eq!(from("203.0.113.2").status, 200);
    assert_eq!(hub.metric(r#"callboard_refusals_total{wire="sse",reason="too_many_connections"}"#), 1.0);
    drop(first);
    eventually("its place is free again", || (from("203.0.113.1").status == 200).then_some(()));
}

#[test]
fn nobody_is_believed_who_is_no_trusted_proxy() {
    let hub = Hub::start("[server]\nmax_connections_per_ip = 1");
    let _first = hub.get("/sse", &[("X-Forwarded-For", "203.0.113.1")]);
    assert_eq!(hub.get("/sse", &[("X-Forwarded-For", "203.0.113.2")]).status, 429);
}

#[test]
fn a_user_has_so_many_connections_on_whatever_wire() {
    let hub = Hub::start(&format!("[server]\nmax_connections_per_user = 2\n{WITH_TOKENS}"));
    let path = |wire: &str, user: &str| format!("/{wire}?token={}", token_of(user));
    let _held = (hub.get(&path("sse", "alice"), &[]), hub.socket(&path("ws", "alice")));
    assert_eq!(hub.get(&path("sse", "alice"), &[]).status, 429);
    assert_eq!(hub.handshake(&path("ws", "alice"), &[]).status, 429);
    assert_eq!(hub.get(&path("sse", "bob"), &[]).status, 200);
    assert_eq!(hub.get("/sse", &[]).status, 200);
}

#[test]
fn an_address_that_comes_too_often_is_slowed_down() {
    let hub = Hub::start("[server]\nconnect_rate = '1/s'\ntrusted_proxies = ['127.0.0.1']");
    let from = |address: &'static str| hub.get("/sse", &[("X-Forwarded-For", address)]).status;
    let statuses: Vec<u16> = (0..20).map(|_| from("203.0.113.1")).collect();
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(from("203.0.113.2"), 200);
}

#[test]
fn a_full_node_says_so() {
    let hub = Hub::start("[server]\nmax_connections = 1");
    let _held = hub.get("/sse", &[]);
    let refused = hub.get("/sse", &[]);
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert_eq!(hub.get("/readyz", &[]).status, 200);
}

#[test]
fn what_is_too_large_is_refused_by_name() {
    let hub = Hub::start("[http]\nmax_body = '1KiB'\nmax_frame = '1KiB'\nmax_rooms_per_connection = 2");
    assert_eq!(hub.send("POST", "/api/publish", &[], &"x".repeat(1025)).status, 413);
    assert_eq!(hub.get("/sse?room=a&room=b&room=c", &[]).status, 403);
    assert_eq!(hub.get(&format!("/sse?room={}", "x".repeat(201)), &[]).status, 400);
    assert_eq!(hub.get("/sse", &[("X-Filler", &"x".repeat(200_000))]).status, 431);
    assert_eq!(hub.send("POST", "/sse", &[], &"x".repeat(8193)).status, 413);
    let mut socket = hub.socket("/ws?room=");
    socket.hear_type("welcome");
    socket.0.send(Message::text("x".repeat(1025))).expect("it is open");
    assert_eq!(socket.hear(), Err((1009, "too_large".to_owned())));
    let mut socket = hub.socket("/ws?room=");
    socket.hear_type("welcome");
    for _ in 0..2000 {
        if socket.0.send(Message::text(r#"{"type":"ping","ref":1}"#)).is_err() {
            break;
        }
    }
    let close = loop {
        if let Err(close) = socket.hear() {
            break close;
        }
    };
    assert_eq!(close.0, 1008, "{close:?}");
}

#[test]
fn whoever_keeps_the_hub_waiting_is_closed_and_nobody_else_notices() {
    let hub = Hub::start("[server]\ntcp_user_timeout = '2s'\nsend_buffer = '8KiB'\n[mailbox]\nconnection = 64");
    let mut neighbour = hub.get("/sse?room=r", &[]);
    let watch = Arc::new(Stopwatch::start([hub.process.pid()]));
    let said = |bytes: &str| {
        let mut stream = hub.connect();
        stream.write_all(bytes.as_bytes()).expect("it takes them");
        stream
    };
    let waiting = [
        ("silent", said("")),
        ("half a request line", said("GET /ss")),
        ("half a head", said("GET /sse HTTP/1.1\r\nHost: hub\r\nX-Sl")),
        ("half a body", said("POST /api/publish HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{\"room\":")),
        ("half a second head", said("GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\nGET /healthz HT")),
        ("idle after an answer", said("GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n")),
        ("no body", said("POST /api/publish HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n")),
        ("half a form", said("POST /sse HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\nLast-Ev")),
        ("half a chunk", said("POST /api/publish HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"ro")),
    ]
    .map(|(what, stream)| (what, end(stream, &watch)));
    let never_reads = said("GET /sse?room=r HTTP/1.1\r\nHost: hub\r\n\r\n");
    let filler = "x".repeat(50_000);
    for number in 0..100 {
        hub.publish("r", &json!(format!("{filler}{number}")));
        assert!(neighbour.hears(&format!("x{number}\"")), "event {number} reaches who reads");
    }
    let since_the_last = Stopwatch::start([hub.process.pid()]);
    eventually("who never reads is cut", || (hub.metric(r#"callboard_connections{wire="sse"}"#) == 1.0).then_some(()));
    let took = since_the_last.read();
    assert!(took.is_within(PROMISED), "{took}");
    drop(never_reads);
    for (what, ended) in waiting {
        let (after, text) = ended.join().expect("it reads to the end");
        assert!(after.is_within(PROMISED), "{what}: {after} {text}");
    }
    hub.publish("r", &json!("after all of them"));
    assert!(neighbour.hears("after all of them"));
}
