//! Publishing over HTTP, and what else `/api` answers.

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
