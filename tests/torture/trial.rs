//! What a scenario is given, and what it hands back.

use std::time::Duration;

use crate::{ledger::Tally, support::stopwatch::Reading};

pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&mut Trial) -> Report,
}

pub struct Trial {
    /// By hand: full size. Else as much as fits into the suite.
    pub is_long: bool,
    /// A twin runs without it, and its report must show the fault.
    pub has_cure: bool,
    pub dice: Dice,
}

impl Trial {
    /// A size of the quick tier and of the long one. Twins are always small.
    pub fn size<T>(&self, quick: T, long: T) -> T {
        if self.is_long && self.has_cure { long } else { quick }
    }
}

/// What came out. A scenario without faults has passed; its twin must have some.
#[derive(Debug, Default)]
pub struct Report {
    pub figures: Vec<String>,
    pub faults: Vec<String>,
}

impl Report {
    pub fn figure(&mut self, text: impl ToString) {
        self.figures.push(text.to_string());
    }

    /// What must hold; a fault if not.
    pub fn claim(&mut self, what: &str, holds: bool) {
        if !holds {
            self.faults.push(format!("it does not hold that {what}"));
        }
    }

    /// What must be so within the time that the contract names.
    pub fn promise(&mut self, what: &str, after: Reading, limit: Duration) {
        self.figure(format!("{what} after {after}"));
        self.claim(&format!("{what} within {} s: {after}", limit.as_secs_f64()), after.is_within(limit));
    }

    /// As `books`; and whatever happened, at the end everybody hears again: the last event of each room has come.
    pub fn whole_books(&mut self, tally: Tally) {
        self.books(tally);
        self.claim(&format!("everybody has the last event, not {} clients", tally.unfinished), tally.unfinished == 0);
    }

    /// Nothing lost silently, doubled or out of order.
    pub fn books(&mut self, tally: Tally) {
        self.figure(tally);
        if tally.faults() > 0 {
            self.faults.push(tally.to_string());
        }
        // A check that had nothing to check is none.
        assert!(tally.due > 0, "nothing was due");
    }
}

/// Chance that can be had again: the same seed throws the same numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// At least 0 and less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }
}
