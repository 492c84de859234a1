//! What is refused, with its status and code. Nobody else notices.

use crate::support::{
    http::{self, Answer},
    hub::Hub,
    sse::Stream,
    websocket::Socket,
};

#[test]
fn every_refusal_has_its_status_and_a_code_in_json() {
    let hub = Hub::start("[http]\nmax_body = \"2KiB\"\nmax_rooms_per_connection = 2\n[[room]]\nmatch = \"members\"\njoin = \"user\"");
    let mut neighbour = Stream::open(hub.address, "/sse?room=a");
    let long = "x".repeat(201);
    let large = format!(r#"{{"room":"a","data":"{}"}}"#, "x".repeat(2048));
    let deep = format!(r#"{{"room":"a","data":{}{}}}"#, "[".repeat(2000 / 2 - 50), "]".repeat(2000 / 2 - 50));
    let long_room = format!("/sse?room={long}");
    for (method, path, body, status, code) in [
        ("GET", "/nothing", "", 404, "not_found"),
        ("GET", "/static/nothing.js", "", 404, "not_found"),
        ("GET", "/static/..%2fconfig.toml", "", 404, "not_found"),
        ("GET", "/echo", "", 404, "not_found"),
        ("PUT", "/sse", "", 405, "method_not_allowed"),
        ("POST", "/ws", "", 405, "method_not_allowed"),
        ("GET", "/api/publish", "", 405, "method_not_allowed"),
        ("POST", "/readyz", "", 405, "method_not_allowed"),
        ("GET", "/ws", "", 400, "bad_request"),
        ("GET", "/sse?room=a%0Ab", "", 400, "room_name_invalid"),
        ("GET", "/sse?room=a&room=", "", 400, "room_name_invalid"),
        ("GET", "/sse?room=%FF", "", 400, "room_name_invalid"),
        ("GET", &long_room, "", 400, "room_name_invalid"),
        ("GET", "/sse?room=a&room=b&room=c", "", 403, "too_many_rooms"),
        ("GET", "/sse?room=members", "", 403, "forbidden"),
        ("GET", "/sse?token=abc", "", 401, "unauthorized"),
        ("POST", "/api/publish", "", 400, "bad_request"),
        ("POST", "/api/publish", "{", 400, "bad_request"),
        ("POST", "/api/publish", "{}", 400, "bad_request"),
        ("POST", "/api/publish", r#"{"room":"a","dta":1}"#, 400, "bad_request"),
        ("POST", "/api/publish", r#"{"room":"a","data":1,"args":[1]}"#, 400, "bad_request"),
        ("POST", "/api/publish", r#"{"room":"a\u0000","data":1}"#, 400, "room_name_invalid"),
        ("POST", "/api/publish", r#"{"user":"","data":1}"#, 400, "user_name_invalid"),
        ("POST", "/api/publish", r#"{"room":"a","event":"a\rb"}"#, 400, "event_name_invalid"),
        ("POST", "/api/publish", r#"{"room":"a","event":""}"#, 400, "event_name_invalid"),
        ("POST", "/api/publish", &deep, 400, "bad_request"),
        ("POST", "/api/publish", &large, 413, "too_large"),
        ("POST", "/api/batch", "{}", 400, "bad_request"),
    ] {
        let answer = http::request(hub.address, method, path, &[], body.as_bytes());
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{method} {path} {body}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    }
    hub.publish(r#"{"room":"a","data":1}"#);
    assert_eq!(neighbour.take(1), [("message".to_owned(), "1".to_owned())]);
}

#[test]
fn a_page_of_another_origin_is_refused_at_every_door() {
    let hub = Hub::start("");
    let refused = |answer: Answer| assert_eq!((answer.status, answer.error_code().as_str()), (403, "forbidden"));
    for origin in ["https://evil.test", "null"] {
        let headers = [("Origin", origin)];
        refused(http::request(hub.address, "GET", "/sse", &headers, b""));
        refused(http::request(hub.address, "POST", "/sse", &headers, b""));
        refused(http::request(hub.address, "OPTIONS", "/sse", &headers, b""));
        refused(http::request(hub.address, "POST", "/api/publish", &headers, br#"{"room":"a"}"#));
        let response = Socket::request(hub.address, "/ws", &headers).err().expect("a refusal");
        assert_eq!(response.status(), 403);
    }
    let own = format!("http://{}", hub.address);
    assert!(Socket::request(hub.address, "/ws", &[("Origin", &own)]).is_ok());
}

#[test]
fn one_connection_more_than_there_is_room_for_is_asked_to_come_back() {
    let hub = Hub::start("[server]\nmax_connections = 2");
    let first = Stream::open(hub.address, "/sse");
    let _second = Stream::open(hub.address, "/sse");
    let answer = hub.get("/sse");
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "overloaded"));
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{answer:?}");
    assert_eq!(hub.get("/healthz").status, 200, "it is not the operator's request that is too much");
    drop(first);
    hub.wait_for_metric(r#"callboard_connections{wire="sse"}"#, 1.0);
    Stream::open(hub.address, "/sse");
}
