//! A histogram of durations: 32 buckets an octave, so that a percentile is at most 1/32 too high, in 15 KiB whatever the range.

use std::time::Duration;

const SUB_BITS: u32 = 5;
const SUB_BUCKETS: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_ns: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The least bucket end that at least `share` of all values do not exceed; zero without values.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(last_of(at).min(self.max_ns));
            }
        }
        self.max()
    }
}

/// Values below 32 have a bucket each; above, the octave and the five bits after the leading one choose it.
fn bucket(ns: u64) -> usize {
    if ns < SUB_BUCKETS {
        return ns as usize;
    }
    let shift = 63 - ns.leading_zeros() - SUB_BITS;
    ((u64::from(shift) << SUB_BITS) + (ns >> shift)) as usize
}

/// The largest value that falls into a bucket.
fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB_BUCKETS {
        return bucket;
    }
    let shift = (bucket >> SUB_BITS) - 1;
    let leading = SUB_BUCKETS + (bucket & (SUB_BUCKETS - 1));
    (leading << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_not_in_the_one_before() {
        for value in (0..64).flat_map(|bit| [0, 1, 3].map(|more| (1u64 << bit).saturating_add(more << bit >> 2))).chain([0, u64::MAX]) {
            let at = bucket(value);
            assert!(at < BUCKETS && last_of(at) >= value, "{value}");
            assert!(at == 0 || last_of(at - 1) < value, "{value}");
        }
    }

    #[test]
    fn percentiles_are_within_a_32nd_above_and_the_maximum_is_exact() {
        let mut histogram = Histogram::default();
        (1..=1_000_000).for_each(|ns| histogram.record(ns));
        for share in [0.5, 0.9, 0.99, 0.999] {
            let exact = share * 1e6;
            let found = histogram.percentile(share).as_nanos() as f64;
            assert!((exact..=exact * (1.0 + 1.0 / 32.0)).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.max(), Duration::from_millis(1));
        assert_eq!(histogram.percentile(1.0), Duration::from_millis(1));
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        assert_eq!(Histogram::default().percentile(0.99), Duration::ZERO);
    }
}
