//! Which publications of this node have publishers who wait to hear how many connections took them.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::{sync::oneshot, time::Instant};

use crate::actors::receipt::Receipt;

/// How long a publisher waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// By event id. An id is its publisher's choice and may be on its way twice; then the first to leave is the first to come down.
#[derive(Default)]
pub(super) struct Receipts(HashMap<Box<str>, VecDeque<Pending>, RandomState>);

struct Pending {
    receipt: Receipt,
    since: Instant,
    /// Channels of ours on which it has yet to come down.
    expected: usize,
}

impl Receipts {
    /// A publication will come down on so many channels, at least one. [`PATIENCE`] later it is to be given up.
    pub fn expect(&mut self, id: Box<str>, expected: usize) -> oneshot::Receiver<usize> {
        let (receipt, told) = Receipt::new();
        self.0.entry(id).or_default().push_back(Pending { receipt, since: Instant::now(), expected });
        told
    }

    /// It came down on one more.
    pub fn take(&mut self, id: &str) -> Option<Receipt> {
        let waiting = self.0.get_mut(id)?;
        let pending = waiting.front_mut()?;
        pending.expected -= 1;
        let receipt = pending.receipt.clone();
        if pending.expected == 0 {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.0.remove(id);
        }
        Some(receipt)
    }

    /// A receipt that is given up tells what it has counted.
    pub fn give_up(&mut self, id: &str) {
        if let Some(waiting) = self.0.get_mut(id) {
            waiting.retain(|pending| pending.since.elapsed() < PATIENCE);
            if waiting.is_empty() {
                self.0.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_publications_under_one_id_have_a_receipt_each() {
        let mut receipts = Receipts::default();
        let mut first = receipts.expect("x".into(), 1);
        let mut second = receipts.expect("x".into(), 2);
        receipts.take("x").unwrap().add(3);
        assert_eq!(first.try_recv(), Ok(3));
        receipts.take("x").unwrap().add(4);
        assert!(second.try_recv().is_err(), "it has yet to come down on another channel");
        receipts.take("x").unwrap().add(5);
        assert_eq!(second.try_recv(), Ok(9));
        assert!(receipts.take("x").is_none());
    }
}
