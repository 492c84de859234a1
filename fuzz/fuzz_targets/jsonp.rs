//! What hidden forms post, and the payloads that come of it.
#![no_main]

use callboard::protocol::{
    engineio::{Version, polling},
    jsonp, socketio_legacy,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|form: &[u8]| {
    if let Some(payload) = jsonp::posted_engineio(form) {
        polling::read(Version::V3, &payload).for_each(drop);
        assert!(jsonp::engineio(0, &payload).is_ascii() || !payload.is_ascii());
    }
    if let Some(payload) = jsonp::posted_legacy(form) {
        socketio_legacy::read(&payload).for_each(drop);
        let script = jsonp::legacy(0, &payload);
        assert!(!String::from_utf8_lossy(&script).contains(['\u{2028}', '\u{2029}']));
    }
});
