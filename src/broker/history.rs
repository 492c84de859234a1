//! What one room has published last, in memory: the whole history with the embedded broker, and what Redis may not have yet
//! with Redis. Pure: `now` is handed in.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::protocol::{Position, Publication};

/// The last publications of a room, oldest first.
#[derive(Debug)]
pub struct Ring {
    size: usize,
    ttl: Duration,
    kept: VecDeque<Kept>,
    /// Everything after it is kept.
    floor: Position,
}

#[derive(Debug)]
struct Kept {
    position: Position,
    publication: Arc<Publication>,
    since: Instant,
}

impl Ring {
    /// `floor`: where the recording begins.
    pub fn new(size: usize, ttl: Duration, floor: Position) -> Self {
        Self { size, ttl, kept: VecDeque::new(), floor }
    }

    /// Keeps as much, and as long, from now on.
    pub fn limit(&mut self, size: usize, ttl: Duration, now: Instant) {
        (self.size, self.ttl) = (size, ttl);
        while self.kept.len() > self.size {
            self.drop_oldest();
        }
        self.expire(now);
    }

    /// One like it with nothing in it, whose recording begins here.
    pub fn emptied(&self, floor: Position) -> Self {
        Self::new(self.size, self.ttl, floor)
    }

    pub fn push(&mut self, position: Position, publication: Arc<Publication>, now: Instant) {
        self.kept.push_back(Kept { position, publication, since: now });
        while self.kept.len() > self.size {
            self.drop_oldest();
        }
        self.expire(now);
    }

    pub fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|kept| now.duration_since(kept.since) >= self.ttl) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.floor = self.floor.max(oldest.position);
        }
    }

    /// What came after a position; with [`Ring::floor`] it is told whether that is all.
    pub fn after(&self, position: Position) -> impl Iterator<Item = &Arc<Publication>> {
        let start = self.kept.partition_point(|kept| kept.position <= position);
        self.kept.range(start..).map(|kept| &kept.publication)
    }

    pub fn floor(&self) -> Position {
        self.floor
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The first and last positions.
    pub fn ends(&self) -> Option<(Position, Position)> {
        Some((self.kept.front()?.position, self.kept.back()?.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Event, RoomName};

    const TTL: Duration = Duration::from_secs(60);

    fn at(count: u64) -> Position {
        Position { marker_ms: 1, count }
    }

    fn publication() -> Arc<Publication> {
        let room = RoomName::parse("r").unwrap();
        Arc::new(Publication::new(room.into(), Arc::new(Event::default())))
    }

    fn filled(size: usize, events: u64, now: Instant) -> Ring {
        let mut ring = Ring::new(size, TTL, at(0));
        (1..=events).for_each(|count| ring.push(at(count), publication(), now));
        ring
    }

    #[test]
    fn a_ring_keeps_the_last_ones_and_says_what_it_let_go() {
        let ring = filled(3, 3, Instant::now());
        assert_eq!((ring.len(), ring.floor()), (3, at(0)));
        let ring = filled(3, 4, Instant::now());
        assert_eq!((ring.len(), ring.floor(), ring.ends()), (3, at(1), Some((at(2), at(4)))));
        assert_eq!(ring.after(at(0)).count(), 3);
        assert_eq!(ring.after(at(2)).count(), 2);
        assert_eq!(ring.after(at(9)).count(), 0);
    }

    #[test]
    fn what_is_older_than_its_time_is_let_go() {
        let start = Instant::now();
        let mut ring = filled(9, 2, start);
        ring.push(at(3), publication(), start + TTL / 2);
        ring.expire(start + TTL);
        assert_eq!((ring.len(), ring.floor()), (1, at(2)));
        ring.expire(start + 2 * TTL);
        assert!(ring.is_empty());
        assert_eq!(ring.floor(), at(3));
    }
}
