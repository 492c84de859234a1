//! Publishers' dialects: what real packages publish, what nobody should, and what must hold for any bytes.

use std::fmt::Write;

use bytes::Bytes;
use callboard::protocol::{
    Argument, ConnectionId, Event, EventName,
    dialect::{
        Address, Control, DataShape, Delivery, Dialect, Emit, MAX_DELIVERIES, MAX_DEPTH, MAX_PAYLOAD_BYTES, Options, callboard as native,
    },
};
use proptest::prelude::*;
use serde_json::value::RawValue;

/// Runs one vector file. A line says:
/// `dialect NAME`, for the whole file; `% OPTIONS`, for the next payload; `< TEXT` or `hex DIGITS`, a payload;
/// then one `> DELIVERY` for each, or `! REASON`, or neither where a payload asks for nothing. `#` is a remark.
fn check(vectors: &str) {
    let (mut dialect, mut options) = (None, Options::default());
    let mut lines = vectors.lines().enumerate().peekable();
    let mut checked = 0;
    while let Some((index, line)) = lines.next() {
        let payload = match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) | ("#", _) => continue,
            ("dialect", name) => {
                dialect = Some(name.parse::<Dialect>().unwrap());
                continue;
            }
            ("%", text) => {
                options = parse_options(text);
                continue;
            }
            ("<", text) => text.as_bytes().to_vec(),
            ("hex", digits) => from_hex(digits),
            _ => panic!("line {}: {line}", index + 1),
        };
        let mut expected = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with(['>', '!'])) {
            expected.push(line);
        }
        let actual = match dialect.expect("a dialect line comes first").decode(std::mem::take(&mut options), &payload) {
            Ok(deliveries) => deliveries.iter().map(|delivery| format!("> {}", describe(delivery))).collect(),
            Err(error) => vec![format!("! {}", error.reason())],
        };
        assert_eq!(actual, expected, "line {}: {line}", index + 1);
        checked += 1;
    }
    assert!(checked > 0, "the file has no vectors");
}

fn parse_options(text: &str) -> Options {
    match text {
        "room_argument" => Options { room_argument: true, ..Options::default() },
        "data=raw" => Options { data: DataShape::Raw, ..Options::default() },
        "control" => Options { control: true, ..Options::default() },
        other => panic!("unknown options {other}"),
    }
}

fn from_hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "odd number of digits: {digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A delivery on one line.
fn describe(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Emit(emit) => describe_emit(emit),
        Delivery::Control(Control::EnterRoom { sid, room }) => format!("enter {sid} {room}"),
        Delivery::Control(Control::LeaveRoom { sid, room }) => format!("leave {sid} {room}"),
        Delivery::Control(Control::Disconnect { sid, namespace }) => format!("disconnect {sid} {namespace}"),
        Delivery::Control(Control::CloseRoom { room }) => format!("close {room}"),
    }
}

fn describe_emit(emit: &Emit) -> String {
    let mut line = match &emit.to {
        Address::Channel => "channel".to_owned(),
        Address::Room(room) => format!("room {room}"),
        Address::Namespace(name) => format!("namespace {name}"),
    };
    write!(line, " {}", emit.event.name.as_str().escape_debug()).unwrap();
    let arguments: Vec<_> = emit
        .event
        .arguments
        .iter()
        .map(|argument| match argument {
            Argument::Json(raw) => raw.get().to_owned(),
            Argument::Text(text) => format!("text {text:?}"),
        })
        .collect();
    if !arguments.is_empty() {
        write!(line, " {}", arguments.join(" | ")).unwrap();
    }
    let mut more = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            write!(line, " ; {name} {}", values.join(",")).unwrap();
        }
    };
    more("id", emit.event.id.iter().map(ToString::to_string).collect());
    more("except", emit.except.iter().map(|name| name.escape_debug().to_string()).collect());
    more("except rooms", emit.except_rooms.iter().map(ToString::to_string).collect());
    more("binary", emit.event.attachments.iter().map(|bytes| to_hex(bytes)).collect());
    if emit.duplicate_key.is_some() {
        line.push_str(" ; once");
    }
    line
}

macro_rules! vector_tests {
    ($($name:ident: $file:literal,)*) => {
        $(#[test]
        fn $name() {
            check(include_str!(concat!("vectors/", $file)));
        })*
    };
}

vector_tests! {
    callboard_reads_as_its_vectors_say: "callboard.txt",
    raw_reads_as_its_vectors_say: "raw.txt",
    django_sse_reads_as_its_vectors_say: "django_sse.txt",
    gevent_socketio_reads_as_its_vectors_say: "gevent_socketio.txt",
    flask_sse_reads_as_its_vectors_say: "flask_sse.txt",
    django_eventstream_reads_as_its_vectors_say: "django_eventstream.txt",
    python_socketio_reads_as_its_vectors_say: "python_socketio.txt",
    socketio_emitter_reads_as_its_vectors_say: "socketio_emitter.txt",
    action_cable_reads_as_its_vectors_say: "action_cable.txt",
    anycable_reads_as_its_vectors_say: "anycable.txt",
    laravel_reads_as_its_vectors_say: "laravel.txt",
}

fn reason(dialect: Dialect, payload: &[u8]) -> &'static str {
    dialect.decode(Options::default(), payload).map_or_else(|error| error.reason(), |_| "none")
}

/// The dialects whose payload is JSON text.
fn text_dialects() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::SocketioEmitter)
}

#[test]
fn every_dialect_is_found_by_its_name_and_no_other_is() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.as_str().parse(), Ok(dialect));
    }
    let error = "pickle".parse::<Dialect>().unwrap_err();
    assert!(error.to_string().starts_with("unknown dialect `pickle`; the dialects are callboard, raw, "), "{error}");
}

#[test]
fn a_payload_over_the_limit_is_too_large_for_every_dialect() {
    for dialect in Dialect::ALL {
        assert_eq!(reason(dialect, &vec![b' '; MAX_PAYLOAD_BYTES + 1]), "too_large", "{dialect}");
        assert_ne!(reason(dialect, &vec![b' '; MAX_PAYLOAD_BYTES]), "too_large", "{dialect}");
    }
}

#[test]
fn nesting_beyond_the_limit_is_too_deep_for_every_dialect() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for dialect in text_dialects() {
        assert_eq!(reason(dialect, nested(MAX_DEPTH + 1).as_bytes()), "too_deep", "{dialect}");
        assert_ne!(reason(dialect, nested(MAX_DEPTH).as_bytes()), "too_deep", "{dialect}");
    }
    let native_data = |levels: usize| reason(Dialect::Callboard, format!(r#"{{"data":{}}}"#, nested(levels)).as_bytes());
    assert_eq!((native_data(MAX_DEPTH - 1), native_data(MAX_DEPTH)), ("none", "too_deep"));
    let hidden = |levels: usize| reason(Dialect::Anycable, format!(r#"{{"stream":"s","data":"{}"}}"#, nested(levels)).as_bytes());
    assert_eq!((hidden(MAX_DEPTH), hidden(MAX_DEPTH + 1)), ("none", "too_deep"));
    assert_eq!(reason(Dialect::SocketioEmitter, &[0x91; 100_000]), "too_deep");
}

#[test]
fn messagepack_nests_as_deep_as_the_limit() {
    let nested = |levels: usize| {
        let head = from_hex("930082a47479706502a46461746192a165");
        [head, vec![0x91; levels], from_hex("a16c"), from_hex("81a5726f6f6d7390")].concat()
    };
    // Three levels are the message's own.
    assert_eq!(reason(Dialect::SocketioEmitter, &nested(MAX_DEPTH - 3)), "none");
    assert_eq!(reason(Dialect::SocketioEmitter, &nested(MAX_DEPTH - 2)), "too_deep");
}

#[test]
fn a_pickle_is_named_as_one_by_every_dialect_of_text() {
    for dialect in text_dialects() {
        assert_eq!(reason(dialect, b"\x80\x04\x95\x14\0\0\0"), "pickle", "{dialect}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused_also_inside_strings() {
    for dialect in text_dialects() {
        assert_eq!(reason(dialect, b"{\"event\":\"e\",\"data\":\"\xc3\"}"), "not_utf8", "{dialect}");
    }
}

#[test]
fn a_message_cut_short_anywhere_is_no_messagepack() {
    let whole = from_hex(
        "93a7656d697474657283a47479706502a46461746192a362696ec403010203a36e7370a52f6368617483a5726f6f6d7391a7726f6f6d20c3a9a5666c61677380a665786365707490",
    );
    for length in 0..whole.len() {
        assert_eq!(reason(Dialect::SocketioEmitter, &whole[..length]), "not_message_pack", "{length} bytes");
    }
}

#[test]
fn a_payload_names_no_more_rooms_than_the_limit() {
    let emit = |rooms: usize| {
        let rooms: Vec<String> = (0..rooms).map(|number| format!("r{number}")).collect();
        serde_json::json!({"method": "emit", "event": "e", "data": [], "room": rooms}).to_string()
    };
    assert_eq!(reason(Dialect::PythonSocketio, emit(MAX_DELIVERIES).as_bytes()), "none");
    assert_eq!(reason(Dialect::PythonSocketio, emit(MAX_DELIVERIES + 1).as_bytes()), "too_many");
    let broadcasts = format!("[{}0]", "0,".repeat(MAX_DELIVERIES));
    assert_eq!(reason(Dialect::Anycable, broadcasts.as_bytes()), "too_many");
}

#[test]
fn one_event_to_several_rooms_has_one_key_and_a_repetition_has_another() {
    let payload = br#"{"method":"emit","event":"e","data":[],"room":["a","b"]}"#;
    let keys = || -> Vec<u64> {
        let deliveries = Dialect::PythonSocketio.decode(Options::default(), payload).unwrap();
        deliveries.iter().filter_map(|delivery| if let Delivery::Emit(emit) = delivery { emit.duplicate_key } else { None }).collect()
    };
    let (first, second) = (keys(), keys());
    assert_eq!(first.len(), 2);
    assert_eq!(first[0], first[1]);
    assert_ne!(first[0], second[0]);
}

#[test]
fn an_error_says_what_was_wrong_and_nothing_of_the_payload() {
    let secret = br#"{"event":["hunter2"],"data":1}"#;
    let error = Dialect::Callboard.decode(Options::default(), secret).unwrap_err();
    assert_eq!(error.to_string(), r#"payload is not an object {"event", "data" or "args"}"#);
    let error = Dialect::PythonSocketio.decode(Options::default(), b"\x80\x04").unwrap_err();
    assert!(error.to_string().contains("upgrade the publisher"), "{error}");
}

#[test]
fn ready_text_goes_out_on_a_native_channel_as_a_string() {
    let event = Event::new(EventName::default(), [Argument::Text("a\n\"b\"".into())]);
    assert_eq!(String::from_utf8(native::encode(&event, &[], None)).unwrap(), r#"{"event":"message","data":"a\n\"b\""}"#);
}

#[test]
fn a_native_payload_has_only_the_keys_it_needs() {
    let raw = |text: &str| Argument::Json(RawValue::from_string(text.into()).unwrap());
    let mut event = Event::new("e".parse().unwrap(), [raw("1"), raw(r#"{"_placeholder":true,"num":0}"#)]);
    event.attachments.push(Bytes::from_static(&[1, 2]));
    event.id = Some("i".into());
    assert_eq!(
        String::from_utf8(native::encode(&event, &[ConnectionId::new(1, 2)], Some(7))).unwrap(),
        r#"{"event":"e","args":[1,{"_placeholder":true,"num":0}],"id":"i","except":["0000000100000002"],"binary":["AQI="],"key":7}"#
    );
    assert_eq!(native::encode(&Event::default(), &[], None), br#"{"event":"message"}"#);
}

/// JSON as publishers write it: white space and numbers of any size included.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.0e400".to_owned()),
        Just("12345678901234567890123".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            (any::<String>(), inner).prop_map(|(key, value)| format!("{{{}: {value}}}", serde_json::Value::from(key))),
        ]
    })
}

prop_compose! {
    fn native_event()(
        name in "[^\r\n\0]{1,32}",
        arguments in proptest::collection::vec(json_text(), 0..4),
        attachments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..16), 0..3),
        id in proptest::option::of(any::<String>()),
    ) -> Event {
        let has_binary = arguments.iter().all(|text| serde_json::from_str::<serde_json::Value>(text).is_ok());
        let arguments = arguments.into_iter().map(|text| Argument::Json(RawValue::from_string(text).unwrap()));
        let mut event = Event::new(name.parse().unwrap(), arguments);
        event.attachments = attachments.into_iter().filter(|_| has_binary).map(Bytes::from).collect();
        event.id = id.map(Into::into);
        event
    }
}

proptest! {
    #[test]
    fn what_the_hub_publishes_it_reads_back_to_the_letter(
        event in native_event(),
        except in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..3),
        key in proptest::option::of(any::<u64>()),
    ) {
        let except: Vec<ConnectionId> = except.into_iter().map(|(node, number)| ConnectionId::new(node, number)).collect();
        let payload = native::encode(&event, &except, key);
        let deliveries = Dialect::Callboard.decode(Options::default(), &payload).unwrap();
        let [Delivery::Emit(emit)] = &deliveries[..] else { panic!("{deliveries:?}") };
        prop_assert_eq!(&emit.to, &Address::Channel);
        prop_assert_eq!(&emit.event.name, &event.name);
        prop_assert_eq!(emit.event.arguments.iter().map(Argument::to_json).collect::<Vec<_>>(), event.arguments.iter().map(Argument::to_json).collect::<Vec<_>>());
        prop_assert_eq!(&emit.event.attachments, &event.attachments);
        prop_assert_eq!(&emit.event.id, &event.id);
        prop_assert_eq!(emit.duplicate_key, key);
        let read: Vec<ConnectionId> = emit.except.iter().map(|id| id.parse().unwrap()).collect();
        prop_assert_eq!(read, except);
    }

    #[test]
    fn no_bytes_make_any_dialect_panic(payload in proptest::collection::vec(any::<u8>(), 0..512), control: bool, raw: bool) {
        let options = Options { room_argument: control, data: if raw { DataShape::Raw } else { DataShape::List }, control };
        for dialect in Dialect::ALL {
            let _ = dialect.decode(options, &payload);
        }
    }

    #[test]
    fn no_json_makes_any_dialect_panic(payload in json_text()) {
        for dialect in Dialect::ALL {
            let _ = dialect.decode(Options::default(), payload.as_bytes());
        }
    }

    #[test]
    fn no_damaged_message_of_socket_io_panics(at in 0_usize..100, byte: u8) {
        let mut payload = from_hex("93a7656d697474657283a47479706502a46461746192a36e756d83a3626967cf0000000100000000a36e6567fba164d6ff00000000a36e7370a12f83a5726f6f6d73912aa5666c61677380a665786365707490");
        let at = at % payload.len();
        payload[at] = byte;
        let _ = Dialect::SocketioEmitter.decode(Options::default(), &payload);
    }
}
