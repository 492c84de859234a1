//! More than the hub can pass on: what it does not deliver it counts, it holds no more than its bounds, and Redis never has to
//! wait for it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
};

use crate::support::{
    eventually,
    hub::{Hub, Setup},
    publisher::Publisher,
    redis::Redis,
    sse::Stream,
};

const CONFIG: &str = r#"
[server]
tcp_user_timeout = "5m"
[mailbox]
connection = 16
overflow = "drop-oldest"
"#;
const SCRIPTS: u64 = 40;
const EVENTS_OF_A_SCRIPT: u64 = 250;
const PAYLOAD_BYTES: usize = 4096;
/// Far below the 40 MiB that go by, far above what the bounds above allow.
const CEILING: f64 = 24e6;
const MEMBERS: u64 = 2;

fn delivered_and_dropped(hub: &Hub) -> u64 {
    let reasons = ["slow_consumer", "drop_oldest", "drop_newest", "superseded", "closed", "mailbox_full"];
    let dropped = reasons.map(|reason| hub.metric(&format!(r#"callboard_events_dropped_total{{reason="{reason}"}}"#)));
    (hub.metric(r#"callboard_events_delivered_total{wire="sse"}"#) + dropped.iter().sum::<f64>()) as u64
}

#[test]
fn a_flood_through_redis_is_counted_and_bounded_and_over_when_it_is_over() {
    let redis = Redis::start();
    let hub = Setup::new(CONFIG).variable("REDIS_URL", &redis.url()).start();
    let mut reader = Stream::open(hub.address, "/sse?room=a");
    let never_reader = Stream::open(hub.address, "/sse?room=a");
    let mut publisher = Publisher::connect(redis.port);
    // Redis' own bound on what a subscriber may leave unread: a reader that waited for the fan-out would be cut.
    assert_eq!(publisher.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 8mb 8mb 1"]), "+OK");
    let before = hub.metric("process_resident_memory_bytes");
    assert!(before > 0.0);
    let reading = thread::spawn(move || while reader.next().is_some_and(|block| block.event != "last") {});

    let script = format!("for i = 1, {EVENTS_OF_A_SCRIPT} do redis.call('PUBLISH', KEYS[1], ARGV[1]) end");
    let payload = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(PAYLOAD_BYTES));
    for number in 1..=SCRIPTS {
        assert_eq!(publisher.command(&["EVAL", &script, "1", "callboard:room:a", &payload]), "$-1");
        // In step with the reader, whose own speed is not the matter, and with nobody else.
        hub.wait_for_metric(r#"callboard_events_published_total{source="callboard:room:{room}"}"#, (number * EVENTS_OF_A_SCRIPT) as f64);
    }
    let published = SCRIPTS * EVENTS_OF_A_SCRIPT;
    let grown = hub.metric("process_resident_memory_bytes") - before;
    assert!(grown < CEILING, "grown by {grown} bytes");
    assert_eq!(hub.metric("callboard_broker_reconnects_total"), 0.0, "Redis had to wait");
    assert_eq!(hub.metric("callboard_broker_gaps_total"), 0.0);

    publisher.publish("callboard:room:a", r#"{"event":"last"}"#);
    reading.join().expect("the event after the flood arrives");
    drop(never_reader);
    eventually("published × members = delivered + dropped", || (delivered_and_dropped(&hub) == (published + 1) * MEMBERS).then_some(()));
}

/// The embedded broker has no buffer between publishers and rooms but the mailboxes: its publishers wait for them, as they would for
/// a Redis that is busy.
#[test]
fn publishers_over_resp_are_slowed_to_what_a_room_takes_and_lose_nothing() {
    const EVENTS: usize = 5_000;
    for room in [1, 8, 100] {
        let hub = Setup::new(&format!("[mailbox]\nconnection = 100000\nroom = {room}\n")).start();
        let mut streams: Vec<Stream> = (0..3).map(|_| Stream::open(hub.address, "/sse?room=a")).collect();
        let publishing: Vec<_> = (0..3)
            .map(|publisher| {
                let mut socket = TcpStream::connect(("127.0.0.1", hub.resp)).expect("the RESP listener");
                let mut answers = socket.try_clone().expect("a socket");
                let answered = thread::spawn(move || answers.read_exact(&mut [0; EVENTS * ":1\r\n".len()]).expect("an answer to each"));
                thread::spawn(move || {
                    let payloads = (0..EVENTS).map(|number| format!("{{\"data\":{}}}", number * 3 + publisher));
                    let commands =
                        payloads.map(|text| format!("*3\r\n$7\r\nPUBLISH\r\n$16\r\ncallboard:room:a\r\n${}\r\n{text}\r\n", text.len()));
                    socket.write_all(commands.collect::<String>().as_bytes()).expect("all is read");
                    answered.join().expect("all is answered");
                })
            })
            .collect();
        for stream in &mut streams {
            let mut next = [0, 1, 2];
            for (event, data) in stream.take(3 * EVENTS) {
                let number: usize = data.parse().unwrap_or_else(|_| panic!("{event} {data}"));
                assert_eq!(number, next[number % 3], "mailbox.room = {room}");
                next[number % 3] += 3;
            }
        }
        publishing.into_iter().for_each(|publishing| publishing.join().expect("a publisher"));
        assert_eq!(hub.metric(r#"callboard_mailbox_full_total{actor="room"}"#), 0.0, "mailbox.room = {room}");
    }
}
