//! What operators ask: alive, ready, how much; and the console page.

use std::io::Read;

use crate::support::{http, hub::Hub, publisher::Publisher, sse::Stream, websocket::Socket};

#[test]
fn a_hub_is_alive_and_ready() {
    let hub = Hub::start("");
    assert_eq!(hub.get("/healthz").json()["status"], "ok");
    let ready = hub.get("/readyz");
    assert_eq!((ready.status, ready.json()["ready"].as_bool(), ready.header("cache-control")), (200, Some(true), Some("no-store")));
}

#[test]
fn a_load_balancer_may_ask_by_head() {
    let hub = Hub::start("");
    for path in ["/healthz", "/readyz", "/metrics", "/", "/static/callboard.js"] {
        let mut stream = http::connect(hub.address);
        http::send(&mut stream, "HEAD", path, &[("Connection", "close")], b"");
        assert_eq!(http::read_head(&mut stream).status, 200, "{path}");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).expect("the end");
        assert!(body.is_empty(), "{path}");
    }
}

#[test]
fn every_metric_is_there_from_the_start() {
    let hub = Hub::start("");
    let text = hub.get("/metrics").text();
    for name in [
        "callboard_connections{wire=",
        "callboard_rooms ",
        "callboard_users ",
        "callboard_events_published_total{source=\"callboard:room:{room}\"}",
        "callboard_events_published_total{source=\"sse\"}",
        "callboard_events_delivered_total{wire=",
        "callboard_events_dropped_total{reason=",
        "callboard_closes_total{wire=\"sse\",reason=\"gone\"}",
        "callboard_closes_total{wire=\"websocket\",reason=\"slow_consumer\"}",
        "callboard_source_errors_total{source=\"sse\",reason=\"not_json\"}",
        "callboard_mailbox_full_total{actor=\"bridge\"}",
        "callboard_mailbox_full_total{actor=\"room\"}",
        "callboard_broker_up ",
        "callboard_broker_gaps_total ",
        "callboard_broker_reconnects_total ",
        "callboard_clock_round_trip_seconds ",
        "callboard_delivery_seconds_count ",
        "process_open_fds ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
    }
}

#[test]
fn what_was_published_times_members_was_delivered_or_dropped() {
    let hub = Hub::start("");
    let mut streams: Vec<_> = (0..3).map(|_| Stream::open(hub.address, "/sse?room=a")).collect();
    let mut sockets: Vec<_> = (0..2)
        .map(|_| {
            let mut socket = Socket::open(hub.address, "/ws?room=a");
            socket.expect("welcome");
            socket.expect("joined");
            socket
        })
        .collect();
    let mut publisher = Publisher::connect(hub.resp);
    for number in 0..10 {
        publisher.publish("callboard:room:a", &format!(r#"{{"data":{number}}}"#));
    }
    publisher.publish("callboard:room:nobody", r#"{"data":1}"#);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.take(10).len(), 10));
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.take(10).len(), 10));
    hub.wait_for_metric(r#"callboard_events_published_total{source="callboard:room:{room}"}"#, 10.0);
    hub.wait_for_metric(r#"callboard_events_delivered_total{wire="sse"}"#, 30.0);
    hub.wait_for_metric(r#"callboard_events_delivered_total{wire="websocket"}"#, 20.0);
    hub.wait_for_metric("callboard_rooms", 1.0);
    let text = hub.get("/metrics").text();
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}

#[test]
fn a_payload_that_is_none_is_counted_and_harms_nobody() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=a&room=sse");
    let mut publisher = Publisher::connect(hub.resp);
    for payload in ["", "{", "[]", "nonsense", r#"{"event":"a\nb"}"#, r#"{"order":7}"#] {
        publisher.publish("callboard:room:a", payload);
        publisher.publish("sse", payload);
    }
    publisher.publish("callboard:room:a", r#"{"data":"after"}"#);
    assert_eq!(stream.take(1)[0].1, r#""after""#);
    let text = hub.get("/metrics").text();
    let counted = |source: &str| -> f64 {
        let lines = text.lines().filter(|line| line.starts_with("callboard_source_errors_total{") && line.contains(source));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!((counted(r#"source="callboard:room:{room}""#), counted(r#"source="sse""#)), (6.0, 6.0), "{text}");
}

#[test]
fn the_console_and_the_client_come_out_of_the_binary() {
    let hub = Hub::start("");
    let page = hub.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<title>Callboard</title>"));
    for file in ["callboard.js", "console.js", "console.css", "callboard.svg"] {
        let answer = hub.get(&format!("/static/{file}"));
        assert!(answer.status == 200 && !answer.body.is_empty(), "{file}: {answer:?}");
    }
}
