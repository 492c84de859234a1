//! However a client's bytes are cut, they mean the same, and nothing panics. The first byte says how they are cut.
#![no_main]

use callboard::protocol::wire::{Received, Wire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    Wire::web_socket(1024).receive(bytes, &mut whole);
    let mut wire = Wire::web_socket(1024);
    for chunk in bytes.chunks(usize::from(cut) + 1) {
        wire.receive(chunk, &mut parts);
        // A connection that has closed reads no further.
        if matches!(parts.last(), Some(Received::Close(..))) {
            break;
        }
    }
    assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
});
