//! Fan-out: from the publications that reached a group to the outboxes of its members. A plain struct without actix, walked in
//! slices by the group's actor.
//!
//! All that waits in the group's mailbox leaves as one batch: its bytes are joined once per encoding, so that a burst of fifty
//! events is one write per member and not fifty.

use std::{hash::BuildHasher, ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{
    members::{Member, Members},
    messages::{Deliver, Release},
    outbox::{Incoming, Pushed},
    replay::{Held, Holding, Positions},
};
use crate::{
    config::Overflow,
    metrics::{DropReason, Metrics},
    protocol::{ConnectionId, Encoding, GapReason, Position, Publication, Reply, Target, engineio::Carrier, resume::Point, wire::WireName},
};

/// Members served before other tasks of the thread have their turn: a fan-out to thousands must not hold up a single user's
/// event (measured: slices of 128 cost nothing, and bring that event's p99 from 21 to 6 ms).
pub const SLICE: usize = 128;
/// Members whose outboxes are looked at before they are served. What thousands of connections hold is in no cache, and one after
/// the other each would wait for memory twice; looked at together they wait at the same time (measured: 4 % of a delivery).
const APPROACHED: usize = 16;
/// Joined bytes leave in pieces of at most this, which a socket with a bounded send buffer takes at once.
const JOINED_BYTES: usize = 16 * 1024;

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Members or publications remain: go on after other tasks had their turn.
    More,
    Done,
}

pub struct FanOut {
    target: Target,
    overflow: Overflow,
    metrics: Metrics,
    pub members: Members,
    /// Arrived, not yet in the batch.
    arrived: Vec<Deliver>,
    batch: Option<Batch>,
    /// Members whose replay is under way.
    holding: Holding,
    /// Where the last publication stood, in a room with history.
    last: Option<Point>,
    /// How far members have seen what is yet to come by, while there are any.
    ahead: Option<Position>,
}

struct Batch {
    deliveries: Vec<Deliver>,
    lanes: SmallVec<[Lane; 2]>,
    /// The walk: members still to be served.
    remaining: Range<usize>,
    /// Per delivery, how many members took it.
    accepted: Vec<usize>,
    /// Per delivery, what it replaces and is replaced by under keep-latest; 0 under the other policies.
    keys: Vec<u64>,
    /// All members of an encoding get the same bytes.
    is_for_all: bool,
}

/// One encoding of a batch.
struct Lane {
    encoding: Encoding,
    frames: Vec<Bytes>,
    joined: Vec<Joined>,
}

struct Joined {
    bytes: Bytes,
    frames: Range<usize>,
}

impl FanOut {
    pub fn new(target: Target, overflow: Overflow, metrics: Metrics) -> Self {
        Self {
            target,
            overflow,
            metrics,
            members: Members::default(),
            arrived: Vec::new(),
            batch: None,
            holding: Holding::default(),
            last: None,
            ahead: None,
        }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Takes a publication in for the next batch; says how many that has.
    pub fn arrive(&mut self, delivery: Deliver) -> usize {
        self.arrived.push(delivery);
        self.arrived.len()
    }

    /// Tells every member, now.
    pub fn announce(&self, reply: &Reply) {
        self.spell(reply, |member, bytes| member.outbox.push_notice(bytes, &self.target, self.overflow));
    }

    /// For every member, a reply in the words of its wire.
    fn spell(&self, reply: &Reply, say: impl Fn(&Member, Bytes)) {
        let mut spelled: SmallVec<[(Encoding, Option<Bytes>); 2]> = SmallVec::new();
        for member in self.members.all() {
            let bytes = match spelled.iter().find(|(encoding, _)| *encoding == member.encoding) {
                Some((_, bytes)) => bytes.clone(),
                None => {
                    let bytes = member.encoding.reply_in(&self.target, reply);
                    spelled.push((member.encoding, bytes.clone()));
                    bytes
                }
            };
            if let Some(bytes) = bytes {
                say(member, bytes);
            }
        }
    }

    /// Serves a slice of members. Until it says [`Step::Done`], the members may not change.
    pub fn step(&mut self) -> Step {
        let Some(mut batch) = self.batch.take().or_else(|| self.next_batch()) else { return Step::Done };
        let end = batch.remaining.end.min(batch.remaining.start + SLICE);
        let mut written = [0_u64; WireName::ALL.len()];
        for group in self.members.all()[batch.remaining.start..end].chunks(APPROACHED) {
            approach(group);
            for member in group {
                written[member.outbox.wire() as usize] += batch.serve(member, &self.target, self.overflow);
            }
        }
        for (wire, events) in WireName::ALL.into_iter().zip(written) {
            self.metrics.delivered(wire).inc_by(events);
        }
        batch.remaining.start = end;
        if batch.remaining.is_empty() {
            batch.complete(&self.metrics);
            if self.ahead.is_some() && self.last.map(|last| last.position) > self.ahead {
                self.members.forget_seen();
                self.ahead = None;
            }
            return if self.arrived.is_empty() { Step::Done } else { Step::More };
        }
        self.batch = Some(batch);
        Step::More
    }

    fn next_batch(&mut self) -> Option<Batch> {
        if self.arrived.is_empty() {
            return None;
        }
        let deliveries = std::mem::take(&mut self.arrived);
        self.last = deliveries.last().and_then(|delivery| delivery.publication.point).or(self.last);
        if !self.holding.is_empty() {
            deliveries.iter().for_each(|delivery| self.holding.keep(delivery));
        }
        Some(Batch {
            remaining: 0..self.members.len(),
            accepted: vec![0; deliveries.len()],
            keys: deliveries.iter().map(|delivery| replacement_key(self.overflow, &self.target, delivery)).collect(),
            is_for_all: deliveries.iter().all(|delivery| delivery.publication.is_for_all()),
            lanes: SmallVec::new(),
            deliveries,
        })
    }

    /// Nothing has arrived that is not with the members.
    pub fn is_idle(&self) -> bool {
        self.arrived.is_empty() && self.batch.is_none()
    }

    /// Takes a member in to whom nothing is delivered before [`FanOut::release`].
    pub fn hold(&mut self, member: Member) {
        self.members.remove(member.connection);
        self.holding.add(member);
    }

    /// Takes a member out, held or not.
    pub fn remove(&mut self, connection: ConnectionId) -> Option<Member> {
        let held = self.holding.remove(connection).map(|held| held.member);
        self.members.remove(connection).or(held)
    }

    /// Hands a held member its greeting, what it missed, and of what was kept for it what is later. To be called while nothing
    /// waits for the next batch, which would come to it twice.
    pub fn release(&mut self, order: Release) {
        let Release { connection, greeting, stands, missed, after, is_ahead, is_resumed, positions, .. } = order;
        let Some(Held { mut member, kept, dropped }) = self.holding.remove(connection) else { return };
        member.positions = positions;
        member.greet(greeting, stands);
        self.replay(&member, &missed);
        if let (Some(positions), Some(after)) = (&member.positions, after) {
            positions.note(after);
        }
        // Who missed nothing gets all that was kept: it was published after the client asked to come in, but where the node is behind.
        // Then its stream stands past what has yet to come by, which was published before.
        member.after = after.filter(|_| is_resumed || is_ahead).map(|after| after.position);
        // What this node could not number yet is earlier than `after`. Other nodes numbered it, so it is among what was missed, or
        // nobody did and the gap is told.
        let unnumbered = kept.iter().take_while(|delivery| member.after.is_some() && delivery.publication.point.is_none()).count();
        self.deliver_kept(&member, &kept[unnumbered..]);
        // What comes now is later, but for a client that comes from a node ahead of this one, or while this one catches up.
        member.after = member.after.filter(|_| is_ahead);
        self.ahead = self.ahead.max(member.after);
        if dropped > 0 {
            self.metrics.dropped(DropReason::MailboxFull).inc_by(dropped);
            if let Some(bytes) = member.encoding.reply_in(&self.target, &gap(&self.target, GapReason::Overflow, Some(dropped))) {
                member.outbox.push_control(bytes);
            }
        }
        self.members.add(member);
    }

    /// A member, held or not.
    pub fn member(&mut self, connection: ConnectionId) -> Option<&Member> {
        self.members.get(connection).or_else(|| self.holding.get(connection))
    }

    /// A Socket.IO member, held or not, moved from polling to a WebSocket.
    pub fn change_carrier(&mut self, connection: ConnectionId, carrier: Carrier) {
        self.members.change_carrier(connection, carrier);
        self.holding.change_carrier(connection, carrier);
    }

    /// From now on the ids of this member's stream cover other rooms too. A held one will hear of it with its release.
    pub fn track(&mut self, connection: ConnectionId, positions: Arc<Positions>) {
        let Some(member) = self.members.get(connection).cloned() else { return };
        if let Some(last) = self.last {
            positions.note(last);
        }
        self.members.add(Member { positions: Some(positions), ..member });
    }

    fn deliver_kept(&self, member: &Member, kept: &[Deliver]) {
        for delivery in kept.iter().filter(|delivery| member.wants(&delivery.publication)) {
            let publication = &delivery.publication;
            let bytes = member.own_bytes(publication).unwrap_or_else(|| publication.bytes(member.encoding));
            let key = replacement_key(self.overflow, &self.target, delivery);
            let incoming = Incoming { bytes: &bytes, target: &self.target, overflow: self.overflow, key };
            if member.outbox.push_event(&incoming) == Pushed::Written {
                self.metrics.delivered(member.outbox.wire()).inc();
            }
        }
    }

    fn replay(&self, member: &Member, missed: &[Arc<Publication>]) {
        let wanted: Vec<Bytes> = missed
            .iter()
            .filter(|publication| member.wants(publication))
            .map(|publication| member.own_bytes(publication).unwrap_or_else(|| publication.bytes(member.encoding)))
            .collect();
        self.metrics.replayed().inc_by(wanted.len() as u64);
        member.outbox.push_replayed(wanted, &self.target);
    }

    /// The mailbox was full: what the bridge could not hand over is counted for each member, and they are told.
    pub fn account_for(&mut self, missed: u64) {
        self.holding.miss(missed);
        if missed == 0 || self.members.is_empty() {
            return;
        }
        self.metrics.dropped(DropReason::MailboxFull).inc_by(missed * self.members.len() as u64);
        // An overload fills the mailbox again and again: who is behind hears of it once.
        self.spell(&gap(&self.target, GapReason::Overflow, Some(missed)), |member, bytes| {
            if !member.outbox.defer_loss(&self.target, missed) {
                member.outbox.push_control(bytes);
            }
        });
    }
}

/// The notice that events of one room or user may be missing.
pub fn gap(target: &Target, reason: GapReason, dropped: Option<u64>) -> Reply {
    match target {
        Target::Room(room) => Reply::Gap { rooms: vec![room.clone()], user: false, reason, dropped },
        Target::User(_) => Reply::Gap { rooms: Vec::new(), user: true, reason, dropped },
        // It has no room to name; the members see by the namespace that it is said in.
        Target::Namespace(_) => Reply::Gap { rooms: Vec::new(), user: false, reason, dropped },
    }
}

impl Batch {
    /// Hands one member all publications of the batch; says how many the kernel took at once.
    fn serve(&mut self, member: &Member, target: &Target, overflow: Overflow) -> u64 {
        let lane = self.lane(member.encoding, member.outbox.event_limit());
        let is_for_all = self.is_for_all && member.is_ordinary();
        let Self { lanes, accepted, deliveries, keys, .. } = self;
        let lane = &lanes[lane];
        let mut written = 0;
        for joined in &lane.joined {
            let frames = joined.frames.clone();
            let all = if is_for_all && frames.len() > 1 {
                member.outbox.try_push_joined(&joined.bytes, frames.len() as u32, target)
            } else {
                None
            };
            if let Some(pushed) = all {
                accepted[frames.clone()].iter_mut().for_each(|count| *count += 1);
                written += if pushed == Pushed::Written { frames.len() as u64 } else { 0 };
                continue;
            }
            for frame in frames {
                let publication = &deliveries[frame].publication;
                if !member.wants(publication) {
                    continue;
                }
                let own = member.own_bytes(publication);
                let incoming = Incoming { bytes: own.as_ref().unwrap_or(&lane.frames[frame]), target, overflow, key: keys[frame] };
                match member.outbox.push_event(&incoming) {
                    Pushed::Written => (written, accepted[frame]) = (written + 1, accepted[frame] + 1),
                    Pushed::Queued => accepted[frame] += 1,
                    Pushed::Dropped => {}
                }
            }
        }
        written
    }

    /// The place of an encoding's bytes, which are made when the first member needs them.
    fn lane(&mut self, encoding: Encoding, event_limit: usize) -> usize {
        if let Some(place) = self.lanes.iter().position(|lane| lane.encoding == encoding) {
            return place;
        }
        let frames: Vec<Bytes> = self.deliveries.iter().map(|delivery| delivery.publication.bytes(encoding)).collect();
        let joined = join(&frames, event_limit);
        self.lanes.push(Lane { encoding, frames, joined });
        self.lanes.len() - 1
    }

    fn complete(self, metrics: &Metrics) {
        for (delivery, accepted) in self.deliveries.into_iter().zip(self.accepted) {
            metrics.delivery().observe(delivery.received.elapsed().as_secs_f64());
            if let Some(receipt) = delivery.receipt {
                receipt.add(accepted);
            }
        }
    }
}

/// Has the processor fetch what serving these members needs.
fn approach(members: &[Member]) {
    if members.len() > 1 {
        members.iter().for_each(|member| member.outbox.approach());
        members.iter().for_each(|member| member.outbox.approach_socket());
    }
}

/// Joins neighbouring frames, within [`JOINED_BYTES`] and the number that may wait for a connection.
fn join(frames: &[Bytes], event_limit: usize) -> Vec<Joined> {
    let mut joined = Vec::new();
    let mut start = 0;
    while start < frames.len() {
        let mut end = start + 1;
        let mut length = frames[start].len();
        while end < frames.len() && end - start < event_limit && length + frames[end].len() <= JOINED_BYTES {
            length += frames[end].len();
            end += 1;
        }
        let bytes = match &frames[start..end] {
            [single] => single.clone(),
            several => {
                let mut buffer = BytesMut::with_capacity(length);
                several.iter().for_each(|frame| buffer.extend_from_slice(frame));
                buffer.freeze()
            }
        };
        joined.push(Joined { bytes, frames: start..end });
        start = end;
    }
    joined
}

/// Under keep-latest two events of one name in one room replace each other.
fn replacement_key(overflow: Overflow, target: &Target, delivery: &Deliver) -> u64 {
    match overflow {
        Overflow::KeepLatest => FixedState::default().hash_one((target, delivery.publication.event.name.as_str())) | 1,
        Overflow::Disconnect | Overflow::DropOldest | Overflow::DropNewest => 0,
    }
}
