//! Frames and messages of native WebSockets.

use std::io::Write;

use serde_json::{Value, json};

use super::{CASES, Hub, Random, SEED, in_peace};

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
