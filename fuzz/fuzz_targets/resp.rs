//! However a publisher's bytes are cut, they are the same commands, none above its bounds. The first byte says how they are cut.
#![no_main]

use bytes::Bytes;
use callboard::broker::resp::decode::{Decoder, Limits, ProtocolError};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { arguments: 16, bulk: 256, command: 1024, line: 128 };

fn read(decoder: &mut Decoder, commands: &mut Vec<Vec<Bytes>>) -> Result<(), ProtocolError> {
    while let Some(command) = decoder.decode(&LIMITS)? {
        assert!(command.len() <= LIMITS.arguments && command.iter().all(|argument| argument.len() <= LIMITS.command));
        commands.push(command);
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::default();
    decoder.buffer().extend_from_slice(bytes);
    let ended = read(&mut decoder, &mut whole).is_err();
    let mut decoder = Decoder::default();
    let cut_ended = bytes.chunks(usize::from(cut) + 1).any(|chunk| {
        decoder.buffer().extend_from_slice(chunk);
        read(&mut decoder, &mut parts).is_err()
    });
    assert_eq!((ended, whole), (cut_ended, parts));
});
