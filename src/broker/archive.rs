//! The contract of an archive: what the bridge asks of the place where rooms' histories are kept for all nodes.
//!
//! Redis has one. With the embedded broker there is none: the bridge's own rings are all there is.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::claims::Claim;
use crate::{
    actors::messages::BrokerError,
    protocol::{Position, RoomName},
};

/// Where rooms' publications are kept. All calls return at once.
pub trait Archive {
    /// Writes what this node has numbered in one room. What another node has written already is no error.
    fn record(&self, batch: Batch) -> LocalBoxFuture<'static, Result<Written, BrokerError>>;
    /// What is kept of a room after a position, the last `size` of it, and from where on nothing is missing.
    fn read(&self, room: &RoomName, after: Position, size: usize) -> LocalBoxFuture<'static, Result<Stored, BrokerError>>;
    /// The first and last id and the number of entries.
    fn extent(&self, room: &RoomName) -> LocalBoxFuture<'static, Result<Extent, BrokerError>>;
    /// Claims a publisher's idempotency key, where it can't be done in one step with the publication. `Some`: the id under which it
    /// was claimed before.
    fn claim(&self, claim: &Claim) -> LocalBoxFuture<'static, Result<Option<Box<str>>, BrokerError>>;
    /// Gives a claim up, if it is this one that holds: its publication failed.
    fn release(&self, claim: &Claim) -> LocalBoxFuture<'static, ()>;
}

/// One publication as the archive keeps it: what arrived, so that it is read by the same dialect again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    pub channel: Box<str>,
    pub payload: Bytes,
    /// Which of the payload's deliveries it is.
    pub index: usize,
}

/// A room's part of one round of writing.
#[derive(Debug, Clone)]
pub struct Batch {
    pub room: RoomName,
    /// `[[room]] history`.
    pub size: usize,
    pub ttl: std::time::Duration,
    /// This node has recorded everything after `since`, up to `until`, once these entries are written.
    pub since: Position,
    pub until: Position,
    /// What it has written before reaches to there, in the record of this birth.
    pub written: Position,
    pub birth: Birth,
    pub entries: Vec<Entry>,
}

/// Tells the record of a room from one that was lost before, with all that it stood for. Empty: of none.
pub type Birth = Box<str>;

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub added: u64,
    /// Another node was faster.
    pub duplicates: u64,
    /// Came too late to stand where they belong. The archive says so to those who resume.
    pub lost: u64,
    pub birth: Birth,
    /// Since when the archive takes this node to have recorded all: later than the batch said, where what it had written
    /// before is gone.
    pub since: Position,
}

/// What was read of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub entries: Vec<Entry>,
    pub coverage: Coverage,
}

/// What the nodes together have recorded of a room: everything after `start`, up to `until`, but for what was trimmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// `None`: nobody records it.
    pub recorded: Option<(Position, Position)>,
    /// The last entry that was trimmed, or lost.
    pub trimmed: Position,
    pub birth: Birth,
}

impl Coverage {
    /// From where on nothing is missing, for a node that itself has everything after `own_since`.
    pub fn floor(&self, own_since: Position) -> Position {
        let whole_since = match self.recorded {
            Some((start, until)) if until >= own_since => start.min(own_since),
            _ => own_since,
        };
        whole_since.max(self.trimmed)
    }

    /// Whether what was written up to there in the record of this birth is still known of.
    pub fn knows(&self, birth: &str, written: Position) -> bool {
        *self.birth == *birth && self.recorded.is_some_and(|(_, until)| until >= written)
    }
}

/// What is kept of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    pub length: usize,
    pub first: Option<Position>,
    pub last: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(marker_ms: u64) -> Position {
        Position { marker_ms, count: 0 }
    }

    #[test]
    fn what_others_recorded_counts_only_where_it_meets_our_own() {
        let recorded = |start, until| Coverage { recorded: Some((at(start), at(until))), trimmed: at(0), birth: Birth::default() };
        assert_eq!(recorded(10, 50).floor(at(40)), at(10), "they overlap");
        assert_eq!(recorded(10, 40).floor(at(40)), at(10), "they meet");
        assert_eq!(recorded(10, 39).floor(at(40)), at(40), "there is a hole between them");
        assert_eq!(recorded(60, 90).floor(at(40)), at(40), "our own reaches further back");
        assert_eq!(Coverage::default().floor(at(40)), at(40));
    }

    #[test]
    fn what_was_trimmed_is_missing_whoever_recorded_it() {
        let coverage = Coverage { recorded: Some((at(10), at(50))), trimmed: at(30), birth: Birth::default() };
        assert_eq!(coverage.floor(at(40)), at(30));
        assert_eq!(coverage.floor(at(20)), at(30));
    }
}
