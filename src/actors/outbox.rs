//! The outbox of a connection: the only way bytes reach a client, and the bound of what may wait for it.
//!
//! Rooms on the connection's thread put ready bytes in. While nothing waits they go to the socket at once, so that a delivery
//! costs one system call and wakes no task. Only what the kernel does not take is queued, within `mailbox.connection` events.
//! What happens at that bound is the room's overflow policy, and it is counted here to the event.
//!
//! The queue is emptied by the connection's [`Line`](super::line::Line) where the connection owns a socket, and by the response
//! body where actix keeps it (HTTP/2).

mod draining;
mod state;

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::{sync::oneshot, time::Instant};

use self::state::{Direct, Phase, State};
use super::{
    queue::{Entry, Queue},
    socket::Socket,
};
use crate::{
    config::Overflow,
    metrics::{DropReason, Metrics},
    protocol::{CloseReason, Reply, Target, wire::WireName},
};

/// Replies and pings that may wait beside the events. A client that asks and never reads is a slow consumer too.
const CONTROL_ENTRIES: usize = 64;
/// How many events with several addressees are remembered, so that a connection in two of the rooms takes each once. The two
/// rooms would have to be further apart than this many of such events for one to arrive twice.
const REMEMBERED_KEYS: usize = 1024;

/// What may wait for one connection.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Events: `mailbox.connection`.
    pub events: usize,
    /// Bytes of all that waits. A single larger event still passes where no other waits.
    pub bytes: usize,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The kernel has it.
    Written,
    /// It waits.
    Queued,
    /// It was given up, and counted.
    Dropped,
}

/// One event on its way into an outbox.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub bytes: &'a Bytes,
    pub target: &'a Target,
    pub overflow: Overflow,
    /// Under keep-latest, what makes two events replace each other; 0 otherwise.
    pub key: u64,
}

/// What the connection has to act on.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// Say goodbye for this reason, then [`Outbox::finish`].
    Closing(CloseReason),
    /// Say this to the client, in the words of its wire.
    Told(Reply),
    /// The client lost so many events of these. Told when it has caught up, and now and then while it never does.
    Lost(Vec<(Target, u64)>),
}

pub struct Outbox {
    limits: OutboxLimits,
    wire: WireName,
    metrics: Metrics,
    state: Mutex<State>,
    /// Who moves the bytes: the line, or the response body.
    drainer: AtomicWaker,
    /// The line, which carries notices to the connection.
    owner: AtomicWaker,
    /// Something came from the client since the pulse last asked.
    heard: AtomicBool,
}

impl Outbox {
    pub fn new(limits: OutboxLimits, wire: WireName, metrics: Metrics) -> Self {
        Self {
            limits,
            wire,
            metrics,
            state: Mutex::default(),
            drainer: AtomicWaker::new(),
            owner: AtomicWaker::new(),
            heard: AtomicBool::new(true),
        }
    }

    /// The state is whole between statements, so a panic elsewhere while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wire(&self) -> WireName {
        self.wire
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The most events that may leave joined in one write: never more than may wait.
    pub fn event_limit(&self) -> usize {
        self.limits.events
    }

    /// From now on bytes go to this socket; what waited follows as it takes it.
    pub fn attach(&self, socket: Arc<Socket>) {
        let mut state = self.lock();
        if state.phase != Phase::Ended {
            state.socket = Some(socket);
            state.forget_empty_queue();
        }
        drop(state);
        self.drainer.wake();
    }

    /// From now on a WebSocket carries what was spelled for polls, and what waits of it.
    pub fn respell(&self, respell: fn(&Bytes) -> Bytes) {
        let mut state = self.lock();
        state.queue.respell(respell);
        state.respell = Some(respell);
    }

    // ---- filling -------------------------------------------------------------------------------------------------------

    /// Looks at itself, so that the processor has it near when an event comes. To be followed by [`Self::approach_socket`].
    pub fn approach(&self) {
        black_box(self.state.is_poisoned());
    }

    /// As [`Self::approach`], for what the outbox leads to.
    pub fn approach_socket(&self) {
        black_box(matches!(self.lock().socket.as_deref(), Some(Socket::Tcp(_))));
    }

    /// Hands over one event.
    pub fn push_event(&self, incoming: &Incoming<'_>) -> Pushed {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return self.give_up(&mut state, 1, DropReason::Closed);
        }
        let respelled = state.respell.map(|respell| respell(incoming.bytes));
        let bytes = respelled.as_ref().unwrap_or(incoming.bytes);
        let entry = || Entry { bytes: bytes.clone(), events: 1, target: Some(incoming.target.clone()), key: incoming.key };
        match state.write_now(bytes) {
            Direct::Complete => return Pushed::Written,
            Direct::Partial(written) => {
                state.queue.push_partial(entry(), written);
                return self.queued(true);
            }
            Direct::Waits => {}
        }
        let is_first = state.queue.is_empty();
        if incoming.key != 0 && state.queue.supersede(incoming.key).is_some() {
            self.give_up(&mut state, 1, DropReason::Superseded);
            state.note_lost(Some(incoming.target), 1);
        }
        if !self.has_room_for(&state, bytes.len()) && !self.make_room(&mut state, incoming) {
            return Pushed::Dropped;
        }
        state.enqueue(entry());
        self.queued(is_first)
    }

    /// Hands over what a client missed. A history may be longer than what may wait for a connection, so these wait beside it:
    /// nobody is a slow consumer for what we have just put before him.
    pub fn push_replayed(&self, events: Vec<Bytes>, target: &Target) {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            self.give_up(&mut state, events.len() as u64, DropReason::Closed);
            return;
        }
        for bytes in events {
            let bytes = state.respell.map_or_else(|| bytes.clone(), |respell| respell(&bytes));
            let allowance = &mut state.rare().allowance;
            *allowance = (allowance.0 + 1, allowance.1 + bytes.len());
            state.enqueue(Entry { bytes, events: 1, target: Some(target.clone()), key: 0 });
        }
        drop(state);
        self.drainer.wake();
    }

    /// Hands over several events of one room, joined in one buffer, if the socket takes them now. If not, nothing happened: the
    /// caller pushes them one by one, so that a bound of events stays a bound of events.
    pub fn try_push_joined(&self, joined: &Bytes, events: u32, target: &Target) -> Option<Pushed> {
        let mut state = self.lock();
        let is_stale = state.respell.is_some_and(|respell| respell(joined).as_ptr() != joined.as_ptr());
        if state.phase != Phase::Open || events as usize > self.limits.events || is_stale {
            return None;
        }
        match state.write_now(joined) {
            Direct::Complete => Some(Pushed::Written),
            Direct::Partial(written) => {
                let entry = Entry { bytes: joined.clone(), events, target: Some(target.clone()), key: 0 };
                state.queue.push_partial(entry, written);
                Some(self.queued(true))
            }
            Direct::Waits => None,
        }
    }

    /// Puts bytes in front of all that waits: the head of a stream, before anything has left.
    pub fn push_first(&self, bytes: Bytes) {
        self.lock().queue.push_front(Entry::control(bytes));
    }

    /// Hands over a reply or a ping.
    pub fn push_control(&self, bytes: Bytes) {
        self.push_words(&mut self.lock(), bytes, Queue::push);
    }

    /// Hands over a word that is to leave next: that something in front of what waits is missing.
    pub fn push_next(&self, bytes: Bytes) {
        self.push_words(&mut self.lock(), bytes, Queue::push_next);
    }

    /// Hands over what the hub tells all of a room. Where no more may wait it is given up under a policy that drops, and the client
    /// hears of a gap instead: it is not cut for what it did not ask for.
    pub fn push_notice(&self, bytes: Bytes, target: &Target, overflow: Overflow) {
        let mut state = self.lock();
        if overflow != Overflow::Disconnect && state.phase == Phase::Open && self.is_full(&state) {
            state.note_lost(Some(target), 0);
        } else {
            self.push_words(&mut state, bytes, Queue::push);
        }
    }

    /// Events were lost before they came here. False if nothing waits and the client can be told at once; else it will be, in one
    /// notice with what else it lost.
    pub fn defer_loss(&self, target: &Target, events: u64) -> bool {
        let mut state = self.lock();
        let waits = state.phase == Phase::Open && !state.queue.is_empty();
        if waits {
            state.note_lost(Some(target), events);
        }
        waits
    }

    fn is_full(&self, state: &State) -> bool {
        state.queue.len() >= self.limits.events + state.allowance().0 + CONTROL_ENTRIES
    }

    fn push_words(&self, state: &mut State, bytes: Bytes, place: fn(&mut Queue, Entry)) {
        if state.phase != Phase::Open {
            return;
        }
        let bytes = state.respell.map_or_else(|| bytes.clone(), |respell| respell(&bytes));
        match state.write_now(&bytes) {
            Direct::Complete => return,
            Direct::Partial(written) => state.queue.push_partial(Entry::control(bytes), written),
            Direct::Waits if self.is_full(state) => self.begin_close(state, CloseReason::SlowConsumer),
            Direct::Waits => {
                let is_first = state.queue.is_empty();
                state.enqueue_by(Entry::control(bytes), place);
                if !is_first {
                    return;
                }
            }
        }
        self.drainer.wake();
    }

    /// Has the connection say this to the client: what the registry has to tell, once per cause. It waits only for the
    /// connection's next turn. `unsaid` is dropped when it is said, or never will be.
    pub fn tell(&self, reply: Reply, unsaid: Option<oneshot::Sender<()>>) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.rare().told.push_back((reply, unsaid));
        }
        drop(state);
        self.owner.wake();
    }

    /// False if an event of this key, addressed to another room or user of the connection as well, has come already.
    pub fn note_first(&self, key: u64) -> bool {
        let mut state = self.lock();
        let keys = &mut state.rare().taken_keys;
        if keys.iter().rev().any(|known| *known == key) {
            return false;
        }
        if keys.len() == REMEMBERED_KEYS {
            keys.pop_front();
        }
        keys.push_back(key);
        true
    }

    /// Whoever moves the bytes rests only when nothing waits, or until the socket takes more. Behind the first entry he is on
    /// his way, so a client that never reads costs no task its turn for each event.
    fn queued(&self, is_first: bool) -> Pushed {
        if is_first {
            self.drainer.wake();
        }
        Pushed::Queued
    }

    fn has_room_for(&self, state: &State, bytes: usize) -> bool {
        let (queue, (more_events, more_bytes)) = (&state.queue, state.allowance());
        let limits = self.limits;
        queue.events() == 0
            || (queue.events() < limits.events + more_events && queue.bytes() + bytes <= limits.bytes.saturating_add(more_bytes))
    }

    /// The slow-consumer rule: room for the event is made by the policy, or the event (or the connection) is given up.
    fn make_room(&self, state: &mut State, incoming: &Incoming<'_>) -> bool {
        match incoming.overflow {
            Overflow::Disconnect => {
                self.give_up(state, 1, DropReason::SlowConsumer);
                self.begin_close(state, CloseReason::SlowConsumer);
                return false;
            }
            Overflow::DropNewest => {}
            Overflow::DropOldest | Overflow::KeepLatest => {
                while !self.has_room_for(state, incoming.bytes.len()) {
                    let Some(oldest) = state.queue.pop_oldest_event() else { break };
                    self.give_up(state, u64::from(oldest.events), DropReason::DropOldest);
                    state.note_lost(oldest.target.as_ref(), u64::from(oldest.events));
                }
                if self.has_room_for(state, incoming.bytes.len()) {
                    return true;
                }
            }
        }
        self.give_up(state, 1, DropReason::DropNewest);
        state.note_lost(Some(incoming.target), 1);
        false
    }

    fn give_up(&self, state: &mut State, events: u64, reason: DropReason) -> Pushed {
        if events > 0 {
            state.rare().dropped += events;
            self.metrics.dropped(reason).inc_by(events);
        }
        Pushed::Dropped
    }

    // ---- closing -------------------------------------------------------------------------------------------------------

    /// Asks the connection to say goodbye and end. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        self.begin_close(&mut self.lock(), reason);
    }

    fn begin_close(&self, state: &mut State, reason: CloseReason) {
        if state.phase != Phase::Open {
            return;
        }
        state.phase = Phase::Closing { reason, told: false };
        state.forget_told();
        if reason == CloseReason::SlowConsumer {
            // What it would not read in time it will not read now; the goodbye goes in front.
            let events = state.queue.clear_unstarted();
            self.give_up(state, events, DropReason::SlowConsumer);
        }
        self.owner.wake();
    }

    /// Queues the last bytes. Once they have left, the connection ends.
    pub fn finish(&self, goodbye: impl IntoIterator<Item = Bytes>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Finishing | Phase::Ended) {
            return;
        }
        state.phase = Phase::Finishing;
        state.forget_told();
        for bytes in goodbye {
            state.enqueue(Entry::control(bytes));
        }
        // The end is waited for as long as bytes are, also by a body whose peer reads nothing.
        state.waiting_since.get_or_insert_with(Instant::now);
        drop(state);
        self.drainer.wake();
        self.owner.wake();
    }

    /// Nothing leaves any more; what waited is counted as dropped and the socket is let go.
    pub fn end(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Ended {
            return;
        }
        state.phase = Phase::Ended;
        state.forget_told();
        let events = state.queue.clear();
        self.give_up(&mut state, events, DropReason::Closed);
        state.socket = None;
        state.take_lost();
        drop(state);
        self.drainer.wake();
        self.owner.wake();
    }

    pub fn is_ended(&self) -> bool {
        self.lock().phase == Phase::Ended
    }

    /// The goodbye is queued.
    pub fn is_finishing(&self) -> bool {
        self.lock().phase == Phase::Finishing
    }

    /// The goodbye, and all before it, is with the kernel.
    pub fn is_finished(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Finishing && state.queue.is_empty()
    }

    /// Since when nothing has moved although something waits.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.lock().waiting_since
    }

    /// Events given up for this connection since it began.
    pub fn dropped_events(&self) -> u64 {
        self.lock().rare.as_ref().map_or(0, |rare| rare.dropped)
    }

    /// Events, replies and whatever else waits.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    pub fn queued_events(&self) -> usize {
        self.lock().queue.events()
    }

    // ---- heartbeat -----------------------------------------------------------------------------------------------------

    pub fn note_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether anything came from the client since the last call.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Outbox").field("wire", &self.wire).field("phase", &state.phase).field("events", &state.queue.events()).finish()
    }
}
