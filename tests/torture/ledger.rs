//! The books: what was published, what each client received in which order, and what it was told. What does not add up is a
//! fault.

use std::{
    fmt,
    ops::AddAssign,
    time::{Duration, Instant},
};

/// A room by its number. Even ones keep history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(pub u16);

impl Room {
    pub fn name(self) -> String {
        format!("{}-{}", if self.keeps() { "kept" } else { "plain" }, self.0)
    }

    pub fn keeps(self) -> bool {
        self.0.is_multiple_of(2)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).map(Self)
    }
}

/// Why the hub says that something may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    BrokerLost,
    Overflow,
    HistoryTrimmed,
    UnknownPosition,
    NoHistory,
}

impl Reason {
    pub fn from_name(name: &str) -> Self {
        match name {
            "broker_lost" => Self::BrokerLost,
            "overflow" => Self::Overflow,
            "history_trimmed" => Self::HistoryTrimmed,
            "unknown_position" => Self::UnknownPosition,
            "no_history" => Self::NoHistory,
            other => panic!("an unknown reason of a gap: {other:?}"),
        }
    }
}

/// What happened to a client, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It was accepted, by the node with this place on the board.
    Opened(usize),
    Event(Room, u32),
    Gap(Vec<Room>, Reason),
    /// The conversation ended: what the hub said, or "cut".
    Ended(String),
}

#[derive(Debug, Default, Clone)]
pub struct Record(pub Vec<(Instant, Entry)>);

/// What was published to one room: number N stands at N - 1, and is true if the broker said that it took it. Where the
/// broker died before it answered, the event may have arrived or not.
#[derive(Debug, Default, Clone)]
pub struct Published(pub Vec<(Room, Vec<bool>)>);

impl Published {
    pub fn taken(&self) -> usize {
        self.0.iter().flat_map(|(_, numbers)| numbers).filter(|was_taken| **was_taken).count()
    }

    /// Adds what a publisher did whose numbers begin after `base`. What was never published was never taken.
    pub fn extend(&mut self, other: Self, base: u32) {
        for (room, numbers) in other.0 {
            let place = self.0.iter().position(|(known, _)| *known == room).unwrap_or_else(|| {
                self.0.push((room, Vec::new()));
                self.0.len() - 1
            });
            self.0[place].1.resize(base as usize, false);
            self.0[place].1.extend(numbers);
        }
    }

    fn numbers(&self, room: Room) -> impl Iterator<Item = u32> {
        let numbers = self.0.iter().find(|(known, _)| *known == room).map_or(&[][..], |(_, numbers)| numbers);
        (1..).zip(numbers).filter(|(_, was_taken)| **was_taken).map(|(number, _)| number)
    }
}

/// How a record is judged.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// A client that comes back asks for what it missed. In a room without history it knows itself that it was away.
    pub resumes: bool,
    /// What was told of as a gap is not lost silently. A twin does not heed it.
    pub heeds_gaps: bool,
    /// So many events before the hole its notice may come, if it tells of an overflow: what waited in mailboxes was not lost, and
    /// follows the notice.
    pub waiting: usize,
}

/// How many deliveries were due, and what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub due: u64,
    pub received: u64,
    /// Missing, and the client was told.
    pub told: u64,
    /// Missing, while a client was away from a room that has no way to resume.
    pub away: u64,
    /// Missing, and nobody said so.
    pub silent: u64,
    pub doubled: u64,
    pub disordered: u64,
    pub notices: u64,
    /// Clients that have not got the last event of a room of theirs.
    pub unfinished: u64,
}

impl Tally {
    pub fn faults(&self) -> u64 {
        self.silent + self.doubled + self.disordered
    }

    /// Nothing more can come that matters.
    pub fn is_complete(&self) -> bool {
        self.unfinished == 0 && self.silent == 0
    }

    pub fn lost(&self) -> u64 {
        self.told + self.silent
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.due += other.due;
        self.received += other.received;
        self.told += other.told;
        self.away += other.away;
        self.silent += other.silent;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.notices += other.notices;
        self.unfinished += other.unfinished;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} due, {} received, {} silently lost", self.due, self.received, self.silent)?;
        write!(f, ", {} doubled, {} disordered", self.doubled, self.disordered)?;
        for (count, what) in [(self.told, "lost and told"), (self.away, "missed while away without resume"), (self.notices, "gap notices")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// How long after the event behind a hole its notice may come.
const NOTICE_PATIENCE: Duration = Duration::from_secs(10);

/// What one client saw of one room.
struct Page<'a> {
    room: Room,
    /// Place in the record, time and number of each event.
    events: Vec<(usize, Instant, u32)>,
    gaps: Vec<(usize, Instant, Reason)>,
    openings: Vec<usize>,
    terms: &'a Terms,
}

impl Record {
    pub fn numbers(&self, room: Room) -> Vec<u32> {
        let numbers = self.0.iter().filter_map(|(_, entry)| match entry {
            Entry::Event(known, number) if *known == room => Some(*number),
            _ => None,
        });
        numbers.collect()
    }

    /// What is remarkable in it, for a person who looks for the cause: all but events that follow each other.
    pub fn story(&self, room: Room) -> String {
        let Some((began, _)) = self.0.first() else { return "nothing".to_owned() };
        let mut told = String::new();
        let mut last = 0;
        for (at, entry) in &self.0 {
            let seconds = at.duration_since(*began).as_secs_f64();
            match entry {
                Entry::Event(known, _) if *known != room => continue,
                Entry::Event(_, number) if last + 1 == *number => last = *number,
                entry => {
                    told += &format!("  {seconds:.3} {entry:?}, after event {last}\n");
                    if let Entry::Event(_, number) = entry {
                        last = *number;
                    }
                }
            }
        }
        told
    }

    pub fn check(&self, room: Room, published: &Published, terms: &Terms) -> Tally {
        let mut page = Page { room, events: Vec::new(), gaps: Vec::new(), openings: Vec::new(), terms };
        for (place, (at, entry)) in self.0.iter().enumerate() {
            match entry {
                Entry::Event(known, number) if *known == room => page.events.push((place, *at, *number)),
                Entry::Gap(rooms, reason) if rooms.contains(&room) => page.gaps.push((place, *at, *reason)),
                Entry::Opened(_) => page.openings.push(place),
                _ => {}
            }
        }
        page.check(published.numbers(room))
    }
}

impl Page<'_> {
    fn check(mut self, numbers: impl Iterator<Item = u32>) -> Tally {
        let mut tally = Tally { notices: self.gaps.len() as u64, received: self.events.len() as u64, ..Tally::default() };
        let is_wrong = |pair: &&[(usize, Instant, u32)]| pair[1].2 < pair[0].2 && self.is_comparable(pair[0].0, pair[1].0);
        tally.disordered = self.events.windows(2).filter(is_wrong).count() as u64;
        self.events.sort_by_key(|(place, _, number)| (*number, *place));
        let is_again = |pair: &&[(usize, Instant, u32)]| pair[1].2 == pair[0].2 && self.is_comparable(pair[0].0, pair[1].0);
        tally.doubled = self.events.windows(2).filter(is_again).count() as u64;
        let (mut next, mut last) = (0, None);
        for number in numbers {
            tally.due += 1;
            last = Some(number);
            while self.events.get(next).is_some_and(|(_, _, known)| *known < number) {
                next += 1;
            }
            if self.events.get(next).is_some_and(|(_, _, known)| *known == number) {
                continue;
            }
            let before = next.checked_sub(1).map(|before| self.events[before]);
            match self.events.get(next) {
                after if self.was_told(before.map(|(place, ..)| place), after.map(|(place, at, _)| (*place, *at))) => tally.told += 1,
                after if self.was_away(before.map_or(0, |(place, _, _)| place), after.map(|(place, _, _)| *place)) => tally.away += 1,
                _ => tally.silent += 1,
            }
        }
        tally.unfinished = u64::from(last > self.events.last().map(|(_, _, number)| *number));
        tally
    }

    /// Who comes back without an id, to a node that is a moment behind, has nothing by which that node could know.
    fn is_comparable(&self, before: usize, after: usize) -> bool {
        self.terms.resumes || !self.openings.iter().any(|place| (before..after).contains(place))
    }

    /// Where ids say what a client has seen, it is told in front of the first event past the hole: it may be cut off behind it.
    fn was_told(&self, before: Option<usize>, after: Option<(usize, Instant)>) -> bool {
        let is_in_front = |reason| self.room.keeps() && self.terms.resumes && reason != Reason::Overflow;
        let in_time = |notice: usize, at: Instant, reason| {
            after.is_none_or(|(event, after)| if is_in_front(reason) { notice < event } else { at <= after + NOTICE_PATIENCE })
        };
        let is_behind = |place: usize, reason: Reason| match before {
            Some(before) => place + if reason == Reason::Overflow { self.terms.waiting } else { 0 } >= before,
            None => true,
        };
        self.terms.heeds_gaps && self.gaps.iter().any(|(place, at, reason)| is_behind(*place, *reason) && in_time(*place, *at, *reason))
    }

    fn was_away(&self, before: usize, after: Option<usize>) -> bool {
        let is_between = |place: &usize| *place > before && after.is_none_or(|after| *place < after);
        !self.terms.resumes && self.openings.iter().any(is_between)
    }
}
