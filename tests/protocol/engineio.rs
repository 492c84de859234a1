//! Engine.IO 4 and 3: the bytes of the reference server and its clients.

use bytes::Bytes;
use callboard::protocol::{
    engineio::{
        Carrier::{Polling, WebSocket},
        Open, Packet, PacketError, Version,
        polling::{self, Form},
    },
    websocket,
};
use proptest::prelude::*;

fn binary(data: &'static [u8]) -> Packet<'static> {
    Packet::Binary(Bytes::from_static(data))
}

fn units(version: Version, packets: &[Packet<'_>]) -> Vec<Bytes> {
    packets.iter().map(|packet| packet.ready(version, Polling)).collect()
}

fn read(version: Version, payload: &str) -> Result<Vec<Packet<'_>>, PacketError> {
    polling::read(version, payload).collect()
}

/// The payload is what these packets make, and reads back as them.
#[track_caller]
fn check(version: Version, packets: &[Packet<'static>], payload: &str) {
    assert_eq!(polling::body(version, Form::Text, &units(version, packets)).bytes, payload.as_bytes());
    assert_eq!(read(version, payload).as_deref(), Ok(packets));
}

#[test]
fn payloads_of_version_4_are_joined_by_a_separator_and_hold_base64() {
    check(Version::V4, &[Packet::Text("hello"), binary(&[1, 2, 3, 4])], "4hello\u{1e}bAQIDBA==");
    check(Version::V4, &[Packet::Text("0{\"token\":\"abc\"}")], r#"40{"token":"abc"}"#);
    check(Version::V4, &[Packet::Ping(""), Packet::Noop, Packet::Close], "2\u{1e}6\u{1e}1");
}

#[test]
fn payloads_of_version_3_count_utf_16_units() {
    check(Version::V3, &[Packet::Text("0")], "2:40");
    check(Version::V3, &[Packet::Text("hello")], "6:4hello");
    check(Version::V3, &[Packet::Text("test1"), Packet::Text("test2"), Packet::Text("test3")], "6:4test16:4test26:4test3");
    check(Version::V3, &[Packet::Text("hello"), binary(&[1, 2, 3, 4])], "6:4hello10:b4AQIDBA==");
    check(Version::V3, &[Packet::Text("héllo")], "6:4héllo");
    check(Version::V3, &[Packet::Text("hé😀"), binary(&[1, 2, 3])], "5:4hé😀6:b4AQID");
    check(Version::V3, &[Packet::Noop], "1:6");
}

#[test]
fn version_3_answers_a_browser_with_octets_once_a_packet_is_binary() {
    let hello = units(Version::V3, &[Packet::Text("hello"), binary(&[1, 2, 3, 4])]);
    let body = polling::body(Version::V3, Form::Octets, &hello);
    assert_eq!(body.content_type, "application/octet-stream");
    assert_eq!(body.bytes, &b"\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04"[..]);
    let accents = units(Version::V3, &[Packet::Text("hé😀"), binary(&[1, 2, 3])]);
    let octets = b"\x00\x08\xff4h\xc3\xa9\xf0\x9f\x98\x80\x01\x04\xff\x04\x01\x02\x03";
    assert_eq!(polling::body(Version::V3, Form::Octets, &accents).bytes, &octets[..]);
    let packets: Vec<_> = polling::read_octets(octets).collect();
    assert_eq!(packets, [Ok(Packet::Text("hé😀")), Ok(binary(&[1, 2, 3]))]);
    assert_eq!(polling::body(Version::V3, Form::Octets, &hello[..1]).bytes, "6:4hello");
}

#[test]
fn a_script_calls_back_with_the_payload() {
    let open = Open { sid: "s", upgrades: &[], ping_interval: 300, ping_timeout: 200, max_payload: 1_000_000 };
    let body = polling::body(Version::V3, Form::Jsonp(2), &[open.ready(Version::V3, Polling)]);
    let script = r#"___eio[2]("84:0{\"sid\":\"s\",\"upgrades\":[],\"pingInterval\":300,\"pingTimeout\":200,\"maxPayload\":1000000}");"#;
    assert_eq!(body.bytes, script);
    assert!(body.content_type.starts_with("text/javascript"));
}

#[test]
fn the_open_packet_is_counted_like_any_other() {
    let open =
        Open { sid: "9KFhL1D8GY1sBUJRAAAA", upgrades: &["websocket"], ping_interval: 25_000, ping_timeout: 20_000, max_payload: 1_000_000 };
    let json = r#"0{"sid":"9KFhL1D8GY1sBUJRAAAA","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    assert_eq!(open.ready(Version::V4, Polling), json);
    assert_eq!(open.ready(Version::V3, Polling), format!("{}:{json}", json.len()));
    assert_eq!(open.ready(Version::V4, WebSocket), websocket::text(json));
}

#[test]
fn what_waited_for_a_poll_becomes_frames_when_the_client_upgrades() {
    for version in [Version::V3, Version::V4] {
        let packets = [Packet::Text("2[\"é\"]"), binary(&[1, 2]), Packet::Noop];
        let frames: Vec<Bytes> = packets.iter().map(|packet| packet.ready(version, WebSocket)).collect();
        assert_eq!(polling::frames(version, &units(version, &packets)), frames);
        assert_eq!(polling::frames(version, &[polling::join(version, &units(version, &packets))]), frames);
    }
}

#[test]
fn a_payload_that_breaks_its_framing_is_an_error() {
    for payload in ["", "abc", ":4", "5:4a", "-1:4", "+2:4a", "2:4😀", "99999999999:4", "1:", "0:"] {
        assert!(read(Version::V3, payload).is_err(), "{payload:?}");
    }
    for payload in ["", "abc", "4a\u{1e}", "\u{1e}4a", "b*", "7"] {
        assert!(read(Version::V4, payload).is_err(), "{payload:?}");
    }
    let octets: [&[u8]; 7] = [
        b"",
        b"\x00",
        b"\x00\x02\xff4",
        b"\x02\x01\xff4",
        b"\x00\xff",
        b"\x00\x02\xff4\xff",
        b"\x00\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\xff4",
    ];
    for payload in octets {
        assert!(polling::read_octets(payload).any(|packet| packet.is_err()), "{payload:?}");
    }
}

#[test]
fn reading_ends_after_the_first_error() {
    assert_eq!(polling::read(Version::V4, "x\u{1e}4a\u{1e}4b").count(), 1);
    assert_eq!(polling::read_octets(b"\x00\x01\xff4\x09\x01\xff4\x00\x01\xff4").count(), 2);
}

fn any_packet() -> impl Strategy<Value = (bool, Vec<u8>, String)> {
    (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40), "[^\\x1e]{0,20}")
}

proptest! {
    #[test]
    fn packets_survive_every_framing(parts in proptest::collection::vec(any_packet(), 1..8)) {
        let packets: Vec<Packet<'_>> = parts
            .iter()
            .map(|(is_binary, data, text)| if *is_binary { Packet::Binary(data.clone().into()) } else { Packet::Text(text) })
            .collect();
        for version in [Version::V3, Version::V4] {
            let body = polling::body(version, Form::Text, &units(version, &packets)).bytes;
            prop_assert_eq!(read(version, std::str::from_utf8(&body).unwrap()), Ok(packets.clone()));
        }
        let octets = polling::body(Version::V3, Form::Octets, &units(Version::V3, &packets));
        if octets.content_type == "application/octet-stream" {
            let back: Result<Vec<_>, _> = polling::read_octets(&octets.bytes).collect();
            prop_assert_eq!(back, Ok(packets));
        }
    }

    #[test]
    fn no_input_panics(text in any::<String>(), framed in "[0-9:b4\u{1e}\u{e9}\u{1f600}]{0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        for version in [Version::V3, Version::V4] {
            polling::read(version, &text).for_each(drop);
            polling::read(version, &framed).for_each(drop);
            drop(Packet::from_binary(version, bytes.clone().into()));
        }
        polling::read_octets(&bytes).for_each(drop);
    }
}
