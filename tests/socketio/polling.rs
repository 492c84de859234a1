//! What a poll and a post of one session may do to each other, on every revision: cancelled, doubled, cut off.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{
    shared::eventually,
    support::{Hub, answer},
};

const PINGS_SELDOM: [(&str, &str); 2] = [("CALLBOARD_SOCKETIO__PING_INTERVAL", "1h"), ("CALLBOARD_HTTP__CLIENT_RATE", "1000/s")];

/// Polling sessions of each revision of Engine.IO with `/` connected.
fn sessions(hub: &Hub) -> [String; 2] {
    let old = format!("/socket.io/?EIO=3&transport=polling&sid={}", hub.open("EIO=3&transport=polling"));
    assert_eq!(hub.get(&old).body, "2:40");
    [hub.session(), old]
}

fn connections(hub: &Hub) -> f64 {
    hub.node.metric(r#"callboard_connections{wire="socketio"}"#)
}

#[test]
fn a_client_that_gives_up_its_poll_is_gone() {
    let hub = Hub::start(&PINGS_SELDOM);
    for path in sessions(&hub) {
        let before = connections(&hub);
        drop(hub.ask("GET", &path, "", b""));
        eventually("the session has ended", || (connections(&hub) == before - 1.0).then_some(()));
        assert_eq!(hub.get(&path).status, 400, "{path}");
    }
}

#[test]
fn a_page_of_0_9_that_gives_up_its_poll_may_come_back() {
    let hub = Hub::start(&PINGS_SELDOM);
    let sid = hub.get("/socket.io/1/").body.split(':').next().expect("an id").to_owned();
    let path = format!("/socket.io/1/xhr-polling/{sid}");
    assert_eq!(hub.get(&path).body, "1::");
    assert_eq!(hub.post(&path, r#"5:::{"name":"subscribe","args":["demo"]}"#).body, "1");
    assert!(hub.get(&path).body.contains("joined"));
    drop(hub.ask("GET", &path, "", b""));
    // What the hub was already answering went with its connection; what comes after that does not.
    let is_told = AtomicBool::new(false);
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_told.load(Ordering::Relaxed) {
                hub.publish(r#"{"room":"demo","event":"a"}"#);
            }
        });
        let told = eventually("an event", || Some(hub.get(&path).body).filter(|told| told.contains(r#""name":"a""#)));
        is_told.store(true, Ordering::Relaxed);
        told
    });
    assert!(!told.contains("7:::"), "{told}");
}

#[test]
fn a_page_of_0_9_that_is_loaded_anew_takes_its_poll_over() {
    let hub = Hub::start(&PINGS_SELDOM);
    let sid = hub.get("/socket.io/1/").body.split(':').next().expect("an id").to_owned();
    let path = format!("/socket.io/1/xhr-polling/{sid}");
    assert_eq!(hub.get(&path).body, "1::");
    let polls = [hub.ask("GET", &path, "", b""), hub.ask("GET", &path, "", b"")];
    assert_eq!(hub.post(&path, r#"5:::{"name":"subscribe","args":["demo"]}"#).body, "1");
    let mut told = polls.map(|poll| answer(poll).body);
    told.sort();
    assert_eq!(told, [r#"5:::{"name":"joined","args":["demo"]}"#, "8::"], "the older poll ends with nothing said");
}

#[test]
fn a_second_post_beside_one_that_is_read_ends_the_session() {
    let hub = Hub::start(&PINGS_SELDOM);
    for path in sessions(&hub) {
        // Half of a body. Its reading begins when the hub has the head, which only the answer to another post can show.
        let mut slow = hub.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\n\r\n4", hub.address);
        slow.write_all(head.as_bytes()).expect("the hub reads");
        let packet = if path.contains("EIO=4") { r#"421["subscribe"]"# } else { r#"16:421["subscribe"]"# };
        let refused = eventually("the second post is refused", || {
            let second = hub.post(&path, packet);
            (second.status != 200).then_some(second)
        });
        assert_eq!((refused.status, refused.body.as_str()), (400, r#"{"code":3,"message":"Bad request"}"#));
        eventually("the session is over", || (hub.get(&path).status == 400).then_some(()));
    }
}

#[test]
fn an_ack_that_nobody_asked_for_is_passed_over() {
    let hub = Hub::start(&PINGS_SELDOM);
    let mut socket = hub.connected();
    for packet in ["437[1,2]", r#"461-8[{"_placeholder":true,"num":0}]"#] {
        socket.send(packet);
    }
    socket.send_bytes(&[1, 2]);
    socket.send(r#"429["subscribe"]"#);
    assert!(socket.text().starts_with(r#"439[{"error""#));
}
