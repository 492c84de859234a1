//! Handshakes, polls and frames of Socket.IO in every protocol. Whoever breaks the protocol ends its own session.

use super::{super::support::Answer, Client, Hub, Kind, Random, in_peace};

/// Above `max_payload` of the hub under test.
const TOO_LARGE: usize = 8193;

/// A packet of protocol 5 and 4 that is none.
fn bad_packet(random: &mut Random, number: usize) -> String {
    let word = random.word();
    match number % 24 {
        0 => format!("{}{word}", ["7", "8", "9", "x", "B", " "][random.below(6)]),
        1 => format!("4{}[\"{word}\"]", ["7", "8", "9", "x", " ", ""][random.below(6)]),
        2 => format!("0{{\"sid\":\"{word}\"}}"),
        3 => format!("42{word}"),
        4 => format!("42{{\"{word}\":1}}"),
        5 => "42[]".to_owned(),
        6 => format!("42[{{\"{word}\":1}}]"),
        7 => format!("42[\"{}\",1]", ["connect", "disconnect", "disconnecting", "connect_error", "newListener"][random.below(5)]),
        8 => format!("42/{word},[\"a\"]"),
        9 => format!("41/{word}"),
        10 => format!("42{}[\"a\"]", u128::from(random.next()) + (1 << 64)),
        11 => format!("45{word}-[\"a\"]"),
        12 => format!("45{}-[\"a\"]", 11 + random.below(1000)),
        13 => format!("451-[\"a\",{{\"_placeholder\":true,\"num\":{}}}]", 1 + random.below(100)),
        14 => format!("44{{\"message\":\"{word}\"}}"),
        15 => {
            let depth = 101 + random.below(900);
            format!("42[\"a\",{}{}]", "[".repeat(depth), "]".repeat(depth))
        }
        16 => format!("42[\"a\",\"{word}"),
        17 => format!("42[\"a\"]{word}"),
        18 => format!("43{}{word}", random.below(100)),
        19 => format!("b!{word}"),
        20 => format!("40/{word},[{}]", random.below(100)),
        21 => format!("41{word}"),
        22 => format!("42[\"{word}\",\u{1}]"),
        _ => format!("451-[\"a\",{{\"_placeholder\":true,\"num\":\"{word}\"}}]"),
    }
}

/// A packet of protocol 1 that is none.
fn bad_legacy_packet(random: &mut Random, number: usize) -> String {
    let word = random.word();
    match number % 12 {
        0 => word,
        1 => format!("5:{word}"),
        2 => format!("9:::{word}"),
        3 => format!("{word}:::1"),
        4 => format!("5:::{word}"),
        5 => "5:::[]".to_owned(),
        6 => format!("5:::{{\"args\":[\"{word}\"]}}"),
        7 => format!("5:::{{\"name\":\"{word}\",\"args\":{}}}", random.below(100)),
        8 => format!("5:{word}+::{{\"name\":\"a\"}}"),
        9 => format!("5::/{word}:{{\"name\":\"a\"}}"),
        10 => format!("4:::{{\"{word}\""),
        _ => format!("\u{fffd}{}\u{fffd}2::", 4 + random.below(1000)),
    }
}

/// A body of polls that holds no payload.
fn bad_payload(kind: Kind, random: &mut Random, number: usize) -> Vec<u8> {
    let word = random.word();
    match (number % 8, kind) {
        (0, _) => [&random.bytes(40)[..], &[0xff]].concat(),
        (1, Kind::Polling5) => format!("3\u{1e}{word}\u{1e}3").into_bytes(),
        (2, Kind::Polling5) => "\u{1e}".repeat(1 + random.below(40)).into_bytes(),
        (1, Kind::Polling4) => format!("{}:3", 2 + random.next() / 2).into_bytes(),
        (2, Kind::Polling4) => format!("{word}:3").into_bytes(),
        (3, Kind::Polling4) => format!("-{}:3", 1 + random.below(9)).into_bytes(),
        (_, Kind::Polling4) => {
            let packet = bad_packet(random, number / 8);
            format!("{}:{packet}", packet.encode_utf16().count()).into_bytes()
        }
        (_, Kind::Polling1) => bad_legacy_packet(random, number / 8).into_bytes(),
        _ => bad_packet(random, number / 8).into_bytes(),
    }
}

fn post(hub: &Hub, path: &str, headers: &str, body: &[u8]) -> Answer {
    use std::io::Write;

    let mut stream = hub.connect();
    let head = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("it takes it");
    // A refusal may come before all of it was read.
    let _ = stream.write_all(body);
    Answer::read(stream)
}

#[test]
fn malformed_payloads_of_polls_end_their_session_alone() {
    in_peace("polls", |hub, random, number| {
        let kind = [Kind::Polling5, Kind::Polling4, Kind::Polling1][number % 3];
        let number = number / 3;
        let client = Client::connect(hub, kind, None).expect("anybody may");
        let path = client.poll_path();
        let body = bad_payload(kind, random, number);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = post(hub, path, "", &body);
        assert_eq!(answer.status, 400, "{kind:?}: {shown:?}");
        let poll = hub.get(path, &[("Connection", "close")]);
        if kind == Kind::Polling1 {
            assert_eq!((poll.status, poll.text().as_str()), (200, "7:::1+0"), "{shown:?}");
        } else {
            assert_eq!(answer.text(), r#"{"code":3,"message":"Bad request"}"#, "{kind:?}: {shown:?}");
            assert_eq!(poll.status, 400, "{kind:?}: {shown:?}");
            assert_eq!(poll.text(), r#"{"code":1,"message":"Session ID unknown"}"#, "{kind:?}: {shown:?}");
        }
    });
}

#[test]
fn malformed_frames_of_socket_io_get_their_close_code() {
    in_peace("Socket.IO frames", |hub, random, number| {
        let kind = [Kind::WebSocket5, Kind::WebSocket4][number % 2];
        let number = number / 2;
        let mut client = Client::connect(hub, kind, None).expect("anybody may");
        let (what, code) = match number % 8 {
            0 => {
                client.send_frame(&vec![b'4'; TOO_LARGE + random.below(1000)], false);
                ("too large".to_owned(), 1009)
            }
            1 => {
                // A binary message that no packet announced.
                client.send_frame(&[&[4][..], &random.bytes(40)].concat(), true);
                ("unannounced".to_owned(), 1002)
            }
            2 => {
                client.send_frame(&[0xff, 0xfe, random.next() as u8], false);
                ("no UTF-8".to_owned(), 1007)
            }
            _ => {
                let packet = bad_packet(random, number / 8 * 5 + number % 8 - 3);
                client.send(&packet);
                (packet, 1002)
            }
        };
        assert_eq!(client.close_code(), Ok(code), "{kind:?}: {what}");
    });
}

#[test]
fn malformed_handshakes_of_socket_io_get_their_answer() {
    in_peace("Socket.IO handshakes", |hub, random, number| {
        let word = random.word();
        let engine = |code: u8, message: &str| format!(r#"{{"code":{code},"message":"{message}"}}"#);
        let (method, path, status, body) = match number % 14 {
            0 => ("GET", format!("?EIO=4&transport={word}"), 400, engine(0, "Transport unknown")),
            1 => ("GET", "?EIO=4".to_owned(), 400, engine(0, "Transport unknown")),
            2 => ("GET", format!("?EIO=4&transport=polling&sid={word}"), 400, engine(1, "Session ID unknown")),
            3 => ("POST", format!("?EIO=3&transport=polling&sid={word}"), 400, engine(1, "Session ID unknown")),
            4 => ("POST", "?EIO=4&transport=polling".to_owned(), 400, engine(2, "Bad handshake method")),
            5 => ("PUT", "?EIO=3&transport=polling".to_owned(), 400, engine(2, "Bad handshake method")),
            6 => ("GET", "?EIO=4&transport=websocket".to_owned(), 400, engine(3, "Bad request")),
            7 => ("GET", format!("?EIO={}&transport=polling", 5 + random.below(1000)), 400, engine(5, "Unsupported protocol version")),
            8 => ("GET", format!("?EIO={word}&transport=polling"), 400, engine(5, "Unsupported protocol version")),
            9 => ("GET", "?transport=polling".to_owned(), 400, engine(5, "Unsupported protocol version")),
            10 => ("GET", format!("1/xhr-polling/{word}"), 200, "7:::1+0".to_owned()),
            11 => ("POST", format!("1/xhr-polling/{word}"), 200, "7:::1+0".to_owned()),
            12 => ("GET", format!("1/x{word}/{word}"), 404, String::new()),
            _ => ("GET", format!("{}{word}/", 2 + random.below(100)), 404, String::new()),
        };
        let answer = hub.send(method, &format!("/socket.io/{path}"), &[("Connection", "close")], "");
        assert_eq!(answer.status, status, "{method} {path}");
        let text = answer.text();
        assert!(body.is_empty() || text == body, "{method} {path}: {text}");
    });
}
