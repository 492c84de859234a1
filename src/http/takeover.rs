//! From response to connection: how the socket of a client passes from actix-web to its connection actor.
//!
//! Once the response head is on its way, actix's dispatcher would only cost: two buffers of 8 KiB, a task, and a copy of each
//! byte (measured: 12 KiB against 2 per idle connection, 7.5 µs against 4 per delivery). So the head goes out through
//! actix-web as always, with its middleware and date; then the body hands a duplicate of the descriptor to the connection and
//! ends the dispatcher by an error, which closes only the dispatcher's own descriptor.
//!
//! A TLS session has no duplicate: it is lent to actix-web and taken back at that moment (`lent.rs`). Only over HTTP/2, whose
//! streams share a connection, the body drains the outbox instead.
//!
//! It leans on these manners of actix-http 3.20 (held by `tests/http`): a body that is pending once is polled again after the
//! head was written; an error of the body drops the dispatcher without shutdown(2).

use std::{
    cell::RefCell,
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
};

use actix::Addr;
use actix_web::{
    HttpRequest,
    body::{BodySize, MessageBody},
    dev::Extensions,
    rt::net::{TcpStream, UnixStream},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::{
    door::{Leash, Started},
    lent::{Claim, Lent},
};
use crate::actors::{
    Connection, Outbox,
    messages::{Attach, KeepCutter, Listen, Receive},
    socket::{self, Cutter},
};

/// Bytes that a client may send right behind its request, before the connection reads by itself.
const MAX_EARLY_BYTES: usize = 64 * 1024;

/// A duplicate of the client's socket, or the claim to it, kept from its acceptance until a handler takes it. HTTP/2 keeps its
/// socket: there it serves every stream of the connection, to cut it, and ends them with the connection, for they hear of that only
/// when they next have something to say.
pub struct SpareSocket {
    spare: RefCell<Option<Kept>>,
    streams: RefCell<Vec<Weak<Outbox>>>,
}

enum Kept {
    Own(Spare),
    Shared(Cutter),
}

/// The socket of a client that waits to be taken over.
pub enum Spare {
    Plain(socket::Spare),
    /// actix-web speaks over it until then.
    Tls(Claim),
}

impl Spare {
    /// The socket, off actix-web's hands; to be asked for when the response head has left.
    pub fn take(self) -> io::Result<socket::Spare> {
        match self {
            Self::Plain(socket) => Ok(socket),
            Self::Tls(claim) => claim.take(),
        }
    }
}

/// For every accepted stream, before anything is read of it.
pub fn keep_spare(io: &dyn std::any::Any, extensions: &mut Extensions) {
    let kept = if let Some(stream) = io.downcast_ref::<TcpStream>() {
        stream.as_fd().try_clone_to_owned().map(|fd| Kept::Own(Spare::Plain(socket::Spare::Tcp(fd))))
    } else if let Some(stream) = io.downcast_ref::<UnixStream>() {
        stream.as_fd().try_clone_to_owned().map(|fd| Kept::Own(Spare::Plain(socket::Spare::Unix(fd))))
    } else if let Some(stream) = io.downcast_ref::<Lent>() {
        if stream.is_shared() { stream.cutter().map(Kept::Shared) } else { Ok(Kept::Own(Spare::Tls(stream.claim()))) }
    } else {
        return;
    };
    // Without a spare (descriptors have run out) the body drains the outbox.
    if let Ok(kept) = kept {
        extensions.insert(SpareSocket { spare: RefCell::new(Some(kept)), streams: RefCell::default() });
    }
}

impl SpareSocket {
    /// The socket to take over, if nobody took it yet, or what cuts the one that several share.
    fn take(&self) -> (Option<Spare>, Option<Cutter>) {
        let mut spare = self.spare.borrow_mut();
        match spare.take() {
            Some(Kept::Own(socket)) => (Some(socket), None),
            Some(Kept::Shared(cutter)) => {
                *spare = Some(Kept::Shared(cutter.clone()));
                (None, Some(cutter))
            }
            None => (None, None),
        }
    }

    /// The stream of this outbox ends with the connection.
    fn bind(&self, outbox: Weak<Outbox>) {
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(outbox);
    }
}

impl Drop for SpareSocket {
    fn drop(&mut self) {
        self.streams.get_mut().iter().filter_map(Weak::upgrade).for_each(|outbox| outbox.end());
    }
}

/// The socket of this request to take over, or what cuts the one that is actix's.
pub fn take_spare(request: &HttpRequest) -> (Option<Spare>, Option<Cutter>) {
    request.conn_data::<SpareSocket>().map(SpareSocket::take).unwrap_or_default()
}

/// The body of a response whose connection goes on without actix, or with it where there is none to take.
pub struct Takeover {
    connection: Addr<Connection>,
    outbox: Leash,
    spare: Option<Spare>,
    cutter: Option<Cutter>,
    payload: Option<Payload>,
    phase: Phase,
}

enum Phase {
    /// The head is not written yet.
    Head,
    /// The head and the greeting are about to be written.
    Greeted,
    /// They have been, as one more poll shows.
    Body,
    /// The connection has the socket.
    Done,
}

/// Not an error: how the dispatcher is told to let go.
#[derive(Debug, thiserror::Error)]
#[error("the connection goes on by itself")]
pub struct TakenOver;

impl Takeover {
    /// `payload`: what the client sends behind its request, where the wire gives it a voice.
    pub fn new(request: &HttpRequest, started: Started, payload: Option<Payload>) -> Self {
        let (spare, cutter) = take_spare(request);
        let Started { connection, outbox, .. } = started;
        if let (Some(_), Some(socket)) = (&cutter, request.conn_data::<SpareSocket>()) {
            socket.bind(outbox.downgrade());
        }
        Self { connection, outbox, spare, cutter, payload, phase: Phase::Head }
    }

    /// The body of a connection whose socket actix keeps, and which speaks already.
    pub fn relaying(connection: Addr<Connection>, outbox: Leash, payload: Payload) -> Self {
        Self { connection, outbox, spare: None, cutter: None, payload: Some(payload), phase: Phase::Body }
    }

    /// Whether the connection will own the socket: then nothing may come after this response.
    pub fn takes_socket(&self) -> bool {
        self.spare.is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn hand_over(&mut self, spare: Spare, cx: &mut Context<'_>) -> io::Result<()> {
        let mut early = BytesMut::new();
        if let Some(payload) = &mut self.payload {
            while let Poll::Ready(Some(Ok(bytes))) = Pin::new(&mut *payload).poll_next(cx) {
                early.extend_from_slice(&bytes);
                if early.len() > MAX_EARLY_BYTES {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
            }
        }
        let attach = Attach { socket: spare.take()?.into_socket()?, early: early.freeze() };
        self.connection.do_send(attach);
        Ok(())
    }

    /// Without a socket of its own the connection hears through the payload and speaks through the body.
    #[expect(clippy::disallowed_methods, reason = "bounded by the payload's own buffer: it is read as the body is polled")]
    fn relay(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(payload) = &mut self.payload {
            match Pin::new(payload).poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.connection.do_send(Receive(bytes)),
                Poll::Ready(Some(Err(_)) | None) => {
                    self.payload = None;
                    self.outbox.end();
                }
                Poll::Pending => break,
            }
        }
        self.outbox.poll_chunk(cx)
    }
}

impl MessageBody for Takeover {
    type Error = TakenOver;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TakenOver>>> {
        let this = self.get_mut();
        match this.phase {
            // The greeting leaves with the head, in one write.
            Phase::Head if this.spare.is_some() => {
                this.phase = Phase::Greeted;
                match this.outbox.take_small_chunk() {
                    Some(greeting) => Poll::Ready(Some(Ok(greeting))),
                    None => Pin::new(this).poll_next(cx),
                }
            }
            Phase::Greeted => {
                this.phase = Phase::Body;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Phase::Head => {
                this.phase = Phase::Body;
                if let Some(cutter) = this.cutter.take() {
                    this.connection.do_send(KeepCutter(cutter));
                }
                this.connection.do_send(Listen);
                this.relay(cx).map(|chunk| chunk.map(Ok))
            }
            Phase::Body => match this.spare.take() {
                Some(spare) => {
                    match this.hand_over(spare, cx) {
                        Ok(()) => {
                            this.phase = Phase::Done;
                            this.outbox.let_go();
                        }
                        Err(error) => log::warn!("a client's socket could not be taken over: {error}"),
                    }
                    Poll::Ready(Some(Err(TakenOver)))
                }
                None => this.relay(cx).map(|chunk| chunk.map(Ok)),
            },
            Phase::Done => Poll::Ready(None),
        }
    }
}
