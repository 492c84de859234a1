//! Answering those who come back: from memory where that is whole, else from the archive and what is not written yet.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{Context, Handler, ResponseFuture};
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::{super::RedisBridge, HistoryDesk, publication};
use crate::{
    actors::{
        attendance::Attendance,
        messages::{BrokerError, HistoryExtent, Kept, Replay, Replayed},
    },
    broker::{
        archive::{Archive, Entry},
        recall::{Recall, Recalled},
        recording::Recording,
        timeline::Timeline,
    },
    protocol::{GapReason, Position, Publication, RoomName, Target, dialect::Delivery, resume::Point, source::Sources},
};

/// How long the reports of other nodes are waited for before a hole is called a hole.
const PROOF: [Duration; 4] = [Duration::from_millis(20), Duration::from_millis(40), Duration::from_millis(80), Duration::from_millis(160)];
/// A client may have been on a node that is ahead of this one by so much; what is further ahead is of another time.
const AHEAD_MS: u64 = 5_000;

impl RedisBridge {
    pub(super) fn fetch(&self, target: &Target, recall: impl FnOnce(&Recording, &Timeline) -> Option<Recall>) -> Option<Fetch> {
        let recording = self.routes.get(target)?.recording.as_ref()?;
        let Target::Room(room) = target.clone() else { return None };
        let recall = recall(recording, &self.desk.timeline)?;
        Some(Fetch {
            archive: Rc::clone(self.desk.archive.as_ref()?),
            reader: Reader {
                sources: Rc::clone(&self.sources),
                attendance: self.parts.attendance.clone(),
                point: Point { room: recording.room, position: recall.here, key: self.desk.key },
                room,
            },
            recall,
            size: recording.limits.size,
            is_alone: self.desk.company.is_alone(),
        })
    }

    /// What can be told without asking anybody, or else the question.
    fn recall(&mut self, Replay { room, since, .. }: Replay) -> Result<Replayed, Box<(Fetch, Replayed)>> {
        let target = Target::Room(room);
        let key = self.desk.key;
        let lost = || Replayed { gap: since.is_some().then_some(GapReason::BrokerLost), ..Replayed::default() };
        let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) else { return Ok(lost()) };
        let Some((here, _)) = recording.place(&self.desk.timeline) else {
            return Ok(self.desk.recall_cut_off(recording, since.as_deref()).unwrap_or_else(lost));
        };
        // What has yet to go to the members will come by once more.
        let is_ahead = recording.is_behind();
        let here = Point { room: recording.room, position: here, key };
        let Some(id) = since else { return Ok(Replayed { after: Some(here), from: Some(here), is_ahead, ..Replayed::default() }) };
        let seen = self.desk.seen_in(recording, &id, here.position.marker_ms + AHEAD_MS);
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
        match self.fetch(&target, |recording, timeline| Recall::of(recording, timeline, after)) {
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

impl HistoryDesk {
    /// How far the bearer of an id has seen the room. What is later than `latest` is of another time.
    fn seen_in(&self, recording: &Recording, id: &str, latest: u64) -> Option<Position> {
        self.key.read(id)?.position_in(recording.room).filter(|seen| seen.marker_ms <= latest)
    }

    /// While the link is lost, and until the room is numbered anew: what the members here had got before, if that is known. What
    /// comes after it is fetched for all members, or they are told; who comes now is one of them, and may have seen some of it
    /// elsewhere.
    fn recall_cut_off(&self, recording: &mut Recording, since: Option<&str>) -> Option<Replayed> {
        let here = Point { room: recording.room, position: recording.delivered_until()?, key: self.key };
        let replayed = Replayed { after: Some(here), from: Some(here), is_ahead: true, ..Replayed::default() };
        let Some(id) = since else { return Some(replayed) };
        let silent_ms = self.marked.map_or(0, |then| u64::try_from(then.elapsed().as_millis()).unwrap_or(u64::MAX));
        let latest = self.timeline.now().marker_ms.saturating_add(silent_ms).saturating_add(AHEAD_MS);
        let seen = self.seen_in(recording, id, latest);
        if let Some(seen) = seen.filter(|seen| *seen >= here.position) {
            return Some(Replayed { after: Some(here.at(seen)), from: Some(here.at(seen)), ..replayed });
        }
        recording.expire(Instant::now());
        let (ring, after) = (recording.ring(), seen.unwrap_or_default());
        let gap = match seen {
            None => Some(GapReason::UnknownPosition),
            Some(seen) => (seen < ring.floor()).then_some(GapReason::BrokerLost),
        };
        Some(Replayed { missed: ring.after(after).cloned().collect(), from: seen.map(|seen| here.at(seen)), gap, ..replayed })
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
            match fetch.run().await {
                Ok(recalled) => {
                    replayed.missed = recalled.missed;
                    if !recalled.is_whole {
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
    recall: Recall,
    size: usize,
    is_alone: bool,
}

impl Fetch {
    pub(super) async fn run(self) -> Result<Recalled, BrokerError> {
        let mut patience = PROOF.iter().filter(|_| !self.is_alone && self.recall.may_hear_more());
        loop {
            // One more than is replayed, or a stream that has yet to be trimmed to a new size would look whole.
            let stored = self.archive.read(&self.reader.room, self.recall.after, self.size.saturating_add(1)).await?;
            match patience.next().filter(|_| !self.recall.is_settled(&stored.coverage)) {
                Some(wait) => sleep(*wait).await,
                None => return Ok(self.recall.answer(&stored, |entry| self.reader.read(entry))),
            }
        }
    }
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
