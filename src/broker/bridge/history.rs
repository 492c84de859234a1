//! The bridge's part in history: it numbers what rooms with history publish, has it written behind the live path, and answers
//! those who come back. What is decided for one room is [`Recording`]'s; this is the traffic around it.

mod outage;
mod reading;
mod writing;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context, Handler};
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::time::Instant;

use self::outage::Restoring;
use super::RedisBridge;
use crate::{
    actors::{
        attendance::Attendance,
        messages::{Deliver, Reconfigure},
    },
    broker::{
        archive::Archive,
        company::Company,
        link::{Keyed, Marker, Torn},
        recording::{Begun, Origin, Recording},
        timeline::Timeline,
    },
    config::History,
    protocol::{
        ConnectionId, Position, Publication, RoomName, Target,
        dialect::Emit,
        resume::{ResumeKey, RoomHash},
    },
};

/// How often a node says, room by room, how far it has recorded, where no publication does.
const REPORT: Duration = Duration::from_secs(5);
/// Rooms without members that go on recording. Past it the longest deserted are let go before their time.
const DESERTED: usize = 10_000;

/// What the bridge knows beside its routes.
pub(super) struct HistoryDesk {
    pub archive: Option<Rc<dyn Archive>>,
    pub timeline: Timeline,
    /// When the last marker came.
    marked: Option<Instant>,
    pub key: ResumeKey,
    company: Company,
    /// Rooms that begin to count with the next marker.
    asked: Vec<Target>,
    /// Rooms that have begun before the link was up, and since when they miss something.
    to_catch_up: Vec<(Target, Position)>,
    /// Rooms with history, as other nodes name them.
    rooms: HashMap<RoomHash, Target, RandomState>,
    /// Rooms that have something to write or to report.
    to_write: VecDeque<Target>,
    writing: usize,
    is_flush_due: bool,
    refusal_logged: Option<Instant>,
    restoring: Option<Restoring>,
    /// Whose members are about to be told that they may miss something.
    untold: HashSet<Target, RandomState>,
    /// Rooms whose last member left, and until when they are kept. A room is in it once.
    deserted: BTreeSet<(Instant, Target)>,
}

/// What a publication of a room with history brings about.
pub(super) struct TakenDown {
    /// What goes out now, in order.
    pub ready: SmallVec<[Deliver; 1]>,
    /// How many were given up unwritten.
    pub unwritten: u64,
    /// What was missed during an outage is waited for no longer.
    pub gave_up: bool,
}

impl HistoryDesk {
    pub fn new(key: ResumeKey) -> Self {
        Self {
            archive: None,
            timeline: Timeline::default(),
            marked: None,
            key,
            company: Company::default(),
            asked: Vec::new(),
            to_catch_up: Vec::new(),
            rooms: HashMap::default(),
            to_write: VecDeque::new(),
            writing: 0,
            is_flush_due: false,
            refusal_logged: None,
            restoring: None,
            untold: HashSet::default(),
            deserted: BTreeSet::new(),
        }
    }

    /// A recording for a room that has none yet.
    pub fn open(&mut self, room: &RoomName, limits: History) -> Box<Recording> {
        let hash = self.key.room(room);
        self.rooms.insert(hash, Target::Room(room.clone()));
        Box::new(Recording::new(limits, hash, self.archive.is_some()))
    }

    /// A recording that has begun elsewhere.
    pub fn adopt(&mut self, room: &RoomName, recording: &mut Recording) {
        recording.room = self.key.room(room);
        self.rooms.insert(recording.room, Target::Room(room.clone()));
    }

    pub fn close(&mut self, recording: &Recording) {
        self.rooms.remove(&recording.room);
    }

    fn queue(&mut self, target: &Target, recording: &mut Recording) {
        if !std::mem::replace(&mut recording.is_queued, true) {
            self.to_write.push_back(target.clone());
        }
    }

    /// Numbers and keeps a publication of a room with history.
    pub fn take_down(
        &mut self,
        recording: &mut Recording,
        mut publication: Publication,
        origin: Origin<'_>,
        deliver: impl FnOnce(Arc<Publication>) -> Deliver,
    ) -> TakenDown {
        recording.number(&mut publication, &self.timeline, self.key);
        let publication = Arc::new(publication);
        let unwritten = recording.keep(&publication, origin, Instant::now());
        if recording.journal.is_some() && publication.point.is_some() {
            self.queue(&publication.target, recording);
        }
        let mut ready = SmallVec::new();
        let keeps_waiting = recording.hold(deliver(publication), |delivery| ready.push(delivery));
        TakenDown { ready, unwritten, gave_up: !keeps_waiting }
    }

    /// The deserted room that is kept no longer, if there is one.
    pub fn next_forgotten(&mut self, now: Instant) -> Option<Target> {
        let is_due = self.deserted.first().is_some_and(|(until, _)| *until <= now) || self.deserted.len() > DESERTED;
        if is_due { self.deserted.pop_first().map(|(_, target)| target) } else { None }
    }

    /// The room's last member left.
    pub fn note_deserted(&mut self, target: Target, recording: &mut Recording) {
        self.note_visited(&target, recording);
        let until = Instant::now() + recording.limits.ttl;
        recording.deserted_until = Some(until);
        self.deserted.insert((until, target));
    }

    /// It has members again.
    pub fn note_visited(&mut self, target: &Target, recording: &mut Recording) {
        if let Some(until) = recording.deserted_until.take() {
            self.deserted.remove(&(until, target.clone()));
        }
    }

    pub fn lose(&mut self) {
        self.asked.clear();
        self.to_catch_up.clear();
        self.company.lose();
    }
}

impl RedisBridge {
    /// Asks for a marker from which on a subscribed room can be counted; any that comes first will do.
    pub(super) fn ask_for_marker(&mut self, target: &Target) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let is_served = matches!(route.outcome(), Some(Ok(())));
        let Some(recording) = route.recording.as_mut().filter(|recording| is_served && recording.is_idle()) else { return };
        let Some(link) = &mut self.link else { return };
        recording.ask();
        self.desk.asked.push(target.clone());
        link.mark(vec![recording.room]);
    }

    /// A marker moved the time: rooms that waited for one begin to count.
    fn begin_asked(&mut self, ctx: &mut Context<Self>) {
        for target in std::mem::take(&mut self.desk.asked) {
            let Some(route) = self.routes.get_mut(&target) else { continue };
            let Some(recording) = &mut route.recording else { continue };
            match recording.begin(&self.desk.timeline) {
                None => {}
                Some(Begun::Clean) => {
                    let held = recording.ready();
                    self.desk.queue(&target, recording);
                    route.fan_out_late(held, &self.parts.metrics);
                }
                Some(Begun::After(position)) => {
                    self.desk.queue(&target, recording);
                    self.desk.to_catch_up.push((target.clone(), position));
                }
            }
            if self.is_up {
                route.settle();
            }
        }
        if self.is_up {
            self.catch_up_all(ctx);
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
                    _ = bridge.close_route(&target);
                }
            }
        });
    }
}

impl Handler<Marker> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Marker { ms, wanted, is_foreign }: Marker, ctx: &mut Context<Self>) {
        self.desk.company.see(ms, is_foreign);
        self.desk.marked = Some(Instant::now());
        let moves = self.desk.timeline.see(ms);
        if moves {
            self.begin_asked(ctx);
        } else if let (false, false, Some(link)) = (is_foreign, self.desk.asked.is_empty(), &mut self.link) {
            // Redis' clock was set back and could not be kept in step: the next may be later.
            link.mark(Vec::new());
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

    fn handle(&mut self, Torn: Torn, ctx: &mut Context<Self>) {
        let mut unfetched = Vec::new();
        for (target, route) in &mut self.routes {
            let Some(recording) = &mut route.recording else { continue };
            let Some(was_catching_up) = recording.tear() else { continue };
            self.desk.asked.push(target.clone());
            // While the link is still down, its return tells of the gap.
            if was_catching_up && self.is_up {
                unfetched.push(target.clone());
            }
        }
        unfetched.into_iter().for_each(|target| self.conclude_catch_up(target, false, ctx));
    }
}

impl RedisBridge {
    /// Another rule holds for a room from now on.
    fn apply_limits(&mut self, target: &Target, limits: History, ctx: &mut Context<Self>) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let Target::Room(room) = target else { return };
        match &mut route.recording {
            Some(recording) if limits.is_kept() => recording.limit(limits, Instant::now()),
            Some(recording) => {
                self.desk.note_visited(target, recording);
                self.desk.close(recording);
                let (held, was_fetching) = (recording.release(), recording.can_catch_up());
                route.recording = None;
                route.fan_out_late(held, &self.parts.metrics);
                if was_fetching && self.is_up {
                    self.conclude_catch_up(target.clone(), false, ctx);
                }
                let Some(route) = self.routes.get_mut(target) else { return };
                if self.is_up {
                    route.settle();
                }
                if route.feeds.is_empty() {
                    self.close_route(target);
                }
            }
            None if limits.is_kept() => {
                route.recording = Some(self.desk.open(room, limits));
                if self.is_up {
                    self.ask_for_marker(target);
                }
            }
            None => {}
        }
    }
}

impl Handler<Reconfigure> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Reconfigure(config): Reconfigure, ctx: &mut Context<Self>) {
        let limits_of = |target: &Target| match target {
            Target::Room(room) => Some((target.clone(), config.rule_for(room).history)),
            Target::User(_) | Target::Namespace(_) => None,
        };
        let all: Vec<_> = self.routes.keys().filter_map(limits_of).collect();
        self.parts.config = config;
        all.into_iter().for_each(|(target, limits)| self.apply_limits(&target, limits, ctx));
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

/// An emission as a publication.
pub(super) fn publication(emit: Emit<Target>, attendance: &Attendance) -> Publication {
    let mut publication = Publication::new(emit.to, emit.event);
    let named = emit.except.iter().filter_map(|id| id.parse::<ConnectionId>().ok());
    publication.leave_out(named.chain(attendance.of(&*emit.except_rooms)));
    publication.duplicate_key = emit.duplicate_key;
    publication
}
