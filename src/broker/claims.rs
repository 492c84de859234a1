//! Idempotency keys; and where there is no Redis to keep them, those of the last five minutes.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// How long a key is honoured.
pub const HONOURED: Duration = Duration::from_secs(5 * 60);
/// Keys that are remembered; past it the oldest are forgotten before their time.
const REMEMBERED: usize = 100_000;

/// A publisher's idempotency key, and the id of the event that it publishes under it.
#[derive(Debug, Clone)]
pub struct Claim {
    pub key: Box<str>,
    pub id: Box<str>,
}

#[derive(Debug, Default)]
pub struct Claims {
    ids: HashMap<Box<str>, Box<str>, RandomState>,
    order: VecDeque<(Instant, Box<str>)>,
}

impl Claims {
    /// Claims a key for an event id. `Some`: the id under which it was claimed before.
    pub fn claim(&mut self, key: &str, id: &str, now: Instant) -> Option<Box<str>> {
        while self.order.front().is_some_and(|(since, _)| now.duration_since(*since) >= HONOURED) || self.order.len() >= REMEMBERED {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.ids.remove(&key);
        }
        if let Some(known) = self.ids.get(key) {
            return Some(known.clone());
        }
        self.ids.insert(key.into(), id.into());
        self.order.push_back((now, key.into()));
        None
    }

    /// Gives a claim up: its publication failed.
    pub fn release(&mut self, key: &str) {
        self.ids.remove(key);
        self.order.retain(|(_, known)| **known != *key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_honoured_for_five_minutes_and_not_after_a_failure() {
        let now = Instant::now();
        let mut claims = Claims::default();
        assert_eq!(claims.claim("k", "1", now), None);
        assert_eq!(claims.claim("k", "2", now + HONOURED / 2).as_deref(), Some("1"));
        assert_eq!(claims.claim("k", "3", now + HONOURED), None);
        claims.release("k");
        assert_eq!(claims.claim("k", "4", now + HONOURED), None);
    }

    #[test]
    fn no_more_keys_are_remembered_than_is_promised() {
        let now = Instant::now();
        let mut claims = Claims::default();
        (0..=REMEMBERED).for_each(|n| assert_eq!(claims.claim(&n.to_string(), "1", now), None));
        assert_eq!(claims.order.len(), REMEMBERED);
        assert_eq!(claims.claim("0", "2", now), None);
    }
}
