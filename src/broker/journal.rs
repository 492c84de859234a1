//! What of one room waits to be written to the archive. Pure.
//!
//! It never holds more than the archive would keep: what is pushed out would have been trimmed there. What is being written
//! stays until the archive has it, so that a replay in between misses nothing.

use std::{collections::VecDeque, mem};

use super::archive::{Batch, Birth, Entry, Written};
use crate::{
    config::History,
    protocol::{Position, RoomName},
};

/// Entries written at once.
const BATCH: usize = 256;

#[derive(Debug)]
pub struct Journal {
    pub limits: History,
    /// Runs of publications without a hole, oldest first. Only the last one grows.
    runs: VecDeque<Run>,
    /// Entries of the first run that are on their way.
    in_flight: usize,
    /// Where the batch on its way ends.
    writing: Option<Position>,
    /// It was asked for more while that was on its way.
    is_asked: bool,
    /// The record that was last written to.
    birth: Birth,
}

#[derive(Debug)]
struct Run {
    /// Everything after it is in this run, or was written with it.
    since: Position,
    /// All up to there was written.
    written: Position,
    /// Where it ended; `None` while it goes on.
    ended: Option<Position>,
    entries: VecDeque<Entry>,
}

impl Journal {
    pub fn new(limits: History) -> Self {
        Self { limits, runs: VecDeque::new(), in_flight: 0, writing: None, is_asked: false, birth: Birth::default() }
    }

    /// A new run begins here; what went before ended at `ended`.
    pub fn begin(&mut self, since: Position, ended: Position) {
        self.end(ended);
        self.runs.push_back(Run { since, written: since, ended: None, entries: VecDeque::new() });
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
                run.written = run.written.max(entry.position);
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

    /// How far the run that grows is written, and in which record.
    pub fn written(&self) -> Option<(Position, Birth)> {
        self.runs.back().map(|run| (run.written, self.birth.clone()))
    }

    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.entries.is_empty())
    }

    /// Whether there is more to write, or to report to a node that asked while a batch was on its way: what that batch says of how
    /// far the room is written may be less than was asked for.
    pub fn has_more(&self) -> bool {
        self.is_asked || !self.is_empty()
    }

    /// The next thing to write, or to report where nothing waits; `None` while an answer is due. `here`: the room's position,
    /// while it is numbered.
    pub fn next(&mut self, room: &RoomName, here: Option<Position>) -> Option<Batch> {
        self.is_asked = self.writing.is_some();
        if self.is_asked {
            return None;
        }
        let run = self.runs.front()?;
        let entries: Vec<Entry> = run.entries.iter().take(BATCH).cloned().collect();
        let until = match entries.last() {
            Some(last) if entries.len() < run.entries.len() => last.position,
            _ => run.ended.or(here)?,
        };
        self.writing = Some(until);
        self.in_flight = entries.len();
        let History { size, ttl } = self.limits;
        let (written, birth) = (run.written, self.birth.clone());
        Some(Batch { room: room.clone(), size, ttl, since: run.since, until, written, birth, entries })
    }

    /// What became of the batch on its way; where it was not written, it will be tried again.
    pub fn conclude(&mut self, written: Option<&Written>) {
        let until = self.writing.take();
        let done = mem::take(&mut self.in_flight);
        let (Some(until), Some(written)) = (until, written) else { return };
        self.birth = written.birth.clone();
        if let Some(run) = self.runs.front_mut() {
            run.since = run.since.max(written.since);
            run.written = run.written.max(until);
            run.entries.drain(..done.min(run.entries.len()));
            if run.ended.is_some() && run.entries.is_empty() {
                self.runs.pop_front();
            }
        }
    }

    /// What is not written yet after a position.
    pub fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        self.runs.iter().flat_map(|run| &run.entries).filter(move |entry| entry.position > position)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        journal.begin(at(0), at(0));
        journal.push(entry(1));
        let batch = journal.next(&room(), Some(at(1))).unwrap();
        assert_eq!((counts(&batch), batch.since, batch.until), (vec![1], at(0), at(1)));
        journal.push(entry(2));
        assert!(journal.next(&room(), Some(at(2))).is_none(), "one at a time");
        journal.conclude(None);
        assert_eq!(counts(&journal.next(&room(), Some(at(2))).unwrap()), [1, 2], "a failed one is tried again");
        journal.conclude(Some(&Written::default()));
        assert!(journal.is_empty());
        assert_eq!(counts(&journal.next(&room(), Some(at(5))).unwrap()), [0; 0], "a report");
    }

    /// Another node began with a marker that names the room, and nothing may come after it: its question must not get lost.
    #[test]
    fn a_report_that_is_asked_for_while_a_batch_is_on_its_way_follows_it() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0));
        journal.push(entry(1));
        assert_eq!(journal.next(&room(), Some(at(1))).unwrap().until, at(1));
        assert!(journal.next(&room(), Some(at(2))).is_none(), "one at a time");
        journal.conclude(Some(&Written::default()));
        assert!(journal.is_empty() && journal.has_more());
        assert_eq!(journal.next(&room(), Some(at(2))).unwrap().until, at(2));
        journal.conclude(Some(&Written::default()));
        assert!(!journal.has_more());
    }

    #[test]
    fn a_journal_holds_no_more_than_the_archive_would_keep_and_claims_no_more() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0));
        let given_up: u64 = (1..=5).map(|count| journal.push(entry(count))).sum();
        assert_eq!((journal.len(), given_up), (3, 2));
        let batch = journal.next(&room(), Some(at(5))).unwrap();
        assert_eq!((counts(&batch), batch.since), (vec![3, 4, 5], at(2)));
    }

    /// An overflow ends the first run while all of it is being written; what follows must still be bounded, and this must end.
    #[test]
    fn behind_a_batch_that_is_on_its_way_the_oldest_of_the_next_run_is_given_up() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0));
        (1..=3).for_each(|count| assert_eq!(journal.push(entry(count)), 0));
        assert_eq!(counts(&journal.next(&room(), Some(at(3))).unwrap()), [1, 2, 3]);
        journal.begin(at(5), at(3));
        let given_up: u64 = (6..=8).map(|count| journal.push(entry(count))).sum();
        assert_eq!((journal.len(), given_up), (4, 2));
        journal.conclude(Some(&Written::default()));
        let batch = journal.next(&room(), Some(at(8))).unwrap();
        assert_eq!((counts(&batch), batch.since), (vec![8], at(7)));
    }

    #[test]
    fn the_run_before_a_hole_is_written_first_and_claims_no_more_than_it_had() {
        let mut journal = Journal::new(LIMITS);
        journal.begin(at(0), at(0));
        journal.push(entry(1));
        journal.begin(at(8), at(1));
        journal.push(entry(9));
        let old = journal.next(&room(), Some(at(9))).unwrap();
        assert_eq!((counts(&old), old.since, old.until), (vec![1], at(0), at(1)));
        journal.conclude(Some(&Written::default()));
        let new = journal.next(&room(), Some(at(9))).unwrap();
        assert_eq!((counts(&new), new.since, new.until), (vec![9], at(8), at(9)));
    }
}
