//! The article's page, and Socket.IO's clients of 2012 and of today, in Chromium: what its `emit_to_channel` publishes through
//! Redis reaches each over every transport, on a page of the hub and on one of another site.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    FOLDER, heard,
    publishers::python,
    support::{
        eventually, free_port,
        hub::{Process, Setup},
        installed,
        redis::Redis,
    },
};

const EVENTS: usize = 20;

/// `clients`: which, and how many they are.
fn check(sources: &str, clients: (&str, usize), expected: impl Fn(usize) -> Value) {
    installed("CALLBOARD_TEST_CHROMIUM");
    let (redis, port) = (Redis::start(), free_port());
    let config = format!("{sources}\n[http]\nallowed_origins = [\"same-origin\", \"http://127.0.0.1:{port}\"]");
    let hub = Setup::new(&config).variable("REDIS_URL", &redis.url()).start();
    let mut node = Command::new("node");
    node.arg(format!("{FOLDER}/socketio.mjs")).arg(format!("http://{}", hub.address)).args([&port.to_string(), clients.0]);
    node.env("NODE_PATH", installed("CALLBOARD_TEST_NODE_MODULES"));
    let mut pages = Process::spawn(node);
    for number in 1..=clients.1 {
        eventually(&format!("{number} pages have joined"), || {
            assert!(pages.is_running(), "the pages ended: {}", pages.log());
            (pages.log().matches("is ready\n").count() >= number).then_some(())
        });
    }
    let mut publisher = python(&[
        ("CALLBOARD_TEST_REDIS", format!("127.0.0.1:{}", redis.port)),
        ("DJANGO_SETTINGS_MODULE", "settings".to_owned()),
        ("PYTHONPATH", format!("{FOLDER}/publishers")),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]);
    publisher.arg(format!("{FOLDER}/publishers/publish.py")).args(["room", &EVENTS.to_string()]);
    let mut publisher = Process::spawn(publisher);
    assert!(publisher.wait().success(), "{}", publisher.log());
    let heard = eventually("every page hears the last event", || {
        let heard = heard(&pages);
        (heard.len() == clients.1 && heard.values().all(|events| events.len() >= EVENTS)).then_some(heard)
    });
    let expected: Vec<Value> = (0..EVENTS).map(expected).collect();
    for (client, events) in heard {
        let events: Vec<Value> = events.iter().map(|(_, values)| serde_json::from_str(values).expect("JSON")).collect();
        assert_eq!(events, expected, "{client}");
    }
}

#[test]
fn what_the_article_emits_reaches_socket_ios_pages() {
    // The article's page, three transports of 0.9, three ways of 4.8 and the scripts of 2.5, each on two pages.
    check("", ("all", 16), |n| json!([n, { "text": "é漢😀\u{2028}" }]));
}

#[test]
fn with_room_argument_the_room_comes_first_as_in_the_authors_demo() {
    let source = "[[source]]\nchannel = \"socketio_{room}\"\ndialect = \"gevent-socketio\"\nroom_argument = true\n";
    check(source, ("article", 2), |n| json!(["default_room", n, { "text": "é漢😀\u{2028}" }]));
}
