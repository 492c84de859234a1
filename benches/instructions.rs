//! Fixed work for one codec, for counting its instructions: `instructions CASE N` does CASE N times, `instructions --list`
//! names the cases. Times lie on a busy machine, instruction counts hardly move; `scripts/check-instructions` compares them,
//! after subtracting a run of 0 times: program start and preparation.
//!
//! A case is one line of `CASES`: its name, and a function that prepares its input and returns the work.

use std::{hint::black_box, sync::Arc};

use callboard::protocol::{Encoding, Event, EventName, Publication, RoomName, Target, event::Argument, native, sse};
use serde_json::json;

type Work = Box<dyn FnMut()>;
type Case = (&'static str, fn() -> Work);

const CASES: &[Case] = &[
    ("sse_encode", || {
        let publication = publication();
        Box::new(move || drop(black_box(sse::event_block(black_box(&publication), None))))
    }),
    ("ws_encode", || {
        let publication = publication();
        Box::new(move || drop(black_box(native::event_frame(black_box(&publication)))))
    }),
    ("cached_bytes", || {
        let publication = publication();
        Box::new(move || drop(black_box(black_box(&publication).bytes(Encoding::Sse))))
    }),
];

/// The event of the fan-out measurements: 256 bytes of data, a short name, no id.
fn publication() -> Publication {
    let room = RoomName::parse("bench").expect("a literal without control characters");
    let name = EventName::parse("bench").expect("a literal without line ends");
    let event = Event::new(name, [Argument::from_value(&json!("x".repeat(256)))]);
    Publication::new(Target::Room(room), Arc::new(event))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [case, times] => run(case, times),
        _ => fail("usage: instructions CASE N | --list"),
    }
}

fn run(case: &str, times: &str) {
    let Some((_, prepare)) = CASES.iter().find(|(name, _)| *name == case) else { return fail(&format!("`{case}` is no case")) };
    let Ok(times) = times.parse::<u32>() else { return fail(&format!("`{times}` is no number")) };
    let mut work = prepare();
    for _ in 0..times {
        work();
    }
}

fn fail(why: &str) {
    eprintln!("{why}");
    std::process::exit(2);
}
