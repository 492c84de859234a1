//! Every dialect reads every payload, or says why not. The first byte says which dialect, and with which options.
#![no_main]

use callboard::protocol::dialect::{Dialect, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, payload)) = input.split_first() else { return };
    let dialect = Dialect::ALL[usize::from(first & 0x3f) % Dialect::ALL.len()];
    let options = Options { room_argument: first & 0x40 != 0, control: first & 0x80 != 0, ..Options::default() };
    let _ = dialect.decode(options, payload);
});
