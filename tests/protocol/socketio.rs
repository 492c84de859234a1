//! Socket.IO 5 and 4: what the reference clients send, and what the hub spells for them.

use std::sync::Arc;

use bytes::Bytes;
use callboard::protocol::{
    Argument, Encoding, Event, EventName, Publication, RoomName, Target, UserName,
    engineio::{Carrier, Version, polling},
    json::TooDeep,
    socketio::{MAX_ARGUMENTS, MAX_DEPTH, Packet, PacketError, Revision, Spelling, decode::Auth},
    websocket,
};
use proptest::prelude::*;
use serde_json::{json, value::RawValue};

fn event(text: &str) -> (String, String, Vec<String>, Option<u64>, usize) {
    match Packet::from_text(Revision::V5, text) {
        Ok(Packet::Event { namespace, event, attachments }) => {
            let arguments = event.arguments.iter().map(|argument| argument.to_json().into_owned()).collect();
            (namespace.to_owned(), event.name.into(), arguments, event.ack, attachments)
        }
        other => panic!("{text:?} is no event: {other:?}"),
    }
}

fn expected(
    namespace: &str,
    name: &str,
    arguments: &[&str],
    ack: Option<u64>,
    attachments: usize,
) -> (String, String, Vec<String>, Option<u64>, usize) {
    (namespace.into(), name.into(), arguments.iter().map(|text| (*text).into()).collect(), ack, attachments)
}

#[test]
fn events_are_read_with_namespace_ack_and_attachments() {
    assert_eq!(event(r#"2["a",1]"#), expected("/", "a", &["1"], None, 0));
    assert_eq!(event(r#"2/admin,["a"]"#), expected("/admin", "a", &[], None, 0));
    assert_eq!(event(r#"21["x"]"#), expected("/", "x", &[], Some(1), 0));
    assert_eq!(event(r#"2/admin,12["x"]"#), expected("/admin", "x", &[], Some(12), 0));
    assert_eq!(event("2[5,  1.0e2 ]"), expected("/", "5", &["1.0e2"], None, 0));
    let binary = r#"52-["bin",{"_placeholder":true,"num":0},{"n":{"_placeholder":true,"num":1}}]"#;
    let arguments = [r#"{"_placeholder":true,"num":0}"#, r#"{"n":{"_placeholder":true,"num":1}}"#];
    assert_eq!(event(binary), expected("/", "bin", &arguments, None, 2));
    assert_eq!(event(r#"50-["a"]"#), expected("/", "a", &[], None, 0));
}

#[test]
fn connects_carry_auth_in_5_and_a_query_in_4() {
    let Ok(Packet::Connect { namespace: "/admin", query: None, auth: Some(auth) }) =
        Packet::from_text(Revision::V5, r#"0/admin,{"token":"no","n":1}"#)
    else {
        panic!("no connect");
    };
    assert_eq!(Auth::read(auth), Auth { token: Some("no".into()), ..Auth::default() });
    assert!(matches!(Packet::from_text(Revision::V5, "0"), Ok(Packet::Connect { namespace: "/", query: None, auth: None })));
    let connect = Packet::from_text(Revision::V4, "0/admin?token=zz,");
    assert!(matches!(connect, Ok(Packet::Connect { namespace: "/admin", query: Some("token=zz"), auth: None })));
    let connect = Packet::from_text(Revision::V4, "0/admin");
    assert!(matches!(connect, Ok(Packet::Connect { namespace: "/admin", query: None, auth: None })));
}

#[test]
fn disconnects_and_acks_are_read() {
    assert!(matches!(Packet::from_text(Revision::V5, "1"), Ok(Packet::Disconnect { namespace: "/" })));
    assert!(matches!(Packet::from_text(Revision::V5, "1/admin,"), Ok(Packet::Disconnect { namespace: "/admin" })));
    assert!(matches!(Packet::from_text(Revision::V5, r#"31["ok"]"#), Ok(Packet::Ack { namespace: "/", attachments: 0 })));
    let binary = r#"61-1[{"_placeholder":true,"num":0}]"#;
    assert!(matches!(Packet::from_text(Revision::V5, binary), Ok(Packet::Ack { namespace: "/", attachments: 1 })));
}

#[test]
fn whoever_breaks_a_rule_is_refused() {
    let broken = [
        "",
        "7",
        "abc",
        "é",
        "4{}",
        "2",
        "2{}",
        "2[]",
        "2[null]",
        "2[{}]",
        "2[[\"a\"]]",
        r#"2["a""#,
        r#"2["a"]x"#,
        r#"2abc["message-with-ack",1]"#,
        "0[]",
        "0\"a\"",
        "0null",
        "1{}",
        "3",
        "3{}",
        r#"299999999999999999999["a"]"#,
        "5[\"a\"]",
        "5-[\"a\"]",
        "5+1-[\"a\"]",
        "5-1-[\"a\"]",
        "511-[\"a\"]",
        "611-[]",
        "5x-[\"a\"]",
    ];
    for text in broken {
        assert!(Packet::from_text(Revision::V5, text).is_err(), "{text:?}");
    }
}

#[test]
fn reserved_names_are_refused() {
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let text = format!(r#"2["{name}"]"#);
        assert_eq!(Packet::from_text(Revision::V5, &text).unwrap_err(), PacketError::Reserved(name.into()));
    }
}

#[test]
fn a_placeholder_names_an_attachment_of_its_own() {
    for argument in [r#"{"_placeholder":true,"num":1}"#, r#"{"_placeholder":true}"#, r#"{"_placeholder":true,"num":-1}"#] {
        let text = format!(r#"51-["a",[{argument}]]"#);
        assert_eq!(Packet::from_text(Revision::V5, &text).unwrap_err(), PacketError::Placeholder, "{text}");
    }
    let twice = r#"51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
    assert_eq!(Packet::from_text(Revision::V5, twice).unwrap_err(), PacketError::Placeholder);
}

#[test]
fn arguments_and_nesting_have_a_bound() {
    let arguments = |count: usize| format!(r#"2["a"{}]"#, ",1".repeat(count));
    assert!(Packet::from_text(Revision::V5, &arguments(MAX_ARGUMENTS - 1)).is_ok());
    assert!(matches!(Packet::from_text(Revision::V5, &arguments(MAX_ARGUMENTS)), Err(PacketError::Payload(_))));
    let nested = |depth: usize| format!(r#"2["[[[",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    assert!(Packet::from_text(Revision::V5, &nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(Packet::from_text(Revision::V5, &nested(MAX_DEPTH)).unwrap_err(), PacketError::TooDeep(TooDeep { limit: MAX_DEPTH }));
}

fn room_event(room: &str, name: &str, arguments: &[serde_json::Value]) -> Publication {
    let event = Event::new(EventName::parse(name).unwrap(), arguments.iter().map(Argument::from_value));
    Publication::new(Target::Room(RoomName::parse(room).unwrap()), Arc::new(event))
}

fn spelled(publication: &Publication, revision: Revision, carrier: Carrier, namespace_length: u8) -> Bytes {
    publication.bytes(Encoding::SocketIo { revision, carrier, namespace_length, shows_ids: false })
}

#[test]
fn an_event_is_spelled_for_each_revision_carrier_and_namespace() {
    let publication = room_event("chat/lobby", "myevent", &[json!(42), json!({"k": "é😀"})]);
    let root = r#"42["myevent",42,{"k":"é😀"}]"#;
    let chat = r#"42/chat,["myevent",42,{"k":"é😀"}]"#;
    let legacy = r#"5::/chat:{"name":"myevent","args":[42,{"k":"é😀"}]}"#;
    assert_eq!(spelled(&publication, Revision::V5, Carrier::Polling, 0), root);
    assert_eq!(spelled(&publication, Revision::V5, Carrier::WebSocket, 4), websocket::text(chat));
    assert_eq!(spelled(&publication, Revision::V4, Carrier::Polling, 4), format!("34:{chat}"));
    assert_eq!(spelled(&publication, Revision::V1, Carrier::WebSocket, 4), websocket::text(legacy));
    assert_eq!(spelled(&publication, Revision::V1, Carrier::Polling, 4), format!("\u{fffd}51\u{fffd}{legacy}"));
}

#[test]
fn a_users_own_event_is_the_root_namespaces_and_no_data_is_no_argument() {
    let event = Arc::new(Event::new(EventName::parse("hi").unwrap(), []));
    let publication = Publication::new(Target::User(UserName::parse("alice").unwrap()), event);
    assert_eq!(spelled(&publication, Revision::V5, Carrier::Polling, 3), r#"42["hi"]"#);
    assert_eq!(spelled(&publication, Revision::V1, Carrier::WebSocket, 0), websocket::text(r#"5:::{"name":"hi"}"#));
}

#[test]
fn ready_text_is_a_string() {
    let event = Event::new(EventName::default(), [Argument::Text("plain \"text\"".into())]);
    let publication = Publication::new(Target::Room(RoomName::parse("r").unwrap()), Arc::new(event));
    assert_eq!(spelled(&publication, Revision::V5, Carrier::Polling, 0), r#"42["message","plain \"text\""]"#);
}

fn with_attachments(count: u8) -> Publication {
    let placeholders = (0..count).map(|num| Argument::from_value(&json!({"_placeholder": true, "num": num})));
    let mut event = Event::new(EventName::parse("bin").unwrap(), placeholders);
    event.attachments = (0..count).map(|byte| Bytes::copy_from_slice(&[byte, byte])).collect();
    Publication::new(Target::Room(RoomName::parse("r").unwrap()), Arc::new(event))
}

#[test]
fn attachments_follow_their_event() {
    let publication = with_attachments(2);
    let header = r#"452-["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    assert_eq!(spelled(&publication, Revision::V5, Carrier::Polling, 0), format!("{header}\u{1e}bAAA=\u{1e}bAQE="));
    assert_eq!(spelled(&publication, Revision::V4, Carrier::Polling, 0), format!("{}:{header}6:b4AAA=6:b4AQE=", header.len()));
    let frames = [websocket::text(header), websocket::binary(&[0, 0]), websocket::binary(&[1, 1])].concat();
    assert_eq!(spelled(&publication, Revision::V5, Carrier::WebSocket, 0), frames);
    let frames = [websocket::text(header), websocket::binary(&[4, 0, 0]), websocket::binary(&[4, 1, 1])].concat();
    assert_eq!(spelled(&publication, Revision::V4, Carrier::WebSocket, 0), frames);
}

#[test]
fn an_answer_may_have_attachments() {
    let polling = Spelling { revision: Revision::V5, carrier: Carrier::Polling };
    let answer = polling.binary_ack("", 1, r#"{"_placeholder":true,"num":0}"#, &[Bytes::from_static(&[1, 2, 3, 4])]);
    assert_eq!(answer, "461-1[{\"_placeholder\":true,\"num\":0}]\u{1e}bAQIDBA==");
}

#[test]
fn attachments_that_a_client_would_not_take_are_base64_text() {
    assert_eq!(
        spelled(&with_attachments(1), Revision::V1, Carrier::WebSocket, 0),
        websocket::text(r#"5:::{"name":"bin","args":["AAA="]}"#)
    );
    let eleven = spelled(&with_attachments(11), Revision::V5, Carrier::Polling, 0);
    assert!(eleven.starts_with(br#"42["bin","AAA=","#), "{eleven:?}");
}

#[test]
fn the_hubs_own_packets_are_those_of_the_reference() {
    let [v1, v4, v5] = [Revision::V1, Revision::V4, Revision::V5].map(|revision| Spelling { revision, carrier: Carrier::WebSocket });
    let code = json!({"code": 7});
    let table = [
        (v5.connected("", "udJASFv18N_a444pAAAA", None), r#"40{"sid":"udJASFv18N_a444pAAAA"}"#),
        (v5.connected("admin", "s", None), r#"40/admin,{"sid":"s"}"#),
        (v5.refused("admin", "Not authorized", Some(&code)), r#"44/admin,{"data":{"code":7},"message":"Not authorized"}"#),
        (v5.refused("random", "Invalid namespace", None), r#"44/random,{"message":"Invalid namespace"}"#),
        (v5.disconnected(""), "41"),
        (v5.disconnected("admin"), "41/admin,"),
        (v5.ack("", 1, "true"), "431[true]"),
        (v5.ack("admin", 12, "true"), "43/admin,12[true]"),
        (v4.connected("", "s", None), "40"),
        (v4.connected("admin", "s", None), "40/admin,"),
        (v4.refused("admin", "Not authorized", Some(&code)), r#"44/admin,{"code":7}"#),
        (v4.refused("admin", "no", None), r#"44/admin,"no""#),
        (v1.connected("", "s", None), "1::"),
        (v1.connected("chat", "s", None), "1::/chat"),
        (v1.disconnected("chat"), "0::/chat"),
        (v1.disconnected(""), "0::"),
        (v1.ack("", 1, "null"), "6:::1+[null]"),
        (v1.event("", "joined", &["\"r2\""]), r#"5:::{"name":"joined","args":["r2"]}"#),
    ];
    for (ready, text) in table {
        assert_eq!(ready, websocket::text(text), "{text}");
    }
}

proptest! {
    #[test]
    fn what_the_hub_spells_its_own_decoder_reads(
        name in "[a-z\\\\\"é😀]{1,8}", namespace in "[a-z/é]{0,6}", texts in proptest::collection::vec("[^\\x00]{0,8}", 0..4)
    ) {
        prop_assume!(!callboard::protocol::socketio::is_reserved(&name));
        let arguments: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
        let ready = Spelling { revision: Revision::V5, carrier: Carrier::Polling }.event(&namespace, &name, &arguments);
        let mut packets = polling::read(Version::V4, std::str::from_utf8(&ready).unwrap());
        let Some(Ok(callboard::protocol::engineio::Packet::Text(text))) = packets.next() else { panic!("no message") };
        prop_assert_eq!(event(text), (format!("/{namespace}"), name, arguments, None, 0));
    }

    #[test]
    fn no_text_panics(text in any::<String>(), near in "[0-6][0-9]{0,2}-?(/[a-z?é]{0,3},)?[0-9]{0,3}[\\[\\]\\{\\}\",a:0-9]{0,12}") {
        for revision in [Revision::V4, Revision::V5] {
            drop(Packet::from_text(revision, &text));
            drop(Packet::from_text(revision, &near));
        }
    }

    #[test]
    fn arguments_pass_through_to_the_letter(number in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?(e[1-9][0-9]{0,3})?") {
        prop_assume!(RawValue::from_string(number.clone()).is_ok());
        prop_assert_eq!(event(&format!(r#"2["a",{number}]"#)).2, vec![number]);
    }
}
