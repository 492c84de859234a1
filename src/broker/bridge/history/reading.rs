//! Answering those who come back: from memory where that is whole, else from the archive and what is not written yet.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use actix::{Context, Handler, ResponseFuture};
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::{super::RedisBridge, publication};
use crate::{
    actors::{
        attendance::Attendance,
        messages::{BrokerError, HistoryExtent, Kept, Replay, Replayed},
    },
    broker::{
        archive::{Archive, Coverage, Entry},
        clock,
        journal::Journal,
    },
    protocol::{GapReason, Position, Publication, RoomName, Target, dialect::Delivery, resume::Point, source::Sources},
};

/// How long the reports of other nodes are waited for before a hole is called a hole.
const PROOF: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(300),
];
/// A client may have been on a node that is ahead of this one by so much; what is further ahead is of another time.
const AHEAD_MS: u64 = 5_000;

impl RedisBridge {
    pub(super) fn fetch(&self, target: &Target, after: Position) -> Option<Fetch> {
        let recording = self.routes.get(target)?.recording.as_ref()?;
        let (here, since) = recording.place(&self.desk.timeline)?;
        // What the journal gave up is nowhere.
        let since = recording.journal.as_ref().and_then(Journal::since).map_or(since, |kept| kept.max(since));
        let Target::Room(room) = target.clone() else { return None };
        let own = recording.ring().after(after).filter_map(|publication| Some((publication.point?.position, Arc::clone(publication))));
        Some(Fetch {
            archive: Rc::clone(self.desk.archive.as_ref()?),
            reader: Reader {
                sources: Rc::clone(&self.sources),
                attendance: self.parts.attendance.clone(),
                point: Point { room: recording.room, position: here, key: self.desk.key },
                room,
            },
            after,
            since,
            size: recording.limits.size,
            ttl: recording.limits.ttl,
            unwritten: recording.journal.iter().flat_map(|journal| journal.after(after)).cloned().collect(),
            own: own.collect(),
            is_alone: self.desk.company.is_alone(),
        })
    }

    /// What can be told without asking anybody, or else the question.
    fn recall(&mut self, Replay { room, since, .. }: Replay) -> Result<Replayed, Box<(Fetch, Replayed)>> {
        let target = Target::Room(room);
        let key = self.desk.key;
        let is_resumed = since.is_some();
        let unnumbered = Replayed { gap: is_resumed.then_some(GapReason::BrokerLost), ..Replayed::default() };
        let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) else { return Ok(unnumbered) };
        let Some((here, _)) = recording.place(&self.desk.timeline) else { return Ok(unnumbered) };
        // What is being fetched for the members will come by once more.
        let is_ahead = recording.can_catch_up();
        let here = Point { room: recording.room, position: here, key };
        let Some(id) = since else { return Ok(Replayed { after: Some(here), from: Some(here), is_ahead, ..Replayed::default() }) };
        let latest = here.position.marker_ms + AHEAD_MS;
        let seen = key.read(&id).and_then(|id| id.position_in(recording.room)).filter(|seen| seen.marker_ms <= latest);
        let mut replayed = Replayed { after: Some(here), from: seen.map(|seen| here.at(seen)), is_ahead, ..Replayed::default() };
        let after = match seen {
            Some(seen) if seen >= here.position => {
                return Ok(Replayed { after: Some(here.at(seen)), is_ahead: is_ahead || seen > here.position, ..replayed });
            }
            Some(seen) => seen,
            None => {
                replayed.gap = Some(GapReason::UnknownPosition);
                Position::default()
            }
        };
        recording.expire(Instant::now());
        if let Some(recent) = recording.recent(after) {
            replayed.missed = recent.cloned().collect();
            return Ok(replayed);
        }
        match self.fetch(&target, after) {
            Some(fetch) => Err(Box::new((fetch, replayed))),
            None => {
                let ring = self.routes.get(&target).and_then(|route| route.recording.as_ref()).map(|recording| recording.ring());
                replayed.missed = ring.map(|ring| ring.after(after).cloned().collect()).unwrap_or_default();
                replayed.gap.get_or_insert(GapReason::HistoryTrimmed);
                Ok(replayed)
            }
        }
    }
}

impl Handler<Replay> for RedisBridge {
    type Result = ResponseFuture<Replayed>;

    fn handle(&mut self, question: Replay, _: &mut Context<Self>) -> Self::Result {
        let is_resumed = question.since.is_some() && !question.is_trial;
        let metrics = self.parts.metrics.clone();
        let count = move |replayed: &Replayed| {
            if is_resumed {
                metrics.replay(replayed.gap.map_or("whole", GapReason::as_str), replayed.missed.len());
            }
        };
        let (fetch, mut replayed) = match self.recall(question) {
            Ok(replayed) => {
                count(&replayed);
                return Box::pin(future::ready(replayed));
            }
            Err(asked) => *asked,
        };
        Box::pin(async move {
            let after = fetch.after;
            match fetch.run().await {
                Ok(fetched) => {
                    replayed.missed = fetched.missed;
                    if fetched.floor > after {
                        replayed.gap.get_or_insert(GapReason::HistoryTrimmed);
                    }
                }
                Err(_) => _ = replayed.gap.get_or_insert(GapReason::BrokerLost),
            }
            count(&replayed);
            replayed
        })
    }
}

impl Handler<HistoryExtent> for RedisBridge {
    type Result = ResponseFuture<Result<Kept, BrokerError>>;

    fn handle(&mut self, HistoryExtent { room }: HistoryExtent, _: &mut Context<Self>) -> Self::Result {
        let key = self.desk.key;
        let hash = key.room(&room);
        let id = move |position: Position| Point { room: hash, position, key }.id();
        if let Some(archive) = &self.desk.archive {
            let asked = archive.extent(&room);
            return Box::pin(async move {
                let extent = asked.await?;
                Ok(Kept { length: extent.length, first: extent.first.map(id), last: extent.last.map(id) })
            });
        }
        let recording = self.routes.get_mut(&Target::Room(room)).and_then(|route| route.recording.as_mut());
        let kept = recording.map_or_else(Kept::default, |recording| {
            recording.expire(Instant::now());
            let ends = recording.ring().ends();
            Kept { length: recording.ring().len(), first: ends.map(|(first, _)| id(first)), last: ends.map(|(_, last)| id(last)) }
        });
        Box::pin(future::ready(Ok(kept)))
    }
}

/// Reads archived entries as what they were.
struct Reader {
    sources: Rc<Sources>,
    attendance: Attendance,
    room: RoomName,
    /// Where the room stands: nothing later is read.
    point: Point,
}

/// A question to the archive.
pub(super) struct Fetch {
    archive: Rc<dyn Archive>,
    reader: Reader,
    after: Position,
    /// Since when this node has numbered the room itself.
    since: Position,
    size: usize,
    ttl: Duration,
    /// What this node has not written yet.
    unwritten: Vec<Entry>,
    own: BTreeMap<Position, Arc<Publication>>,
    is_alone: bool,
}

pub(super) struct Fetched {
    pub missed: Vec<Arc<Publication>>,
    /// Nothing after it is missing.
    pub floor: Position,
}

impl Fetch {
    pub(super) async fn run(self) -> Result<Fetched, BrokerError> {
        let mut patience = PROOF.iter().filter(|_| !self.is_alone && self.after < self.since);
        let stored = loop {
            let stored = self.archive.read(&self.reader.room, self.after, self.size).await?;
            if is_proven(&stored.coverage, self.since) {
                break stored;
            }
            match patience.next() {
                Some(wait) => sleep(*wait).await,
                None => break stored,
            }
        };
        let mut floor = stored.coverage.floor(self.since);
        let here = self.reader.point.position;
        let mut found = self.own;
        for entry in stored.entries.iter().chain(&self.unwritten).filter(|entry| entry.position > self.after && entry.position <= here) {
            if found.contains_key(&entry.position) {
                continue;
            }
            match self.reader.read(entry) {
                Some(publication) => _ = found.insert(entry.position, publication),
                // Its source is no longer configured: it can't be said what it was.
                None => floor = floor.max(entry.position),
            }
        }
        floor = expire(&mut found, here, self.ttl).map_or(floor, |gone| floor.max(gone));
        while found.len() > self.size {
            floor = found.pop_first().map_or(floor, |(position, _)| floor.max(position));
        }
        Ok(Fetched { missed: found.into_values().collect(), floor })
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

/// What others have recorded reaches to where this node's own begins.
fn is_proven(coverage: &Coverage, since: Position) -> bool {
    coverage.recorded.is_some_and(|(_, until)| until >= since)
}

impl Reader {
    fn read(&self, entry: &Entry) -> Option<Arc<Publication>> {
        let decoded = self.sources.decode(&entry.channel, &entry.payload)?;
        let Delivery::Emit(emit) = decoded.deliveries.ok()?.into_iter().nth(entry.index)? else { return None };
        if emit.to != Target::Room(self.room.clone()) {
            return None;
        }
        let mut publication = publication(emit, &self.attendance);
        publication.place(self.point.at(entry.position));
        Some(Arc::new(publication))
    }
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
