//! Ids to resume by: every one is read back as it was made, and nothing that was not made here is read at all.

use callboard::protocol::{
    Position, RoomName,
    resume::{MAX_ROOMS, ResumeKey, RoomHash},
};
use proptest::prelude::*;

const KEY: ResumeKey = ResumeKey::new(*b"0123456789abcdef");

fn room(name: &str) -> RoomHash {
    KEY.room(&RoomName::parse(name).unwrap())
}

fn at(marker_ms: u64, count: u64) -> Position {
    Position { marker_ms, count }
}

#[test]
fn an_id_covers_every_room_of_its_stream() {
    let id = KEY.id(&[(room("a"), at(1_764_000_000_123, 7)), (room("b"), at(1_764_000_000_000, 0))]);
    let resumed = KEY.read(&id).unwrap();
    assert_eq!(resumed.position_in(room("a")), Some(at(1_764_000_000_123, 7)));
    assert_eq!(resumed.position_in(room("b")), Some(at(1_764_000_000_000, 0)));
    assert_eq!(resumed.position_in(room("c")), None);
}

#[test]
fn an_id_fits_a_header_line_and_needs_no_escape() {
    let one = KEY.id(&[(room("a"), at(1_764_000_000_123, 1))]);
    assert!(one.len() <= 28, "{one}");
    let rooms: Vec<_> = (0..MAX_ROOMS + 10).map(|n| (room(&format!("room-{n}")), at(1_764_000_000_000 + n as u64, n as u64))).collect();
    let id = KEY.id(&rooms);
    assert!(id.len() <= 4608, "{} bytes", id.len());
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
    assert_eq!(KEY.read(&id).unwrap().rooms(), MAX_ROOMS);
}

#[test]
fn the_id_of_another_hub_is_unknown() {
    let id = ResumeKey::new([7; 16]).id(&[(room("a"), at(1, 1))]);
    assert_eq!(KEY.read(&id), None);
}

#[test]
fn two_rooms_that_share_a_hash_are_covered_by_neither() {
    let id = KEY.id(&[(room("a"), at(1, 1)), (room("a"), at(2, 2))]);
    assert_eq!(KEY.read(&id).unwrap().position_in(room("a")), None);
}

#[test]
fn garbage_is_refused_whatever_it_looks_like() {
    for text in ["", "5", "1700000000000-4", "AQ", "AQAAAAAAAAAA", "not base64!", &"A".repeat(100_000), "\u{1F980}"] {
        assert_eq!(KEY.read(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_back(rooms in prop::collection::vec((0..1000u32, any::<u64>(), any::<u64>()), 0..40)) {
        let mut rooms: Vec<_> = rooms.into_iter().map(|(n, ms, count)| (room(&n.to_string()), at(ms, count))).collect();
        rooms.sort();
        rooms.dedup_by_key(|(room, _)| *room);
        let resumed = KEY.read(&KEY.id(&rooms)).unwrap();
        for (room, position) in &rooms {
            prop_assert_eq!(resumed.position_in(*room), Some(*position));
        }
        prop_assert_eq!(resumed.rooms(), rooms.len());
    }

    #[test]
    fn a_flipped_bit_is_noticed(ms in any::<u64>(), count in any::<u64>(), flip in any::<prop::sample::Index>()) {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        let id = KEY.id(&[(room("a"), at(ms, count)), (room("b"), at(count, ms))]);
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&*id).unwrap();
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(KEY.read(&BASE64_URL_SAFE_NO_PAD.encode(bytes)), None);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,200}") {
        prop_assert_eq!(KEY.read(&text), None);
    }
}
