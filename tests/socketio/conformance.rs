//! The rules that the official suites of Engine.IO 3 and 4 and of Socket.IO 5 hold a server to, as cases of our own against
//! `callboard serve --conformance`: messages of Engine.IO come back on `/engine.io/`, events of Socket.IO on `/socket.io/`.
//! The suites themselves run in `official.rs`, where they can be had.

use serde_json::{Value, json};

use super::{
    shared::{eventually, hub::Setup},
    support::{Hub, Socket, answer},
};

/// As the suites are written: pings each 300 ms, answered within 200; a namespace within a second.
fn in_time() -> Hub {
    Hub::of(Setup::new("").argument("--conformance").start())
}

/// Pings too, and waits for whoever is slow to answer.
fn in_no_hurry() -> Hub {
    Hub::of(
        Setup::new("[socketio]\nping_interval = \"1s\"\nping_timeout = \"3s\"\nconnect_timeout = \"1h\"").argument("--conformance").start(),
    )
}

/// For what is no matter of time, on machines that are slow.
fn at_leisure() -> Hub {
    Hub::of(Setup::new("[socketio]\nping_interval = \"1h\"\nconnect_timeout = \"1h\"").argument("--conformance").start())
}

/// One of the three places where Engine.IO is spoken.
struct Layer<'a> {
    hub: &'a Hub,
    path: &'static str,
    version: u8,
}

fn echoes(hub: &Hub) -> [Layer<'_>; 2] {
    [3, 4].map(|version| Layer { hub, path: "/engine.io/", version })
}

fn layers(hub: &Hub) -> [Layer<'_>; 3] {
    let [old, new] = echoes(hub);
    [old, new, Layer { hub, path: "/socket.io/", version: 4 }]
}

impl Layer<'_> {
    fn at(&self, query: &str) -> String {
        format!("{}?EIO={}&{query}", self.path, self.version)
    }

    fn body(&self, packets: &[&str]) -> String {
        match self.version {
            3 => packets.iter().map(|packet| format!("{}:{packet}", packet.encode_utf16().count())).collect(),
            _ => packets.join("\u{1e}"),
        }
    }

    fn opened(&self, body: &str) -> Value {
        let json = body.strip_prefix('0').or_else(|| body.split_once(":0").map(|(_, json)| json));
        serde_json::from_str(json.unwrap_or_else(|| panic!("{body}"))).expect("an open packet")
    }

    /// The path of a new session that polls. Text alone, unless it says otherwise.
    fn session(&self, more: &str) -> String {
        let opened = self.opened(&self.hub.get(&self.at(&format!("transport=polling{more}"))).body);
        self.at(&format!("transport=polling&sid={}", opened["sid"].as_str().expect("an id")))
    }

    fn socket(&self) -> Socket {
        let mut socket = self.hub.web_socket(&self.at("transport=websocket")).expect("a WebSocket");
        assert!(socket.text().starts_with('0'));
        socket
    }

    /// A WebSocket that has taken its session over, and the session's path.
    fn upgraded(&self) -> (Socket, String) {
        let path = self.session("&b64=1");
        let mut socket = self.hub.web_socket(&path.replace("polling", "websocket")).expect("a WebSocket");
        socket.send("2probe");
        assert_eq!(socket.text(), "3probe");
        socket.send("5");
        // The poll shows that the move is done.
        eventually("polls are over", || (self.hub.get(&path).status == 400).then_some(()));
        (socket, path)
    }
}

// ---- handshakes -----------------------------------------------------------------------------------------------------------

#[test]
fn a_session_opens_with_the_times_of_the_suites() {
    let hub = in_time();
    for layer in layers(&hub) {
        let polled = hub.get(&layer.at("transport=polling"));
        assert_eq!(polled.status, 200);
        let socket = hub.web_socket(&layer.at("transport=websocket")).expect("a WebSocket").text();
        for (body, upgrades) in [(polled.body, json!(["websocket"])), (socket, json!([]))] {
            let mut opened = layer.opened(&body);
            assert!(opened["sid"].take().is_string());
            let expected = json!({ "sid": null, "upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000 });
            assert_eq!(opened, expected);
        }
        if layer.version == 3 {
            let body = hub.get(&layer.at("transport=polling")).body;
            let (length, packet) = body.split_once(':').expect("a length");
            assert_eq!(length, packet.len().to_string());
        }
    }
}

#[test]
fn a_handshake_of_no_version_transport_or_method_fails() {
    let hub = at_leisure();
    for layer in layers(&hub) {
        for transport in ["polling", "websocket"] {
            for version in ["", "EIO=abc&"] {
                let path = format!("{}?{version}transport={transport}", layer.path);
                assert_eq!(hub.get(&path).status, 400, "{path}");
                assert_eq!(hub.web_socket(&path).err(), Some(400), "{path}");
            }
        }
        for query in ["transport=abc", ""] {
            assert_eq!(hub.get(&layer.at(query)).status, 400, "{query}");
            assert_eq!(hub.web_socket(&layer.at(query)).err(), Some(400), "{query}");
        }
        for method in ["POST", "PUT"] {
            assert_eq!(answer(hub.ask(method, &layer.at("transport=polling"), "", b"")).status, 400, "{method}");
        }
    }
}

// ---- messages of Engine.IO --------------------------------------------------------------------------------------------------

#[test]
fn a_payload_comes_back_in_its_framing() {
    let hub = at_leisure();
    for layer in echoes(&hub) {
        let binary = if layer.version == 3 { "b4AQIDBA==" } else { "bAQIDBA==" };
        for packets in [&["4hello"][..], &["4test1", "4test2", "4test3"], &["4hello", binary], &["4é😀", "4"]] {
            let path = layer.session("&b64=1");
            let body = layer.body(packets);
            let posted = hub.post(&path, &body);
            assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
            let polled = hub.get(&path);
            assert_eq!((polled.status, polled.body), (200, body));
        }
    }
}

#[test]
fn a_client_of_version_3_that_takes_bytes_gets_bytes() {
    let hub = at_leisure();
    let [old, _] = echoes(&hub);
    let path = old.session("");
    assert_eq!(hub.post(&path, old.body(&["4hello", "b4AQIDBA=="])).body, "ok");
    let expected = [&[0, 6, 255][..], b"4hello", &[1, 5, 255, 4, 1, 2, 3, 4]].concat();
    assert_eq!(hub.get(&path).bytes, expected);
}

#[test]
fn a_payload_of_no_packets_closes_its_session() {
    let hub = at_leisure();
    for layer in echoes(&hub) {
        let path = layer.session("");
        assert_eq!(hub.post(&path, "abc").status, 400);
        assert_eq!(hub.get(&path).status, 400);
    }
}

#[test]
fn of_two_polls_one_is_told_the_end_and_the_other_refused() {
    let hub = at_leisure();
    for layer in echoes(&hub) {
        let path = layer.session("&b64=1");
        let mut polls = [hub.ask("GET", &path, "", b""), hub.ask("GET", &path, "", b"")].map(|poll| {
            let answer = answer(poll);
            (answer.status, answer.body)
        });
        polls.sort();
        assert_eq!(polls[0], (200, layer.body(&["1"])));
        assert_eq!(polls[1].0, 400);
        assert_eq!(hub.get(&path).status, 400);
    }
}

#[test]
fn a_poll_that_is_cancelled_closes_its_session() {
    let hub = at_leisure();
    for layer in echoes(&hub) {
        let path = layer.session("");
        drop(hub.ask("GET", &path, "", b""));
        eventually("the session is over", || (hub.get(&path).status == 400).then_some(()));
    }
}

#[test]
fn a_frame_comes_back_as_it_is() {
    let hub = at_leisure();
    for layer in echoes(&hub) {
        let mut socket = layer.socket();
        socket.send("4hello");
        assert_eq!(socket.text(), "4hello");
        let bytes = [4, 1, 2, 3, 4];
        socket.send_bytes(&bytes);
        assert_eq!(socket.0.read().expect("a message").into_data(), &bytes[..]);
        socket.send("abc");
        assert_eq!(socket.close_code(), 1002);
    }
}

// ---- heartbeat --------------------------------------------------------------------------------------------------------------

#[test]
fn who_pings_gets_pongs_and_whoever_is_pinged_is_pinged_again() {
    let hub = in_no_hurry();
    for layer in layers(&hub) {
        let (path, mut socket) = (layer.session("&b64=1"), layer.socket());
        for _ in 0..2 {
            if layer.version == 3 {
                assert_eq!(hub.post(&path, layer.body(&["2"])).status, 200);
                assert_eq!(hub.get(&path).body, layer.body(&["3"]));
                socket.send("2");
                assert_eq!(socket.text(), "3");
            } else {
                assert_eq!(hub.get(&path).body, "2");
                assert_eq!(hub.post(&path, "3").status, 200);
                assert_eq!(socket.text(), "2");
                socket.send("3");
            }
        }
    }
}

#[test]
fn who_is_silent_is_closed() {
    let hub = in_time();
    for layer in echoes(&hub) {
        let (path, mut socket) = (layer.session("&b64=1"), layer.socket());
        // Each poll waits until the hub has something to say: a ping, and that it is over.
        eventually("the session is over", || (hub.get(&path).status == 400).then_some(()));
        assert_eq!(hub.post(&path, layer.body(&["2"])).status, 400);
        assert_eq!(socket.close_code(), 1001);
    }
}

// ---- close and upgrade ------------------------------------------------------------------------------------------------------

#[test]
fn who_closes_gets_its_poll_back() {
    let hub = at_leisure();
    for layer in layers(&hub) {
        let path = layer.session("&b64=1");
        let poll = hub.ask("GET", &path, "", b"");
        assert_eq!(hub.post(&path, layer.body(&["1"])).status, 200);
        let polled = answer(poll);
        assert_eq!((polled.status, polled.body), (200, layer.body(&["6"])));
        assert_eq!(hub.get(&path).status, 400);
        let mut socket = layer.socket();
        socket.send("1");
        assert_eq!(socket.close_code(), 1000);
    }
}

#[test]
fn a_session_moves_once_and_for_good() {
    let hub = at_leisure();
    for layer in layers(&hub) {
        let path = layer.session("&b64=1");
        let mut socket = hub.web_socket(&path.replace("polling", "websocket")).expect("a WebSocket");
        socket.send("2probe");
        assert_eq!(socket.text(), "3probe");
        let polled = hub.get(&path);
        assert_eq!((polled.status, polled.body), (200, layer.body(&["6"])));
        drop(socket);
        let (mut socket, path) = layer.upgraded();
        let mut second = hub.web_socket(&path.replace("polling", "websocket")).expect("a handshake");
        assert_eq!(second.close_code(), 1002);
        assert_eq!(hub.get(&path).status, 400);
        if layer.path == "/engine.io/" {
            socket.send("4hello");
            assert_eq!(socket.text(), "4hello", "the first one goes on");
        }
    }
}

// ---- Socket.IO ----------------------------------------------------------------------------------------------------------------

fn socket_io(hub: &Hub) -> Socket {
    Layer { hub, path: "/socket.io/", version: 4 }.socket()
}

/// With `/` connected and its greeting read.
fn connected(hub: &Hub) -> Socket {
    let mut socket = socket_io(hub);
    socket.send("40");
    assert!(socket.text().starts_with("40{"));
    assert_eq!(socket.text(), r#"42["auth",{}]"#);
    socket
}

#[test]
fn a_known_namespace_is_connected_and_greets_with_what_it_was_sent() {
    let hub = at_leisure();
    for (request, answered, greeting) in [
        ("40", "40", r#"42["auth",{}]"#),
        (r#"40{"token":"123"}"#, "40", r#"42["auth",{"token":"123"}]"#),
        ("40/custom,", "40/custom,", r#"42/custom,["auth",{}]"#),
        (r#"40/custom,{"token":"abc"}"#, "40/custom,", r#"42/custom,["auth",{"token":"abc"}]"#),
    ] {
        let mut socket = socket_io(&hub);
        socket.send(request);
        let text = socket.text();
        let handshake: Value = serde_json::from_str(text.strip_prefix(answered).expect("a connect packet")).expect("JSON");
        assert!(handshake["sid"].is_string() && handshake.as_object().is_some_and(|keys| keys.len() == 1), "{text}");
        assert_eq!(socket.text(), greeting);
    }
}

#[test]
fn an_unknown_namespace_is_refused_and_no_namespace_at_all_ends_it() {
    let hub = at_leisure();
    let mut socket = socket_io(&hub);
    socket.send("40/random");
    assert_eq!(socket.text(), r#"44/random,{"message":"Invalid namespace"}"#);
    let mut socket = socket_io(&hub);
    socket.send("4abc");
    assert_eq!(socket.close_code(), 1002);
    // It answers pings, and yet.
    let hub = in_time();
    let mut idle = socket_io(&hub);
    let code = loop {
        match idle.0.read().expect("a message") {
            tokio_tungstenite::tungstenite::Message::Text(_) => drop(idle.0.send("3".into())),
            tokio_tungstenite::tungstenite::Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    };
    assert_eq!(code, Some(1001));
}

#[test]
fn who_leaves_a_namespace_keeps_the_connection_and_the_other_namespaces() {
    let hub = in_no_hurry();
    let mut alone = socket_io(&hub);
    alone.send("40");
    alone.send("41");
    // The pong is read after the leave, and yet is pinged again.
    let mut pings = 0;
    while pings < 2 {
        if alone.text() == "2" {
            pings += 1;
            alone.send("3");
        }
    }
    let hub = at_leisure();
    let mut socket = connected(&hub);
    socket.send("40/custom");
    assert!(socket.text().starts_with("40/custom,{"));
    assert_eq!(socket.text(), r#"42/custom,["auth",{}]"#);
    socket.send("41/custom");
    socket.send(r#"42["message","message to main namespace"]"#);
    assert_eq!(socket.text(), r#"42["message-back","message to main namespace"]"#);
}

#[test]
fn events_and_acks_come_back_with_their_attachments() {
    let hub = at_leisure();
    let placeholders = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    for (sent, expected, attachments) in [
        (r#"42["message",1,"2",{"3":[true]}]"#.to_owned(), r#"42["message-back",1,"2",{"3":[true]}]"#.to_owned(), 0),
        (r#"42456["message-with-ack",1,"2",{"3":[false]}]"#.to_owned(), r#"43456[1,"2",{"3":[false]}]"#.to_owned(), 0),
        (format!(r#"452-["message",{placeholders}]"#), format!(r#"452-["message-back",{placeholders}]"#), 2),
        (format!(r#"452-789["message-with-ack",{placeholders}]"#), format!("462-789[{placeholders}]"), 2),
    ] {
        let mut socket = connected(&hub);
        socket.send(&sent);
        let parts: Vec<[u8; 3]> = (0..attachments).map(|n| [n, n + 1, n + 2]).collect();
        parts.iter().for_each(|part| socket.send_bytes(part));
        assert_eq!(socket.text(), expected);
        for part in parts {
            assert_eq!(socket.0.read().expect("a message").into_data(), &part[..]);
        }
    }
}

#[test]
fn a_packet_of_no_type_payload_or_ack_closes_the_connection() {
    let hub = at_leisure();
    for packet in ["4abc", "42{}", r#"42abc["message-with-ack",1,"2",{"3":[false]}]"#] {
        let mut socket = connected(&hub);
        socket.send(packet);
        assert_eq!(socket.close_code(), 1002, "{packet}");
    }
}
