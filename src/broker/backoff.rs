//! How long to wait before the next attempt: doubling, bounded, and never the same on two nodes.

use std::time::Duration;

/// First and longest wait. The longest is below a second, so that a broker that is back is used within a second.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(800);

#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Between half and all of the doubled wait: nodes that lost the broker together must not return together.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        doubled.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_begins_anew() {
        let mut backoff = Backoff::default();
        for doubled in [50, 100, 200, 400, 800, 800, 800] {
            let wait = backoff.next_wait();
            let range = Duration::from_millis(doubled / 2)..=Duration::from_millis(doubled);
            assert!(range.contains(&wait), "{wait:?} is not in {range:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
