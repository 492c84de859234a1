//! Connection: one live client, whatever wire it speaks. It owns the conversation and the line; what it may join and what it
//! is a member of is the registry's.
//!
//! One per SSE stream, WebSocket or Socket.IO session, started by the door before the response head leaves, on the worker that
//! accepted the client. It ends with the line (the client went, stalled, or was told goodbye); what still waited in its outbox
//! is then counted as dropped, and a client of a room with history resumes by its last id.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseActFuture, SpawnHandle, StreamHandler, WrapFuture,
};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    hall::left_before_joined,
    lease::{Lease, Tally},
    line::{Line, Signal},
    messages::{
        Attach, Connect, ConnectionEnded, Greeting, Join, KeepCutter, Leave, Listen, Open, PublishAs, Published, Receive, Refusal, Unwatch,
        Watch, Wish,
    },
    outbox::{Notice, Outbox},
    rate::Allowance,
    recovery::Recoveries,
    registry::RoomRegistry,
    session::SessionParts,
    socket::{Cutter, Socket},
    worker::Worker,
};
use crate::{
    auth::{Identity, Keyring},
    protocol::{
        CloseReason, Command, ConnectionId, Encoding, ErrorCode, GapReason, Reference, Reply, RoomName, Target, UserName,
        wire::{Heartbeat, Received, Wire},
    },
};

/// Control messages that may wait for a connection. Events never pass its mailbox.
const CONTROL_MAILBOX: usize = 64;
/// Messages over the rate that are answered with an error, before the connection is closed. A client that rests until its
/// burst is whole again starts anew.
const RATE_WARNINGS: u32 = 20;

/// What is the same for all connections of a wire on a worker. Shared, because each copy of an address costs two allocations.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    pub registry: Addr<RoomRegistry>,
    /// Verifies a token that renews the grant.
    pub keyring: Arc<Keyring>,
    pub heartbeat: Heartbeat,
    /// A client that takes no byte for so long is cut: `server.tcp_user_timeout`.
    pub stall_limit: Duration,
    /// `http.client_rate`, messages per second.
    pub messages_per_second: u32,
    /// `http.sse_retry`; a draining hub spreads it over `drain`.
    pub retry: Duration,
    pub drain: Duration,
    /// `socketio.connect_timeout`.
    pub connect_timeout: Duration,
    /// Set where `socketio.recovery` is.
    pub recoveries: Option<Recoveries>,
    /// Publishers may emit to all of a namespace.
    pub hears_namespaces: bool,
    /// Who has how many connections: a client of Socket.IO may say who it is when it is connected already.
    pub users: Tally<UserName>,
    /// `server.max_connections_per_user`.
    pub max_per_user: usize,
}

/// What makes up one connection.
pub struct ConnectionParts {
    pub id: ConnectionId,
    pub wire: Wire,
    pub outbox: Arc<Outbox>,
    pub identity: Arc<Identity>,
    pub options: Arc<ConnectionOptions>,
    /// Its place among `server.max_connections`.
    pub lease: Lease,
    /// What Socket.IO needs beside.
    pub session: Option<Box<SessionParts>>,
}

pub struct Connection {
    pub(super) parts: ConnectionParts,
    /// How often it may speak; made when it first does, because most clients only listen.
    allowance: Option<Box<Allowance>>,
    rate_warnings: u32,
    /// Why it ended, for the metrics; the first reason stays.
    pub(super) reason: Option<CloseReason>,
    line: Option<SpawnHandle>,
    /// The pulse keeps its time.
    is_watched: bool,
    /// Runs only where the grant ends before the connection might.
    pub(super) expiry: Option<SpawnHandle>,
    /// Where actix keeps the socket.
    cutter: Option<Cutter>,
}

impl Connection {
    pub fn new(parts: ConnectionParts) -> Self {
        Self { parts, allowance: None, rate_warnings: 0, reason: None, line: None, is_watched: false, expiry: None, cutter: None }
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        for bytes in self.parts.wire.reply(reply) {
            self.parts.outbox.push_control(bytes);
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, reference: Reference) {
        self.say(&Reply::Error { code: refusal.code, message: refusal.message, reference });
    }

    /// Bytes from the client.
    pub(super) fn receive(&mut self, bytes: &[u8], ctx: &mut Context<Self>) {
        self.parts.outbox.note_heard();
        let mut received = Vec::new();
        self.parts.wire.receive(bytes, &mut received);
        self.act(received, ctx);
    }

    pub(super) fn act(&mut self, received: Vec<Received>, ctx: &mut Context<Self>) {
        for received in received {
            if self.reason.is_some() {
                return;
            }
            match received {
                Received::Command(command) if self.is_within_rate() => self.obey(command, ctx),
                Received::Command(command) => self.warn_of_rate(command.into_reference()),
                Received::Refused(bytes) if self.is_within_rate() => self.parts.outbox.push_control(bytes),
                Received::Refused(_) => self.warn_of_rate(Reference::default()),
                Received::Due(command) => self.obey(command, ctx),
                Received::Namespace(request) if self.is_within_rate() => self.admit(request, ctx),
                Received::Namespace(_) => self.say_goodbye(CloseReason::Policy),
                Received::NamespaceLeft(namespace) => self.stay_away(namespace),
                Received::Answer(bytes) => self.parts.outbox.push_control(bytes),
                Received::Close(reason, last) => self.end(reason, last),
            }
        }
    }

    fn is_within_rate(&mut self) -> bool {
        let rate = self.parts.options.messages_per_second;
        let allowance = self.allowance.get_or_insert_with(|| Box::new(Allowance::new(rate)));
        let is_within = allowance.take(Instant::now());
        if allowance.is_full() {
            self.rate_warnings = 0;
        }
        is_within
    }

    fn warn_of_rate(&mut self, reference: Reference) {
        self.rate_warnings += 1;
        if self.rate_warnings > RATE_WARNINGS {
            self.say_goodbye(CloseReason::Policy);
            return;
        }
        let message = format!("more than {} messages per second", self.parts.options.messages_per_second);
        self.refuse(Refusal::new(ErrorCode::RateLimited, message), reference);
    }

    fn obey(&mut self, command: Command, ctx: &mut Context<Self>) {
        match command {
            Command::Join { room, since, reference } => self.join((room, since), reference, false, ctx),
            Command::Leave { room, reference } => self.leave(room, reference, ctx),
            Command::Publish { room, event, reference } => {
                let order = PublishAs { connection: self.parts.id, room, event };
                let sent = self.parts.options.registry.send(order).into_actor(self);
                ctx.spawn(sent.map(|answer, connection, _| connection.answer_publish(answer, reference)));
            }
            Command::Ping { reference } => self.say(&Reply::Pong { reference }),
            Command::Token { token, reference } => self.renew(token, reference, ctx),
        }
    }

    pub(super) fn join(
        &mut self,
        (room, since): (RoomName, Option<Box<str>>),
        reference: Reference,
        is_granted: bool,
        ctx: &mut Context<Self>,
    ) {
        let joined = Reply::Joined { room: room.clone(), id: None, reference: reference.clone() };
        if reference.0.is_some() && !self.parts.wire.hears_of(&joined) {
            return self.refuse(left_before_joined(), reference);
        }
        let order = Join { is_granted, ..self.order_join(room, since, reference.clone()) };
        let sent = self.parts.options.registry.send(order).into_actor(self);
        ctx.spawn(sent.map(move |answer, connection, _| match answer.unwrap_or_else(|_| Err(registry_is_gone())) {
            Ok(()) => connection.settle_move(&joined),
            Err(refusal) => connection.refuse(refusal, reference),
        }));
    }

    pub(super) fn order_join(&self, room: RoomName, since: Option<Box<str>>, reference: Reference) -> Join {
        let encoding = self.parts.wire.encoding(&room);
        let greeting = Some(Greeting { room: room.clone(), reference });
        Join { connection: self.parts.id, room, encoding, since, greeting, is_granted: false }
    }

    fn settle_move(&mut self, moved: &Reply) {
        if let Some(bytes) = self.parts.wire.settle_move(moved) {
            self.parts.outbox.push_control(bytes);
        }
    }

    pub(super) fn leave(&mut self, room: RoomName, reference: Reference, ctx: &mut Context<Self>) {
        let left = Reply::Left { room: room.clone(), reference: reference.clone() };
        let farewell = self.parts.wire.announce_move(&left);
        let message = format!("you have not joined {room:?}");
        let sent = self.parts.options.registry.send(Leave { connection: self.parts.id, room, farewell }).into_actor(self);
        ctx.spawn(sent.map(move |was_member, connection, _| {
            if was_member.unwrap_or(true) {
                connection.settle_move(&left);
            } else {
                connection.refuse(Refusal::new(ErrorCode::NotJoined, message), reference);
            }
        }));
    }

    fn answer_publish(&mut self, answer: Result<Result<Published, Refusal>, actix::MailboxError>, reference: Reference) {
        match answer.unwrap_or_else(|_| Err(registry_is_gone())) {
            Ok(published) => self.say(&Reply::Ack { id: Some(published.id), reference }),
            Err(refusal) => self.refuse(refusal, reference),
        }
    }

    fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Closing(reason) => self.say_goodbye(reason),
            Notice::Told(reply) => self.say(&reply),
            Notice::Lost(lost) => {
                let mut rooms = Vec::new();
                let mut user = false;
                let mut dropped = 0;
                for (target, events) in lost {
                    dropped += events;
                    match target {
                        Target::Room(room) => rooms.push(room),
                        Target::User(_) => user = true,
                        Target::Namespace(_) => {}
                    }
                }
                // Of a notice that found no place, nothing is counted.
                let gap = Reply::Gap { rooms, user, reason: GapReason::Overflow, dropped: Some(dropped).filter(|dropped| *dropped > 0) };
                self.parts.wire.reply(&gap).into_iter().for_each(|bytes| self.parts.outbox.push_next(bytes));
            }
        }
    }

    pub(super) fn say_goodbye(&mut self, reason: CloseReason) {
        let retry = self.parts.options.retry + random_part(self.parts.options.drain);
        let goodbye = self.parts.wire.goodbye(reason, retry);
        self.end(reason, goodbye);
    }

    fn end(&mut self, reason: CloseReason, last: impl IntoIterator<Item = Bytes>) {
        self.reason.get_or_insert(reason);
        self.parts.outbox.finish(last);
    }

    /// How long bytes may wait without one of them moving: for a poll, as long as a client may be silent.
    fn stall_limit(&self) -> Duration {
        match &self.parts.wire {
            Wire::SocketIo(wire) if wire.is_polling() => self.parts.options.heartbeat.every + self.parts.options.stall_limit,
            _ => self.parts.options.stall_limit,
        }
    }

    pub(super) fn watch_line(&mut self, line: Line, ctx: &mut Context<Self>) {
        let replaced = self.line.replace(ctx.add_stream(line));
        if let Some(replaced) = replaced {
            ctx.cancel_future(replaced);
        }
    }

    pub(super) fn take_socket(&mut self, socket: Socket, ctx: &mut Context<Self>) {
        let socket = Arc::new(socket);
        self.parts.outbox.attach(Arc::clone(&socket));
        self.watch_line(Line::new(Arc::clone(&self.parts.outbox), Some(socket), self.stall_limit()), ctx);
    }

    /// The client listens from now on.
    #[expect(clippy::disallowed_methods, reason = "once per connection")]
    pub(super) fn begin_heartbeat(&mut self) {
        self.is_watched = true;
        let watch = Watch { outbox: Arc::clone(&self.parts.outbox), heartbeat: self.parts.options.heartbeat };
        Worker::current().pulse.do_send(watch);
    }

    pub(super) fn connect(&self, user_encoding: Option<Encoding>, ctx: &Context<Self>) -> Connect {
        let summon = matches!(self.parts.wire, Wire::SocketIo(_)).then(|| ctx.address().recipient());
        Connect {
            connection: self.parts.id,
            identity: Arc::clone(&self.parts.identity),
            outbox: Arc::clone(&self.parts.outbox),
            user_encoding,
            summon,
            worker: Worker::current(),
        }
    }
}

pub(super) fn registry_is_gone() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the hub is going down")
}

/// A time within this span, so that those who are sent away together do not return together.
fn random_part(span: Duration) -> Duration {
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    span.mul_f64(share)
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(CONTROL_MAILBOX);
        self.parts.outbox.metrics().connections(self.parts.outbox.wire()).inc();
        self.watch_line(Line::new(Arc::clone(&self.parts.outbox), None, self.stall_limit()), ctx);
        self.watch_expiry(ctx);
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.parts.outbox.end();
        self.leave_behind();
        let (metrics, wire) = (self.parts.outbox.metrics(), self.parts.outbox.wire());
        metrics.connections(wire).dec();
        metrics.closed(wire, self.reason.unwrap_or(CloseReason::Gone));
        self.parts.options.registry.do_send(ConnectionEnded { connection: self.parts.id });
        if self.is_watched {
            Worker::current().pulse.do_send(Unwatch);
        }
    }
}

impl StreamHandler<Signal> for Connection {
    fn handle(&mut self, signal: Signal, ctx: &mut Context<Self>) {
        match signal {
            Signal::Read(bytes) => self.receive(&bytes, ctx),
            Signal::Notice(notice) => self.handle_notice(notice),
            Signal::Stalled => {
                self.reason.get_or_insert(CloseReason::TimedOut);
                if let Some(cutter) = &self.cutter {
                    cutter.cut();
                }
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Open> for Connection {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, Open { rooms, since }: Open, ctx: &mut Context<Self>) -> Self::Result {
        let connect = self.connect(self.parts.wire.user_encoding(), ctx);
        let options = Arc::clone(&self.parts.options);
        let joins: Vec<Join> = rooms.into_iter().map(|room| self.order_join(room, since.clone(), Reference::default())).collect();
        self.say(&Reply::Welcome { connection: self.parts.id, user: self.parts.identity.user.clone() });
        let opened = async move {
            options.registry.send(connect).await.unwrap_or_else(|_| Err(registry_is_gone()))?;
            let answers = join_all(joins.into_iter().map(|join| options.registry.send(join))).await;
            answers.into_iter().try_for_each(|answer| answer.unwrap_or_else(|_| Err(registry_is_gone())))
        };
        Box::pin(opened.into_actor(self).map(|opened, connection, ctx| {
            if opened.is_ok() {
                connection.begin_session(ctx);
            } else {
                ctx.stop();
            }
            opened
        }))
    }
}

impl Handler<Attach> for Connection {
    type Result = ();

    fn handle(&mut self, Attach { socket, early }: Attach, ctx: &mut Context<Self>) {
        self.take_socket(socket, ctx);
        self.begin_heartbeat();
        if !early.is_empty() {
            self.receive(&early, ctx);
        }
    }
}

impl Handler<Listen> for Connection {
    type Result = ();

    fn handle(&mut self, Listen: Listen, _: &mut Context<Self>) {
        self.begin_heartbeat();
    }
}

impl Handler<KeepCutter> for Connection {
    type Result = ();

    fn handle(&mut self, KeepCutter(cutter): KeepCutter, _: &mut Context<Self>) {
        self.cutter = Some(cutter);
    }
}

impl Handler<Wish> for Connection {
    type Result = ();

    fn handle(&mut self, Wish(command): Wish, ctx: &mut Context<Self>) {
        self.obey(command, ctx);
    }
}

impl Handler<Receive> for Connection {
    type Result = ();

    fn handle(&mut self, Receive(bytes): Receive, ctx: &mut Context<Self>) {
        self.receive(&bytes, ctx);
    }
}
