//! The slots of a Redis Cluster: where a name falls, and which names fall where they are wanted. Pure.

use std::sync::OnceLock;

/// How many there are.
pub const SLOTS: u16 = 16_384;

/// Where a channel or key lives: by what stands in its first pair of braces, if that is something, else by all of it.
pub fn slot_of(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    crc16(tag.unwrap_or(name).as_bytes()) % SLOTS
}

/// A hash tag that falls into this slot: the smallest number that does. What a room is called must not matter, and no name can
/// break out of digits as one with a brace in it could.
pub fn tag_of(slot: u16) -> u32 {
    static TAGS: OnceLock<Vec<u32>> = OnceLock::new();
    TAGS.get_or_init(tags)[usize::from(slot % SLOTS)]
}

fn tags() -> Vec<u32> {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0.. {
        if missing == 0 {
            break;
        }
        let tag = &mut tags[usize::from(slot_of(&number.to_string()))];
        if tag.is_none() {
            *tag = Some(number);
            missing -= 1;
        }
    }
    tags.into_iter().flatten().collect()
}

/// CRC-16/XMODEM, as the Redis Cluster specification asks.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_falls_where_redis_says() {
        // CLUSTER KEYSLOT of Redis 7.0; the first is the example of the specification.
        for (name, slot) in [("123456789", 12739), ("foo", 12182), ("{foo}.bar", 12182), ("{user1000}.following", 3443), ("a{}b", 13694)] {
            assert_eq!(slot_of(name), slot, "{name}");
        }
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own() {
        for slot in 0..SLOTS {
            assert_eq!(slot_of(&format!("callboard:history:{{{}}}:a}}{{b}}", tag_of(slot))), slot);
        }
    }
}
