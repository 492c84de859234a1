//! A body of `/api/publish` is an event or a refusal, and so is a client's JSON message.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = callboard::http::api::read_publish(&Bytes::copy_from_slice(body));
    if let Ok(text) = std::str::from_utf8(body) {
        let _ = callboard::protocol::native::parse(text);
    }
});
