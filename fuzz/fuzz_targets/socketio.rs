//! Socket.IO packets of every revision.
#![no_main]

use callboard::protocol::{
    socketio::{Packet, Revision},
    socketio_legacy,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for revision in [Revision::V4, Revision::V5] {
        let _ = Packet::from_text(revision, text);
    }
    let _ = socketio_legacy::Packet::from_text(text);
    socketio_legacy::read(text).for_each(drop);
});
