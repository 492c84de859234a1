//! The bytes of a stream.

use crate::support::{
    http,
    hub::Hub,
    publisher::Publisher,
    sse::{Block, Stream},
};

#[test]
fn the_head_is_what_browsers_and_proxies_need() {
    let hub = Hub::start("[http]\nsse_retry = \"2s\"");
    for path in ["/sse?room=a", "/sse/?room=a"] {
        let mut stream = Stream::open(hub.address, path);
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("vary", "Origin"),
        ] {
            assert_eq!(stream.head.header(name), Some(value), "{:?}", stream.head);
        }
        assert_eq!(stream.line().as_deref(), Some("retry: 2000"));
        assert_eq!(stream.line().as_deref(), Some(":"));
    }
}

#[test]
fn a_silent_stream_gets_a_comment_of_one_line() {
    let hub = Hub::start("[http]\nsse_keepalive = \"1s\"");
    let mut stream = Stream::open(hub.address, "/sse?room=a");
    let lines: Vec<_> = (0..4).map(|_| stream.line().expect("an open stream")).collect();
    assert_eq!(lines, ["retry: 3000", ":", ":", ":"]);
}

#[test]
fn the_room_comes_from_the_query_else_from_the_configuration() {
    let hub = Hub::start("[http]\ndefault_rooms = [\"news\", \"sport\"]");
    let mut default = Stream::open(hub.address, "/sse");
    let mut chosen = Stream::open(hub.address, "/sse?room=one&room=two%20words&room=%C3%A9");
    for (room, number) in [("news", 1), ("one", 2), ("two words", 3), ("sport", 4), ("é", 5)] {
        hub.publish(&format!(r#"{{"room":"{room}","data":{number}}}"#));
    }
    let data = |events: Vec<(String, String)>| events.into_iter().map(|(_, data)| data).collect::<Vec<_>>();
    assert_eq!(data(default.take(2)), ["1", "4"]);
    assert_eq!(data(chosen.take(3)), ["2", "3", "5"]);
}

/// The article's polyfill replaces EventSource in every browser, and asks like this.
#[test]
fn a_form_is_answered_with_the_same_stream() {
    let hub = Hub::start("");
    for body in ["", "Last-Event-ID=demo-1"] {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let mut stream = Stream::request(hub.address, "POST", "/sse/", &headers, body.as_bytes());
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
        hub.publish(r#"{"room":"sse","event":"myevent","data":"text"}"#);
        let block = loop {
            let block = stream.next().expect("an event");
            if block.event != "callboard:gap" {
                break block;
            }
        };
        assert_eq!(block, Block { event: "myevent".into(), data: r#""text""#.into(), id: None });
    }
}

#[test]
fn data_cannot_forge_fields() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=sse");
    let mut publisher = Publisher::connect(hub.resp);
    publisher.publish("sse", r#"["e", "one\r\ntwo\revent: forged\nid: forged\n\nlast"]"#);
    let block = stream.next().expect("an event");
    let data = "one\ntwo\nevent: forged\nid: forged\n\nlast".to_owned();
    assert_eq!(block, Block { event: "e".into(), data, id: None });
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_stream() {
    let hub = Hub::start("[http]\nallowed_origins = [\"https://app.example.org\"]");
    let headers = [("Origin", "https://app.example.org")];
    let stream = Stream::request(hub.address, "GET", "/sse?room=a", &headers, b"");
    assert_eq!(stream.head.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(stream.head.header("access-control-allow-credentials"), Some("true"));
    let asked = [("Origin", "https://app.example.org"), ("Access-Control-Request-Headers", "last-event-id")];
    let preflight = http::request(hub.address, "OPTIONS", "/sse", &asked, b"");
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, Some("last-event-id")));
}
