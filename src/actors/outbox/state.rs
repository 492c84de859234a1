//! What an outbox holds under its lock.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::super::{
    queue::{Entry, Queue},
    socket::Socket,
};
use crate::protocol::{CloseReason, Reply, Target};

/// A client that loses events and never catches up is told at most so often.
const LOSS_TOLD: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct State {
    /// Where bytes go at once; `None` while the response head is on its way, and where a body drains the queue.
    pub(super) socket: Option<Arc<Socket>>,
    pub(super) queue: Queue,
    pub(super) phase: Phase,
    /// Since when the first entry has waited without a byte of it moving.
    pub(super) waiting_since: Option<Instant>,
    /// What few connections need.
    pub(super) rare: Option<Box<Rare>>,
    /// Set when the connection moved from polling to a WebSocket: what still comes spelled for a poll is spelled anew, so
    /// that rooms may learn of the move in their own time.
    pub(super) respell: Option<fn(&Bytes) -> Bytes>,
}

/// What an outbox holds only once it was needed, so that the others are small.
#[derive(Default)]
pub(super) struct Rare {
    /// Events given up since the client was last told.
    pub(super) lost: Vec<(Target, u64)>,
    /// When the first of them was.
    pub(super) lost_since: Option<Instant>,
    /// Events given up since the connection began.
    pub(super) dropped: u64,
    /// Events, and their bytes, that may wait beyond the bound because they are a replay; taken back once all has left.
    pub(super) allowance: (usize, usize),
    /// What the connection has yet to say to the client.
    pub(super) told: VecDeque<(Reply, Option<oneshot::Sender<()>>)>,
    /// Of what it is saying.
    pub(super) unsaid: Option<oneshot::Sender<()>>,
    /// Keys of the last events that had several addressees.
    pub(super) taken_keys: VecDeque<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// The connection has to say goodbye; it has been told so if `told`.
    Closing { reason: CloseReason, told: bool },
    /// The goodbye is queued; nothing is added any more.
    Finishing,
    /// Nothing leaves any more.
    Ended,
}

/// What the kernel took of bytes that were offered while nothing waited.
pub(super) enum Direct {
    Complete,
    Partial(usize),
    /// Something waits already, there is no socket, or its buffer is full.
    Waits,
}

impl State {
    pub(super) fn write_now(&mut self, bytes: &Bytes) -> Direct {
        let Some(socket) = self.socket.as_ref().filter(|_| self.queue.is_empty()) else { return Direct::Waits };
        match socket.send(bytes) {
            Ok(written) if written == bytes.len() => Direct::Complete,
            Ok(written) => {
                self.waiting_since = Some(Instant::now());
                Direct::Partial(written)
            }
            // An error other than a full buffer is met again, and acted on, by the line.
            Err(_) => Direct::Waits,
        }
    }

    pub(super) fn enqueue(&mut self, entry: Entry) {
        self.enqueue_by(entry, Queue::push);
    }

    pub(super) fn enqueue_by(&mut self, entry: Entry, place: fn(&mut Queue, Entry)) {
        place(&mut self.queue, entry);
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn note_progress(&mut self) {
        if !self.queue.is_empty() {
            self.waiting_since = Some(Instant::now());
            return;
        }
        self.waiting_since = None;
        if let Some(rare) = &mut self.rare {
            rare.allowance = (0, 0);
        }
        self.forget_empty_queue();
    }

    /// Most sockets take what comes, and an idle connection holds no queue. A body's is used by every event.
    pub(super) fn forget_empty_queue(&mut self) {
        if self.socket.is_some() && self.queue.is_empty() {
            self.queue = Queue::default();
        }
    }

    /// The connection looks for the next thing to say, so it has said the last.
    pub(super) fn next_told(&mut self) -> Option<Reply> {
        let rare = self.rare.as_mut()?;
        rare.unsaid = None;
        let (reply, unsaid) = rare.told.pop_front()?;
        rare.unsaid = unsaid;
        Some(reply)
    }

    /// Nothing of it will be said.
    pub(super) fn forget_told(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.told.clear();
            rare.unsaid = None;
        }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn allowance(&self) -> (usize, usize) {
        self.rare.as_ref().map_or((0, 0), |rare| rare.allowance)
    }

    pub(super) fn has_lost(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.lost.is_empty())
    }

    /// Whether the client is to hear now what it lost. Who is always behind hears of it while it reads: what moved since took the
    /// last notice along.
    pub(super) fn is_loss_due(&self) -> bool {
        let is_time = |since: Instant| since.elapsed() >= LOSS_TOLD && self.waiting_since.is_some_and(|moved| moved > since);
        self.has_lost() && (self.queue.is_empty() || self.rare.as_ref().and_then(|rare| rare.lost_since).is_some_and(is_time))
    }

    pub(super) fn take_lost(&mut self) -> Vec<(Target, u64)> {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.lost)).unwrap_or_default()
    }

    pub(super) fn note_lost(&mut self, target: Option<&Target>, events: u64) {
        let Some(target) = target else { return };
        let rare = self.rare();
        if rare.lost.is_empty() {
            rare.lost_since = Some(Instant::now());
        }
        let lost = &mut rare.lost;
        match lost.iter_mut().find(|(known, _)| known == target) {
            Some((_, count)) => *count += events,
            None => lost.push((target.clone(), events)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, sync::Arc};

    use bytes::Bytes;
    use futures_util::future::poll_fn;
    use tokio::net::UnixStream;

    use crate::{
        actors::{
            outbox::{Outbox, OutboxLimits},
            socket::Socket,
        },
        metrics::Metrics,
        protocol::wire::WireName,
    };

    #[tokio::test]
    async fn a_queue_whose_greeting_left_with_the_response_head_holds_no_memory_once_there_is_a_socket() {
        let (hub, _peer) = UnixStream::pair().expect("two sockets");
        let outbox = Outbox::new(OutboxLimits { events: 8, bytes: 1024 }, WireName::Sse, Metrics::new());
        outbox.push_control(Bytes::from_static(b"hello"));
        assert_eq!(outbox.take_small_chunk().as_deref(), Some(&b"hello"[..]));
        outbox.attach(Arc::new(Socket::Unix(hub)));
        assert!(!outbox.lock().queue.has_memory());
    }

    #[tokio::test]
    async fn a_queue_that_a_socket_has_emptied_holds_no_memory() {
        let (hub, peer) = UnixStream::pair().expect("two sockets");
        let outbox = Outbox::new(OutboxLimits { events: 8, bytes: 1024 }, WireName::Sse, Metrics::new());
        outbox.push_first(Bytes::from_static(b"head"));
        assert!(outbox.lock().queue.has_memory());
        outbox.attach(Arc::new(Socket::Unix(hub)));
        poll_fn(|cx| outbox.poll_flush(cx)).await.expect("an open socket");
        assert!(!outbox.lock().queue.has_memory());
        let mut head = [0; 4];
        peer.into_std().expect("a socket").read_exact(&mut head).expect("the head");
        assert_eq!(&head, b"head");
    }
}
