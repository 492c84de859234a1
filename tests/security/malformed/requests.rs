//! Requests, handshakes and bodies of HTTP.

use std::io::Write;

use serde_json::json;

use super::{Answer, in_peace};

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
