//! Publishing over HTTP, and what else `/api` answers.

use std::io::Write;

use serde_json::json;

use crate::support::{http, hub::Hub, sse::Stream, websocket::Socket};

#[test]
fn an_answer_says_how_many_connections_of_this_node_it_reached() {
    let hub = Hub::start("");
    let publish = || hub.post("/api/publish", r#"{"room":"a","event":"e","data":1}"#);
    assert_eq!(publish().json()["delivered"], 0);
    let _one = Stream::open(hub.address, "/sse?room=a");
    let mut two = Socket::open(hub.address, "/ws?room=a");
    two.expect("welcome");
    two.expect("joined");
    let answer = publish();
    assert_eq!((answer.status, &answer.json()["delivered"]), (200, &json!(2)));
}

#[test]
fn each_event_of_a_batch_has_its_own_result() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=a");
    let body = r#"[{"room":"a","data":1},{"room":"","data":2},{"room":"a","data":3,"event":"x\ny"},{"nobody":1},7,{"room":"a","data":4}]"#;
    let answer = hub.post("/api/batch", body);
    assert_eq!(answer.status, 200);
    let results = answer.json();
    let codes: Vec<_> = results.as_array().expect("a list").iter().map(|result| result["error"]["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "room_name_invalid", "event_name_invalid", "bad_request", "bad_request", "ok"]);
    assert_eq!(stream.take(2), [("message".to_owned(), "1".to_owned()), ("message".to_owned(), "4".to_owned())]);
}

#[test]
fn a_batch_keeps_its_order_whichever_of_its_events_have_a_key() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=a");
    let event = |number: usize| match number % 3 {
        0 => json!({ "room": "a", "data": number, "idempotency_key": format!("key-{number}") }),
        _ => json!({ "room": "a", "data": number }),
    };
    let body = json!((0..100).map(event).collect::<Vec<_>>()).to_string();
    assert_eq!(hub.post("/api/batch", &body).status, 200);
    let heard: Vec<usize> = stream.take(100).into_iter().map(|(_, data)| data.parse().expect("a number")).collect();
    assert_eq!(heard, (0..100).collect::<Vec<_>>());
}

#[test]
fn what_no_node_would_read_is_too_large_and_not_to_be_tried_again() {
    let hub = Hub::start("[http]\nmax_body = \"2MiB\"");
    let answer = hub.post("/api/publish", &format!(r#"{{"room":"a","data":"{}"}}"#, "x".repeat((1 << 20) + 200)));
    assert_eq!((answer.status, answer.error_code().as_str(), answer.header("retry-after")), (413, "too_large", None));
}

#[test]
fn a_body_as_long_as_allowed_is_published() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=a");
    let body = |length: usize| {
        let around = r#"{"rooms":["a","b"],"data":""}"#.len();
        format!(r#"{{"rooms":["a","b"],"data":"{}"}}"#, "x".repeat(length - around))
    };
    assert_eq!(hub.post("/api/publish", &body(1 << 20)).status, 200);
    assert!(stream.take(1)[0].1.len() > 1_000_000);
    assert_eq!(hub.post("/api/publish", &body((1 << 20) + 1)).status, 413);
}

#[test]
fn a_body_that_says_it_is_too_long_is_not_waited_for() {
    let hub = Hub::start("");
    for path in ["/api/publish", "/api/batch", "/api/join", "/api/leave", "/api/disconnect"] {
        let mut stream = http::connect(hub.address);
        let head = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nContent-Length: 1048577\r\n\r\n{{");
        stream.write_all(head.as_bytes()).expect("an open connection");
        assert_eq!(http::read_head(&mut stream).status, 413, "{path}");
    }
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    let hub = Hub::start("");
    for body in ["", "[]", r#"["a",[],null,[],"e",1,null,null,null,[]]"#, "null", "7", "nonsense"] {
        let answer = hub.post("/api/publish", body);
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "bad_request"), "{body:?}");
    }
}

#[test]
fn other_methods_are_told_which_are_answered() {
    let hub = Hub::start("");
    for (path, answered) in [
        ("/sse", "GET, POST, OPTIONS"),
        ("/ws", "GET"),
        ("/api/publish", "POST, OPTIONS"),
        ("/api/rooms/a", "GET, OPTIONS"),
        ("/metrics", "GET, HEAD"),
    ] {
        let answer = http::request(hub.address, "DELETE", path, &[], b"");
        assert_eq!((answer.status, answer.error_code().as_str()), (405, "method_not_allowed"), "{path}");
        assert_eq!(answer.header("allow"), Some(answered), "{path}");
    }
}

#[test]
fn a_page_may_read_why_it_was_refused() {
    let hub = Hub::start("[http]\nallowed_origins = [\"https://app.example\"]");
    let post = |origin: &str| http::request(hub.address, "POST", "/api/publish", &[("Origin", origin)], br#"{"room":""}"#);
    let answer = post("https://app.example");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (400, Some("https://app.example")));
    let answer = post("https://evil.example");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

#[test]
fn the_publisher_can_be_left_out() {
    let hub = Hub::start("");
    let mut socket = Socket::open(hub.address, "/ws?room=a");
    let id = socket.expect("welcome")["connection"].as_str().expect("an id").to_owned();
    socket.expect("joined");
    hub.publish(&format!(r#"{{"room":"a","data":1,"except":["{id}"]}}"#));
    hub.publish(r#"{"room":"a","data":2}"#);
    assert_eq!(socket.next()["data"], 2);
}

#[test]
fn with_keys_every_caller_shows_one() {
    let hub = Hub::start("[api]\nkeys = [\"first-key-0123456789\", \"second-key-0123456789\"]");
    let post = |headers: &[(&str, &str)]| http::request(hub.address, "POST", "/api/publish", headers, br#"{"room":"a"}"#);
    assert_eq!(post(&[("Authorization", "Bearer first-key-0123456789")]).status, 200);
    assert_eq!(post(&[("X-API-Key", "second-key-0123456789")]).status, 200);
    for headers in [&[][..], &[("Authorization", "Bearer first-key")], &[("X-API-Key", "")], &[("Authorization", "Basic eDp5")]] {
        let answer = post(headers);
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "unauthorized"), "{headers:?}");
    }
}

#[test]
fn without_keys_only_callers_of_this_machine_are_answered() {
    let hub = Hub::start("");
    let post = |headers: &[(&str, &str)]| http::request(hub.address, "POST", "/api/publish", headers, br#"{"room":"a"}"#);
    assert_eq!(post(&[]).status, 200);
    // A proxy on this machine brings everybody.
    for headers in [[("X-Forwarded-For", "203.0.113.9")], [("Forwarded", "for=203.0.113.9")]] {
        let answer = post(&headers);
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"), "{headers:?}");
    }
}
