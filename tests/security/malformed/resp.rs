//! Bytes for the embedded broker that are no command.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use super::{super::process::http, in_peace};

#[test]
fn malformed_resp_is_refused_or_closed() {
    in_peace("RESP", |hub, random, number| {
        let word = random.word();
        let (bytes, expected) = match number % 9 {
            // What random bytes are is anybody's guess: half a command, or a refused one.
            0 => (random.bytes(200), String::new()),
            1 => (format!("*{}\r\n", u64::MAX - random.next() % 100).into_bytes(), "invalid length in header".to_owned()),
            2 => (format!("*-{}\r\n", 2 + random.below(100)).into_bytes(), "malformed command".to_owned()),
            3 => {
                let declared = 1_u64 << (31 + random.below(30));
                (format!("*1\r\n${declared}\r\n").into_bytes(), format!("invalid bulk length: {declared} bytes"))
            }
            4 => (format!("*2\r\n$7\r\nPUBLISH\r\n:{}\r\n", random.below(100)).into_bytes(), "expected '$', got ':'".to_owned()),
            5 => (format!("*1\r\n$3\r\n{word}xxxx").into_bytes(), "malformed command".to_owned()),
            6 => (b"*1\r\n".repeat(1000 + random.below(1000)), "expected '$', got '*'".to_owned()),
            7 => (format!("x{word}\r\n").into_bytes(), format!("unknown command 'x{word}'")),
            _ => (vec![b'x'; 70_000 + random.below(1000)], "too big inline request".to_owned()),
        };
        let mut stream = http::connect(([127, 0, 0, 1], hub.resp).into());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // A reset is an end as well, and may overtake the answer to what was not read; a time-out is not.
        let end = stream.read_to_end(&mut answer);
        let is_reset = end.is_err_and(|error| {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{:?}", String::from_utf8_lossy(&bytes));
            true
        });
        let (sent, answer) = (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&answer));
        match answer.strip_prefix("-ERR ").map(|text| text.strip_prefix("Protocol error: ").unwrap_or(text)) {
            Some(text) => assert!(text.starts_with(&expected), "{sent:?}: {answer:?}"),
            None => assert!(answer.is_empty() && (is_reset || expected.is_empty()), "{sent:?}: {answer:?}"),
        }
    });
}
