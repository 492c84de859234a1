//! Streams over TLS and HTTP/1.1, whose session passes from actix-web to the connection: nothing is lost on the way, before or behind.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use super::{
    support::{Hub, eventually},
    tls::{self, Stream, hears, publish},
};

const SSE: &str = r#"callboard_connections{wire="sse"}"#;
const WEB_SOCKET: &str = r#"callboard_connections{wire="websocket"}"#;
const HANDSHAKE: &str = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn connect(hub: &Hub) -> Stream {
    tls::connect_with(hub, &[b"http/1.1"])
}

/// A short text frame, masked by nothing.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | u8::try_from(text.len()).expect("short"), 0, 0, 0, 0], text.as_bytes()].concat()
}

fn read_until(stream: &mut impl Read, text: &str) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(text) {
        let count = stream.read(&mut buffer).expect("no reset");
        assert!(count > 0, "the end came before {text:?}: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
}

fn publish_all(hub: &Hub, room: &str, data: impl Iterator<Item = Value>) {
    let body = Value::from_iter(data.map(|data| json!({ "room": room, "event": "e", "data": data }))).to_string();
    let mut stream = connect(hub);
    let head = format!("POST /api/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    assert!(hears(&mut BufReader::new(stream), "200 OK"));
}

fn listens(hub: &Hub, metric: &str, count: f64) {
    eventually("as many are connected", || (tls::metric(hub, metric) == count).then_some(()));
}

#[test]
fn a_stream_follows_other_requests_on_its_connection() {
    let hub = Hub::start(&tls::config(""));
    let mut stream = connect(&hub);
    for _ in 0..3 {
        stream.write_all(b"GET /api/rooms HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        read_until(&mut stream, "}");
    }
    stream.write_all(b"GET /sse?room=r HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    read_until(&mut stream, ":");
    listens(&hub, SSE, 1.0);
    publish(&hub, "r", "after all");
    assert!(hears(&mut BufReader::new(stream), "after all"));
}

#[test]
fn what_a_client_says_right_behind_its_request_is_heard() {
    let hub = Hub::start(&tls::config(""));
    let asks = [frame(r#"{"type":"ping","ref":1}"#), frame(r#"{"type":"ping","ref":2}"#)];
    let request = format!("GET /ws?room=r HTTP/1.1\r\n{HANDSHAKE}");
    // In one record; in two that come together; and the second at leisure.
    let mut stream = connect(&hub);
    stream.write_all(&[request.as_bytes(), &asks.concat()].concat()).expect("a request");
    read_until(&mut stream, r#""ref":2"#);
    let mut stream = connect(&hub);
    stream.write_all(request.as_bytes()).expect("a request");
    stream.write_all(&asks.concat()).expect("more");
    read_until(&mut stream, r#""ref":2"#);
    stream.write_all(&frame(r#"{"type":"ping","ref":3}"#)).expect("more");
    read_until(&mut stream, r#""ref":3"#);
}

#[test]
fn a_long_history_arrives_whole_and_in_order() {
    const EVENTS: u64 = 400;
    let hub = Hub::start(&tls::config("send_buffer = '8KiB'\n[[room]]\nmatch = 'r'\nhistory = { size = 1000, ttl = '10m' }"));
    let (_, mut stream) = tls::request(&hub, "/sse?room=r");
    publish(&hub, "r", "the first");
    let mut id = String::new();
    while !id.starts_with("id:") {
        id.clear();
        stream.read_line(&mut id).expect("an event");
    }
    drop(stream);
    let filler = "x".repeat(10_000);
    for batch in 0..EVENTS / 80 {
        publish_all(&hub, "r", (0..80).map(|number| json!([batch * 80 + number, filler])));
    }
    let mut stream = connect(&hub);
    let since = id.trim_start_matches("id:").trim();
    stream
        .write_all(format!("GET /sse?room=r HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {since}\r\n\r\n").as_bytes())
        .expect("a request");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    for number in 0..EVENTS {
        while !line.starts_with("data:") {
            line.clear();
            assert!(reader.read_line(&mut line).expect("an event") > 0);
        }
        assert!(line.starts_with(&format!("data: [{number},\"xxx")) && line.len() > 10_000, "{}", &line[..30]);
        line.clear();
    }
}

#[test]
fn a_burst_arrives_in_order() {
    let hub = Hub::start(&tls::config(""));
    let (_, mut stream) = tls::request(&hub, "/sse?room=r");
    let mut socket = connect(&hub);
    socket.write_all(format!("GET /ws?room=r HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).expect("a request");
    read_until(&mut socket, "joined");
    publish_all(&hub, "r", (0..200).map(|number| json!(format!("<{number}>"))));
    for number in 0..200 {
        let mut line = String::new();
        while !line.starts_with("data:") {
            line.clear();
            assert!(stream.read_line(&mut line).expect("an event") > 0);
        }
        assert_eq!(line.trim_end(), format!("data: \"<{number}>\""));
    }
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    while !seen.contains("<199>") {
        let count = socket.read(&mut buffer).expect("frames");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let places: Vec<_> = (0..200).map(|number| seen.find(&format!("<{number}>")).expect("each")).collect();
    assert!(places.is_sorted());
}

#[test]
fn a_client_that_goes_with_or_without_a_word_frees_its_place() {
    let hub = Hub::start(&tls::config("[http]\nsse_keepalive = '1h'\nws_ping = '1h'"));
    let (_, silent) = tls::request(&hub, "/sse?room=r");
    let (_, mut polite) = tls::request(&hub, "/sse?room=r");
    let mut socket = connect(&hub);
    socket.write_all(format!("GET /ws?room=r HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).expect("a request");
    read_until(&mut socket, "joined");
    listens(&hub, SSE, 2.0);
    drop(silent);
    listens(&hub, SSE, 1.0);
    drop(socket);
    listens(&hub, WEB_SOCKET, 0.0);
    // It still listens, and hears that the hub goes as well.
    polite.get_mut().conn.send_close_notify();
    polite.get_mut().flush().expect("it is open");
    polite.read_to_end(&mut Vec::new()).expect("an end that was announced");
    listens(&hub, SSE, 0.0);
}

#[test]
fn a_goodbye_and_the_end_of_the_session_reach_everybody() {
    let hub = Hub::start(&tls::config("drain = '0s'"));
    let (_, mut stream) = tls::request(&hub, "/sse?room=r");
    let mut socket = connect(&hub);
    socket.write_all(format!("GET /ws?room=r HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).expect("a request");
    read_until(&mut socket, "joined");
    hub.terminate();
    let mut last = String::new();
    stream.read_to_string(&mut last).expect("an end that was announced");
    assert!(last.contains(": draining"), "{last}");
    let mut last = Vec::new();
    socket.read_to_end(&mut last).expect("an end that was announced");
    assert!(last.windows(4).any(|frame| frame[0] == 0x88 && frame[2..] == 1012u16.to_be_bytes()), "{last:?}");
}
