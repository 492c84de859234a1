//! Every dialect reads every payload, or says why not.
#![no_main]

use callboard::protocol::dialect::{Dialect, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, Vec<u8>)| {
    let (number, flag, payload) = input;
    let dialect = Dialect::ALL[usize::from(number) % Dialect::ALL.len()];
    let options = Options { room_argument: flag, control: flag, ..Options::default() };
    let _ = dialect.decode(options, &payload);
});
