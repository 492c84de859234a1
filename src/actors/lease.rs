//! A bounded number of places, each given back when its lease drops: of the whole node, of one address, of one user.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

#[derive(Debug, Clone)]
pub struct Capacity {
    taken: Arc<AtomicUsize>,
    limit: Arc<AtomicUsize>,
}

/// One place of a [`Capacity`], with the holder's shares of other limits.
#[derive(Debug)]
pub struct Lease {
    taken: Arc<AtomicUsize>,
    share: Option<Box<dyn Share>>,
}

/// A share of a limit, given back when it drops, with those that its holder took before.
trait Share: std::fmt::Debug + Send + Sync {}

impl Capacity {
    pub fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit: Arc::new(AtomicUsize::new(limit)) }
    }

    /// A place, or `None` when all are taken.
    pub fn take(&self) -> Option<Lease> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Lease { taken: Arc::clone(&self.taken), share: None })
    }

    /// From now on so many; who has a place keeps it.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lease {
    /// Counts the holder among those of this key, unless there are `limit` of them; 0 counts nobody.
    pub fn share<K: Key>(&mut self, tally: &Tally<K>, key: K, limit: usize) -> bool {
        if limit == 0 {
            return true;
        }
        let Some(mut counted) = tally.take(key, limit) else { return false };
        counted._earlier = self.share.take();
        self.share = Some(Box::new(counted));
        true
    }
}

/// What places are counted by.
pub trait Key: Eq + Hash + Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<K: Eq + Hash + Clone + std::fmt::Debug + Send + Sync + 'static> Key for K {}

/// How many places each key has. It knows no more keys than there are leases.
#[derive(Debug, Clone)]
pub struct Tally<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[derive(Debug)]
struct Counted<K: Key> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
    /// Dropped with it: a list for one or two shares would cost more than they do.
    _earlier: Option<Box<dyn Share>>,
}

impl<K: Key> Tally<K> {
    fn take(&self, key: K, limit: usize) -> Option<Counted<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted { counts: Arc::clone(&self.0), key, _earlier: None })
    }
}

impl<K: Key> Share for Counted<K> {}

impl<K: Key> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
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

    #[test]
    fn each_key_has_its_own_places_and_is_forgotten_with_the_last() {
        let (capacity, tally) = (Capacity::new(9), Tally::default());
        let take = |key: &'static str| {
            let mut lease = capacity.take().expect("there are nine");
            lease.share(&tally, key, 2).then_some(lease)
        };
        let (first, second) = (take("a"), take("a"));
        assert!(first.is_some() && second.is_some() && take("a").is_none() && take("b").is_some());
        drop(first);
        assert!(take("a").is_some());
        drop(second);
        assert!(tally.0.lock().expect("nobody panicked").is_empty());
        assert_eq!(capacity.taken(), 0);
    }
}
