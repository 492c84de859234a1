//! Clients that mean harm, or are broken: exact errors, bounded memory, and the hub goes on.

use super::{shared::eventually, support::Hub};

#[test]
fn a_packet_that_breaks_the_protocol_ends_its_session_alone() {
    let hub = Hub::start(&[]);
    let mut witness = hub.connected();
    for packet in [
        "",
        "4abc",
        "x",
        "0{}",
        "2",
        "42{}",
        "42[]",
        "42[{}]",
        "42abc[\"a\"]",
        "42[\"connect\"]",
        "42[\"disconnecting\",1]",
        "42/unknown,[\"a\"]",
        "41/unknown",
        "4299999999999999999999999[\"a\"]",
        "45-[\"a\"]",
        "4511-[\"a\"]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":7}]",
        "44{}",
        "40",
        &format!("42[\"a\",{}{}]", "[".repeat(200), "]".repeat(200)),
        "b!!",
    ] {
        let mut socket = hub.connected();
        socket.send(packet);
        assert_eq!(socket.close_code(), 1002, "{packet}");
    }
    witness.send(r#"421["subscribe","demo"]"#);
    assert!(witness.text().starts_with('4'));
}

#[test]
fn attachments_are_exactly_those_that_were_announced() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__MAX_PAYLOAD", "1KiB")]);
    let announce = r#"452-["a","demo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    let mut unannounced = hub.connected();
    unannounced.send_bytes(&[1]);
    assert_eq!(unannounced.close_code(), 1002);
    let mut never_sent = hub.connected();
    never_sent.send(announce);
    never_sent.send(r#"42["a","demo"]"#);
    assert_eq!(never_sent.close_code(), 1002);
    let mut too_large = hub.connected();
    too_large.send(announce);
    too_large.send_bytes(&[0; 600]);
    too_large.send_bytes(&[0; 600]);
    assert_eq!(too_large.close_code(), 1009);
}

#[test]
fn a_frame_or_body_over_max_payload_is_not_read() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__MAX_PAYLOAD", "1KiB")]);
    let mut socket = hub.connected();
    socket.send(&format!("42[\"a\",\"{}\"]", "x".repeat(2000)));
    assert_eq!(socket.close_code(), 1009);
    let path = hub.session();
    let refused = hub.post(&path, "4".repeat(1025));
    assert_eq!((refused.status, refused.body.as_str()), (413, ""));
    assert_eq!(hub.post(&path, format!("42[\"a\",\"{}\"]", "x".repeat(900))).body, "ok", "the session lives");
}

#[test]
fn the_thirty_third_namespace_is_refused_and_so_are_thousands() {
    let hub = Hub::start(&[("CALLBOARD_HTTP__CLIENT_RATE", "10000/s")]);
    let mut socket = hub.connected();
    for n in 1..32 {
        socket.send(&format!("40/n{n},"));
        assert!(socket.text().starts_with(&format!("40/n{n},{{\"sid\"")));
    }
    for n in 32..3000 {
        socket.send(&format!("40/n{n},"));
        assert_eq!(socket.text(), format!(r#"44/n{n},{{"message":"Too many namespaces"}}"#));
    }
    socket.send("41/n5,");
    socket.send("40/again,");
    assert!(socket.text().starts_with("40/again,"), "a place is free again");
}

#[test]
fn who_connects_namespaces_without_pause_is_closed() {
    let hub = Hub::start(&[("CALLBOARD_HTTP__CLIENT_RATE", "5/s")]);
    let mut socket = hub.connected();
    for n in 0..20 {
        // The hub may be gone already.
        let _ = socket.0.send(format!("40/n{n},").into());
    }
    assert_eq!(socket.close_code(), 1008);
}

#[test]
fn sessions_that_are_opened_and_abandoned_leave_nothing() {
    let short = [
        ("CALLBOARD_SOCKETIO__PING_INTERVAL", "2s"),
        ("CALLBOARD_SOCKETIO__PING_TIMEOUT", "1s"),
        ("CALLBOARD_SERVER__MAX_CONNECTIONS", "10"),
    ];
    let hub = Hub::start(&short);
    let mut opened = 0;
    while hub.get("/socket.io/?EIO=4&transport=polling").status == 200 {
        opened += 1;
        assert!(opened <= 2000, "a hub of 10 places opens sessions for ever");
    }
    let refused = hub.get("/socket.io/?EIO=4&transport=polling");
    assert!(refused.status == 200 || refused.head.contains("retry-after"), "{refused:?}");
    // Its clients poll no more; the last of them is missed by its ping.
    eventually("they are gone", || (hub.metric(r#"callboard_connections{wire="socketio"}"#) == "0").then_some(()));
    assert_eq!(hub.get("/socket.io/?EIO=4&transport=polling").status, 200);
}

#[test]
fn a_session_without_a_namespace_is_closed() {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__CONNECT_TIMEOUT", "3s")]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    assert_eq!(socket.close_code(), 1001);
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", hub.open("EIO=4&transport=polling"));
    assert_eq!(hub.get(&path).body, "6");
    assert_eq!(hub.get(&path).status, 400);
}
