//! The native WebSocket's messages, both ways.

use std::sync::Arc;

use bytes::Bytes;
use callboard::protocol::{
    Argument, Command, ConnectionId, ErrorCode, Event, EventName, GapReason, Publication, Reference, Reply, RoomName, Target, UserName,
    native::{Refused, event_frame, parse, reply_frame},
};
use serde_json::{Value, json, value::RawValue};

/// The payload of one unmasked text frame, which must be all there is.
fn payload(frame: &[u8]) -> &str {
    assert_eq!(frame[0], 0x81, "one final text frame");
    let (length, start) = match frame[1] {
        126 => (usize::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, 10),
        short => (usize::from(short), 2),
    };
    assert_eq!(frame.len(), start + length);
    std::str::from_utf8(&frame[start..]).unwrap()
}

fn json_argument(text: &str) -> Argument {
    Argument::Json(RawValue::from_string(text.into()).unwrap())
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference(Some(text.into()))
}

fn publication(arguments: impl IntoIterator<Item = Argument>) -> Publication {
    Publication::new(Target::Room(room("r")), Arc::new(Event::new(EventName::parse("e").unwrap(), arguments)))
}

#[test]
fn an_event_has_data_or_args() {
    let cases = [
        (vec![], r#""data":null"#),
        (vec![json_argument("{ \"a\" : 1.0 }")], r#""data":{ "a" : 1.0 }"#),
        (vec![Argument::Text("say \"hi\"\n".into())], r#""data":"say \"hi\"\n""#),
        (vec![json_argument("1"), Argument::Text("b".into())], r#""args":[1,"b"]"#),
    ];
    for (arguments, expected) in cases {
        let frame = event_frame(&publication(arguments));
        assert_eq!(payload(&frame), format!(r#"{{"type":"event","room":"r","event":"e",{expected}}}"#));
    }
}

#[test]
fn an_event_names_its_room_and_id_or_says_that_it_is_the_users_own() {
    let event = Arc::new(Event::new(EventName::parse("e\"\u{1}").unwrap(), [json_argument("1")]));
    let mut to_room = Publication::new(Target::Room(room("r\\é")), event.clone());
    to_room.resume_id = Some("7-2".into());
    assert_eq!(payload(&event_frame(&to_room)), r#"{"type":"event","room":"r\\é","event":"e\"\u0001","data":1,"id":"7-2"}"#);
    let to_user = Publication::new(Target::User(UserName::parse("alice").unwrap()), event);
    assert_eq!(payload(&event_frame(&to_user)), r#"{"type":"event","user":true,"event":"e\"\u0001","data":1}"#);
}

#[test]
fn binary_parts_stand_as_base64() {
    let mut event = Event::new(EventName::default(), [json_argument(r#"{"_placeholder":true,"num":0}"#)]);
    event.attachments.push(Bytes::from_static(&[1, 2]));
    let frame = event_frame(&Publication::new(Target::Room(room("r")), Arc::new(event)));
    assert_eq!(payload(&frame), r#"{"type":"event","room":"r","event":"message","data":"AQI="}"#);
}

#[test]
fn a_frame_of_every_length_is_whole() {
    for size in [0, 80, 90, 1000, 65_480, 65_500, 70_000] {
        for size in size..size + 20 {
            let text = "x".repeat(size);
            let frame = event_frame(&publication([Argument::Text(text.clone().into())]));
            let value: Value = serde_json::from_str(payload(&frame)).unwrap();
            assert_eq!(value["data"], text.as_str());
        }
    }
}

#[test]
fn every_reply_has_its_words() {
    let cases = [
        (
            Reply::Welcome { connection: ConnectionId::new(1, 2), user: Some(UserName::parse("al").unwrap()) },
            r#"{"type":"welcome","connection":"0000000100000002","user":"al"}"#,
        ),
        (
            Reply::Welcome { connection: ConnectionId::new(1, 2), user: None },
            r#"{"type":"welcome","connection":"0000000100000002","user":null}"#,
        ),
        (Reply::Joined { room: room("r"), id: None, reference: reference("1") }, r#"{"type":"joined","room":"r","ref":1}"#),
        (
            Reply::Joined { room: room("r"), id: Some("x".into()), reference: reference("1") },
            r#"{"type":"joined","room":"r","id":"x","ref":1}"#,
        ),
        (Reply::Joined { room: room("r"), id: None, reference: Reference(None) }, r#"{"type":"joined","room":"r"}"#),
        (Reply::Left { room: room("r"), reference: reference("\"x\"") }, r#"{"type":"left","room":"r","ref":"x"}"#),
        (Reply::Ack { id: None, reference: reference("2") }, r#"{"type":"ack","ref":2}"#),
        (Reply::Ack { id: Some("i".into()), reference: reference("2") }, r#"{"type":"ack","id":"i","ref":2}"#),
        (Reply::Pong { reference: reference("1e400") }, r#"{"type":"pong","ref":1e400}"#),
        (Reply::Pong { reference: Reference(None) }, r#"{"type":"pong"}"#),
        (
            Reply::Gap { rooms: vec![room("r")], user: true, reason: GapReason::BrokerLost, dropped: Some(2) },
            r#"{"type":"gap","rooms":["r"],"user":true,"reason":"broker_lost","dropped":2}"#,
        ),
        (
            Reply::Gap { rooms: vec![room("r")], user: false, reason: GapReason::NoHistory, dropped: None },
            r#"{"type":"gap","rooms":["r"],"reason":"no_history"}"#,
        ),
        (
            Reply::Presence { room: room("r"), joined: vec![UserName::parse("a").unwrap()], left: vec![] },
            r#"{"type":"presence","room":"r","joined":["a"],"left":[]}"#,
        ),
        (
            Reply::Error { code: ErrorCode::Forbidden, message: "no \"way\"".into(), reference: reference("9") },
            r#"{"type":"error","code":"forbidden","message":"no \"way\"","ref":9}"#,
        ),
    ];
    for (reply, expected) in cases {
        assert_eq!(payload(&reply_frame(&reply)), expected, "{reply:?}");
    }
}

#[test]
fn commands_are_read_with_their_reference_to_the_letter() {
    let Ok(Command::Join { room, since, reference }) = parse(r#" {"ref": 1.50, "type":"join","room":"r","since":"5-1"} "#) else {
        panic!("no join");
    };
    assert_eq!((room.as_str(), since.as_deref(), reference.0.as_deref()), ("r", Some("5-1"), Some("1.50")));

    let Ok(Command::Leave { room, reference }) = parse(r#"{"type":"leave","room":"\u0072","ref":"a\"b"}"#) else { panic!("no leave") };
    assert_eq!((room.as_str(), reference.0.as_deref()), ("r", Some(r#""a\"b""#)));

    let Ok(Command::Token { token, reference }) = parse(r#"{"type":"token","token":"x.y.z","ref":null}"#) else { panic!("no token") };
    assert_eq!((&*token, reference.0), ("x.y.z", None));

    assert!(matches!(parse(r#"{"type":"ping","since":null,"other":[{}]}"#), Ok(Command::Ping { reference: Reference(None) })));
}

#[test]
fn a_publish_carries_its_arguments_untouched() {
    let cases = [
        (r#""data": { "a" : 1.00 }"#, vec![r#"{ "a" : 1.00 }"#]),
        (r#""data":null"#, vec!["null"]),
        (r#""args":[1, [2 ,3],"x"]"#, vec!["1", "[2 ,3]", r#""x""#]),
        (r#""args":[]"#, vec![]),
        (r#""args":null,"data":"\ud800""#, vec![r#""\ud800""#]),
        (r#""event":"e""#, vec![]),
    ];
    for (fields, expected) in cases {
        let Ok(Command::Publish { event, .. }) = parse(&format!(r#"{{"type":"publish","room":"r",{fields}}}"#)) else {
            panic!("{fields}: no publish");
        };
        assert_eq!(event.json_arguments()[..], expected[..], "{fields}");
        assert_eq!(event.name.is_default(), !fields.contains("event"));
    }
}

#[test]
fn what_is_no_json_is_malformed_and_other_json_is_refused() {
    for text in ["", "hello", "{", "[", r#"{"type":"ping"} x"#, r#"{"type":"publish","room":"r","data":nul}"#] {
        assert!(matches!(parse(text), Err(Refused::Malformed(_))), "{text}");
    }
    for text in ["1", "null", "[]", r#"["join",1]"#, r#""ping""#, r#"{"type":"ping","type":"ping"}"#] {
        let refused = parse(text);
        assert!(matches!(refused, Err(Refused::Invalid { code: ErrorCode::BadRequest, .. })), "{text}: {refused:?}");
    }
}

#[test]
fn an_empty_since_is_none() {
    let Ok(Command::Join { since, .. }) = parse(r#"{"type":"join","room":"r","since":""}"#) else { panic!("no join") };
    assert_eq!(since, None);
}

#[test]
fn a_message_with_a_wrong_field_is_answered_with_its_reference() {
    use ErrorCode::{BadRequest, EventNameInvalid, RoomNameInvalid};
    for (fields, code, part) in [
        (r#""type":"dance""#, BadRequest, "unknown type \"dance\""),
        (r#""room":"r""#, BadRequest, "type is missing"),
        (r#""type":7"#, BadRequest, "type must be a string"),
        (r#""type":null"#, BadRequest, "type is missing"),
        (r#""type":"join""#, BadRequest, "room is missing"),
        (r#""type":"join","room":7"#, BadRequest, "room must be a string"),
        (r#""type":"join","room":"""#, RoomNameInvalid, "the room's name is empty"),
        (r#""type":"leave","room":"a\nb""#, RoomNameInvalid, "control character at byte 1"),
        (r#""type":"join","room":"r","since":{}"#, BadRequest, "since must be a string"),
        (r#""type":"publish","room":"r","event":"a\u0000""#, EventNameInvalid, "the event's name has a control character"),
        (r#""type":"publish","room":"r","event":[]"#, BadRequest, "event must be a string"),
        (r#""type":"publish","room":"r","args":{}"#, BadRequest, "args must be an array"),
        (r#""type":"publish","room":"r","args":[],"data":null"#, BadRequest, "data or args, not both"),
        (r#""type":"token""#, BadRequest, "token is missing"),
    ] {
        let Err(Refused::Invalid { code: actual, message, reference }) = parse(&format!(r#"{{{fields},"ref":3}}"#)) else {
            panic!("{fields}: not refused");
        };
        assert_eq!((actual, reference.0.as_deref()), (code, Some("3")), "{fields}");
        assert!(message.contains(part), "{fields}: {message}");
    }
}

#[test]
fn a_reference_is_a_number_or_a_string() {
    for text in ["true", "{}", "[1]"] {
        let refused = parse(&format!(r#"{{"type":"ping","ref":{text}}}"#)).unwrap_err();
        assert!(matches!(refused, Refused::Invalid { code: ErrorCode::BadRequest, .. }), "{text}");
    }
}

#[test]
fn an_error_repeats_only_the_start_of_an_unknown_type() {
    let refused = parse(&json!({"type": "é".repeat(50_000)}).to_string()).unwrap_err();
    assert!(refused.to_string().len() < 200);
}

#[test]
fn a_message_nests_at_most_64_levels() {
    let message = |levels| format!(r#"{{"type":"publish","room":"r","ref":1,"data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&message(63)).is_ok());
    let Err(Refused::Invalid { message: text, reference, .. }) = parse(&message(64)) else { panic!("64 levels and the message") };
    assert_eq!((text.as_str(), reference.0.as_deref()), ("the message nests deeper than 64 levels", Some("1")));
    assert!(parse(&message(1_000_000)).is_err(), "no stack is lost on it");
}

#[test]
fn a_refusal_is_told_to_the_client() {
    let reply = parse(r#"{"type":"join","ref":"j"}"#).unwrap_err().into_reply();
    assert_eq!(payload(&reply_frame(&reply)), r#"{"type":"error","code":"bad_request","message":"room is missing","ref":"j"}"#);
    let Reply::Error { code, reference, .. } = parse("{").unwrap_err().into_reply() else { panic!("no error") };
    assert_eq!((code, reference), (ErrorCode::BadRequest, Reference(None)));
}
