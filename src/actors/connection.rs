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
    lease::Lease,
    line::{Line, Signal},
    messages::{
        Attach, Connect, ConnectionEnded, Greeting, Join, KeepCutter, Leave, Listen, Open, PublishAs, Published, Receive, Refusal, Renew,
        Tell, Watch, Wish,
    },
    outbox::{Notice, Outbox},
    rate::Allowance,
    registry::RoomRegistry,
    socket::Cutter,
    worker::Worker,
};
use crate::{
    auth::{Identity, Keyring, unix_now},
    protocol::{
        CloseReason, Command, ConnectionId, Encoding, ErrorCode, GapReason, Reference, Reply, RoomName, Target,
        wire::{Heartbeat, Received, Wire},
    },
};

/// Control messages that may wait for a connection. Events never pass its mailbox.
const CONTROL_MAILBOX: usize = 64;
/// A grant that ends later than this is looked at again then.
const EXPIRY_CHECK: Duration = Duration::from_secs(60 * 60);
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
}

pub struct Connection {
    parts: ConnectionParts,
    allowance: Allowance,
    rate_warnings: u32,
    /// Why it ended, for the metrics; the first reason stays.
    reason: Option<CloseReason>,
    line: Option<SpawnHandle>,
    /// Runs only where the grant ends before the connection might.
    expiry: Option<SpawnHandle>,
    /// Where actix keeps the socket.
    cutter: Option<Cutter>,
}

impl Connection {
    pub fn new(parts: ConnectionParts) -> Self {
        let allowance = Allowance::new(parts.options.messages_per_second);
        Self { parts, allowance, rate_warnings: 0, reason: None, line: None, expiry: None, cutter: None }
    }

    fn say(&self, reply: &Reply) {
        if let Some(bytes) = self.parts.wire.reply(reply) {
            self.parts.outbox.push_control(bytes);
        }
    }

    fn refuse(&self, refusal: Refusal, reference: Reference) {
        self.say(&Reply::Error { code: refusal.code, message: refusal.message, reference });
    }

    /// Bytes from the client.
    fn receive(&mut self, bytes: &[u8], ctx: &mut Context<Self>) {
        self.parts.outbox.note_heard();
        let mut received = Vec::new();
        self.parts.wire.receive(bytes, &mut received);
        for received in received {
            if self.reason.is_some() {
                return;
            }
            match received {
                Received::Command(command) if self.is_within_rate() => self.obey(command, ctx),
                Received::Command(command) => self.warn_of_rate(command.into_reference()),
                Received::Answer(bytes) => self.parts.outbox.push_control(bytes),
                Received::Close(reason, last) => self.end(reason, last),
            }
        }
    }

    fn is_within_rate(&mut self) -> bool {
        let is_within = self.allowance.take(Instant::now());
        if self.allowance.is_full() {
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
            Command::Join { room, since, reference } => self.join(room, since, reference, ctx),
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

    /// A new token in place of the one that the connection began with.
    fn renew(&self, token: Box<str>, reference: Reference, ctx: &mut Context<Self>) {
        let (options, connection) = (Arc::clone(&self.parts.options), self.parts.id);
        let renewed = async move {
            let verified = options.keyring.verify(&token).await;
            let identity = verified.map_err(|error| Refusal::new(ErrorCode::Unauthorized, error.to_string()))?;
            let identity = Arc::new(identity);
            let order = Renew { connection, identity: Arc::clone(&identity) };
            options.registry.send(order).await.unwrap_or_else(|_| Err(registry_is_gone()))?;
            Ok(identity)
        };
        ctx.spawn(renewed.into_actor(self).map(|renewed, connection, ctx| match renewed {
            Ok(identity) => {
                connection.parts.identity = identity;
                connection.watch_expiry(ctx);
                connection.say(&Reply::Ack { id: None, reference });
            }
            Err(refusal) => connection.refuse(refusal, reference),
        }));
    }

    /// Ends the connection with its grant.
    fn watch_expiry(&mut self, ctx: &mut Context<Self>) {
        if let Some(replaced) = self.expiry.take() {
            ctx.cancel_future(replaced);
        }
        let Some(end) = self.parts.identity.expires_at else { return };
        let rest = Duration::from_secs(end.saturating_sub(unix_now()));
        // The timer does not follow a clock that is set, so it looks again now and then.
        self.expiry = Some(ctx.run_later(rest.min(EXPIRY_CHECK), move |connection, ctx| {
            if end <= unix_now() {
                connection.say_goodbye(CloseReason::Expired);
            } else {
                connection.watch_expiry(ctx);
            }
        }));
    }

    /// On the native WebSocket a greeting says where the client stands, which only the registry learns.
    fn greeting(&self, room: RoomName, reference: Reference) -> Option<Greeting> {
        match self.parts.wire.encoding() {
            Encoding::WebSocket => Some(Greeting::Joined(room, reference)),
            _ => self.parts.wire.reply(&Reply::Joined { room, id: None, reference }).map(Greeting::Ready),
        }
    }

    fn join(&self, room: RoomName, since: Option<Box<str>>, reference: Reference, ctx: &mut Context<Self>) {
        let greeting = self.greeting(room.clone(), reference.clone());
        let sent = self.parts.options.registry.send(Join { connection: self.parts.id, room, since, greeting }).into_actor(self);
        ctx.spawn(sent.map(|answer, connection, _| {
            if let Err(refusal) = answer.unwrap_or_else(|_| Err(registry_is_gone())) {
                connection.refuse(refusal, reference);
            }
        }));
    }

    fn leave(&self, room: RoomName, reference: Reference, ctx: &mut Context<Self>) {
        let farewell = self.parts.wire.reply(&Reply::Left { room: room.clone(), reference: reference.clone() });
        let message = format!("you have not joined {room:?}");
        let sent = self.parts.options.registry.send(Leave { connection: self.parts.id, room, farewell }).into_actor(self);
        ctx.spawn(sent.map(move |was_member, connection, _| {
            if !was_member.unwrap_or(true) {
                connection.refuse(Refusal::new(ErrorCode::NotJoined, message), reference);
            }
        }));
    }

    fn answer_publish(&self, answer: Result<Result<Published, Refusal>, actix::MailboxError>, reference: Reference) {
        match answer.unwrap_or_else(|_| Err(registry_is_gone())) {
            Ok(published) => self.say(&Reply::Ack { id: Some(published.id), reference }),
            Err(refusal) => self.refuse(refusal, reference),
        }
    }

    fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Closing(reason) => self.say_goodbye(reason),
            Notice::CaughtUp(lost) => {
                let mut rooms = Vec::new();
                let mut user = false;
                let mut dropped = 0;
                for (target, events) in lost {
                    dropped += events;
                    match target {
                        Target::Room(room) => rooms.push(room),
                        Target::User(_) => user = true,
                    }
                }
                self.say(&Reply::Gap { rooms, user, reason: GapReason::Overflow, dropped: Some(dropped) });
            }
        }
    }

    fn say_goodbye(&mut self, reason: CloseReason) {
        let retry = self.parts.options.retry + random_part(self.parts.options.drain);
        let goodbye = self.parts.wire.goodbye(reason, retry);
        self.end(reason, goodbye);
    }

    fn end(&mut self, reason: CloseReason, last: Option<Bytes>) {
        self.reason.get_or_insert(reason);
        self.parts.outbox.finish(last);
    }

    fn watch_line(&mut self, line: Line, ctx: &mut Context<Self>) {
        let replaced = self.line.replace(ctx.add_stream(line));
        if let Some(replaced) = replaced {
            ctx.cancel_future(replaced);
        }
    }

    /// The client listens from now on.
    #[expect(clippy::disallowed_methods, reason = "once per connection")]
    fn begin_heartbeat(&self) {
        let watch = Watch { outbox: Arc::clone(&self.parts.outbox), heartbeat: self.parts.options.heartbeat };
        Worker::current().pulse.do_send(watch);
    }

    fn connect(&self, ctx: &Context<Self>) -> Connect {
        Connect {
            connection: self.parts.id,
            identity: Arc::clone(&self.parts.identity),
            outbox: Arc::clone(&self.parts.outbox),
            encoding: self.parts.wire.encoding(),
            tell: ctx.address().recipient(),
            worker: Worker::current(),
        }
    }
}

fn registry_is_gone() -> Refusal {
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
        self.watch_line(Line::new(Arc::clone(&self.parts.outbox), None, self.parts.options.stall_limit), ctx);
        self.watch_expiry(ctx);
    }

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.parts.outbox.end();
        let (metrics, wire) = (self.parts.outbox.metrics(), self.parts.outbox.wire());
        metrics.connections(wire).dec();
        metrics.closed(wire, self.reason.unwrap_or(CloseReason::Gone));
        self.parts.options.registry.do_send(ConnectionEnded { connection: self.parts.id });
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
        let connect = self.connect(ctx);
        let options = Arc::clone(&self.parts.options);
        let joins: Vec<Join> = rooms
            .into_iter()
            .map(|room| {
                let greeting = self.greeting(room.clone(), Reference::default());
                Join { connection: self.parts.id, room, since: since.clone(), greeting }
            })
            .collect();
        self.say(&Reply::Welcome { connection: self.parts.id, user: self.parts.identity.user.clone() });
        let opened = async move {
            options.registry.send(connect).await.unwrap_or_else(|_| Err(registry_is_gone()))?;
            let answers = join_all(joins.into_iter().map(|join| options.registry.send(join))).await;
            answers.into_iter().try_for_each(|answer| answer.unwrap_or_else(|_| Err(registry_is_gone())))
        };
        Box::pin(opened.into_actor(self).map(|opened, _, ctx| {
            if opened.is_err() {
                ctx.stop();
            }
            opened
        }))
    }
}

impl Handler<Attach> for Connection {
    type Result = ();

    fn handle(&mut self, Attach { socket, early }: Attach, ctx: &mut Context<Self>) {
        let socket = Arc::new(socket);
        self.parts.outbox.attach(Arc::clone(&socket));
        self.watch_line(Line::new(Arc::clone(&self.parts.outbox), Some(socket), self.parts.options.stall_limit), ctx);
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

impl Handler<Tell> for Connection {
    type Result = ();

    fn handle(&mut self, Tell(reply): Tell, _: &mut Context<Self>) {
        self.say(&reply);
    }
}
