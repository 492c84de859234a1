//! From polling to a WebSocket. Until the client moves, the new socket stays in actix's hands, where it is probed; then it
//! passes to the connection, wherever that lives.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix::dev::Request;
use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    web::Payload,
};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use super::{
    super::{
        door::Leash,
        takeover::{Spare, TakenOver, Takeover, take_spare},
        websocket::handshake,
    },
    engine::{Asked, Failed, Found},
};
use crate::{
    actors::{
        Connection,
        messages::{KeepCutter, Move},
        sessions::Session,
        socket::Cutter,
    },
    protocol::{
        CloseReason,
        engineio::{
            Packet, Version,
            upgrade::{Upgrade, UpgradeStep},
        },
        websocket::{self, Decoder, Message},
    },
};

/// How long a client may take from its new socket to its move, as the reference server has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest frame before the move: a probe.
const MAX_PROBE: usize = 1024;

pub fn answer(asked: &Asked, payload: Payload, session: Found) -> Result<HttpResponse, Failed> {
    let mut handshake = handshake(&asked.request).map_err(Failed::Handshake)?;
    if !session.begin_upgrade() {
        // A client tells a refused socket from a lost one by its close frame alone.
        return Ok(handshake.body(refused()).map_into_boxed_body());
    }
    let mover = Mover::new(&asked.request, payload, session, Phase::Probing(asked.version, Upgrade::default()));
    Ok(handshake.body(mover).map_into_boxed_body())
}

fn refused() -> Parting {
    let reason = CloseReason::ProtocolError;
    Parting(Some(websocket::close(reason.code(), reason.text())))
}

/// The last frames on a socket that gets no session.
pub struct Parting(pub Option<Bytes>);

impl MessageBody for Parting {
    type Error = TakenOver;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, TakenOver>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

/// The body of a WebSocket that takes a session over.
pub struct Mover {
    session: Arc<Session>,
    spare: Option<Spare>,
    cutter: Option<Cutter>,
    payload: Option<Payload>,
    decoder: Decoder,
    /// Bytes of the client that are not read yet.
    input: BytesMut,
    deadline: Pin<Box<Sleep>>,
    phase: Phase,
}

pub enum Phase {
    Probing(Version, Upgrade),
    /// Protocol 1: the socket carries the session once the head is written, which the second poll shows.
    Head,
    Moving,
    /// actix keeps the socket. Until the connection knows that it has moved, what waits for the client is spelled for polls.
    Settling(Pin<Box<Request<Connection, Move>>>, Takeover),
    Relaying(Takeover),
    Over,
}

/// What a look at the client's bytes came to.
enum Probed {
    Say(Bytes),
    Move,
    End(Option<Bytes>),
}

impl Mover {
    pub fn new(request: &HttpRequest, payload: Payload, session: Arc<Session>, phase: Phase) -> Self {
        let (spare, cutter) = take_spare(request);
        Self {
            session,
            spare,
            cutter,
            payload: Some(payload),
            decoder: Decoder::new(MAX_PROBE),
            input: BytesMut::new(),
            deadline: Box::pin(sleep(PATIENCE)),
            phase,
        }
    }

    /// Reads the next frames of a client that has not moved yet.
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<Probed> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Probed::End(None));
        }
        loop {
            if let Some(probed) = self.read_frames() {
                return Poll::Ready(probed);
            }
            let Some(payload) = &mut self.payload else { return Poll::Ready(Probed::End(None)) };
            match ready!(Pin::new(payload).poll_next(cx)) {
                Some(Ok(bytes)) => self.input.extend_from_slice(&bytes),
                Some(Err(_)) | None => return Poll::Ready(Probed::End(None)),
            }
        }
    }

    fn read_frames(&mut self) -> Option<Probed> {
        let Phase::Probing(version, upgrade) = &mut self.phase else { return None };
        loop {
            let mut rest = &self.input[..];
            let message = self.decoder.decode(&mut rest);
            let taken = self.input.len() - rest.len();
            self.input.advance(taken);
            let text = match message {
                Ok(Some(Message::Text(text))) => text,
                Ok(Some(Message::Ping(payload))) => return Some(Probed::Say(websocket::pong(&payload))),
                Ok(Some(Message::Pong(_))) => continue,
                Ok(None) => return None,
                Ok(Some(Message::Close(code, _))) => return Some(Probed::End(Some(websocket::close_echo(code)))),
                Ok(Some(Message::Binary(_))) => return Some(end(CloseReason::ProtocolError)),
                Err(reason) => return Some(end(reason)),
            };
            let Ok(packet) = Packet::from_text(*version, &text) else { return Some(end(CloseReason::ProtocolError)) };
            return Some(match upgrade.receive(*version, &packet) {
                UpgradeStep::Answer(probe) => {
                    self.session.note_probed();
                    Probed::Say(probe)
                }
                UpgradeStep::Move => Probed::Move,
                UpgradeStep::Abandon => end(CloseReason::ProtocolError),
            });
        }
    }

    /// Hands the socket, or else the payload, to the connection.
    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TakenOver>>> {
        self.session.note_moved();
        let spare = self.spare.take();
        if spare.is_some() {
            // What actix has read and nobody else will.
            while let Some(Poll::Ready(Some(Ok(bytes)))) = self.payload.as_mut().map(|payload| Pin::new(payload).poll_next(cx)) {
                self.input.extend_from_slice(&bytes);
            }
        }
        let is_taken = spare.is_some();
        if let Some(cutter) = self.cutter.take() {
            self.session.connection.do_send(KeepCutter(cutter));
        }
        let Ok(spare) = spare.map(Spare::take).transpose() else {
            // Without a socket there is no client.
            self.session.outbox.end();
            self.phase = Phase::Over;
            return Poll::Ready(Some(Err(TakenOver)));
        };
        let order = Move { spare, early: std::mem::take(&mut self.input).freeze() };
        let connection = &self.session.connection;
        match self.payload.take().filter(|_| !is_taken) {
            None => {
                connection.do_send(order);
                self.phase = Phase::Over;
                Poll::Ready(Some(Err(TakenOver)))
            }
            Some(payload) => {
                let relay = Takeover::relaying(connection.clone(), Leash::hold(Arc::clone(&self.session.outbox)), payload);
                self.phase = Phase::Settling(Box::pin(connection.send(order)), relay);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

fn end(reason: CloseReason) -> Probed {
    Probed::End(Some(websocket::close(reason.code(), reason.text())))
}

impl MessageBody for Mover {
    type Error = TakenOver;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TakenOver>>> {
        let this = &mut *self;
        match &mut this.phase {
            Phase::Probing(..) => match ready!(this.poll_probe(cx)) {
                Probed::Say(bytes) => Poll::Ready(Some(Ok(bytes))),
                Probed::Move => this.hand_over(cx),
                Probed::End(last) => {
                    this.session.abandon_upgrade();
                    this.phase = Phase::Over;
                    Poll::Ready(last.map(Ok))
                }
            },
            Phase::Head => {
                this.phase = Phase::Moving;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Phase::Moving => this.hand_over(cx),
            Phase::Settling(moved, _) => {
                // A connection that is gone has ended its outbox: the relay sees that.
                let _ = ready!(moved.as_mut().poll(cx));
                if let Phase::Settling(_, relay) = std::mem::replace(&mut this.phase, Phase::Over) {
                    this.phase = Phase::Relaying(relay);
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Phase::Relaying(relay) => Pin::new(relay).poll_next(cx),
            Phase::Over => Poll::Ready(None),
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        match self.phase {
            Phase::Probing(..) => self.session.abandon_upgrade(),
            // The client went before it had the head.
            Phase::Head | Phase::Moving => self.session.outbox.end(),
            Phase::Settling(..) | Phase::Relaying(_) | Phase::Over => {}
        }
    }
}
