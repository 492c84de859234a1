//! Sessions: the connections of this node that are reached by an id in a request and not by a socket of their own. Polls and
//! posts of one session may arrive on any worker; here they meet, and the rules of polling are kept.
//!
//! One table per process. A session is in it from its handshake until its connection has ended, which takes it out; their
//! number is bounded by `server.max_connections`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::time::Instant;

use super::{connection::Connection, outbox::Outbox};
use crate::protocol::socketio::Revision;

/// Bytes of a session's id before base64: whoever knows it speaks for the client.
const ID_BYTES: usize = 15;

type Table = Arc<Mutex<HashMap<Box<str>, Arc<Session>>>>;

#[derive(Clone, Default)]
pub struct Sessions {
    table: Table,
}

/// A session's place in the table, kept by its connection.
pub struct SessionPlace {
    table: Table,
    id: Box<str>,
}

/// One session, as requests meet it.
pub struct Session {
    pub revision: Revision,
    /// The client said at its handshake that it takes text alone.
    pub is_text: bool,
    pub connection: Addr<Connection>,
    pub outbox: Arc<Outbox>,
    /// A client of which nothing was heard for so long is gone.
    patience: Duration,
    state: Mutex<State>,
    /// The number of the poll that waits; 0 for none.
    poll: AtomicU64,
}

struct State {
    carrier: CarrierState,
    is_posting: bool,
    next_poll: u64,
    heard_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CarrierState {
    Polling,
    /// A WebSocket is open beside the polls; once it is probed, polls are to end.
    Upgrading {
        is_probed: bool,
    },
    Moved,
}

/// What a poll that begins may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollStart {
    /// Wait under this number; briefly only, if the client is about to move.
    Wait { number: u64, is_brief: bool },
    /// Another poll waits.
    Overlaps,
    /// The session no longer polls, or is over.
    Refused,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Session>>> {
        lock(&self.table)
    }

    /// An id, and the place that it will have. Fails where the system has no randomness.
    pub fn reserve(&self) -> Result<SessionPlace, getrandom::Error> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(SessionPlace { table: Arc::clone(&self.table), id: BASE64_URL_SAFE_NO_PAD.encode(bytes).into() })
    }

    pub fn insert(&self, id: &str, session: Session) {
        let mut table = self.lock();
        // A connection that has ended may have given up its place already, and nobody would take the session out.
        if !session.outbox.is_ended() {
            table.insert(id.into(), Arc::new(session));
        }
    }

    /// The session of this id, unless it is over.
    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).filter(|session| !session.is_over()).cloned()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl SessionPlace {
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.id);
    }
}

impl Session {
    pub fn new(revision: Revision, connection: Addr<Connection>, outbox: Arc<Outbox>, patience: Duration) -> Self {
        let state = State { carrier: CarrierState::Polling, is_posting: false, next_poll: 1, heard_at: Instant::now() };
        Self { revision, is_text: false, connection, outbox, patience, state: Mutex::new(state), poll: AtomicU64::new(0) }
    }

    /// Polling clients are asked here too: the pulse looks a little later than the client counts.
    fn is_over(&self) -> bool {
        let state = lock(&self.state);
        let is_silent = state.carrier != CarrierState::Moved && state.heard_at.elapsed() >= self.patience;
        drop(state);
        if is_silent {
            self.outbox.end();
        }
        self.outbox.is_ended()
    }

    #[must_use]
    pub fn with_text(self, is_text: bool) -> Self {
        Self { is_text, ..self }
    }

    fn note_heard(state: &mut State) {
        state.heard_at = Instant::now();
    }

    // ---- polls -----------------------------------------------------------------------------------------------------------

    pub fn begin_poll(&self) -> PollStart {
        let mut state = lock(&self.state);
        let is_brief = match state.carrier {
            CarrierState::Moved => return PollStart::Refused,
            CarrierState::Upgrading { is_probed } => is_probed,
            CarrierState::Polling => false,
        };
        // In the first protocol a poll is the sign of life, and a later one takes over: the page was loaded anew.
        if self.revision == Revision::V1 {
            Self::note_heard(&mut state);
            self.outbox.note_heard();
        } else if self.is_polled() {
            return PollStart::Overlaps;
        }
        let number = state.next_poll;
        state.next_poll += 1;
        self.poll.store(number, Ordering::Release);
        drop(state);
        self.outbox.wake_drainer();
        PollStart::Wait { number, is_brief }
    }

    /// Whether this poll is still the one to be answered.
    pub fn is_current(&self, number: u64) -> bool {
        self.poll.load(Ordering::Acquire) == number
    }

    /// The poll has its answer, or its client is gone. True if it was still the one that waits.
    pub fn end_poll(&self, number: u64) -> bool {
        self.poll.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub fn has_moved(&self) -> bool {
        lock(&self.state).carrier == CarrierState::Moved
    }

    pub fn is_polled(&self) -> bool {
        self.poll.load(Ordering::Acquire) != 0
    }

    // ---- posts -----------------------------------------------------------------------------------------------------------

    /// True if no other post is under way and the session still polls: one body is held per session, and their order kept.
    pub fn begin_post(&self) -> bool {
        let mut state = lock(&self.state);
        if state.carrier == CarrierState::Moved || state.is_posting {
            return false;
        }
        Self::note_heard(&mut state);
        state.is_posting = true;
        true
    }

    pub fn end_post(&self) {
        lock(&self.state).is_posting = false;
    }

    // ---- upgrade -----------------------------------------------------------------------------------------------------------

    /// True if a WebSocket may take the session over: it polls, and no other tries.
    pub fn begin_upgrade(&self) -> bool {
        self.change_carrier(CarrierState::Polling, CarrierState::Upgrading { is_probed: false })
    }

    /// The probe was answered: the poll that waits ends with nothing to say.
    pub fn note_probed(&self) {
        lock(&self.state).carrier = CarrierState::Upgrading { is_probed: true };
        self.poll.store(0, Ordering::Release);
        self.outbox.wake_drainer();
    }

    /// The WebSocket went away before it took over: the session goes on polling.
    pub fn abandon_upgrade(&self) {
        let mut state = lock(&self.state);
        if state.carrier != CarrierState::Moved {
            state.carrier = CarrierState::Polling;
        }
    }

    /// From now on there are no polls. A poll that waits, against the protocol, ends.
    pub fn note_moved(&self) {
        lock(&self.state).carrier = CarrierState::Moved;
        self.poll.store(0, Ordering::Release);
        self.outbox.wake_drainer();
    }

    fn change_carrier(&self, from: CarrierState, to: CarrierState) -> bool {
        let mut state = lock(&self.state);
        let may = state.carrier == from;
        if may {
            state.carrier = to;
        }
        may
    }
}

/// The states are whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
