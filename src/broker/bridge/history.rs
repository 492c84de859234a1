//! The bridge's part in history: it numbers what rooms with history publish, has it written behind the live path, and answers
//! those who come back. What is decided for one room is [`Recording`]'s; this is the traffic around it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use foldhash::fast::RandomState;
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::RedisBridge;
use crate::{
    actors::messages::{BridgeRestored, BrokerError, Deliver, HistoryExtent, Kept, Replay, Replayed},
    broker::{
        archive::{Archive, Coverage, Entry, Written},
        claims::Claims,
        company::Company,
        link::{Keyed, Marker, Torn},
        recording::{Begun, Origin, Recording},
        timeline::Timeline,
    },
    protocol::{
        ConnectionId, GapReason, Position, Publication, RoomName, Target,
        dialect::{Delivery, Emit},
        resume::{Point, ResumeKey, RoomHash},
        source::{Destination, Sources},
    },
};

/// What is numbered waits so long to be written together.
const FLUSH: Duration = Duration::from_millis(25);
/// Rooms that are written at once: what publishers send shares the connection and must not queue behind thousands.
const WRITING: usize = 64;
/// A batch that Redis refused is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// How often a node says, room by room, how far it has recorded, where no publication does.
const REPORT: Duration = Duration::from_secs(5);
/// A node that has begun to number a room holds its writes back for so long: the older entries of a slower node would be
/// refused behind them.
/// Shorter than [`PROOF`], so that who comes back meanwhile hears no gap.
const GRACE: Duration = Duration::from_millis(300);
/// How long the reports of other nodes are waited for before a hole is called a hole.
const PROOF: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(300),
];
/// After an outage, gaps are told by then, whatever is still being fetched.
const RESTORE: Duration = Duration::from_millis(1500);
/// A client may have been on a node that is ahead of this one by so much; what is further ahead is of another time.
const AHEAD_MS: u64 = 5_000;
/// Rooms without members that go on recording. Past it the longest deserted are let go before their time.
const DESERTED: usize = 10_000;

/// What the bridge knows beside its routes.
pub(super) struct HistoryDesk {
    pub archive: Option<Rc<dyn Archive>>,
    pub timeline: Timeline,
    pub key: ResumeKey,
    pub claims: Claims,
    company: Company,
    tickets: u64,
    /// Rooms that begin to count with a marker to come.
    asked: Vec<Target>,
    /// Rooms with history, as other nodes name them.
    rooms: HashMap<RoomHash, Target, RandomState>,
    /// Rooms that have something to write or to report.
    to_write: VecDeque<Target>,
    writing: usize,
    is_flush_due: bool,
    refusal_logged: Option<Instant>,
    /// After an outage: whom to tell of a gap, and how many rooms are still being fetched.
    restoring: Option<(Vec<Target>, usize)>,
    /// Rooms whose last member left, and until when they are kept.
    deserted: VecDeque<(Instant, Target)>,
}

impl HistoryDesk {
    pub fn new(key: ResumeKey) -> Self {
        Self {
            archive: None,
            timeline: Timeline::default(),
            key,
            claims: Claims::default(),
            company: Company::default(),
            tickets: 0,
            asked: Vec::new(),
            rooms: HashMap::default(),
            to_write: VecDeque::new(),
            writing: 0,
            is_flush_due: false,
            refusal_logged: None,
            restoring: None,
            deserted: VecDeque::new(),
        }
    }

    /// A recording for a room that has none yet.
    pub fn open(&mut self, room: &RoomName, limits: crate::config::History) -> Box<Recording> {
        let hash = self.key.room(room);
        self.rooms.insert(hash, Target::Room(room.clone()));
        Box::new(Recording::new(limits, hash, self.archive.is_some()))
    }

    pub fn close(&mut self, recording: &Recording) {
        self.rooms.remove(&recording.room);
    }

    fn queue(&mut self, target: &Target, recording: &mut Recording) {
        if !std::mem::replace(&mut recording.is_queued, true) {
            self.to_write.push_back(target.clone());
        }
    }

    /// Numbers and keeps a publication of a room with history. `None`: it waits for its turn. The second part is how many were
    /// given up unwritten.
    pub fn take_down(
        &mut self,
        recording: &mut Recording,
        mut publication: Publication,
        origin: Origin<'_>,
        deliver: impl FnOnce(Arc<Publication>) -> Deliver,
    ) -> (Option<Deliver>, u64) {
        recording.number(&mut publication, &self.timeline, self.key);
        let publication = Arc::new(publication);
        let given_up = recording.keep(&publication, origin, Instant::now());
        if recording.journal.is_some() && publication.point.is_some() {
            self.queue(&publication.target, recording);
        }
        (recording.hold(deliver(publication)), given_up)
    }

    /// The deserted room that is kept no longer, if there is one.
    pub fn next_forgotten(&mut self, now: Instant) -> Option<Target> {
        let is_due = self.deserted.front().is_some_and(|(until, _)| *until <= now) || self.deserted.len() > DESERTED;
        if is_due { self.deserted.pop_front().map(|(_, target)| target) } else { None }
    }

    pub fn note_deserted(&mut self, target: Target, ttl: Duration) {
        let until = Instant::now() + ttl;
        let place = self.deserted.partition_point(|(known, _)| *known <= until);
        self.deserted.insert(place, (until, target));
    }

    pub fn lose(&mut self) {
        self.asked.clear();
        self.restoring = None;
        self.company.lose();
    }
}

impl RedisBridge {
    /// Asks for the marker from which on a subscribed room can be counted.
    pub(super) fn ask_for_marker(&mut self, target: &Target) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let is_served = matches!(route.outcome(), Some(Ok(())));
        let Some(recording) = route.recording.as_mut().filter(|recording| is_served && recording.is_idle()) else { return };
        let Some(link) = &mut self.link else { return };
        self.desk.tickets += 1;
        recording.ask(self.desk.tickets);
        self.desk.asked.push(target.clone());
        link.mark(self.desk.tickets, vec![recording.room]);
    }

    /// A marker moved the time: rooms that waited for one begin to count.
    fn begin_asked(&mut self, ticket: Option<u64>, ctx: &mut Context<Self>) {
        let held_until = (self.desk.archive.is_some() && !self.desk.company.is_alone()).then(|| Instant::now() + GRACE);
        for target in std::mem::take(&mut self.desk.asked) {
            let Some(route) = self.routes.get_mut(&target) else { continue };
            let Some(recording) = &mut route.recording else { continue };
            match recording.begin(&self.desk.timeline, ticket, held_until) {
                None if recording.is_waiting() => self.desk.asked.push(target),
                None => {}
                Some(Begun::Clean) => {
                    let held = recording.release();
                    self.desk.queue(&target, recording);
                    held.into_iter().for_each(|delivery| route.fan_out(&delivery, &self.parts.metrics));
                    route.settle();
                }
                Some(Begun::After(position)) => {
                    self.desk.queue(&target, recording);
                    route.settle();
                    self.catch_up(target, position, ctx);
                }
            }
        }
    }

    // ---- after an outage ---------------------------------------------------------------------------------------------------

    /// The link is back. Rooms whose history fills the hole are told of later, or not at all.
    pub(super) fn restore(&mut self, torn: Vec<Target>, ctx: &mut Context<Self>) {
        let can_catch_up = |target: &Target| {
            let recording = self.routes.get(target).and_then(|route| route.recording.as_ref());
            recording.is_some_and(|recording| recording.can_catch_up())
        };
        let (fetching, lost): (Vec<_>, Vec<_>) = torn.into_iter().partition(can_catch_up);
        self.desk.restoring = Some((lost, fetching.len()));
        if fetching.is_empty() {
            self.tell_restored();
        } else {
            ctx.run_later(RESTORE, |bridge, _| bridge.tell_restored());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "once per outage, and it must not be lost")]
    fn tell_restored(&mut self) {
        if let Some((targets, _)) = self.desk.restoring.take()
            && !targets.is_empty()
        {
            self.parts.reports.restored.do_send(BridgeRestored { targets });
        }
    }

    /// Fetches what other nodes have recorded while this one was cut off.
    fn catch_up(&mut self, target: Target, after: Position, ctx: &mut Context<Self>) {
        let Some(fetch) = self.fetch(&target, after) else { return };
        let since = self.routes.get(&target).and_then(|route| route.recording.as_ref()).and_then(|recording| recording.begun());
        let Some(since) = since else { return };
        ctx.spawn(fetch.run().into_actor(self).map(move |fetched, bridge, _| bridge.caught_up(&target, after, since, fetched)));
    }

    #[expect(clippy::disallowed_methods, reason = "once per room and outage, and it must not be lost")]
    fn caught_up(&mut self, target: &Target, after: Position, since: Position, fetched: Result<Fetched, BrokerError>) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let Some(recording) = route.recording.as_mut().filter(|recording| recording.is_catching_up(since)) else { return };
        let (missed, is_whole) = match fetched {
            Ok(fetched) => (fetched.missed, fetched.floor <= after),
            Err(_) => (Vec::new(), false),
        };
        let held = recording.caught_up(&missed, is_whole, Instant::now());
        self.parts.metrics.replay(if is_whole { "outage_whole" } else { "outage_gap" }, missed.len());
        let received = Instant::now();
        let fetched = missed.into_iter().map(|publication| Deliver { publication, received, receipt: None });
        for delivery in fetched.chain(held) {
            self.parts.metrics.published("history").inc();
            route.fan_out(&delivery, &self.parts.metrics);
        }
        match &mut self.desk.restoring {
            Some((lost, fetching)) => {
                if !is_whole {
                    lost.push(target.clone());
                }
                *fetching = fetching.saturating_sub(1);
                if *fetching == 0 {
                    self.tell_restored();
                }
            }
            // The others were told without waiting any longer.
            None if !is_whole => self.parts.reports.restored.do_send(BridgeRestored { targets: vec![target.clone()] }),
            None => {}
        }
    }

    // ---- reading -----------------------------------------------------------------------------------------------------------

    fn fetch(&self, target: &Target, after: Position) -> Option<Fetch> {
        let recording = self.routes.get(target)?.recording.as_ref()?;
        let (here, since) = recording.place(&self.desk.timeline)?;
        // What the journal gave up is nowhere.
        let since = recording.journal.as_ref().and_then(|journal| journal.since()).map_or(since, |kept| kept.max(since));
        let Target::Room(room) = target.clone() else { return None };
        let own = recording.ring().after(after).filter_map(|publication| Some((publication.point?.position, Arc::clone(publication))));
        Some(Fetch {
            archive: Rc::clone(self.desk.archive.as_ref()?),
            reader: Reader {
                sources: Rc::clone(&self.sources),
                point: Point { room: recording.room, position: here, key: self.desk.key },
                room,
            },
            after,
            since,
            size: recording.limits.size,
            unwritten: recording.journal.iter().flat_map(|journal| journal.after(after)).cloned().collect(),
            own: own.collect(),
            is_alone: self.desk.company.is_alone(),
        })
    }

    /// What can be told without asking anybody, or else the question.
    fn recall(&mut self, Replay { room, since }: Replay) -> Result<Replayed, Box<(Fetch, Replayed)>> {
        let target = Target::Room(room);
        let key = self.desk.key;
        let is_resumed = since.is_some();
        let unnumbered = Replayed { gap: is_resumed.then_some(GapReason::BrokerLost), ..Replayed::default() };
        let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) else { return Ok(unnumbered) };
        let Some((here, _)) = recording.place(&self.desk.timeline) else { return Ok(unnumbered) };
        let here = Point { room: recording.room, position: here, key };
        let Some(id) = since else { return Ok(Replayed { after: Some(here), from: Some(here), ..Replayed::default() }) };
        let latest = here.position.marker_ms + AHEAD_MS;
        let seen = key.read(&id).and_then(|id| id.position_in(recording.room)).filter(|seen| seen.marker_ms <= latest);
        let mut replayed = Replayed { after: Some(here), from: seen.map(|seen| here.at(seen)), ..Replayed::default() };
        let after = match seen {
            Some(seen) if seen >= here.position => {
                return Ok(Replayed { after: Some(here.at(seen)), is_ahead: seen > here.position, ..replayed });
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

    // ---- writing -----------------------------------------------------------------------------------------------------------

    /// Has what waits written, a moment later.
    pub(super) fn flush_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.desk.is_flush_due && !self.desk.to_write.is_empty() {
            self.desk.is_flush_due = true;
            ctx.run_later(FLUSH, |bridge, ctx| {
                bridge.desk.is_flush_due = false;
                bridge.flush(ctx);
                bridge.flush_soon(ctx);
            });
        }
    }

    fn flush(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let Some(archive) = self.desk.archive.clone().filter(|_| self.is_up) else {
            // What waits is queued again when the room is numbered again.
            for target in self.desk.to_write.drain(..) {
                if let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) {
                    recording.is_queued = false;
                }
            }
            return;
        };
        for _ in 0..self.desk.to_write.len() {
            if self.desk.writing >= WRITING {
                return;
            }
            let Some(target) = self.desk.to_write.pop_front() else { return };
            let Some(recording) = self.routes.get_mut(&target).and_then(|route| route.recording.as_mut()) else { continue };
            recording.is_queued = false;
            let Target::Room(room) = &target else { continue };
            let here = recording.place(&self.desk.timeline).map(|(here, _)| here);
            let Some(journal) = &mut recording.journal else { continue };
            let Some(batch) = journal.next(room, here, now) else {
                if journal.is_held(now) {
                    self.desk.queue(&target, recording);
                }
                continue;
            };
            self.desk.writing += 1;
            let written = archive.record(batch).into_actor(self);
            ctx.spawn(written.map(move |written, bridge, ctx| bridge.conclude_write(&target, written, ctx)));
        }
    }

    fn conclude_write(&mut self, target: &Target, written: Result<Written, BrokerError>, ctx: &mut Context<Self>) {
        self.desk.writing -= 1;
        let is_written = written.is_ok();
        match written {
            Ok(Written { added, duplicates, lost }) => {
                let counts = [("added", added), ("duplicate", duplicates), ("lost", lost)];
                counts.into_iter().for_each(|(outcome, count)| self.parts.metrics.history_writes(outcome, count));
            }
            Err(BrokerError::Refused(error)) => {
                self.parts.metrics.history_writes("failed", 1);
                self.log_refused_write(&error);
            }
            Err(BrokerError::Unavailable | BrokerError::Overloaded) => {}
        }
        let Some(recording) = self.routes.get_mut(target).and_then(|route| route.recording.as_mut()) else { return };
        let Some(journal) = &mut recording.journal else { return };
        journal.conclude(is_written);
        if journal.is_empty() {
            return;
        }
        if is_written {
            self.desk.queue(target, recording);
            self.flush(ctx);
            self.flush_soon(ctx);
        } else {
            let target = target.clone();
            ctx.run_later(RETRY, move |bridge, ctx| bridge.queue_write(&target, ctx));
        }
    }

    pub(super) fn queue_write(&mut self, target: &Target, ctx: &mut Context<Self>) {
        if let Some(recording) = self.routes.get_mut(target).and_then(|route| route.recording.as_mut()) {
            self.desk.queue(target, recording);
        }
        self.flush_soon(ctx);
    }

    fn log_refused_write(&mut self, error: &str) {
        let now = Instant::now();
        if self.desk.refusal_logged.is_none_or(|then| now.duration_since(then) >= super::LOG_INTERVAL) {
            self.desk.refusal_logged = Some(now);
            log::warn!("Redis refuses to keep history: {error}; tried again each second, and those who resume are told what is missing");
        }
    }

    /// What is done over and over, as long as the bridge lives.
    pub(super) fn keep_house(ctx: &mut Context<Self>) {
        ctx.run_interval(REPORT, |bridge, ctx| {
            for (target, route) in &mut bridge.routes {
                if let Some(recording) = route.recording.as_mut().filter(|recording| recording.journal.is_some() && recording.is_numbered())
                {
                    bridge.desk.queue(target, recording);
                }
            }
            bridge.flush_soon(ctx);
        });
        ctx.run_interval(Duration::from_secs(1), |bridge, _| {
            while let Some(target) = bridge.desk.next_forgotten(Instant::now()) {
                if bridge.routes.get(&target).is_some_and(|route| route.feeds.is_empty()) {
                    bridge.close_route(&target);
                }
            }
        });
    }
}

impl Handler<Marker> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Marker { ms, ticket, wanted, is_foreign }: Marker, ctx: &mut Context<Self>) {
        self.desk.company.see(ms, is_foreign);
        let moves = self.desk.timeline.see(ms);
        if moves && !self.desk.asked.is_empty() {
            self.begin_asked(ticket, ctx);
        } else if let (false, Some(ticket), Some(link)) = (moves, ticket, &mut self.link) {
            // Redis' clock was set back and could not be kept in step: the next may be later.
            link.mark(ticket, Vec::new());
        }
        for room in wanted {
            if let Some(target) = self.desk.rooms.get(&room).cloned() {
                self.queue_write(&target, ctx);
            }
        }
        self.flush(ctx);
        self.flush_soon(ctx);
    }
}

impl Handler<Torn> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Torn: Torn, _: &mut Context<Self>) {
        for (target, route) in &mut self.routes {
            if let Some(recording) = &mut route.recording
                && recording.tear()
            {
                self.desk.asked.push(target.clone());
            }
        }
    }
}

impl Handler<Keyed> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Keyed(key): Keyed, _: &mut Context<Self>) {
        if key == self.desk.key {
            return;
        }
        self.desk.key = key;
        self.desk.rooms.clear();
        for (target, route) in &mut self.routes {
            if let (Target::Room(room), Some(recording)) = (target, &mut route.recording) {
                recording.room = key.room(room);
                self.desk.rooms.insert(recording.room, target.clone());
            }
        }
    }
}

impl Handler<Replay> for RedisBridge {
    type Result = ResponseFuture<Replayed>;

    fn handle(&mut self, question: Replay, _: &mut Context<Self>) -> Self::Result {
        let is_resumed = question.since.is_some();
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
    room: RoomName,
    /// Where the room stands: nothing later is read.
    point: Point,
}

/// A question to the archive.
struct Fetch {
    archive: Rc<dyn Archive>,
    reader: Reader,
    after: Position,
    /// Since when this node has numbered the room itself.
    since: Position,
    size: usize,
    /// What this node has not written yet.
    unwritten: Vec<Entry>,
    own: BTreeMap<Position, Arc<Publication>>,
    is_alone: bool,
}

struct Fetched {
    missed: Vec<Arc<Publication>>,
    /// Nothing after it is missing.
    floor: Position,
}

impl Fetch {
    async fn run(self) -> Result<Fetched, BrokerError> {
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
        while found.len() > self.size {
            floor = found.pop_first().map_or(floor, |(position, _)| floor.max(position));
        }
        Ok(Fetched { missed: found.into_values().collect(), floor })
    }
}

/// What others have recorded reaches to where this node's own begins.
fn is_proven(coverage: &Coverage, since: Position) -> bool {
    coverage.recorded.is_some_and(|(_, until)| until >= since)
}

impl Reader {
    fn read(&self, entry: &Entry) -> Option<Arc<Publication>> {
        let decoded = self.sources.decode(&entry.channel, &entry.payload)?;
        let Delivery::Emit(emit) = decoded.deliveries.ok()?.into_iter().nth(entry.index)? else { return None };
        let Destination::Target(target) = &emit.to else { return None };
        if *target != Target::Room(self.room.clone()) {
            return None;
        }
        let mut publication = publication(target.clone(), emit);
        publication.place(self.point.at(entry.position));
        Some(Arc::new(publication))
    }
}

/// An emission as a publication to this target.
pub(super) fn publication(target: Target, emit: Emit<Destination>) -> Publication {
    let mut publication = Publication::new(target, emit.event);
    publication.except = emit.except.iter().filter_map(|id| id.parse::<ConnectionId>().ok()).collect();
    publication.duplicate_key = emit.duplicate_key;
    publication
}
