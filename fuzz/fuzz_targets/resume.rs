//! An id says what was put into it, and nothing else is one: not the text itself, and not an id with a changed character.
//! The first line names rooms, by commas; the second is a text that a client might show.
#![no_main]

use std::hash::{DefaultHasher, Hash, Hasher};

use callboard::protocol::{RoomName, position::Position, resume::ResumeKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((names, text)) = input.split_once('\n') else { return };
    let key = key_of(names);
    let of_name = |(index, name): (usize, &str)| {
        let position = Position { marker_ms: (index as u64) << (name.len() % 48), count: name.len() as u64 };
        Some((key.room(&RoomName::parse(name).ok()?), position))
    };
    let mut rooms: Vec<_> = names.split(',').take(20).enumerate().filter_map(of_name).collect();
    rooms.sort_by_key(|(room, _)| *room);
    rooms.dedup_by_key(|(room, _)| *room);
    let id = key.id(&rooms);
    let read = key.read(&id).expect("its own id");
    assert!(rooms.iter().all(|(room, position)| read.position_in(*room) == Some(*position)));
    assert!(text == &*id || key.read(text).is_none(), "{text:?} was never given out");
    let changed: String = id.char_indices().map(|(at, c)| if at == text.len() % id.len() { other_than(c) } else { c }).collect();
    assert!(key.read(&changed).is_none(), "{changed:?} is a forgery");
});

/// A key for each line of names: the fuzzer remembers ids that it has seen made for others.
fn key_of(names: &str) -> ResumeKey {
    let half = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, names).hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&half(0));
    key[8..].copy_from_slice(&half(1));
    ResumeKey::new(key)
}

fn other_than(character: char) -> char {
    if character == 'A' { 'B' } else { 'A' }
}
