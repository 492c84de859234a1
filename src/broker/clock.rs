//! The clock: markers that a node publishes every second and waits to see again. Redis raises nothing when it is stopped, cut
//! off or has dropped us; only a message that comes back over the subscription proves that others would.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::link::Marker;
use crate::protocol::resume::RoomHash;

/// Between two markers.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Wishes for a marker out of turn are granted together, so long after the first.
pub const COALESCE: Duration = Duration::from_millis(10);
/// With two markers missing the subscription is dead, whatever TCP says.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Publishes `node:number:ms:ticket:rooms`, as one step with the reading of Redis' time (EVAL).
pub const MARKER_SCRIPT: &str = include_str!("redis/mark.lua");

/// The end of a marker's text, behind Redis' time.
pub fn tail(ticket: u64, rooms: &[RoomHash]) -> String {
    let rooms: Vec<String> = rooms.iter().map(RoomHash::to_string).collect();
    format!(":{ticket}:{}", rooms.join(","))
}

/// The markers of this node that are on their way.
#[derive(Debug)]
pub struct Clock {
    node: String,
    number: u64,
    sent: VecDeque<(u64, Instant)>,
    proven_at: Instant,
}

impl Clock {
    pub fn new(node: &str, now: Instant) -> Self {
        Self { node: node.to_owned(), number: 0, sent: VecDeque::new(), proven_at: now }
    }

    /// The next marker's text, before Redis adds its time.
    pub fn next_marker(&mut self, now: Instant) -> String {
        self.number += 1;
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
        let (_, ms, ticket) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let wanted = parts.next()?.split(',').filter_map(|room| room.parse().ok()).collect();
        Some(Marker { ms, ticket: (!is_foreign).then_some(ticket), wanted, is_foreign })
    }

    /// A marker came back, of whichever node; the round trip if it is ours.
    pub fn see(&mut self, marker: &str, now: Instant) -> Option<Duration> {
        let mut parts = marker.split(':');
        if parts.next() != Some(self.node.as_str()) {
            return None;
        }
        let number: u64 = parts.next()?.parse().ok()?;
        let mut round_trip = None;
        while let Some(&(sent, at)) = self.sent.front().filter(|(sent, _)| *sent <= number) {
            self.sent.pop_front();
            if sent == number {
                round_trip = Some(now.duration_since(at));
            }
        }
        self.proven_at = now;
        round_trip
    }

    pub fn is_dead(&self, now: Instant) -> bool {
        now.duration_since(self.proven_at) > PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_dead_when_two_markers_are_missing_and_not_before() {
        let start = Instant::now();
        let mut clock = Clock::new("n", start);
        let marker = clock.next_marker(start);
        let seen = start + Duration::from_millis(3);
        assert_eq!(clock.see(&format!("{marker}:1:2"), seen), Some(Duration::from_millis(3)));
        assert!(!clock.is_dead(seen + 2 * INTERVAL));
        assert!(clock.is_dead(seen + 3 * INTERVAL));
    }

    #[test]
    fn the_markers_of_other_nodes_prove_nothing() {
        let start = Instant::now();
        let mut clock = Clock::new("n", start);
        clock.next_marker(start);
        assert_eq!(clock.see("other:1:1:2", start + 2 * INTERVAL), None);
        assert!(clock.is_dead(start + 3 * INTERVAL));
    }
}
