//! The clock: markers that a node publishes every second and waits to see again. Redis raises nothing when it is stopped, cut
//! off or has dropped us; only a message that comes back over the subscription proves that others would.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::link::Marker;
use crate::protocol::resume::RoomHash;

/// Between two markers.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// With so many markers missing when the next is due the subscription is dead, whatever TCP says. Markers are counted and not
/// time, because a thread that was held up for long has proven nothing against Redis.
///
/// Unless Redis took the last marker and messages have come since: in a flood a marker stands behind all that Redis still holds
/// for us, and who connects anew then throws that away.
const MISSING: usize = 2;
/// With so many missing it is dead although other messages come: nothing marks the time any more.
const MISSING_FOR_GOOD: usize = 10;

/// Wishes for a marker out of turn are granted together, so long after the first.
pub const COALESCE: Duration = Duration::from_millis(10);
/// Publishes `node:number:ms:rooms`, as one step with the reading of Redis' time (EVAL).
pub const MARKER_SCRIPT: &str = include_str!("redis/mark.lua");

/// The end of a marker's text, behind Redis' time.
pub fn tail(rooms: &[RoomHash]) -> String {
    let rooms: Vec<String> = rooms.iter().map(RoomHash::to_string).collect();
    format!(":{}", rooms.join(","))
}

/// The markers of this node that are on their way.
#[derive(Debug)]
pub struct Clock {
    node: String,
    /// Never begins anew, so that a late marker of an earlier connection is not taken for one of this.
    number: u64,
    sent: VecDeque<(u64, Instant)>,
    /// Since the last marker was sent, a message came over the subscription.
    has_heard: bool,
    /// Redis answered that it took the last marker.
    is_taken: bool,
}

impl Clock {
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), number: 0, sent: VecDeque::new(), has_heard: false, is_taken: false }
    }

    /// A new connection: what was sent over the last one proves nothing of this.
    pub fn restart(&mut self) {
        self.sent.clear();
    }

    /// The next marker's text, before Redis adds its time.
    pub fn next_marker(&mut self, now: Instant) -> String {
        self.number += 1;
        (self.has_heard, self.is_taken) = (false, false);
        self.sent.push_back((self.number, now));
        format!("{}:{}", self.node, self.number)
    }

    /// A marker out of turn. It moves the time like any other, and nothing is concluded from its absence.
    pub fn extra_marker(&mut self) -> String {
        self.number += 1;
        format!("{}:{}", self.node, self.number)
    }

    /// What a marker says, of whichever node.
    pub fn read(&self, marker: &str) -> Option<Marker> {
        let mut parts = marker.split(':');
        let is_foreign = parts.next()? != self.node;
        let (_, ms) = (parts.next()?, parts.next()?.parse().ok()?);
        let wanted = parts.next()?.split(',').filter_map(|room| room.parse().ok()).collect();
        Some(Marker { ms, wanted, is_foreign })
    }

    /// A marker came back, of whichever node; the round trip if it is one that we wait for.
    pub fn see(&mut self, marker: &str, now: Instant) -> Option<Duration> {
        let mut parts = marker.split(':');
        if parts.next() != Some(self.node.as_str()) {
            return None;
        }
        let number: u64 = parts.next()?.parse().ok()?;
        let place = self.sent.iter().position(|(sent, _)| *sent == number)?;
        // Redis keeps their order: an older one that has not come will not.
        self.sent.drain(..=place).next_back().map(|(_, at)| now.duration_since(at))
    }

    /// Redis took the last marker.
    pub fn note_taken(&mut self) {
        self.is_taken = true;
    }

    /// A message, and not a marker, came over the subscription.
    pub fn note_heard(&mut self) {
        self.has_heard = true;
    }

    /// To be asked before each marker.
    pub fn is_dead(&self) -> bool {
        self.sent.len() >= if self.has_heard && self.is_taken { MISSING_FOR_GOOD } else { MISSING }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_dead_when_two_markers_are_missing_and_not_before() {
        let start = Instant::now();
        let mut clock = Clock::new("n");
        let marker = clock.next_marker(start);
        assert_eq!(clock.see(&format!("{marker}:1:"), start + Duration::from_millis(3)), Some(Duration::from_millis(3)));
        clock.next_marker(start + INTERVAL);
        assert!(!clock.is_dead());
        clock.next_marker(start + 2 * INTERVAL);
        assert!(clock.is_dead());
    }

    #[test]
    fn while_messages_come_late_markers_are_waited_for_but_not_for_ever() {
        let start = Instant::now();
        let mut clock = Clock::new("n");
        for second in 0..MISSING_FOR_GOOD as u32 {
            assert!(!clock.is_dead(), "after {second} s");
            clock.next_marker(start + second * INTERVAL);
            clock.note_taken();
            clock.note_heard();
        }
        assert!(clock.is_dead());
    }

    #[test]
    fn late_markers_are_not_waited_for_without_a_message_or_without_an_answer_to_the_last() {
        let start = Instant::now();
        for note in [Clock::note_taken, Clock::note_heard] {
            let mut clock = Clock::new("n");
            for second in 0..MISSING as u32 {
                clock.next_marker(start + second * INTERVAL);
                note(&mut clock);
            }
            assert!(clock.is_dead());
        }
    }

    #[test]
    fn a_marker_answers_for_the_ones_before_it() {
        let start = Instant::now();
        let mut clock = Clock::new("n");
        clock.next_marker(start);
        let second = clock.next_marker(start + INTERVAL);
        assert_eq!(clock.see(&second, start + INTERVAL), Some(Duration::ZERO));
        assert!(!clock.is_dead());
    }

    #[test]
    fn the_markers_of_other_nodes_prove_nothing() {
        let start = Instant::now();
        let mut clock = Clock::new("n");
        clock.next_marker(start);
        clock.next_marker(start);
        assert_eq!(clock.see("other:1:1:", start), None);
        assert!(clock.is_dead());
    }

    #[test]
    fn a_late_marker_of_the_last_connection_proves_nothing_of_this_one() {
        let start = Instant::now();
        let mut clock = Clock::new("n");
        let old = clock.next_marker(start);
        clock.restart();
        let new = clock.next_marker(start);
        assert_eq!(clock.see(&old, start), None);
        assert_eq!(clock.see(&new, start), Some(Duration::ZERO));
    }
}
