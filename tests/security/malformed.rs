//! Ten thousand malformed messages, seeded: handshakes, bodies, frames and RESP. Each has its exact answer; nothing panics,
//! nothing is left behind, and a neighbour who behaves misses nothing.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use serde_json::{Value, json};

use super::{
    process::http,
    support::{Answer, Hub, Socket},
};

const SEED: u64 = 0x5eed_ca11_b0a2;
/// Of each kind.
const CASES: usize = 2500;
/// What memory may differ by when all is over.
const SLACK_BYTES: f64 = 24.0 * 1024.0 * 1024.0;

/// xorshift64*: the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most) + 1;
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn word(&mut self) -> String {
        let length = self.below(12) + 1;
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

/// A client who behaves, on both wires.
struct Neighbour {
    stream: Answer,
    socket: Socket,
    heard: usize,
}

impl Neighbour {
    fn of(hub: &Hub) -> Self {
        let mut socket = hub.socket("/ws?room=quiet");
        socket.hear_type("joined");
        Self { stream: hub.get("/sse?room=quiet", &[]), socket, heard: 0 }
    }

    /// Hears the next event, and it is the next.
    fn hears(&mut self, hub: &Hub) {
        hub.publish("quiet", &json!(self.heard));
        assert!(self.stream.hears(&format!("data: {}", self.heard)));
        assert_eq!(self.socket.hear_type("event")["data"], self.heard);
        self.heard += 1;
    }
}

fn in_peace(kind: &str, mut case: impl FnMut(&Hub, &mut Random, usize)) {
    let hub = Hub::start("[http]\nmax_frame = '1KiB'\n[server]\nworkers = 2");
    let mut random = Random(SEED);
    let mut neighbour = Neighbour::of(&hub);
    // What the allocator keeps after the first cases is no leak.
    (0..CASES / 10).for_each(|number| case(&hub, &mut random, number));
    let memory = hub.metric("process_resident_memory_bytes");
    for number in 0..CASES {
        case(&hub, &mut random, number);
        if number % 250 == 0 {
            neighbour.hears(&hub);
        }
    }
    neighbour.hears(&hub);
    let grown = hub.metric("process_resident_memory_bytes") - memory;
    assert!(grown < SLACK_BYTES, "{kind}: memory grew by {grown} bytes");
    assert!(!hub.log().contains("panicked"), "{kind}: {}", hub.log());
    assert_eq!(hub.metric(r#"callboard_connections{wire="sse"}"#), 1.0, "{kind}: somebody was left behind");
}

#[test]
fn malformed_requests_and_handshakes_get_their_status() {
    in_peace("requests", |hub, random, number| {
        let word = random.word();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (request, status) = match number % 18 {
            0 => (format!("{word}\r\n\r\n"), 400),
            1 => (format!("GET  /{word} HTTP/1.1\r\n\r\n"), 400),
            2 => (format!("GET /sse HTTP/{}.{}\r\n\r\n", 3 + random.below(6), random.below(10)), 400),
            3 => (format!("G@T{word} /sse HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"), 400),
            4 => (format!("GET /sse HTTP/1.1\r\n{word}\r\n\r\n"), 400),
            5 => (format!("GET /sse HTTP/1.1\r\n{word} : x\r\n\r\n"), 400),
            6 => (format!("GET /sse HTTP/1.1\r\nHost: hub\r\nX-{word}: a\u{1}b\r\n\r\n"), 400),
            7 => (format!("POST /sse HTTP/1.1\r\nHost: hub\r\nContent-Length: {word}\r\n\r\n"), 400),
            8 => ("POST /sse HTTP/1.1\r\nHost: hub\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned(), 400),
            9 => (format!("POST /sse HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: {word}\r\n\r\n"), 400),
            10 => (format!("GET /{word}{word} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"), 404),
            11 => (format!("{} /sse HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n", word.to_uppercase()), 405),
            12 => (format!("GET /sse?room=a%{:02x}b HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n", random.below(32)), 400),
            13 => (format!("GET /sse?room={} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n", word.repeat(201)), 400),
            14 => (format!("GET /ws HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nX: {word}\r\n\r\n"), 400),
            15 => (format!("GET /ws HTTP/1.1\r\nHost: hub\r\n{upgrade}Sec-WebSocket-Version: 13\r\nX: {word}\r\n\r\n"), 400),
            16 => (format!("GET /ws HTTP/1.1\r\nHost: hub\r\n{upgrade}{key}Sec-WebSocket-Version: {}\r\n\r\n", 20 + random.below(50)), 426),
            _ => (format!("GET /sse?token={word}.{word}.{word} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n"), 401),
        };
        let mut stream = hub.connect();
        stream.write_all(request.as_bytes()).expect("it takes it");
        assert_eq!(Answer::read(stream).status, status, "{request:?}");
    });
}

#[test]
fn malformed_bodies_get_their_status() {
    in_peace("bodies", |hub, random, number| {
        let word = random.word();
        let good = json!({ "room": "r", "event": "e", "data": word }).to_string();
        let (path, body, status) = match number % 14 {
            0 => ("publish", random.bytes(300), 400),
            1 => ("publish", good.as_bytes()[..random.below(good.len() - 1) + 1].to_vec(), 400),
            2 => ("publish", format!("{good}{word}").into_bytes(), 400),
            3 => ("publish", json!({ "room": "r", (format!("x{word}")): 1 }).to_string().into_bytes(), 400),
            4 => ("publish", json!({ "room": [word] }).to_string().into_bytes(), 400),
            5 => ("publish", json!({ "room": format!("{word}\n") }).to_string().into_bytes(), 400),
            6 => ("publish", json!({ "room": "r", "event": format!("{word}\r\ndata: forged") }).to_string().into_bytes(), 400),
            7 => ("publish", json!({ "data": word }).to_string().into_bytes(), 400),
            8 => ("publish", json!({ "room": "r", "data": 1, "args": [1] }).to_string().into_bytes(), 400),
            9 => {
                let depth = 200 + random.below(20_000);
                ("publish", format!(r#"{{"room":"r","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)).into_bytes(), 400)
            }
            10 => ("batch", good.into_bytes(), 400),
            11 => ("join", json!({ "user": word, "connection": word, "room": "r" }).to_string().into_bytes(), 400),
            12 => ("disconnect", json!({ "connection": format!("no id {word}") }).to_string().into_bytes(), 400),
            _ => ("publish", vec![b' '; (1 << 20) + 1 + random.below(1000)], 413),
        };
        let mut stream = hub.connect();
        let head = format!("POST /api/{path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).expect("it takes it");
        // A refusal may come before all of it was read.
        let _ = stream.write_all(&body);
        let answer = Answer::read(stream);
        assert_eq!(answer.status, status, "{path}: {:?}", String::from_utf8_lossy(&body[..body.len().min(200)]));
    });
}

/// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(length).expect("a short frame").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn malformed_frames_get_their_close_code() {
    in_peace("frames", |hub, random, number| {
        let word = random.word();
        let (bytes, code) = match number % 16 {
            0 => (vec![0x81, 0x01, b'x'], 1002),
            1 => (frame(0x80 | [3, 4, 5, 6, 7, 11, 12, 13, 14, 15][random.below(10)], b"x"), 1002),
            2 => (frame(0x81 | [0x10, 0x20, 0x40, 0x70][random.below(4)], b"x"), 1002),
            3 => (frame(0x80, word.as_bytes()), 1002),
            4 => (frame(0x09, word.as_bytes()), 1002),
            5 => (frame(0x89, &[b'x'; 126]), 1002),
            6 => ([frame(0x01, b"a"), frame(0x01, b"b")].concat(), 1002),
            7 => (frame(0x88, &[3]), 1002),
            8 => (frame(0x88, &[1004_u16, 1005, 1006, 1015, 999, 2999, 5000][random.below(7)].to_be_bytes()), 1002),
            9 => (frame(0x81, &[0xff, 0xfe, random.next() as u8]), 1007),
            10 => (frame(0x88, &[0x03, 0xe8, 0xff, 0xff]), 1002),
            11 => (frame(0x81, &vec![b'x'; 1025 + random.below(60_000)]), 1009),
            12 => ([&[0x82, 0xff][..], &(1_u64 << (20 + random.below(42))).to_be_bytes(), &[0; 4]].concat(), 1009),
            13 => ([frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 600])].concat(), 1009),
            14 => (frame(0x81, word.as_bytes()).repeat(3), 1003),
            _ => (frame(0x82, word.as_bytes()).repeat(3), 1003),
        };
        let mut socket = hub.socket("/ws?room=");
        socket.hear_type("welcome");
        socket.0.get_mut().write_all(&bytes).expect("it takes them");
        let close = loop {
            match socket.hear() {
                Ok(message) => assert_eq!(message["code"], "bad_request", "{message}"),
                Err((found, _)) => break found,
            }
        };
        assert_eq!(close, code, "{:?}", &bytes[..bytes.len().min(40)]);
    });
}

#[test]
fn malformed_messages_are_answered_and_close_nothing() {
    let hub = Hub::start("[http]\nclient_rate = '100000/s'");
    let mut random = Random(SEED);
    let mut socket = hub.socket("/ws?room=");
    socket.hear_type("welcome");
    for number in 0..CASES {
        let word = random.word();
        let (message, code) = match number % 10 {
            0 => (json!({ "type": format!("x{word}") }), "bad_request"),
            1 => (json!({ "type": "join" }), "bad_request"),
            2 => (json!({ "type": "join", "room": 7 }), "bad_request"),
            3 => (json!({ "type": "join", "room": "" }), "room_name_invalid"),
            4 => (json!({ "type": "join", "room": word.repeat(201) }), "room_name_invalid"),
            5 => (json!({ "type": "leave", "room": word }), "not_joined"),
            6 => (json!({ "type": "publish", "room": word, "event": "a\nb" }), "event_name_invalid"),
            7 => (json!({ "type": "publish", "room": word, "data": 1, "args": [] }), "bad_request"),
            8 => (json!({ "type": "publish", "room": word, "event": word }), "forbidden"),
            _ => (json!({ "type": "token", "token": word }), "unauthorized"),
        };
        let mut message = message;
        message["ref"] = number.into();
        socket.say(&message);
        let answer = socket.hear_type("error");
        assert_eq!((&answer["code"], &answer["ref"]), (&Value::from(code), &Value::from(number)), "{message}");
    }
}

#[test]
fn malformed_resp_is_refused_or_closed() {
    in_peace("RESP", |hub, random, number| {
        let word = random.word();
        let bytes = match number % 9 {
            0 => random.bytes(200),
            1 => format!("*{}\r\n", u64::MAX - random.next() % 100).into_bytes(),
            2 => format!("*-{}\r\n", 2 + random.below(100)).into_bytes(),
            3 => format!("*1\r\n${}\r\n", 1_u64 << (31 + random.below(30))).into_bytes(),
            4 => format!("*2\r\n$7\r\nPUBLISH\r\n:{}\r\n", random.below(100)).into_bytes(),
            5 => format!("*1\r\n$3\r\n{word}xxxx").into_bytes(),
            6 => b"*1\r\n".repeat(1000 + random.below(1000)),
            7 => format!("{word}\r\n").into_bytes(),
            _ => vec![b'x'; 70_000 + random.below(1000)],
        };
        let mut stream = http::connect(([127, 0, 0, 1], hub.resp).into());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // A reset is an end as well; a time-out is not.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{:?}", String::from_utf8_lossy(&bytes));
        }
        assert!(answer.is_empty() || answer[0] == b'-', "{:?}: {:?}", String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&answer));
    });
}
