//! A room with history, as one node records it: whether its publications have numbers, what is kept of them, and what waits
//! until they do. Pure: it is told of markers and publications, and decides.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    archive::Entry,
    history::Ring,
    journal::Journal,
    recall::Recalled,
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
    /// How many of these, the first, were fetched after an outage.
    fetched: usize,
    /// Everything up to there was delivered here before the link was lost.
    delivered: Option<Position>,
    /// What the members are yet to be told that they miss. Until then nothing goes out: they are not to be shown as beyond a hole
    /// that they may never hear of.
    untold: Option<Hole>,
    /// How many holes there were.
    holes: u64,
    /// It is on the list of those that have something to write.
    pub is_queued: bool,
    /// It has no members here, and goes on until then.
    pub deserted_until: Option<Instant>,
}

/// Something that the members miss, and are to be told of. Numbered, because another may come while they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole(u64);

#[derive(Debug, Clone, Copy)]
enum State {
    /// Not subscribed.
    Idle,
    /// Subscribed. The next marker is surely later.
    Asked,
    /// Something was lost on the way from the reader. The next marker begins anew.
    Torn,
    /// Numbered; what was missed during an outage is being fetched and goes first.
    CatchingUp(Numbering),
    /// Numbered; what was missed is not whole, and nothing goes out before the members were told.
    Telling(Numbering),
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
        let kept = in_memory(limits, has_archive);
        Self {
            limits,
            room,
            state: State::Idle,
            ring: Ring::new(kept, limits.ttl, Position::default()),
            journal: has_archive.then(|| Journal::new(limits)),
            held: VecDeque::new(),
            fetched: 0,
            delivered: None,
            untold: None,
            holes: 0,
            is_queued: false,
            deserted_until: None,
        }
    }

    /// Other limits hold from now on.
    pub fn limit(&mut self, limits: History, now: Instant) {
        self.limits = limits;
        self.ring.limit(in_memory(limits, self.journal.is_some()), limits.ttl, now);
        if let Some(journal) = &mut self.journal {
            journal.limits = limits;
        }
    }

    /// The room's channels are subscribed.
    pub fn ask(&mut self) {
        self.state = State::Asked;
    }

    /// It will begin to count with a marker to come.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Asked | State::Torn)
    }

    /// What was missed during an outage is being fetched, for a numbering that began here.
    pub fn is_catching_up(&self, since: Position) -> bool {
        matches!(&self.state, State::CatchingUp(numbering) if numbering.since() == since)
    }

    /// What was missed may be in the archive, and has not been fetched yet.
    pub fn can_catch_up(&self) -> bool {
        self.journal.is_some() && self.delivered.is_some() && !matches!(self.state, State::Telling(_))
    }

    /// Up to where everything was delivered here, where what was missed since may be in the archive.
    pub fn delivered_until(&self) -> Option<Position> {
        self.delivered.filter(|_| self.can_catch_up())
    }

    /// What has numbers already is yet to be delivered.
    pub fn is_behind(&self) -> bool {
        matches!(self.state, State::CatchingUp(_) | State::Telling(_))
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
            State::CatchingUp(numbering) | State::Telling(numbering) | State::Counting(numbering) => Some(numbering),
            State::Idle | State::Asked | State::Torn => None,
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

    /// A marker moved the time. `None` where nothing begins.
    pub fn begin(&mut self, timeline: &Timeline) -> Option<Begun> {
        if !self.is_waiting() {
            return None;
        }
        let numbering = timeline.begin();
        if let Some(journal) = &mut self.journal {
            journal.begin(numbering.since(), numbering.since());
        }
        if let Some(position) = self.delivered.filter(|_| self.journal.is_some()) {
            self.state = State::CatchingUp(numbering);
            return Some(Begun::After(position));
        }
        self.ring = self.ring.emptied(numbering.since());
        self.state = if self.untold.is_some() { State::Telling(numbering) } else { State::Counting(numbering) };
        Some(Begun::Clean)
    }

    /// Something of this or another room was lost inside this node: what follows can't be numbered. `None` if it was not
    /// numbered before; else whether it was catching up, so that its members are to be told of what it would have fetched.
    pub fn tear(&mut self) -> Option<bool> {
        let last = self.numbering().map(Numbering::last)?;
        if let Some(journal) = &mut self.journal {
            journal.end(last);
        }
        let was_catching_up = matches!(self.state, State::CatchingUp(_));
        if was_catching_up {
            self.miss();
        }
        self.state = State::Torn;
        self.delivered = None;
        Some(was_catching_up)
    }

    /// The members are to be told that they miss something, before anything else goes out.
    fn miss(&mut self) {
        self.holes += 1;
        self.untold = Some(Hole(self.holes));
    }

    /// What the members are yet to be told.
    pub fn untold(&self) -> Option<Hole> {
        self.untold
    }

    /// The subscription is lost.
    pub fn lose(&mut self, timeline: &Timeline) {
        if let State::Counting(numbering) = self.state {
            self.delivered = Some(timeline.position_of(&numbering));
        }
        if let (Some(numbering), Some(journal)) = (self.numbering().copied(), &mut self.journal) {
            journal.end(timeline.position_of(&numbering));
        }
        match (self.state, self.delivered) {
            // Nothing can be fetched, and they are told when the link is back.
            (State::Torn | State::Telling(_), None) => self.miss(),
            (_, Some(_)) => self.untold = None,
            (_, None) => {}
        }
        // What is held has no number yet, or is behind what is missing: it is fetched anew, or told of as a gap.
        _ = self.release();
        self.state = State::Idle;
    }

    /// Numbers a publication, if it can be.
    pub fn number(&mut self, publication: &mut Publication, timeline: &Timeline, key: ResumeKey) {
        let numbering = match &mut self.state {
            State::CatchingUp(numbering) | State::Telling(numbering) | State::Counting(numbering) => numbering,
            State::Idle | State::Asked | State::Torn => return,
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

    /// Sends a delivery, or holds it back where others go first, or the notice that they are missing. False if what was missed
    /// during an outage is waited for no longer, because too much waits behind it: then that is sent too.
    pub fn hold(&mut self, delivery: Deliver, mut send: impl FnMut(Deliver)) -> bool {
        if self.untold.is_none() && matches!(self.state, State::Counting(_) | State::Torn) {
            send(delivery);
            return true;
        }
        self.held.push_back(delivery);
        if self.held.len() <= HELD + self.fetched {
            return true;
        }
        // None may go out in front of what was missed: a client that leaves in between would be shown the hole as seen.
        let keeps_waiting = !self.can_catch_up();
        (self.delivered, self.untold) = (None, None);
        match self.state {
            State::CatchingUp(_) | State::Telling(_) | State::Torn => self.go_on(Instant::now()).into_iter().for_each(send),
            State::Idle | State::Asked | State::Counting(_) => self.held.pop_front().into_iter().for_each(send),
        }
        keeps_waiting
    }

    /// What waited, unless it waits on.
    pub fn ready(&mut self) -> VecDeque<Deliver> {
        if self.is_behind() { VecDeque::new() } else { self.release() }
    }

    /// All that waited.
    pub fn release(&mut self) -> VecDeque<Deliver> {
        self.fetched = 0;
        std::mem::take(&mut self.held)
    }

    /// What was missed during an outage is here: it goes in front of what waits, without what it says again, under whatever
    /// number. Where it is whole, all of it goes out now; else once the members were [told](Self::told).
    pub fn caught_up(&mut self, recalled: Recalled, now: Instant) -> VecDeque<Deliver> {
        let State::CatchingUp(numbering) = self.state else { return VecDeque::new() };
        let Recalled { missed: fetched, is_whole } = recalled;
        // What came before the first marker has no number here, and may be among the fetched under one.
        if is_whole || !fetched.is_empty() {
            self.held.retain(|delivery| delivery.publication.point.is_some());
        }
        self.fetched = fetched.len();
        let fetched = fetched.into_iter().map(|publication| Deliver { publication, received: now, receipt: None });
        self.held = fetched.chain(std::mem::take(&mut self.held)).collect();
        if is_whole {
            return self.begin_counting(numbering, true, now);
        }
        self.miss();
        self.state = State::Telling(numbering);
        VecDeque::new()
    }

    /// The members know that they miss something. What waited for that, in order.
    pub fn told(&mut self, hole: Hole, now: Instant) -> VecDeque<Deliver> {
        if self.untold != Some(hole) {
            return VecDeque::new();
        }
        self.untold = None;
        self.go_on(now)
    }

    /// What was waited for is there, or waited for no longer.
    fn go_on(&mut self, now: Instant) -> VecDeque<Deliver> {
        match self.state {
            State::CatchingUp(numbering) | State::Telling(numbering) => self.begin_counting(numbering, false, now),
            State::Torn => self.release(),
            // It waits for its numbers.
            State::Idle | State::Asked | State::Counting(_) => VecDeque::new(),
        }
    }

    /// From now on deliveries go out at once; what waited goes out now. What is remembered is whole with it, or begins anew.
    fn begin_counting(&mut self, numbering: Numbering, is_whole: bool, now: Instant) -> VecDeque<Deliver> {
        self.state = State::Counting(numbering);
        (self.delivered, self.untold) = (None, None);
        if !is_whole {
            self.ring = self.ring.emptied(numbering.since());
        }
        for Deliver { publication, .. } in &self.held {
            if let Some(point) = publication.point.filter(|point| is_whole || point.position > numbering.since()) {
                self.ring.push(point.position, Arc::clone(publication), now);
            }
        }
        self.release()
    }

    /// The ring, if all that came after a position is in it.
    pub fn recent(&self, after: Position) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let is_counting = matches!(self.state, State::Counting(_));
        (is_counting && after >= self.ring.floor()).then(|| self.ring.after(after))
    }

    /// Since when all is in memory. What is being fetched is not yet, and what waits for it is not either.
    pub fn remembered_since(&self) -> Option<Position> {
        matches!(self.state, State::Counting(_)).then(|| self.ring.floor())
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    pub fn expire(&mut self, now: Instant) {
        self.ring.expire(now);
    }
}

/// How many publications are kept in memory.
fn in_memory(limits: History, has_archive: bool) -> usize {
    if has_archive { limits.size.min(RECENT) } else { limits.size }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Event, RoomName};

    const KEY: ResumeKey = ResumeKey::new([1; 16]);
    const LIMITS: History = History { size: 10, ttl: Duration::from_secs(60) };

    /// A room that lost its link at position 1-1, and whose missed events are being fetched since marker 2.
    fn catching_up() -> (Timeline, Recording) {
        let mut timeline = Timeline::default();
        let mut recording = Recording::new(LIMITS, KEY.room(&RoomName::parse("r").unwrap()), true);
        timeline.see(1);
        recording.ask();
        assert_eq!(recording.begin(&timeline), Some(Begun::Clean));
        assert_eq!(arrive(&timeline, &mut recording), (1, true));
        recording.lose(&timeline);
        recording.ask();
        timeline.see(2);
        let after = Position { marker_ms: 1, count: 1 };
        assert_eq!(recording.begin(&timeline), Some(Begun::After(after)));
        (timeline, recording)
    }

    /// One more publication: how many went out, in order, and whether what was missed is still waited for.
    fn arrive(timeline: &Timeline, recording: &mut Recording) -> (usize, bool) {
        let mut publication = Publication::new(RoomName::parse("r").unwrap().into(), Arc::new(Event::default()));
        recording.number(&mut publication, timeline, KEY);
        let mut sent = Vec::new();
        let delivery = Deliver { publication: Arc::new(publication), received: Instant::now(), receipt: None };
        let keeps_waiting = recording.hold(delivery, |delivery| sent.push(delivery.publication.point.map(|point| point.position)));
        assert!(sent.is_sorted());
        (sent.len(), keeps_waiting)
    }

    #[test]
    fn too_much_behind_what_was_missed_goes_out_together_and_the_missed_is_given_up() {
        let (timeline, mut recording) = catching_up();
        for _ in 0..HELD {
            assert_eq!(arrive(&timeline, &mut recording), (0, true));
        }
        assert_eq!(arrive(&timeline, &mut recording), (HELD + 1, false));
        assert_eq!(arrive(&timeline, &mut recording), (1, true));
        let since = Position { marker_ms: 2, count: 0 };
        assert!(!recording.is_catching_up(since), "a late answer is not delivered behind them");
    }

    #[test]
    fn what_waits_for_what_was_missed_goes_out_when_the_numbers_end_and_the_members_were_told() {
        let (timeline, mut recording) = catching_up();
        arrive(&timeline, &mut recording);
        assert_eq!(recording.tear(), Some(true));
        assert_eq!(arrive(&timeline, &mut recording), (0, true), "the members are to be told first");
        let hole = recording.untold().expect("a hole");
        assert_eq!(recording.told(hole, Instant::now()).len(), 2);
        assert_eq!(arrive(&timeline, &mut recording), (1, true), "nothing comes late behind it");
        assert_eq!(recording.tear(), None);
    }

    #[test]
    fn a_room_whose_numbers_end_and_begin_anew_still_waits_until_its_members_were_told() {
        let (mut timeline, mut recording) = catching_up();
        recording.caught_up(Recalled { missed: Vec::new(), is_whole: false }, Instant::now());
        let hole = recording.untold().expect("a hole");
        arrive(&timeline, &mut recording);
        assert_eq!(recording.tear(), Some(false), "they are being told already");
        arrive(&timeline, &mut recording);
        timeline.see(3);
        assert_eq!(recording.begin(&timeline), Some(Begun::Clean));
        assert_eq!(arrive(&timeline, &mut recording), (0, true));
        assert_eq!(recording.told(hole, Instant::now()).len(), 3);
        assert_eq!(arrive(&timeline, &mut recording), (1, true));
    }

    #[test]
    fn where_the_link_is_lost_without_numbers_the_members_are_told_of_that_and_not_of_what_was_before() {
        let (mut timeline, mut recording) = catching_up();
        recording.tear();
        let before = recording.untold().expect("a hole");
        recording.lose(&timeline);
        recording.ask();
        timeline.see(3);
        assert_eq!(recording.begin(&timeline), Some(Begun::Clean));
        assert_eq!(arrive(&timeline, &mut recording), (0, true));
        assert!(recording.told(before, Instant::now()).is_empty());
        let hole = recording.untold().expect("another hole");
        assert_eq!(recording.told(hole, Instant::now()).len(), 1);
    }
}
