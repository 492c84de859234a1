//! The bridge's part in history: it numbers what rooms with history publish, has it written behind the live path, and answers
//! those who come back. What is decided for one room is [`Recording`]'s; this is the traffic around it.

mod outage;
mod reading;
mod writing;

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context, Handler};
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::RedisBridge;
use crate::{
    actors::{attendance::Attendance, messages::Deliver},
    broker::{
        archive::Archive,
        claims::Claims,
        company::Company,
        link::{Keyed, Marker, Torn},
        recording::{Begun, Origin, Recording},
        timeline::Timeline,
    },
    protocol::{
        ConnectionId, Publication, RoomName, Target,
        dialect::Emit,
        resume::{ResumeKey, RoomHash},
    },
};

/// How often a node says, room by room, how far it has recorded, where no publication does.
const REPORT: Duration = Duration::from_secs(5);
/// A node that has begun to number a room holds its writes back for so long: the older entries of a slower node would be
/// refused behind them. Shorter than what a reader waits for proof, so that who comes back meanwhile hears no gap.
const GRACE: Duration = Duration::from_millis(300);
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

/// An emission as a publication.
pub(super) fn publication(emit: Emit<Target>, attendance: &Attendance) -> Publication {
    let mut publication = Publication::new(emit.to, emit.event);
    let named = emit.except.iter().filter_map(|id| id.parse::<ConnectionId>().ok());
    publication.leave_out(named.chain(attendance.of(&*emit.except_rooms)));
    publication.duplicate_key = emit.duplicate_key;
    publication
}
