//! SSE blocks, read back by a parser written from WHATWG HTML §9.2.6 and nothing else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use callboard::protocol::{
    Argument, Event, EventName, GapReason, Publication, Reference, Reply, RoomName, Target, UserName,
    sse::{self, KEEP_ALIVE, goodbye, head, last_event_id, padding, reply},
};
use proptest::prelude::*;
use serde_json::{json, value::RawValue};

fn event_block(publication: &Publication) -> Bytes {
    sse::event_block(publication, publication.resume_id.as_deref())
}

/// What a browser would dispatch.
#[derive(Debug, PartialEq)]
struct Dispatched {
    name: String,
    data: String,
    last_id: String,
}

#[derive(Debug, Default)]
struct Stream {
    events: Vec<Dispatched>,
    retry: Option<u64>,
    blank_lines: usize,
    comments: usize,
    name: String,
    data: String,
    last_id: String,
}

impl Stream {
    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let mut stream = Self::default();
        // What follows the last line end is no line.
        let (lines, _rest) = text.rsplit_once('\n').unwrap_or_default();
        lines.split('\n').for_each(|line| stream.line(line));
        stream
    }

    fn line(&mut self, line: &str) {
        match line.split_once(':').unwrap_or((line, "")) {
            ("", "") if line.is_empty() => self.dispatch(),
            ("", _) => self.comments += 1,
            (field, value) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
        }
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => self.name = value.into(),
            "data" => self.data.extend([value, "\n"]),
            "id" if !value.contains('\0') => self.last_id = value.into(),
            "retry" => self.retry = value.parse().ok().or(self.retry),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.blank_lines += 1;
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if !data.is_empty() {
            let name = if name.is_empty() { "message".into() } else { name };
            let data = data.strip_suffix('\n').unwrap().into();
            self.events.push(Dispatched { name, data, last_id: self.last_id.clone() });
        }
    }
}

fn publication(name: &str, arguments: impl IntoIterator<Item = Argument>) -> Publication {
    let event = Event::new(EventName::parse(name).unwrap(), arguments);
    Publication::new(Target::Room(RoomName::parse("lobby").unwrap()), Arc::new(event))
}

fn json_argument(text: &str) -> Argument {
    Argument::Json(RawValue::from_string(text.into()).unwrap())
}

fn text_argument(text: &str) -> Argument {
    Argument::Text(text.into())
}

#[test]
fn a_block_is_written_in_the_plainest_form_that_every_client_reads() {
    let mut one = publication("tick", [json_argument(r#"{"n":1}"#)]);
    assert_eq!(event_block(&one), "event: tick\ndata: {\"n\":1}\n\n");
    one.resume_id = Some("5-1".into());
    assert_eq!(event_block(&one), "id: 5-1\nevent: tick\ndata: {\"n\":1}\n\n");
    assert_eq!(event_block(&publication("message", [json_argument("1")])), "data: 1\n\n");
}

#[test]
fn arguments_are_one_json_text_and_ready_text_is_left_unquoted() {
    let cases = [
        (vec![], "null"),
        (vec![json_argument("\"a\"")], "\"a\""),
        (vec![text_argument("a \"b\"")], "a \"b\""),
        (vec![text_argument("a"), json_argument("[1]")], "[\"a\",[1]]"),
    ];
    for (arguments, data) in cases {
        let bytes = event_block(&publication("message", arguments));
        assert_eq!(bytes, format!("data: {data}\n\n"));
    }
}

#[test]
fn empty_text_is_still_dispatched() {
    let bytes = event_block(&publication("empty", [text_argument("")]));
    assert_eq!(bytes, "event: empty\ndata: \n\n");
    assert_eq!(Stream::parse(&bytes).events.len(), 1);
}

#[test]
fn lines_end_in_cr_and_lf_and_in_nothing_else() {
    let cases = [
        ("a\nb\rc\r\nd", "data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ("a\n", "data: a\ndata: \n\n"),
        ("\n\r", "data: \ndata: \ndata: \n\n"),
        ("a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g", "data: a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g\n\n"),
        (" a", "data:  a\n\n"),
    ];
    for (text, block) in cases {
        assert_eq!(event_block(&publication("message", [text_argument(text)])), block, "{text:?}");
    }
}

#[test]
fn json_over_several_lines_arrives_as_the_same_value() {
    let text = "{\n  \"a\": [1,\r\n 2]\r}";
    let stream = Stream::parse(&event_block(&publication("message", [json_argument(text)])));
    let data: serde_json::Value = serde_json::from_str(&stream.events[0].data).unwrap();
    assert_eq!(data, json!({"a": [1, 2]}));
}

#[test]
fn data_cannot_forge_a_field_or_an_event() {
    let stream = Stream::parse(&event_block(&publication("chat", [text_argument("x\n\nevent: forged\rid: 9\r\ndata: y\n\n")])));
    assert_eq!(stream.events.len(), 1);
    assert_eq!((stream.events[0].name.as_str(), stream.last_id.as_str()), ("chat", ""));
}

#[test]
fn head_keep_alive_and_goodbye_hold_no_blank_line() {
    assert_eq!(head(Duration::from_secs(3)), "retry: 3000\n:\n");
    assert_eq!(KEEP_ALIVE, b":\n");
    assert_eq!(goodbye(Duration::from_millis(4321)), "retry: 4321\n: draining\n");
    let all = [&head(Duration::from_secs(3))[..], KEEP_ALIVE, &padding(), &goodbye(Duration::from_millis(4321))].concat();
    let stream = Stream::parse(&all);
    assert_eq!((stream.retry, stream.comments, stream.blank_lines), (Some(4321), 4, 0));
}

#[test]
fn padding_is_two_kibibytes_of_comment() {
    assert_eq!(padding(), format!(":{}\n", " ".repeat(2048)));
}

#[test]
fn a_gap_is_an_event_of_the_hub() {
    let rooms = vec![RoomName::parse("a").unwrap(), RoomName::parse("b\"").unwrap()];
    let full = Reply::Gap { rooms: rooms.clone(), user: true, reason: GapReason::Overflow, dropped: Some(3) };
    assert_eq!(
        reply(&full).unwrap(),
        "event: callboard:gap\ndata: {\"rooms\":[\"a\",\"b\\\"\"],\"user\":true,\"reason\":\"overflow\",\"dropped\":3}\n\n"
    );
    let plain = Reply::Gap { rooms: vec![], user: false, reason: GapReason::NoHistory, dropped: None };
    assert_eq!(reply(&plain).unwrap(), "event: callboard:gap\ndata: {\"rooms\":[],\"reason\":\"no_history\"}\n\n");
}

#[test]
fn presence_is_an_event_and_answers_are_not() {
    let room = RoomName::parse("a").unwrap();
    let presence = Reply::Presence { room: room.clone(), joined: vec![UserName::parse("bob").unwrap()], left: vec![] };
    assert_eq!(reply(&presence).unwrap(), "event: callboard:presence\ndata: {\"room\":\"a\",\"joined\":[\"bob\"],\"left\":[]}\n\n");
    assert_eq!(reply(&Reply::Joined { room, id: None, reference: Reference(None) }), None);
}

#[test]
fn the_last_id_is_found_where_each_client_puts_it() {
    let cases = [
        (Some("h"), "lastEventId=q", Some("Last-Event-ID=b"), Some("h")),
        (None, "room=r&lastEventId=q", Some("Last-Event-ID=b"), Some("q")),
        (None, "last_event_id=q", None, Some("q")),
        (None, "Last-Event-ID=q", None, Some("q")),
        (None, "Last-Event-ID=3&last_event_id=2&lastEventId=1", None, Some("1")),
        (None, "room=r", Some("Last-Event-ID=demo-1"), Some("demo-1")),
        (None, "lastEventId=a%2Bb%3Dc+d%C3%A9", None, Some("a+b=c dé")),
        (None, "", Some("Last-Event-ID=a%2Fb"), Some("a/b")),
        (Some(""), "lastEventId=", Some("Last-Event-ID="), None),
        (Some(""), "lastEventId=&last_event_id=q", None, Some("q")),
        (None, "lasteventid=q", Some(""), None),
    ];
    for (header, query, body, expected) in cases {
        assert_eq!(last_event_id(header, query, body).as_deref(), expected, "{header:?} {query:?} {body:?}");
    }
}

/// Texts with many line ends, colons and spaces, where a stream could break.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a: \r\n\u{2028}\u{feff}\0é]{0,20}"]
}

proptest! {
    #[test]
    fn what_is_written_is_what_a_browser_reads(
        parts in prop::collection::vec((texts(), texts(), prop::option::of("[0-9a-z]{1,9}-[0-9]{1,3}")), 0..5)
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        let mut last_id = String::new();
        for (name, text, id) in parts {
            let Ok(name) = EventName::parse(&name) else { continue };
            let mut one = publication(name.as_str(), [text_argument(&text)]);
            one.resume_id = id.clone().map(Into::into);
            last_id = id.unwrap_or(last_id);
            bytes.extend_from_slice(&event_block(&one));
            bytes.extend_from_slice(KEEP_ALIVE);
            // A line end is all that the format cannot tell apart from another.
            let data = text.replace("\r\n", "\n").replace('\r', "\n");
            expected.push(Dispatched { name: name.to_string(), data, last_id: last_id.clone() });
        }
        prop_assert_eq!(Stream::parse(&bytes).events, expected);
    }
}
