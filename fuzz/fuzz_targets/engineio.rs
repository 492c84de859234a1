//! Engine.IO payloads and packets of both versions. What was read, written again and read once more is the same.
#![no_main]

use callboard::protocol::engineio::{Carrier, Packet, Version, polling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    polling::read_octets(input).for_each(drop);
    let Ok(text) = std::str::from_utf8(input) else { return };
    for version in [Version::V3, Version::V4] {
        let _ = Packet::from_text(version, text);
        let _ = Packet::from_binary(version, input.to_vec().into());
        for packet in polling::read(version, text).flatten() {
            // Ends of a session carry nothing that is worth keeping.
            if !matches!(packet, Packet::Text(_) | Packet::Binary(_) | Packet::Ping(_) | Packet::Pong(_)) {
                continue;
            }
            let unit = packet.ready(version, Carrier::Polling);
            let unit = std::str::from_utf8(&unit).expect("units are text");
            assert_eq!(polling::read(version, unit).collect::<Vec<_>>(), [Ok(packet)]);
        }
    }
});
