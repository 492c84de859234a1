//! A bounded number of places, each given back when its lease drops.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[derive(Debug, Clone)]
pub struct Capacity {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// One place of a [`Capacity`].
#[derive(Debug)]
pub struct Lease(Arc<AtomicUsize>);

impl Capacity {
    pub fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// A place, or `None` when all are taken.
    pub fn take(&self) -> Option<Lease> {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Lease(Arc::clone(&self.taken)))
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_lease_is_dropped() {
        let capacity = Capacity::new(1);
        let lease = capacity.take();
        assert!(lease.is_some() && capacity.take().is_none());
        drop(lease);
        assert!(capacity.take().is_some());
        assert_eq!(capacity.taken(), 0);
    }
}
