//! How often a client may speak: so many messages per second, twice that in a burst.

use tokio::time::Instant;

/// A bucket that fills at the rate and holds two seconds' worth.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    available: f64,
    /// When `available` was true; `None` before the first message.
    counted_at: Option<Instant>,
}

impl Allowance {
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, available: 2.0 * per_second, counted_at: None }
    }

    /// True if the client was silent long enough to have its whole burst again.
    pub fn is_full(&self) -> bool {
        self.available >= 2.0 * self.per_second - 1.0
    }

    /// Takes one message's worth; false if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = self.counted_at.map_or(0.0, |then| now.duration_since(then).as_secs_f64() * self.per_second);
        self.counted_at = Some(now);
        self.available = (self.available + earned).min(2.0 * self.per_second);
        let is_within = self.available >= 1.0;
        if is_within {
            self.available -= 1.0;
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_of_two_seconds_worth_passes_and_then_only_the_rate() {
        let now = Instant::now();
        let mut allowance = Allowance::new(5);
        assert_eq!((0..20).filter(|_| allowance.take(now)).count(), 10);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| allowance.take(later)).count(), 5);
    }
}
