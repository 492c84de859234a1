//! Whatever an event holds, its block is one event to a reader of the stream, with the name (the first
//! line) and data (the rest) that went in.
#![no_main]

use std::sync::Arc;

use callboard::protocol::{Argument, Encoding, Event, EventName, Publication, RoomName, Target};
use libfuzzer_sys::fuzz_target;

/// The WHATWG algorithm (HTML §9.2.6), for one block.
fn read(text: &str) -> Vec<(String, String)> {
    let (mut events, mut name, mut data) = (Vec::new(), String::new(), String::new());
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                events.push((std::mem::take(&mut name), std::mem::take(&mut data)));
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => data.extend([value, "\n"]),
            _ => {}
        }
    }
    events
}

fuzz_target!(|input: &str| {
    let Some((name, text)) = input.split_once('\n') else { return };
    let Ok(name) = EventName::parse(name) else { return };
    let Ok(room) = RoomName::parse("r") else { return };
    let expected_name = if name.is_default() { String::new() } else { name.as_str().to_owned() };
    let event = Event::new(name, [Argument::Text(text.into())]);
    let publication = Publication::new(Target::Room(room), Arc::new(event));
    let bytes = publication.bytes(Encoding::Sse);
    let block = std::str::from_utf8(&bytes).expect("a stream is UTF-8");
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    assert_eq!(read(block), [(expected_name, lines)]);
});
