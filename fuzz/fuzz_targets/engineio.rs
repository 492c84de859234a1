//! Engine.IO payloads and packets of both versions.
#![no_main]

use callboard::protocol::engineio::{Packet, Version, polling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    polling::read_octets(input).for_each(drop);
    let Ok(text) = std::str::from_utf8(input) else { return };
    for version in [Version::V3, Version::V4] {
        let _ = Packet::from_text(version, text);
        let _ = Packet::from_binary(version, input.to_vec().into());
        polling::read(version, text).for_each(drop);
    }
});
