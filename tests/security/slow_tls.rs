//! Clients over TLS that keep the hub waiting: in the handshake, before a request, within one, and over HTTP/2 by a window that
//! they never open. Each is closed in time, and a neighbour hears every event.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

use super::{
    process::stopwatch::Stopwatch,
    support::{Hub, end, eventually},
    tls::{self, Stream},
};

/// What a client that does not keep up its end may cost.
const PROMISED: Duration = Duration::from_secs(10);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of frames, RFC 9113 §6.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request in HPACK (RFC 7541): indexed names, literal values.
fn head(method: u8, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).expect("short")], value.as_bytes()].concat();
    [vec![0x80 | method, 0x87], literal(4, path), literal(1, "localhost")].concat()
}

const GET: u8 = 2;
const POST: u8 = 3;

fn started(hub: &Hub) -> Stream {
    let mut stream = tls::connect_with(hub, &[b"h2"]);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).expect("it takes them");
    stream
}

/// Answers what keeps a connection alive, and nothing that opens a window, until the end of the stream.
fn read_without_window(mut stream: Stream) {
    loop {
        let mut start = [0; 9];
        if stream.read_exact(&mut start).is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        let answer = match (start[3], start[4] & ACK) {
            (PING, 0) => frame(PING, ACK, 0, &payload),
            (SETTINGS, 0) => frame(SETTINGS, ACK, 0, b""),
            _ => continue,
        };
        // Gone is gone: the next read tells.
        let _ = stream.write_all(&answer);
    }
}

/// A TCP connection that says so much of a TLS handshake.
fn said(hub: &Hub, bytes: &[u8]) -> TcpStream {
    let mut stream = hub.connect();
    stream.write_all(bytes).expect("it takes them");
    stream
}

#[test]
fn whoever_keeps_the_hub_waiting_over_tls_is_closed_and_nobody_else_notices() {
    let hub = Hub::start(&tls::config("tcp_user_timeout = '2s'\n[mailbox]\nconnection = 64"));
    let (_, mut neighbour) = tls::request(&hub, "/sse?room=r");
    let watch = Arc::new(Stopwatch::start([hub.process.pid()]));
    let over_http_1 = |bytes: &[u8]| {
        let mut stream = tls::connect_with(&hub, &[b"http/1.1"]);
        stream.write_all(bytes).and_then(|()| stream.flush()).expect("it takes them");
        stream
    };
    let over_http_2 = |bytes: &[u8]| {
        let mut stream = started(&hub);
        stream.write_all(bytes).expect("it takes them");
        stream
    };
    let half_a_head = frame(HEADERS, END_STREAM, 1, &head(GET, "/sse?room=r"));
    let half_a_body = frame(HEADERS, END_HEADERS, 1, &head(POST, "/api/publish"));
    let silent_after_handshake = {
        let mut stream = tls::connect_with(&hub, &[b"h2"]);
        stream.flush().expect("a handshake");
        stream
    };
    let waiting = [
        ("silent", end(said(&hub, b""), &watch)),
        ("half a ClientHello", end(said(&hub, &[22, 3, 1, 2, 0, 1, 0, 1]), &watch)),
        ("half a head", end(over_http_1(b"GET /sse HTTP/1.1\r\nHost: hub\r\nX-Sl"), &watch)),
        ("half a body", end(over_http_1(b"POST /api/publish HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{\"ro"), &watch)),
        ("HTTP/2 without a preface", end(silent_after_handshake, &watch)),
        ("HTTP/2 without a request", end(started(&hub), &watch)),
        ("HTTP/2 with half a head", end(over_http_2(&half_a_head), &watch)),
        ("HTTP/2 with half a body", end(over_http_2(&half_a_body), &watch)),
    ];
    let mut keeps_its_window_shut = over_http_2(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET, "/sse?room=r")));
    keeps_its_window_shut.flush().expect("it is open");
    let reader = thread::spawn(move || read_without_window(keeps_its_window_shut));
    let sse = r#"callboard_connections{wire="sse"}"#;
    eventually("both listen", || (tls::metric(&hub, sse) == 2.0).then_some(()));
    let filler = "x".repeat(20_000);
    // More than the first window, and than the mailbox.
    for number in 0..100 {
        tls::publish(&hub, "r", &format!("{filler}{number}"));
        assert!(tls::hears(&mut neighbour, &format!("x{number}\"")), "event {number} reaches who reads");
    }
    let since_the_last = Stopwatch::start([hub.process.pid()]);
    eventually("who opens no window is cut", || (tls::metric(&hub, sse) == 1.0).then_some(()));
    reader.join().expect("it reads to the end");
    let took = since_the_last.read();
    assert!(took.is_within(PROMISED), "{took}");
    for (what, ended) in waiting {
        let (after, text) = ended.join().expect("it reads to the end");
        assert!(after.is_within(PROMISED), "{what}: {after} {text}");
    }
    tls::publish(&hub, "r", "after all of them");
    assert!(tls::hears(&mut neighbour, "after all of them"));
}
