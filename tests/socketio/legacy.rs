//! Socket.IO 0.9: the handshake, its transports, and its pages' last word.

use super::support::{Hub, answer};

fn handshake(hub: &Hub) -> String {
    let body = hub.get("/socket.io/1/?t=1").body;
    let (sid, rest) = body.split_once(':').expect("an id");
    assert_eq!(rest, "45:45:websocket,xhr-polling,jsonp-polling");
    sid.to_owned()
}

#[test]
fn a_page_of_2012_polls() {
    let hub = Hub::start(&[]);
    let path = format!("/socket.io/1/xhr-polling/{}?t=1", handshake(&hub));
    assert_eq!(hub.get(&path).body, "1::");
    assert_eq!(hub.post(&path, "5:1+::{\"name\":\"subscribe\",\"args\":[\"default_room\"]}").body, "1");
    let mut told = hub.get(&path).body;
    if !told.contains("joined") || !told.contains("6:::1+") {
        told += &hub.get(&path).body;
    }
    assert!(told.contains(r#"5:::{"name":"joined","args":["default_room"]}"#), "{told}");
    assert!(told.contains(r#"6:::1+[{"ok":true}]"#), "{told}");
    hub.publish(r#"{"room":"default_room","event":"myevent","data":"é😀"}"#);
    hub.publish(r#"{"room":"default_room","event":"bare"}"#);
    let expected = "\u{fffd}37\u{fffd}5:::{\"name\":\"myevent\",\"args\":[\"é😀\"]}\u{fffd}19\u{fffd}5:::{\"name\":\"bare\"}";
    assert_eq!(hub.get(&path).body, expected);
}

#[test]
fn a_script_polls_and_posts_a_form() {
    let hub = Hub::start(&[]);
    let shaken = hub.get("/socket.io/1/?t=1&jsonp=3").body;
    let sid = shaken.strip_prefix("io.j[3](\"").and_then(|rest| rest.split(':').next()).expect("an id").to_owned();
    let path = format!("/socket.io/1/jsonp-polling/{sid}?t=1&i=0");
    assert_eq!(hub.get(&path).body, r#"io.j[0]("1::");"#);
    let form = "d=%225%3A%3A%3A%7B%5C%22name%5C%22%3A%5C%22subscribe%5C%22%2C%5C%22args%5C%22%3A%5B%5C%22a%5C%22%5D%7D%22";
    let posted = answer(hub.ask("POST", &path, "Content-Type: application/x-www-form-urlencoded\r\n", form.as_bytes()));
    assert_eq!(posted.body, "1");
    assert_eq!(hub.get(&path).body, r#"io.j[0]("5:::{\"name\":\"joined\",\"args\":[\"a\"]}");"#);
}

#[test]
fn a_web_socket_carries_a_session_that_has_not_polled() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__PING_INTERVAL", "3s")]);
    let sid = hub.get("/socket.io/1/").body.split(':').next().expect("an id").to_owned();
    let mut socket = hub.web_socket(&format!("/socket.io/1/websocket/{sid}")).expect("a WebSocket");
    assert_eq!(socket.text(), "1::");
    socket.send("1::/chat");
    assert_eq!(socket.text(), "1::/chat");
    assert_eq!(socket.text(), "2::", "the server's heartbeat");
    socket.send("2::");
    socket.send("0::");
    assert_eq!(socket.close_code(), 1000);
}

#[test]
fn an_unknown_session_is_told_to_shake_hands_anew() {
    let hub = Hub::start(&[]);
    assert_eq!(hub.get("/socket.io/1/xhr-polling/unknown").body, "7:::1+0");
    assert_eq!(hub.get("/socket.io/1/jsonp-polling/unknown?i=2").body, r#"io.j[2]("7:::1+0");"#);
    let mut socket = hub.web_socket("/socket.io/1/websocket/unknown").expect("a handshake");
    assert_eq!(socket.text(), "7:::1+0");
}

#[test]
fn a_page_that_unloads_is_gone_at_once() {
    let hub = Hub::start(&[]);
    for last in ["/socket.io/1/xhr-polling/{sid}?disconnect=1", "/socket.io/1//{sid}/?disconnect=1"] {
        let sid = handshake(&hub);
        let path = format!("/socket.io/1/xhr-polling/{sid}");
        assert_eq!(hub.get(&path).body, "1::");
        assert_eq!(hub.get(&last.replace("{sid}", &sid)).status, 200);
        assert_eq!(hub.get(&path).body, "7:::1+0");
    }
}
