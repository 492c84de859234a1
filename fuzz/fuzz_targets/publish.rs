//! A client's JSON message is a command or a refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = callboard::protocol::native::parse(text);
});
