//! The line between a connection and its client: moves bytes while the client keeps up, and notices when it does not.
//!
//! It runs inside the connection's own task, never inside a response body: a body is not polled while its peer does not read,
//! and with it would freeze every timer that is meant to cut that peer (DESIGN: 2.8 MB and for ever).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    outbox::{Notice, Outbox},
    socket::Socket,
};

/// How long a client may leave its goodbye unread: it was told why it goes, or never will be.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to close its side after the goodbye.
const LINGER: Duration = Duration::from_secs(1);
/// Read at once; the buffer is one per thread, so that an idle connection has none.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// What comes off the line. Its end is the connection's end.
#[derive(Debug)]
pub enum Signal {
    Read(Bytes),
    Notice(Notice),
    /// The client took no byte for the whole stall limit.
    Stalled,
}

pub struct Line {
    outbox: Arc<Outbox>,
    /// `None`: a response body moves the bytes, and input comes by another way.
    socket: Option<Arc<Socket>>,
    stall_limit: Duration,
    /// Runs only while something waits, so that an idle connection has no timer.
    timer: Option<Pin<Box<Sleep>>>,
    is_lingering: bool,
}

impl Line {
    pub fn new(outbox: Arc<Outbox>, socket: Option<Arc<Socket>>, stall_limit: Duration) -> Self {
        Self { outbox, socket, stall_limit, timer: None, is_lingering: false }
    }

    /// True when the timer for what waits has run out.
    fn has_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(since) = self.outbox.waiting_since() else {
                self.timer = None;
                return false;
            };
            let limit = if self.outbox.is_finishing() { self.stall_limit.min(GOODBYE_PATIENCE) } else { self.stall_limit };
            let deadline = since + limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll_elapsed(cx).is_pending() {
                return false;
            }
            if deadline <= Instant::now() {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let Some(socket) = &self.socket else { return Poll::Pending };
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let read = SCRATCH.with_borrow_mut(|scratch| {
                socket.try_read(scratch).map(|count| (count > 0).then(|| Bytes::copy_from_slice(&scratch[..count])))
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// The goodbye has left: waits for the client's end, so that unread input does not turn our close into a reset that
    /// overtakes the goodbye.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        if timer.as_mut().poll_elapsed(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(socket) = &self.socket
            && socket.poll_end_writing(cx).is_pending()
        {
            return Poll::Pending;
        }
        while let Poll::Ready(read) = self.poll_read(cx) {
            if !matches!(read, Ok(Some(_))) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// `Sleep` as a plain poll, so that the callers read as questions.
trait PollElapsed {
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

impl PollElapsed for Sleep {
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self, cx)
    }
}

impl Stream for Line {
    type Item = Signal;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        let this = self.get_mut();
        if this.is_lingering {
            return this.poll_linger(cx).map(|()| None);
        }
        this.outbox.register_owner(cx.waker());
        if this.socket.is_some() {
            this.outbox.register_drainer(cx.waker());
            if let Poll::Ready(Err(_)) = this.outbox.poll_flush(cx) {
                return Poll::Ready(None);
            }
            if this.outbox.is_finished() {
                this.is_lingering = true;
                this.timer = None;
                return this.poll_linger(cx).map(|()| None);
            }
        }
        if this.outbox.is_ended() {
            return Poll::Ready(None);
        }
        if let Some(notice) = this.outbox.take_notice() {
            return Poll::Ready(Some(Signal::Notice(notice)));
        }
        if this.has_stalled(cx) {
            return Poll::Ready(Some(Signal::Stalled));
        }
        match ready!(this.poll_read(cx)) {
            Ok(Some(bytes)) => Poll::Ready(Some(Signal::Read(bytes))),
            Ok(None) | Err(_) => Poll::Ready(None),
        }
    }
}
