//! Presence: who is in the rooms whose rule asks for it, on all nodes. A plain state machine that is handed the time; the registry
//! owns the only one, feeds it with what happens here and with what other nodes announce, and carries out what it decides.
//!
//! Each node knows its own members and announces them: what changed at once, all of it as a heartbeat and when another node
//! asks. Nothing is kept outside the nodes, so what a dead one had is forgotten as soon as it has been silent for long enough.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::{
    messages::RoomMembers,
    roster::{Roster, Seen},
};
use crate::protocol::{
    Reply, RoomName, UserName,
    gossip::{Announcement, Share, Word, chunks},
};

/// What happens within this time is one announcement, and one notice for each room.
const GATHERING: Duration = Duration::from_millis(50);
/// A user that comes back within this time has not left: a page that is changed or loaded again closes one connection and
/// opens another.
pub const HOLD: Duration = Duration::from_secs(2);
pub const HEARTBEAT: Duration = Duration::from_secs(4);
/// A node that was not heard for so long is gone: a second less than what is promised, for what telling it takes. Two heartbeats
/// may be lost.
pub const SILENCE: Duration = Duration::from_secs(14);
/// Nobody can be blamed for silence by who was not listening: this process was stopped if it acts so late.
const LATE: Duration = Duration::from_secs(2);
/// Nodes that are believed to exist. Only who may PUBLISH on the hub's own channels can make some up.
const MAX_NODES: usize = 1024;
/// Users in one notice; more are told in several.
const USERS_PER_NOTICE: usize = 250;

pub struct Presence {
    node: u32,
    /// Of the last announcement.
    sequence: u64,
    /// Rooms with members on any node.
    rooms: HashMap<RoomName, Roster, RandomState>,
    /// Memberships of this node's connections in them.
    here: usize,
    /// The other nodes.
    peers: HashMap<u32, Peer, RandomState>,
    /// Members of this node that are to be announced.
    changed: BTreeMap<RoomName, BTreeSet<UserName>>,
    telling: Telling,
    gathering_until: Option<Instant>,
    /// `None` while this node has nobody to tell of.
    next_heartbeat: Option<Instant>,
    /// Others are to be asked whom they have.
    wants_sync: bool,
    /// Another has asked.
    is_asked: bool,
    /// Since when others are heard; `None` while the broker is away.
    listening_since: Option<Instant>,
    /// Goodbye was said.
    is_over: bool,
}

struct Peer {
    heard: Instant,
    /// Of its last announcement.
    sequence: u64,
    /// The first announcement of its current heartbeat, and how many parts of that have come.
    round: Option<(u64, u32)>,
}

/// Who says something, in which of its announcements, and when.
#[derive(Debug, Clone, Copy)]
struct Witness {
    node: u32,
    sequence: u64,
    now: Instant,
}

/// What the members here are to be told.
#[derive(Default)]
struct Telling {
    notices: BTreeMap<RoomName, Changes>,
    /// Users that may have left, and when that is certain, soonest first.
    missing: VecDeque<(Instant, RoomName, UserName)>,
}

#[derive(Default)]
struct Changes {
    joined: Vec<UserName>,
    left: Vec<UserName>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Decided {
    /// To every node, in this order.
    pub announcements: Vec<Bytes>,
    /// To the members of each room here.
    pub notices: Vec<(RoomName, Reply)>,
}

impl Presence {
    /// `node`: this node's number, which no other has.
    pub fn new(node: u32) -> Self {
        Self {
            node,
            sequence: 0,
            rooms: HashMap::default(),
            here: 0,
            peers: HashMap::default(),
            changed: BTreeMap::new(),
            telling: Telling::default(),
            gathering_until: None,
            next_heartbeat: None,
            wants_sync: false,
            is_asked: false,
            listening_since: None,
            is_over: false,
        }
    }

    /// A connection of this node, of this user or of nobody in particular, is a member of a room with presence.
    pub fn enter(&mut self, room: &RoomName, user: Option<&UserName>, now: Instant) {
        let roster = self.rooms.entry(room.clone()).or_default();
        let connections = roster.of_node(self.node, user) + 1;
        self.here += 1;
        self.set_local(room, user, connections, now);
        self.next_heartbeat.get_or_insert(now + HEARTBEAT);
    }

    /// One that had entered is a member no more.
    pub fn exit(&mut self, room: &RoomName, user: Option<&UserName>, now: Instant) {
        let Some(roster) = self.rooms.get(room) else { return };
        if let Some(connections) = roster.of_node(self.node, user).checked_sub(1) {
            self.here -= 1;
            self.set_local(room, user, connections, now);
        }
    }

    fn set_local(&mut self, room: &RoomName, user: Option<&UserName>, connections: u32, now: Instant) {
        self.set(Witness { node: self.node, sequence: 0, now }, room, user, connections);
        self.changed.entry(room.clone()).or_default().extend(user.cloned());
        self.gather(now);
    }

    fn set(&mut self, by: Witness, room: &RoomName, user: Option<&UserName>, connections: u32) {
        let roster = self.rooms.entry(room.clone()).or_default();
        roster.set(by.node, user, connections, by.sequence);
        if let Some(user) = user {
            self.telling.look(room, roster, user, by.now);
        }
        if roster.is_empty() {
            self.rooms.remove(room);
        }
    }

    fn gather(&mut self, now: Instant) {
        self.gathering_until.get_or_insert(now + GATHERING);
    }

    /// The broker delivers, for the first time or again: others may know nothing of this node, nor this node of them.
    pub fn restored(&mut self, now: Instant) {
        // Who was silent for want of a broker has all its time again to say that it lives.
        self.peers.values_mut().for_each(|peer| peer.heard = now);
        self.listening_since = Some(now);
        self.wants_sync = true;
        self.beat_soon(now);
        self.gather(now);
    }

    /// The broker is lost. Until it is back nobody is taken for dead: it is our own ear that is deaf.
    pub fn cut_off(&mut self) {
        self.listening_since = None;
    }

    fn beat_soon(&mut self, now: Instant) {
        if let Some(next) = &mut self.next_heartbeat {
            *next = (*next).min(now + GATHERING);
        }
    }

    /// A node has announced something; this node hears its own announcements too.
    pub fn hear(&mut self, announcement: Announcement, now: Instant) {
        let Announcement { node, sequence, word } = announcement;
        let is_one_too_many = self.peers.len() >= MAX_NODES && !self.peers.contains_key(&node);
        if node == self.node || is_one_too_many {
            return;
        }
        let peer = self.peers.entry(node).or_insert(Peer { heard: now, sequence: 0, round: None });
        if sequence <= peer.sequence {
            return;
        }
        (peer.heard, peer.sequence) = (now, sequence);
        self.take_word(Witness { node, sequence, now }, word);
        if !self.telling.notices.is_empty() {
            self.gather(now);
        }
    }

    fn take_word(&mut self, by: Witness, word: Word) {
        let Witness { node, now, .. } = by;
        match word {
            Word::Sync => {
                self.beat_soon(now);
                self.is_asked = true;
                self.gather(now);
            }
            Word::Heard { nodes } => self.believe(node, &nodes, now),
            Word::Goodbye => {
                self.forget(node, u64::MAX, HOLD, now);
                self.peers.remove(&node);
            }
            Word::Change { rooms } => self.merge(by, rooms),
            Word::Heartbeat { part, parts, rooms } => {
                let first_of_whole = self.peers.get_mut(&node).and_then(|peer| peer.hear_part(part, parts));
                self.merge(by, rooms);
                if let Some(first) = first_of_whole {
                    self.forget(node, first, HOLD, now);
                }
            }
        }
    }

    /// One that could hear all the time tells of whom it has heard. Whoever is not among them, and has not been heard here since
    /// this node can hear again, is gone: he need not be waited for.
    fn believe(&mut self, witness: u32, heard: &[u32], now: Instant) {
        let Some(since) = self.listening_since else { return };
        let is_gone = |node: &u32, peer: &Peer| *node != witness && peer.heard <= since && !heard.contains(node);
        let gone: Vec<u32> = self.peers.extract_if(|node, peer| is_gone(node, peer)).map(|(node, _)| node).collect();
        for node in gone {
            log::info!("node {node:08x} went while this one was cut off, node {witness:08x} says");
            self.forget(node, u64::MAX, HOLD, now);
        }
    }

    fn merge(&mut self, by: Witness, rooms: Vec<Share>) {
        for Share { room, users, anonymous } in rooms {
            self.set(by, &room, None, anonymous);
            for (user, connections) in users {
                self.set(by, &room, Some(&user), connections);
            }
        }
    }

    /// What a node has not said since this announcement is no more. Who is missing thereby is held for `hold`.
    fn forget(&mut self, node: u32, sequence: u64, hold: Duration, now: Instant) {
        let telling = &mut self.telling;
        self.rooms.retain(|room, roster| {
            for user in roster.forget_before(node, sequence) {
                telling.look(room, roster, &user, now);
                if hold.is_zero() && roster.has_left(&user, hold, now) {
                    telling.tell_left(room, user);
                }
            }
            !roster.is_empty()
        });
    }

    /// When [`Presence::act`] has something to do; `None`: not before something happens.
    pub fn due(&self) -> Option<Instant> {
        let silent = self.peers.values().filter(|_| self.listening_since.is_some()).map(|peer| peer.heard + SILENCE).min();
        let missing = self.telling.missing.front().map(|(due, ..)| *due);
        [self.gathering_until, self.next_heartbeat, missing, silent].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn act(&mut self, now: Instant) -> Decided {
        if self.due().is_some_and(|due| now > due + LATE) {
            self.peers.values_mut().for_each(|peer| peer.heard = now);
        }
        self.drop_silent(now);
        self.conclude_missing(now);
        self.gathering_until = None;
        Decided { announcements: self.announce(now), notices: self.telling.take_notices() }
    }

    fn drop_silent(&mut self, now: Instant) {
        if self.listening_since.is_none() {
            return;
        }
        let silent: Vec<u32> = self.peers.extract_if(|_, peer| now.duration_since(peer.heard) >= SILENCE).map(|(node, _)| node).collect();
        for node in silent {
            log::info!("node {node:08x} has been silent for {} s: its members are gone", SILENCE.as_secs());
            self.forget(node, u64::MAX, Duration::ZERO, now);
        }
    }

    fn conclude_missing(&mut self, now: Instant) {
        while self.telling.missing.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, room, user)) = self.telling.missing.pop_front() else { return };
            let Some(roster) = self.rooms.get_mut(&room) else { continue };
            if roster.has_left(&user, HOLD, now) {
                self.telling.tell_left(&room, user);
            }
            if roster.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    fn announce(&mut self, now: Instant) -> Vec<Bytes> {
        let changed = std::mem::take(&mut self.changed);
        if self.is_over {
            self.next_heartbeat = None;
            return Vec::new();
        }
        let mut words = Vec::new();
        if std::mem::take(&mut self.wants_sync) {
            words.push(Word::Sync);
        }
        if std::mem::take(&mut self.is_asked) {
            words.extend(self.testimony(now));
        }
        if self.next_heartbeat.is_some_and(|next| next <= now) && self.here > 0 {
            words.extend(self.heartbeat());
            self.next_heartbeat = Some(now + HEARTBEAT);
        } else {
            let shares = changed.into_iter().map(|(room, users)| self.changed_share(room, users));
            words.extend(chunks(shares).into_iter().map(|rooms| Word::Change { rooms }));
            if self.here == 0 {
                self.next_heartbeat = None;
            }
        }
        words.into_iter().map(|word| self.spell(word)).collect()
    }

    fn spell(&mut self, word: Word) -> Bytes {
        self.sequence += 1;
        Announcement { node: self.node, sequence: self.sequence, word }.encode()
    }

    /// Of whom this node has heard, if it could hear everybody for as long as one may be silent.
    fn testimony(&self, now: Instant) -> Option<Word> {
        self.listening_since.filter(|since| now.duration_since(*since) >= SILENCE)?;
        Some(Word::Heard { nodes: self.peers.keys().copied().collect() })
    }

    fn heartbeat(&self) -> Vec<Word> {
        let shares = self.rooms.iter().filter_map(|(room, roster)| {
            let (users, anonymous) = roster.share_of(self.node)?;
            Some(Share { room: room.clone(), users, anonymous })
        });
        let chunks = chunks(shares);
        // As many as four billion parts would be 50 TB of names.
        let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        (0..parts).zip(chunks).map(|(part, rooms)| Word::Heartbeat { part, parts, rooms }).collect()
    }

    fn changed_share(&self, room: RoomName, users: BTreeSet<UserName>) -> Share {
        let of_node = |user: Option<&UserName>| self.rooms.get(&room).map_or(0, |roster| roster.of_node(self.node, user));
        let anonymous = of_node(None);
        let users = users.into_iter().map(|user| (user.clone(), of_node(Some(&user)))).collect();
        Share { users, anonymous, room }
    }

    /// The last announcement: this node is going down and has nobody any more.
    pub fn say_goodbye(&mut self) -> Option<Bytes> {
        let has_spoken = self.sequence > 0;
        (has_spoken && !std::mem::replace(&mut self.is_over, true)).then(|| self.spell(Word::Goodbye))
    }

    /// Who is in a room, on all nodes.
    pub fn members(&self, room: &RoomName) -> RoomMembers {
        self.rooms.get(room).map(Roster::members).unwrap_or_default()
    }
}

impl Peer {
    /// Notes a part of a heartbeat, which its last announcement was. Returns the first of the parts if all of them have come.
    fn hear_part(&mut self, part: u32, parts: u32) -> Option<u64> {
        self.round = match self.round {
            _ if part == 0 => Some((self.sequence, 1)),
            Some((first, heard)) if heard == part && first.checked_add(part.into()) == Some(self.sequence) => Some((first, heard + 1)),
            _ => None,
        };
        self.round.filter(|(_, heard)| *heard == parts).map(|(first, _)| first)
    }
}

impl Telling {
    fn look(&mut self, room: &RoomName, roster: &mut Roster, user: &UserName, now: Instant) {
        match roster.look_at(user, now) {
            Seen::Came => self.notices.entry(room.clone()).or_default().joined.push(user.clone()),
            Seen::IsMissing => self.missing.push_back((now + HOLD, room.clone(), user.clone())),
            Seen::AsBefore => {}
        }
    }

    fn tell_left(&mut self, room: &RoomName, user: UserName) {
        self.notices.entry(room.clone()).or_default().left.push(user);
    }

    fn take_notices(&mut self) -> Vec<(RoomName, Reply)> {
        let mut notices = Vec::new();
        for (room, Changes { mut joined, mut left }) in std::mem::take(&mut self.notices) {
            joined.sort();
            left.sort();
            let mut joined = joined.chunks(USERS_PER_NOTICE);
            let mut left = left.chunks(USERS_PER_NOTICE);
            loop {
                let (joined, left) = (joined.next().unwrap_or_default().to_vec(), left.next().unwrap_or_default().to_vec());
                if joined.is_empty() && left.is_empty() {
                    break;
                }
                notices.push((room.clone(), Reply::Presence { room: room.clone(), joined, left }));
            }
        }
        notices
    }
}
