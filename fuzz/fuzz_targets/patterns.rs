//! A pattern, on the first line, matches a name, on the second, as the plain recursive reading of `*` says.
#![no_main]

use callboard::protocol::RoomPattern;
use libfuzzer_sys::fuzz_target;

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| first == byte && matches(rest, name)),
    }
}

fuzz_target!(|text: &str| {
    let Some((pattern, name)) = text.split_once('\n') else { return };
    // The plain reading is exponential in the stars.
    if pattern.len() > 12 || name.len() > 16 {
        return;
    }
    if let Ok(parsed) = RoomPattern::parse(pattern) {
        assert_eq!(parsed.matches(name), matches(pattern.as_bytes(), name.as_bytes()), "{pattern:?} {name:?}");
    }
});
