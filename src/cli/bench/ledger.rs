//! The ledger of one subscriber: which events of its stream came, so that loss, doubles and order are counted exactly.

use std::ops::Range;

/// What one arrival means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// An earlier one, that had been jumped over.
    Late,
    /// Came before.
    Double,
}

/// Counts one stream from sequence 0. Costs two words while all comes in order.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    /// What was jumped over and has not come, ascending. Empty, and without an allocation, on a correct server.
    missing: Vec<Range<u64>>,
}

impl Ledger {
    pub fn record(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            if sequence > self.next {
                self.missing.push(self.next..sequence);
            }
            self.next = sequence + 1;
            return Arrival::InOrder;
        }
        match self.missing.iter().position(|range| range.contains(&sequence)) {
            None => Arrival::Double,
            Some(at) => {
                let Range { start, end } = self.missing[at];
                self.missing.splice(at..=at, [start..sequence, sequence + 1..end].into_iter().filter(|rest| !rest.is_empty()));
                Arrival::Late
            }
        }
    }

    /// How many of the first `published` events never came.
    pub fn lost(&self, published: u64) -> u64 {
        let jumped: u64 = self.missing.iter().map(|range| range.end - range.start).sum();
        jumped + published.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(sequences: &[u64]) -> (Ledger, Vec<Arrival>) {
        let mut ledger = Ledger::default();
        let arrivals = sequences.iter().map(|sequence| ledger.record(*sequence)).collect();
        (ledger, arrivals)
    }

    #[test]
    fn what_never_came_is_lost_at_the_end_and_in_the_middle() {
        let (ledger, _) = arrivals(&[0, 1, 4]);
        assert_eq!(ledger.lost(5), 2);
        assert_eq!(ledger.lost(8), 5);
        assert_eq!(Ledger::default().lost(3), 3);
    }

    #[test]
    fn a_late_event_is_a_fault_of_order_and_no_loss() {
        let (ledger, seen) = arrivals(&[0, 4, 2, 1, 3]);
        assert_eq!(seen[2..], [Arrival::Late; 3]);
        assert_eq!(ledger.lost(5), 0);
        assert!(ledger.missing.is_empty());
    }

    #[test]
    fn a_double_is_told_from_a_late_event() {
        let (ledger, seen) = arrivals(&[0, 0, 3, 1, 1]);
        use Arrival::*;
        assert_eq!(seen, [InOrder, Double, InOrder, Late, Double]);
        assert_eq!(ledger.lost(4), 1);
    }
}
