//! What a node answers to one who comes back: from what it has itself, and from what the archive has of all nodes. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    archive::{Birth, Coverage, Entry, Stored},
    clock,
    journal::Journal,
    recording::Recording,
    timeline::Timeline,
};
use crate::protocol::{Position, Publication};

/// Others are asked how far they are when a node begins to count. When it has counted for so long, whoever was there has
/// answered.
const YOUNG_MS: u64 = 2_000;

/// A question to the archive, and what is known before it is answered.
#[derive(Debug)]
pub struct Recall {
    pub after: Position,
    /// Where the room stands: nothing later is replayed.
    pub here: Position,
    /// Since when this node has numbered the room itself, and written it.
    since: Position,
    /// How far it has written, in which record.
    written: Position,
    birth: Birth,
    /// Since when it has all of it even without that record: in memory, or about to be written.
    kept_since: Position,
    size: usize,
    ttl: Duration,
    unwritten: Vec<Entry>,
    own: BTreeMap<Position, Arc<Publication>>,
}

/// The answer.
#[derive(Debug)]
pub struct Recalled {
    /// In order.
    pub missed: Vec<Arc<Publication>>,
    /// That is all that was published.
    pub is_whole: bool,
}

impl Recall {
    /// `None` while the room is not numbered.
    pub fn of(recording: &Recording, timeline: &Timeline, after: Position) -> Option<Self> {
        let (here, since) = recording.place(timeline)?;
        // What the journal gave up is nowhere.
        let since = recording.journal.as_ref().and_then(Journal::since).map_or(since, |kept| kept.max(since));
        let (written, birth) = recording.journal.as_ref().and_then(Journal::written).unwrap_or((since, Birth::default()));
        let own = recording.ring().after(after).filter_map(|publication| Some((publication.point?.position, Arc::clone(publication))));
        Some(Self {
            after,
            here,
            since,
            written,
            birth,
            kept_since: recording.remembered_since().map_or(written, |remembered| remembered.min(written)),
            size: recording.limits.size,
            ttl: recording.limits.ttl,
            unwritten: recording.journal.iter().flat_map(|journal| journal.after(after)).cloned().collect(),
            own: own.collect(),
        })
    }

    /// What an outage has left out: up to where the room is numbered anew. What has come since then waits to be delivered.
    pub fn of_outage(recording: &Recording, timeline: &Timeline, after: Position) -> Option<Self> {
        Some(Self { here: recording.begun()?, ..Self::of(recording, timeline, after)? })
    }

    /// What others report may yet close a hole.
    pub fn may_hear_more(&self) -> bool {
        self.after < self.since && self.here.marker_ms < self.since.marker_ms.saturating_add(YOUNG_MS)
    }

    /// It is whole by now, or will never be: what was trimmed does not come back.
    pub fn is_settled(&self, coverage: &Coverage) -> bool {
        self.floor(coverage) <= self.after.max(coverage.trimmed)
    }

    /// From where on nothing is missing.
    fn floor(&self, coverage: &Coverage) -> Position {
        // What this node has written counts only while the archive knows of it.
        coverage.floor(if coverage.knows(&self.birth, self.written) { self.since } else { self.kept_since })
    }

    /// `read`: an archived entry as what it was, if that can still be said.
    pub fn answer(self, stored: &Stored, read: impl Fn(&Entry) -> Option<Arc<Publication>>) -> Recalled {
        let mut floor = self.floor(&stored.coverage);
        let mut found = self.own;
        for entry in stored.entries.iter().chain(&self.unwritten).filter(|entry| entry.position > self.after && entry.position <= self.here)
        {
            if found.contains_key(&entry.position) {
                continue;
            }
            match read(entry) {
                Some(publication) => _ = found.insert(entry.position, publication),
                None => floor = floor.max(entry.position),
            }
        }
        floor = expire(&mut found, self.here, self.ttl).map_or(floor, |gone| floor.max(gone));
        while found.len() > self.size {
            floor = found.pop_first().map_or(floor, |(position, _)| floor.max(position));
        }
        Recalled { missed: found.into_values().collect(), is_whole: floor <= self.after }
    }
}

/// Drops what is older than its time, which the archive has yet to trim; the last of it. A position says when something came to
/// within the interval of the markers.
fn expire<T>(found: &mut BTreeMap<Position, T>, here: Position, ttl: Duration) -> Option<Position> {
    let ttl_ms = u64::try_from((ttl + clock::INTERVAL).as_millis()).unwrap_or(u64::MAX);
    let oldest = Position { marker_ms: here.marker_ms.saturating_sub(ttl_ms), count: 0 };
    let kept = found.split_off(&oldest);
    std::mem::replace(found, kept).into_keys().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_its_time_is_not_replayed_and_what_may_be_younger_is() {
        let at = |marker_ms| Position { marker_ms, count: 1 };
        let mut found: BTreeMap<Position, ()> = [10_000, 16_999, 17_000, 19_000].map(|ms| (at(ms), ())).into();
        assert_eq!(expire(&mut found, at(20_000), Duration::from_secs(2)), Some(at(16_999)));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [at(17_000), at(19_000)]);
        assert_eq!(expire(&mut BTreeMap::from([(at(1), ())]), at(500), Duration::from_secs(2)), None);
    }
}
