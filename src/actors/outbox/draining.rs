//! Emptying an outbox: to the connection's own socket, into a response body, or into the answer to a poll.

use std::{
    io,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;

use super::{Notice, Outbox, state::Phase};

/// What is small: the least send buffer that Linux grants holds it beside a response head.
const SMALL_BYTES: usize = 1024;
/// A poll is answered with about this much at a time; what waits beyond it is the next poll's.
const POLL_BYTES: usize = 512 * 1024;
/// And with so many packets: python-engineio's client (4.15) gives its connection up over a payload of more
/// (`Payload.max_decode_packets`).
const POLL_PACKETS: usize = 16;

impl Outbox {
    pub fn register_owner(&self, waker: &Waker) {
        self.owner.register(waker);
    }

    pub fn register_drainer(&self, waker: &Waker) {
        self.drainer.register(waker);
    }

    /// What the connection should hear of, if anything.
    pub fn take_notice(&self) -> Option<Notice> {
        let mut state = self.lock();
        if state.phase == Phase::Open
            && let Some(reply) = state.next_told()
        {
            return Some(Notice::Told(reply));
        }
        match state.phase {
            Phase::Closing { reason, told: false } => {
                state.phase = Phase::Closing { reason, told: true };
                Some(Notice::Closing(reason))
            }
            Phase::Open if state.is_loss_due() => Some(Notice::Lost(state.take_lost())),
            _ => None,
        }
    }

    /// Writes what waits to the socket, as far as it takes it. Ready when nothing waits.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.lock();
            let Some(socket) = state.socket.clone().filter(|_| !state.queue.is_empty()) else {
                return Poll::Ready(Ok(()));
            };
            match state.queue.write_to(&socket) {
                Ok(events) => {
                    state.note_progress();
                    self.metrics.delivered(self.wire).inc_by(events);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(state);
                    ready!(socket.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The next bytes for a response body, `None` after the goodbye, which ends the connection.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.drainer.register(cx.waker());
        let mut state = self.lock();
        if let Some((chunk, events)) = state.queue.take_chunk() {
            state.note_progress();
            let is_loss_due = state.is_loss_due();
            drop(state);
            self.metrics.delivered(self.wire).inc_by(events);
            if is_loss_due {
                self.owner.wake();
            }
            return Poll::Ready(Some(chunk));
        }
        match state.phase {
            Phase::Open | Phase::Closing { .. } => return Poll::Pending,
            Phase::Finishing | Phase::Ended => drop(state),
        }
        self.end();
        Poll::Ready(None)
    }

    /// What waits, if it is so little that a socket which was given nothing yet takes it at once.
    pub fn take_small_chunk(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if state.queue.bytes() > SMALL_BYTES {
            return None;
        }
        let (chunk, events) = state.queue.take_chunk()?;
        state.note_progress();
        drop(state);
        self.metrics.delivered(self.wire).inc_by(events);
        Some(chunk)
    }

    /// The units that answer a client's poll; `None` when the connection is over. After the last ones it ends.
    pub fn poll_units(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<Bytes>>> {
        self.drainer.register(cx.waker());
        let mut state = self.lock();
        if state.phase == Phase::Ended {
            return Poll::Ready(None);
        }
        if state.queue.is_empty() {
            return Poll::Pending;
        }
        let (units, events) = state.queue.take_units(POLL_BYTES, POLL_PACKETS);
        state.note_progress();
        let (is_loss_due, is_over) = (state.is_loss_due(), state.queue.is_empty() && state.phase == Phase::Finishing);
        drop(state);
        self.metrics.delivered(self.wire).inc_by(events);
        if is_over {
            self.end();
        } else if is_loss_due {
            self.owner.wake();
        }
        Poll::Ready(Some(units))
    }

    /// Has whoever moves the bytes look again.
    pub fn wake_drainer(&self) {
        self.drainer.wake();
    }
}
