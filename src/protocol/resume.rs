//! The ids that a client shows to go on where it stopped: where it stands in each room of its stream, in one opaque text that
//! every node of the hub reads and nobody else can write.
//!
//! An id is base64url of `version, (room, position)…, tag`. The tag is SipHash-2-4 under a key that the nodes share: a
//! forged position would replay nothing that its owner may not join anyway, but it could make the hub call a hole whole. No
//! room's name is in it, only a keyed hash, so an id in a log tells nothing.

use std::{fmt, hash::Hasher, num::ParseIntError, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use super::{names::RoomName, position::Position};

/// Rooms that one id covers. Those past it are not in the id, and a client that resumes is told so (`unknown_position`).
/// Full, an id is about 4 KiB, which passes the header limits of common proxies.
pub const MAX_ROOMS: usize = 256;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 8;
/// A room and its position: 4 bytes, and two numbers of at most 10.
const MAX_ENTRY_BYTES: usize = 24;

/// What makes ids ours. Shared by all nodes of one Redis, random where the broker is embedded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeKey([u8; 16]);

/// A room's name as ids carry it. Two rooms of one stream share it once in some hundred thousand streams of the largest size;
/// such an id covers neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomHash(u32);

/// Where one room stands, ready to be spelled as an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub room: RoomHash,
    pub position: Position,
    pub key: ResumeKey,
}

/// What an id says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumed(SmallVec<[(RoomHash, Position); 1]>);

impl ResumeKey {
    pub const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// For those who share it.
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn room(&self, room: &RoomName) -> RoomHash {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(b"room:");
        hasher.write(room.as_str().as_bytes());
        RoomHash((hasher.finish() >> 32) as u32)
    }

    fn tag(&self, bytes: &[u8]) -> [u8; TAG_BYTES] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish().to_be_bytes()
    }

    /// The id of a stream that stands here in these rooms.
    pub fn id(&self, rooms: &[(RoomHash, Position)]) -> Box<str> {
        let mut bytes = Vec::with_capacity(1 + 12 * rooms.len().min(MAX_ROOMS) + TAG_BYTES);
        bytes.push(VERSION);
        for (room, position) in rooms.iter().take(MAX_ROOMS) {
            bytes.extend_from_slice(&room.0.to_be_bytes());
            put_number(&mut bytes, position.marker_ms);
            put_number(&mut bytes, position.count);
        }
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        BASE64_URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// Reads an id. `None` if it is not one that a node with this key made.
    pub fn read(&self, id: &str) -> Option<Resumed> {
        let bytes = unpack(id)?;
        let (signed, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        if !constant_time_eq(tag, &self.tag(signed)) {
            return None;
        }
        let (&VERSION, mut rest) = signed.split_first()? else { return None };
        let mut rooms = SmallVec::new();
        while !rest.is_empty() {
            let (room, numbers) = rest.split_first_chunk::<4>()?;
            rest = numbers;
            let position = Position { marker_ms: take_number(&mut rest)?, count: take_number(&mut rest)? };
            rooms.push((RoomHash(u32::from_be_bytes(*room)), position));
        }
        Some(Resumed(rooms))
    }
}

impl fmt::Display for RoomHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for RoomHash {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u32::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey(…)")
    }
}

impl Point {
    /// The id of a stream that has this room alone.
    pub fn id(&self) -> Box<str> {
        self.key.id(&[(self.room, self.position)])
    }

    /// The same room elsewhere.
    pub fn at(self, position: Position) -> Self {
        Self { position, ..self }
    }
}

impl Resumed {
    /// Where the client stood in this room; `None` if the id doesn't say, or says it twice.
    pub fn position_in(&self, room: RoomHash) -> Option<Position> {
        let mut found = self.0.iter().filter(|(known, _)| *known == room);
        match (found.next(), found.next()) {
            (Some((_, position)), None) => Some(*position),
            _ => None,
        }
    }

    pub fn rooms(&self) -> usize {
        self.0.len()
    }

    pub fn all(&self) -> &[(RoomHash, Position)] {
        &self.0
    }
}

/// Whether this could be an id at all. Who made it, only the key can tell.
pub fn is_shaped_like_id(text: &str) -> bool {
    unpack(text).is_some_and(|bytes| bytes.len() > TAG_BYTES && bytes.first() == Some(&VERSION))
}

fn unpack(id: &str) -> Option<Vec<u8>> {
    if id.len() > (1 + MAX_ROOMS * MAX_ENTRY_BYTES + TAG_BYTES).div_ceil(3) * 4 {
        return None;
    }
    BASE64_URL_SAFE_NO_PAD.decode(id).ok()
}

fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(left, right).into()
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
