//! The clock: markers that a node publishes every second and waits to see again. Redis raises nothing when it is stopped, cut
//! off or has dropped us; only a message that comes back over the subscription proves that others would.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Between two markers.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// With two markers missing the subscription is dead, whatever TCP says.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Publishes `node:number:seconds:microseconds` with Redis' own time in it, as one step (EVAL).
pub const MARKER_SCRIPT: &str = "local t = redis.call('TIME') \
     return redis.call('PUBLISH', ARGV[1], ARGV[2] .. ':' .. t[1] .. ':' .. t[2])";

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
