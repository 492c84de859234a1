//! A room with history, as one node records it: whether its publications have numbers, what is kept of them, and what waits
//! until they do. Pure: it is told of markers and publications, and decides.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    archive::Entry,
    history::Ring,
    journal::Journal,
    timeline::{Numbering, Timeline},
};
use crate::{
    actors::messages::Deliver,
    config::History,
    protocol::{
        Position, Publication,
        resume::{Point, ResumeKey, RoomHash},
    },
};

/// Publications that wait for their number or their turn. Past it the oldest go out as they are.
const HELD: usize = 1024;
/// What is kept in memory where an archive keeps the rest: enough for those who were away for a moment.
const RECENT: usize = 256;

#[derive(Debug)]
pub struct Recording {
    pub limits: History,
    pub room: RoomHash,
    state: State,
    /// The last publications with a number: the whole history, where there is no archive.
    ring: Ring,
    /// What waits to be written; `None` where there is no archive.
    pub journal: Option<Journal>,
    /// What waits to be delivered.
    held: VecDeque<Deliver>,
    /// Everything up to there was delivered here before the link was lost.
    delivered: Option<Position>,
    /// It is on the list of those that have something to write.
    pub is_queued: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Not subscribed.
    Idle,
    /// Subscribed; the marker of this ticket is the first that is surely later.
    Asked(u64),
    /// Something was lost on the way from the reader. The next marker begins anew.
    Torn,
    /// Numbered; what was missed during an outage is being fetched and goes first.
    CatchingUp(Numbering),
    Counting(Numbering),
}

/// Where a publication came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub channel: &'a str,
    pub payload: &'a Bytes,
    /// Which of the payload's deliveries it is.
    pub index: usize,
}

/// What a first marker after a subscription brings about.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Deliver what waited.
    Clean,
    /// Fetch what came after this position, up to where the numbering begins, and deliver it first.
    After(Position),
}

impl Recording {
    pub fn new(limits: History, room: RoomHash, has_archive: bool) -> Self {
        let kept = if has_archive { limits.size.min(RECENT) } else { limits.size };
        Self {
            limits,
            room,
            state: State::Idle,
            ring: Ring::new(kept, limits.ttl, Position::default()),
            journal: has_archive.then(|| Journal::new(limits)),
            held: VecDeque::new(),
            delivered: None,
            is_queued: false,
        }
    }

    /// The room's channels are subscribed, and a marker was asked for.
    pub fn ask(&mut self, ticket: u64) {
        self.state = State::Asked(ticket);
    }

    /// It will begin to count with a marker to come.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Asked(_) | State::Torn)
    }

    /// What was missed during an outage is being fetched, for a numbering that began here.
    pub fn is_catching_up(&self, since: Position) -> bool {
        matches!(&self.state, State::CatchingUp(numbering) if numbering.since() == since)
    }

    /// What was missed may be in the archive.
    pub fn can_catch_up(&self) -> bool {
        self.journal.is_some() && self.delivered.is_some()
    }

    /// `joined` may be said.
    pub fn is_numbered(&self) -> bool {
        self.numbering().is_some()
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    fn numbering(&self) -> Option<&Numbering> {
        match &self.state {
            State::CatchingUp(numbering) | State::Counting(numbering) => Some(numbering),
            State::Idle | State::Asked(_) | State::Torn => None,
        }
    }

    /// Where the numbering began, if it did.
    pub fn begun(&self) -> Option<Position> {
        self.numbering().map(Numbering::since)
    }

    /// Where the room stands, if it is numbered, and since when it has been.
    pub fn place(&self, timeline: &Timeline) -> Option<(Position, Position)> {
        self.numbering().map(|numbering| (timeline.position_of(numbering), numbering.since()))
    }

    /// A marker moved the time. `ticket`: the last that was asked for before a marker of ours was sent. `None` where nothing
    /// begins.
    pub fn begin(&mut self, timeline: &Timeline, ticket: Option<u64>, held_until: Option<Instant>) -> Option<Begun> {
        let is_due = match self.state {
            State::Asked(asked) => ticket.is_some_and(|ticket| ticket >= asked),
            State::Torn => true,
            State::Idle | State::CatchingUp(_) | State::Counting(_) => false,
        };
        if !is_due {
            return None;
        }
        let numbering = timeline.begin();
        if let Some(journal) = &mut self.journal {
            journal.begin(numbering.since(), numbering.since(), held_until);
        }
        match self.delivered.filter(|_| self.journal.is_some()) {
            Some(position) => {
                self.state = State::CatchingUp(numbering);
                Some(Begun::After(position))
            }
            None => {
                self.state = State::Counting(numbering);
                self.ring = self.ring.emptied(numbering.since());
                Some(Begun::Clean)
            }
        }
    }

    /// Something of this or another room was lost inside this node: what follows can't be numbered.
    /// True if it was numbered until now.
    pub fn tear(&mut self) -> bool {
        let Some(last) = self.numbering().map(Numbering::last) else { return false };
        if let Some(journal) = &mut self.journal {
            journal.end(last);
        }
        self.state = State::Torn;
        self.delivered = None;
        true
    }

    /// The subscription is lost.
    pub fn lose(&mut self, timeline: &Timeline) {
        if let State::Counting(numbering) = self.state {
            self.delivered = Some(timeline.position_of(&numbering));
        }
        if let (Some(numbering), Some(journal)) = (self.numbering().copied(), &mut self.journal) {
            journal.end(timeline.position_of(&numbering));
        }
        // What is held has no number yet, or is behind what is missing: it is fetched anew, or told of as a gap.
        self.held.clear();
        self.state = State::Idle;
    }

    /// Numbers a publication, if it can be.
    pub fn number(&mut self, publication: &mut Publication, timeline: &Timeline, key: ResumeKey) {
        let numbering = match &mut self.state {
            State::CatchingUp(numbering) | State::Counting(numbering) => numbering,
            State::Idle | State::Asked(_) | State::Torn => return,
        };
        publication.place(Point { room: self.room, position: timeline.number(numbering), key });
    }

    /// Keeps a publication that was numbered; says how many others were given up for it, unwritten.
    pub fn keep(&mut self, publication: &Arc<Publication>, origin: Origin<'_>, now: Instant) -> u64 {
        let Some(point) = publication.point else { return 0 };
        let given_up = self.journal.as_mut().map_or(0, |journal| {
            let Origin { channel, payload, index } = origin;
            journal.push(Entry { position: point.position, channel: channel.into(), payload: payload.clone(), index })
        });
        if matches!(self.state, State::Counting(_)) {
            self.ring.push(point.position, Arc::clone(publication), now);
        }
        given_up
    }

    /// Holds a delivery back where others go first. Gives it back where it goes out now; or the oldest that waits, where too
    /// many do.
    pub fn hold(&mut self, delivery: Deliver) -> Option<Deliver> {
        match self.state {
            State::Counting(_) | State::Torn => return Some(delivery),
            State::Idle | State::Asked(_) | State::CatchingUp(_) => {}
        }
        self.held.push_back(delivery);
        if self.held.len() > HELD { self.held.pop_front() } else { None }
    }

    /// What waited goes out.
    pub fn release(&mut self) -> VecDeque<Deliver> {
        std::mem::take(&mut self.held)
    }

    /// What was missed during an outage is here; `is_whole`: that is all of it. From now on deliveries go out at once. Returns
    /// what waited, in order: without what is among the fetched, under whatever number.
    pub fn caught_up(&mut self, fetched: &[Arc<Publication>], is_whole: bool, now: Instant) -> VecDeque<Deliver> {
        let State::CatchingUp(numbering) = self.state else { return VecDeque::new() };
        self.state = State::Counting(numbering);
        self.delivered = None;
        if !is_whole {
            self.ring = self.ring.emptied(numbering.since());
        }
        let mut held = self.release();
        if is_whole || !fetched.is_empty() {
            held.retain(|delivery| delivery.publication.point.is_some());
        }
        let numbered = fetched.iter().filter(|_| is_whole).chain(held.iter().map(|delivery| &delivery.publication));
        for publication in numbered {
            if let Some(point) = publication.point {
                self.ring.push(point.position, Arc::clone(publication), now);
            }
        }
        held
    }

    /// The ring, if all that came after a position is in it.
    pub fn recent(&self, after: Position) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let is_counting = matches!(self.state, State::Counting(_));
        (is_counting && after >= self.ring.floor()).then(|| self.ring.after(after))
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    pub fn expire(&mut self, now: Instant) {
        self.ring.expire(now);
    }
}
