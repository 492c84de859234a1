//! Socket.IO 0.9: the bytes of the article's pages.

use std::time::Duration;

use bytes::Bytes;
use callboard::protocol::{
    engineio::Carrier,
    jsonp,
    socketio_legacy::{self as legacy, Content, Packet, Receipt},
};
use proptest::prelude::*;

fn event(text: &str) -> (String, Receipt, String, Vec<String>) {
    match Packet::from_text(text) {
        Ok(Packet { endpoint, receipt, content: Content::Event { name, arguments } }) => {
            let arguments = arguments.iter().map(|argument| argument.to_json().into_owned()).collect();
            (endpoint.into(), receipt, name.into(), arguments)
        }
        other => panic!("{text:?} is no event: {other:?}"),
    }
}

fn expected(endpoint: &str, receipt: Receipt, name: &str, arguments: &[&str]) -> (String, Receipt, String, Vec<String>) {
    (endpoint.into(), receipt, name.into(), arguments.iter().map(|text| (*text).into()).collect())
}

#[test]
fn the_handshake_names_timeouts_in_seconds_and_what_is_served() {
    let minute = Duration::from_secs(60);
    assert_eq!(legacy::handshake("2e8390dpG0-27ppIXTgp", minute, minute), "2e8390dpG0-27ppIXTgp:60:60:websocket,xhr-polling,jsonp-polling");
    assert_eq!(legacy::handshake("s", Duration::ZERO, minute), "s::60:websocket,xhr-polling,jsonp-polling");
    assert_eq!(jsonp::legacy(3, "s:60:60:websocket"), r#"io.j[3]("s:60:60:websocket");"#);
}

#[test]
fn packets_of_the_client_are_read() {
    assert!(matches!(Packet::from_text("0::"), Ok(Packet { endpoint: "", content: Content::Disconnect, .. })));
    assert!(matches!(Packet::from_text("0::/chat"), Ok(Packet { endpoint: "/chat", content: Content::Disconnect, .. })));
    assert!(matches!(Packet::from_text("1::/chat"), Ok(Packet { endpoint: "/chat", content: Content::Connect { query: None }, .. })));
    assert!(matches!(
        Packet::from_text("1::/chat:?q"),
        Ok(Packet { endpoint: "/chat", content: Content::Connect { query: Some("q") }, .. })
    ));
    assert!(matches!(Packet::from_text("2::"), Ok(Packet { content: Content::Heartbeat, .. })));
    for text in ["6:::2", r#"6:::1+["A",{"b":1}]"#, "6::/chat:2", "7:::reason+advice", "8::"] {
        assert!(matches!(Packet::from_text(text), Ok(Packet { content: Content::Ignored, .. })), "{text}");
    }
}

#[test]
fn messages_json_and_events_are_events() {
    assert_eq!(event("3:::plain"), expected("", Receipt::None, "message", &["\"plain\""]));
    assert_eq!(event("3:2::plain: with colons"), expected("", Receipt::Arrival(2), "message", &["\"plain: with colons\""]));
    assert_eq!(event(r#"4::/chat:{"j":1}"#), expected("/chat", Receipt::None, "message", &[r#"{"j":1}"#]));
    assert_eq!(event(r#"5:1+::{"name":"x","args":["a",1]}"#), expected("", Receipt::Answer(1), "x", &["\"a\"", "1"]));
    assert_eq!(event(r#"5:::{"name":"needack"}"#), expected("", Receipt::None, "needack", &[]));
}

#[test]
fn what_is_no_packet_is_an_error() {
    let deep = format!("4:::{}{}", "[".repeat(101), "]".repeat(101));
    for text in [
        "",
        "5",
        "5:",
        "x::",
        "9::",
        "5:a::{}",
        "5:::",
        "5:::{}",
        "5:::[]",
        "4:::{",
        r#"5:::{"name":"a","args":{}}"#,
        "3:99999999999999999999::a",
        &deep,
    ] {
        assert!(Packet::from_text(text).is_err(), "{text:?}");
    }
}

fn units(packets: &[&str]) -> Vec<Bytes> {
    packets.iter().map(|packet| legacy::ready(Carrier::Polling, packet)).collect()
}

#[test]
fn several_packets_are_framed_by_utf_16_length_and_one_stands_bare() {
    let hello = r#"5:::{"name":"myevent","args":["héllo"]}"#;
    let emoji = r#"5:::{"name":"e","args":["😀"]}"#;
    assert_eq!(legacy::body(&units(&[hello])), hello);
    let both = legacy::body(&units(&[hello, emoji]));
    assert_eq!(both, format!("\u{fffd}39\u{fffd}{hello}\u{fffd}30\u{fffd}{emoji}"));
    let names: Vec<_> = legacy::read(std::str::from_utf8(&both).unwrap())
        .map(|packet| match packet.unwrap().content {
            Content::Event { name, .. } => name,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["myevent".into(), Box::<str>::from("e")]);
}

#[test]
fn a_payload_that_breaks_its_framing_is_an_error() {
    for payload in [
        "",
        "\u{fffd}",
        "\u{fffd}3",
        "\u{fffd}x\u{fffd}2::",
        "\u{fffd}4\u{fffd}2::",
        "\u{fffd}+3\u{fffd}2::",
        "\u{fffd}\u{fffd}2::",
        "\u{fffd}3\u{fffd}2::x",
    ] {
        assert!(legacy::read(payload).any(|packet| packet.is_err()), "{payload:?}");
    }
}

#[test]
fn scripts_carry_packets_both_ways() {
    let joined = r#"5:::{"name":"joined","args":["default_room"]}"#;
    assert_eq!(jsonp::legacy(0, joined), r#"io.j[0]("5:::{\"name\":\"joined\",\"args\":[\"default_room\"]}");"#);
    let posted = jsonp::posted_legacy(b"d=%225%3A%3A%3A%7B%5C%22name%5C%22%3A%5C%22subscribe%5C%22%7D%22").unwrap();
    assert_eq!(event(&posted), expected("", Receipt::None, "subscribe", &[]));
}

proptest! {
    #[test]
    fn payloads_survive_framing(texts in proptest::collection::vec("[^\u{fffd}:]{0,12}", 1..6)) {
        let packets: Vec<String> = texts.iter().map(|text| format!("3:::{text}")).collect();
        let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
        let body = legacy::body(&units(&packets));
        let read: Vec<String> = legacy::read(std::str::from_utf8(&body).unwrap())
            .map(|packet| match packet.unwrap().content {
                Content::Event { arguments, .. } => serde_json::from_str(&arguments[0].to_json()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(read, texts);
    }

    #[test]
    fn no_input_panics(text in any::<String>(), near in "(\u{fffd}[0-9]{1,2}\u{fffd})?[0-9]:[0-9]?\\+?:(/[a-z])?:?[\\[\\]\\{\\}\"a,:\u{e9}]{0,12}", body in proptest::collection::vec(any::<u8>(), 0..40)) {
        legacy::read(&text).for_each(drop);
        legacy::read(&near).for_each(drop);
        let form = [b"d=", &body[..]].concat();
        drop(jsonp::posted_legacy(&form));
        drop(jsonp::posted_engineio(&form));
    }
}
