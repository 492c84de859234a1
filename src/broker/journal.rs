//! What of one room waits to be written to the archive. Pure.
//!
//! It never holds more than the archive would keep: what is pushed out would have been trimmed there. What is being written
//! stays until the archive has it, so that a replay in between misses nothing.

use std::{collections::VecDeque, mem, time::Duration};

use tokio::time::Instant;

use super::archive::{Batch, Coverage, Entry};
use crate::{
    config::History,
    protocol::{Position, RoomName},
};

/// Entries written at once.
const BATCH: usize = 256;
/// How much longer a run is held back while others are known to have older entries that they have yet to write.
const UNPROVEN: Duration = Duration::from_secs(2);
/// How soon others are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Others that have said nothing for so long do not record any more: each says every five seconds how far it is.
const SILENT_MS: u64 = 10_000;

#[derive(Debug)]
pub struct Journal {
    pub limits: History,
    /// Runs of publications without a hole, oldest first. Only the last one grows.
    runs: VecDeque<Run>,
    /// Entries of the first run that are on their way.
    in_flight: usize,
    is_writing: bool,
    /// A run that has just begun is held back until then: an entry of a slower node must not come too late.
    held_until: Option<Instant>,
    /// Until then, others are asked first whether they have written what is older.
    unproven_until: Option<Instant>,
}

#[derive(Debug)]
struct Run {
    /// Everything after it is in this run, or was written with it.
    since: Position,
    /// Where it ended; `None` while it goes on.
    ended: Option<Position>,
    entries: VecDeque<Entry>,
}

impl Journal {
    pub fn new(limits: History) -> Self {
        Self { limits, runs: VecDeque::new(), in_flight: 0, is_writing: false, held_until: None, unproven_until: None }
    }

    /// A new run begins here; what went before ended at `ended`.
    pub fn begin(&mut self, since: Position, ended: Position, held_until: Option<Instant>) {
        self.end(ended);
        self.runs.push_back(Run { since, ended: None, entries: VecDeque::new() });
        self.held_until = held_until;
        self.unproven_until = held_until.map(|until| until + UNPROVEN);
    }

    /// Others must be looked at before the run that has begun is written. To be answered with [`Journal::hear_of_others`].
    pub fn asks_for_others(&mut self, now: Instant) -> bool {
        let asks = !self.is_writing && self.runs.len() == 1 && !self.is_held(now) && self.unproven_until.is_some_and(|until| now < until);
        self.is_writing |= asks;
        asks
    }

    /// What others have recorded, if that could be learnt.
    pub fn hear_of_others(&mut self, coverage: Option<Coverage>, now: Instant) {
        self.is_writing = false;
        let Some(since) = self.since() else { return };
        let is_behind = |(_, until): (Position, Position)| until < since && until.marker_ms + SILENT_MS > since.marker_ms;
        if coverage.is_some_and(|coverage| coverage.recorded.is_some_and(is_behind)) {
            self.held_until = Some(now + LOOK_AGAIN);
        } else {
            (self.held_until, self.unproven_until) = (None, None);
        }
    }

    /// There is a hole after this position.
    pub fn end(&mut self, at: Position) {
        if let Some(run) = self.runs.back_mut() {
            run.ended.get_or_insert(at);
        }
        // What is complete and written needs no more than its last report, which it has had.
        self.runs.retain(|run| run.ended.is_none() || !run.entries.is_empty());
    }

    /// How many were given up for it: the archive is too slow, and more would be trimmed there anyway.
    pub fn push(&mut self, entry: Entry) -> u64 {
        let Some(run) = self.runs.back_mut() else { return 0 };
        run.entries.push_back(entry);
        let mut given_up = 0;
        while self.len() > self.limits.size.max(self.in_flight + 1) && self.give_up_oldest() {
            given_up += 1;
        }
        given_up
    }

    /// False where all that waits is on its way: that is not touched, for its answer says how many are done.
    fn give_up_oldest(&mut self) -> bool {
        let mut on_their_way = self.in_flight;
        for run in &mut self.runs {
            if let Some(entry) = run.entries.remove(mem::take(&mut on_their_way)) {
                run.since = run.since.max(entry.position);
                if self.in_flight == 0 {
                    self.runs.retain(|run| run.ended.is_none() || !run.entries.is_empty());
                }
                return true;
            }
        }
        false
    }

    /// Everything after it is written, or waits here.
    pub fn since(&self) -> Option<Position> {
        self.runs.back().map(|run| run.since)
    }

    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.entries.is_empty())
    }

    /// The next thing to write, or to report where nothing waits; `None` while an answer is due or it is held back. `here`:
    /// the room's position, while it is numbered.
    pub fn next(&mut self, room: &RoomName, here: Option<Position>, now: Instant) -> Option<Batch> {
        if self.is_writing || (self.runs.len() == 1 && self.held_until.is_some_and(|until| now < until)) {
            return None;
        }
        let run = self.runs.front()?;
        let entries: Vec<Entry> = run.entries.iter().take(BATCH).cloned().collect();
        let until = match entries.last() {
            Some(last) if entries.len() < run.entries.len() => last.position,
            _ => run.ended.or(here)?,
        };
        self.is_writing = true;
        self.in_flight = entries.len();
        let History { size, ttl } = self.limits;
        Some(Batch { room: room.clone(), size, ttl, since: run.since, until, entries })
    }

    /// The batch on its way was written, or was not and will be tried again.
    pub fn conclude(&mut self, is_written: bool) {
        self.is_writing = false;
        let done = mem::take(&mut self.in_flight);
        if !is_written {
            return;
        }
        if let Some(run) = self.runs.front_mut() {
            run.entries.drain(..done.min(run.entries.len()));
            if run.ended.is_some() && run.entries.is_empty() {
                self.runs.pop_front();
            }
        }
    }

    /// Whether what has begun is held back.
    pub fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// What is not written yet after a position.
    pub fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        self.runs.iter().flat_map(|run| &run.entries).filter(move |entry| entry.position > position)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: History = History { size: 3, ttl: Duration::from_secs(60) };

    fn at(count: u64) -> Position {
        Position { marker_ms: 1, count }
    }

    fn entry(count: u64) -> Entry {
        Entry { position: at(count), channel: "c".into(), payload: Bytes::new(), index: 0 }
    }

    fn room() -> RoomName {
        RoomName::parse("r").unwrap()
    }

    fn counts(batch: &Batch) -> Vec<u64> {
        batch.entries.iter().map(|entry| entry.position.count).collect()
    }

    #[test]
    fn what_is_on_its_way_stays_until_it_is_written() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0), None);
        journal.push(entry(1));
        let now = Instant::now();
        let batch = journal.next(&room(), Some(at(1)), now).unwrap();
        assert_eq!((counts(&batch), batch.since, batch.until), (vec![1], at(0), at(1)));
        journal.push(entry(2));
        assert!(journal.next(&room(), Some(at(2)), now).is_none(), "one at a time");
        journal.conclude(false);
        assert_eq!(counts(&journal.next(&room(), Some(at(2)), now).unwrap()), [1, 2], "a failed one is tried again");
        journal.conclude(true);
        assert!(journal.is_empty());
        assert_eq!(counts(&journal.next(&room(), Some(at(5)), now).unwrap()), [0; 0], "a report");
    }

    #[test]
    fn a_journal_holds_no_more_than_the_archive_would_keep_and_claims_no_more() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0), None);
        let given_up: u64 = (1..=5).map(|count| journal.push(entry(count))).sum();
        assert_eq!((journal.len(), given_up), (3, 2));
        let batch = journal.next(&room(), Some(at(5)), Instant::now()).unwrap();
        assert_eq!((counts(&batch), batch.since), (vec![3, 4, 5], at(2)));
    }

    /// An overflow ends the first run while all of it is being written; what follows must still be bounded, and this must end.
    #[test]
    fn behind_a_batch_that_is_on_its_way_the_oldest_of_the_next_run_is_given_up() {
        let mut journal = Journal::new(LIMITS);
        let now = Instant::now();
        journal.begin(at(0), at(0), None);
        (1..=3).for_each(|count| assert_eq!(journal.push(entry(count)), 0));
        assert_eq!(counts(&journal.next(&room(), Some(at(3)), now).unwrap()), [1, 2, 3]);
        journal.begin(at(5), at(3), None);
        let given_up: u64 = (6..=8).map(|count| journal.push(entry(count))).sum();
        assert_eq!((journal.len(), given_up), (4, 2));
        journal.conclude(true);
        let batch = journal.next(&room(), Some(at(8)), now).unwrap();
        assert_eq!((counts(&batch), batch.since), (vec![8], at(7)));
    }

    #[test]
    fn a_run_that_has_just_begun_is_held_back_and_the_one_before_it_is_not() {
        let mut journal = Journal::new(LIMITS);
        let now = Instant::now();
        let until = now + Duration::from_millis(1500);
        journal.begin(at(0), at(0), Some(until));
        journal.push(entry(1));
        assert!(journal.next(&room(), Some(at(1)), now).is_none());
        assert!(journal.next(&room(), Some(at(1)), until).is_some());
        journal.conclude(false);
        journal.begin(at(8), at(1), Some(until + Duration::from_secs(1)));
        journal.push(entry(9));
        let old = journal.next(&room(), Some(at(9)), until).unwrap();
        assert_eq!((counts(&old), old.since, old.until), (vec![1], at(0), at(1)));
        journal.conclude(true);
        assert!(journal.next(&room(), Some(at(9)), until).is_none());
    }

    #[test]
    fn a_run_waits_for_older_entries_that_others_have_yet_to_write_and_not_for_ever() {
        let others_at = |marker_ms| Some(Coverage { recorded: Some((at(0), Position { marker_ms, count: 0 })), trimmed: at(0) });
        let since = Position { marker_ms: 20_000, count: 0 };
        let now = Instant::now();
        let begun = || {
            let mut journal = Journal::new(LIMITS);
            journal.begin(since, since, Some(now));
            assert!(journal.asks_for_others(now) && !journal.asks_for_others(now), "once");
            journal
        };
        let mut journal = begun();
        journal.hear_of_others(others_at(19_999), now);
        assert!(journal.next(&room(), Some(since), now).is_none() && journal.is_held(now));
        assert!(journal.asks_for_others(now + LOOK_AGAIN));
        journal.hear_of_others(others_at(19_999), now + LOOK_AGAIN);
        assert!(!journal.asks_for_others(now + UNPROVEN) && journal.next(&room(), Some(since), now + UNPROVEN).is_some());
        for answer in [others_at(20_000), others_at(9_000), Some(Coverage::default()), None] {
            let mut journal = begun();
            journal.hear_of_others(answer, now);
            assert!(journal.next(&room(), Some(since), now).is_some(), "{answer:?}");
        }
    }
}
