//! What a connection does for Socket.IO alone: who may connect a namespace, posts of polling clients, the move to a WebSocket.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};

use super::{
    connection::{Connection, registry_is_gone},
    messages::{ChangeCarrier, Move, Post, Refusal, Summon},
    sessions::SessionPlace,
};
use crate::{
    auth::Identity,
    protocol::{
        CloseReason, ErrorCode, Reference,
        engineio::Carrier,
        socketio::{Namespace, Revision, decode::Auth},
        socketio_session::ConnectRequest,
        socketio_wire::{Manner, Post as PostedPackets, SocketIoWire},
        wire::{Wire, WireName},
    },
};

/// What Socket.IO needs beside what every connection has.
#[derive(Default)]
pub struct SessionParts {
    /// Where polls find it; its drop takes it out.
    pub place: Option<SessionPlace>,
    /// Why the handshake proved nobody. A namespace whose `auth` holds no better token is refused with it.
    pub refusal: Option<Refusal>,
    /// The names that its namespaces may be recovered by.
    pub names: Vec<Box<str>>,
}

/// A namespace that is being decided on.
pub(super) struct Candidate {
    pub request: ConnectRequest,
    pub auth: Auth,
}

impl Connection {
    pub(super) fn socket_io(&mut self) -> Option<&mut SocketIoWire> {
        match &mut self.parts.wire {
            Wire::SocketIo(wire) => Some(wire),
            _ => None,
        }
    }

    /// The registry knows the connection: what the client need not ask for happens, and what it must is waited for.
    pub(super) fn begin_session(&mut self, ctx: &mut Context<Self>) {
        let timeout = self.parts.options.connect_timeout;
        let Some(wire) = self.socket_io().filter(|wire| wire.manner() != Manner::EngineEcho) else { return };
        if wire.session().spelling().revision != Revision::V5 {
            let root = ConnectRequest { namespace: Namespace::root(), auth: None, query: None };
            self.admit(root, ctx);
        }
        if self.socket_io().is_some_and(|wire| wire.session().has_namespaces()) {
            return;
        }
        ctx.run_later(timeout, |connection, _| {
            if connection.socket_io().is_some_and(|wire| wire.session().is_idle()) {
                connection.say_goodbye(CloseReason::TimedOut);
            }
        });
    }

    /// Decides on a namespace: whoever is known may connect each.
    pub(super) fn admit(&mut self, request: ConnectRequest, ctx: &mut Context<Self>) {
        let auth = request.auth.as_deref().map(Auth::read).unwrap_or_default();
        let candidate = Candidate { request, auth };
        let Some(token) = self.token(&candidate) else {
            let identity = self.handshake_identity();
            return self.decide(candidate, identity, ctx);
        };
        let keyring = Arc::clone(&self.parts.options.keyring);
        let verified = async move { keyring.verify(&token).await };
        ctx.spawn(verified.into_actor(self).map(move |verified, connection, ctx| {
            let identity = verified.map_err(|error| Refusal::new(ErrorCode::Unauthorized, error.to_string()));
            let identity = identity.map(|identity| Arc::new(identity).in_place_of(&connection.parts.identity));
            connection.decide(candidate, identity, ctx);
        }));
    }

    fn decide(&mut self, candidate: Candidate, identity: Result<Arc<Identity>, Refusal>, ctx: &mut Context<Self>) {
        match identity.and_then(|identity| self.become_user(&identity).map(|()| identity)) {
            Err(refusal) => self.refuse_namespace(&candidate.request, &refusal),
            Ok(identity) => {
                let is_news = identity != self.parts.identity;
                let wants_own_events = candidate.request.namespace.is_root() && identity.user.is_some();
                self.parts.identity = identity;
                if is_news {
                    self.watch_expiry(ctx);
                }
                if is_news || wants_own_events {
                    self.introduce(candidate, wants_own_events, ctx);
                } else {
                    self.recover(candidate, ctx);
                }
            }
        }
    }

    /// A connection is one user's, and counts among that user's once it is known.
    fn become_user(&mut self, identity: &Identity) -> Result<(), Refusal> {
        let known = &self.parts.identity;
        if known.user == identity.user {
            return Ok(());
        }
        if !known.is_anonymous() {
            return Err(Refusal::new(ErrorCode::Unauthorized, "this connection is another user's"));
        }
        let Some(user) = identity.user.clone() else { return Ok(()) };
        let (users, limit) = (&self.parts.options.users, self.parts.options.max_per_user);
        match self.parts.lease.share(users, user, limit) {
            true => Ok(()),
            false => Err(Refusal::new(ErrorCode::TooManyConnections, "this user has all the connections it may have")),
        }
    }

    /// The token of a namespace, in its `auth` or its query. It counts before the handshake's.
    fn token(&self, Candidate { request, auth }: &Candidate) -> Option<String> {
        let in_query = |query: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(name, value)| (name == "token").then(|| value.into_owned()))
        };
        let is_asked = matches!(&self.parts.wire, Wire::SocketIo(wire) if wire.manner() == Manner::Hub);
        let token = auth.token.as_deref().map(str::to_owned).or_else(|| request.query.as_deref().and_then(in_query));
        token.filter(|token| is_asked && !token.is_empty())
    }

    /// Whoever the handshake proved, or an earlier namespace did.
    fn handshake_identity(&self) -> Result<Arc<Identity>, Refusal> {
        let refusal = self.parts.session.as_ref().and_then(|session| session.refusal.clone());
        match refusal {
            Some(refusal) if self.parts.identity.is_anonymous() => Err(refusal),
            _ => Ok(Arc::clone(&self.parts.identity)),
        }
    }

    /// Tells the registry who this is, then the client that it is connected.
    fn introduce(&mut self, candidate: Candidate, wants_own_events: bool, ctx: &mut Context<Self>) {
        let shows_ids = self.shows_ids(&candidate);
        let own = self.socket_io().map(|wire| wire.session().root_encoding(shows_ids));
        let user_encoding = if wants_own_events { own } else { self.parts.wire.user_encoding() };
        let sent = self.parts.options.registry.send(self.connect(user_encoding, ctx)).into_actor(self);
        ctx.spawn(sent.map(move |answer, connection, ctx| match answer.unwrap_or_else(|_| Err(registry_is_gone())) {
            Ok(()) => connection.recover(candidate, ctx),
            Err(refusal) => connection.refuse_namespace(&candidate.request, &refusal),
        }));
    }

    /// `connect_error`, with the code as its message: what a page compares.
    fn refuse_namespace(&mut self, request: &ConnectRequest, refusal: &Refusal) {
        self.parts.outbox.metrics().refused(WireName::SocketIo, refusal.code);
        let data = serde_json::json!({ "code": refusal.code.as_str(), "message": refusal.message });
        let Some(wire) = self.socket_io() else { return };
        let refused = wire.refuse(&request.namespace, refusal.code.as_str(), Some(&data));
        if let Some(packet) = refused {
            self.parts.outbox.push_control(packet);
        }
    }
}

impl Handler<Post> for Connection {
    type Result = bool;

    fn handle(&mut self, Post { body, is_octets }: Post, ctx: &mut Context<Self>) -> bool {
        self.parts.outbox.note_heard();
        let mut received = Vec::new();
        let Some(wire) = self.socket_io() else { return false };
        let posted = match std::str::from_utf8(&body) {
            _ if is_octets => PostedPackets::Octets(&body),
            Ok(text) => PostedPackets::Text(text),
            Err(_) => {
                self.say_goodbye(CloseReason::InvalidText);
                return false;
            }
        };
        wire.receive_post(posted, &mut received);
        self.act(received, ctx);
        self.reason.is_none_or(|reason| reason == CloseReason::Gone)
    }
}

impl Handler<Move> for Connection {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "once per connection, and it must not be lost")]
    fn handle(&mut self, Move { spare, early }: Move, ctx: &mut Context<Self>) {
        let Some(wire) = self.socket_io() else { return };
        let respell = wire.respell();
        wire.move_to_web_socket();
        self.parts.outbox.respell(respell);
        let order = ChangeCarrier { connection: self.parts.id, carrier: Carrier::WebSocket };
        self.parts.options.registry.do_send(order);
        match spare.map(super::socket::Spare::into_socket) {
            Some(Ok(socket)) => self.take_socket(socket, ctx),
            Some(Err(error)) => {
                log::warn!("a client's socket could not be taken over: {error}");
                self.parts.outbox.end();
            }
            None => self.parts.outbox.wake_drainer(),
        }
        if !early.is_empty() {
            self.receive(&early, ctx);
        }
    }
}

impl Handler<Summon> for Connection {
    type Result = ();

    fn handle(&mut self, order: Summon, ctx: &mut Context<Self>) {
        match order {
            Summon::Enter(room) => self.join((room, None), Reference::default(), true, ctx),
            Summon::Leave(room) => self.leave(room, Reference::default(), ctx),
            Summon::Quit(namespace) => {
                let mut received = Vec::new();
                if let Some(wire) = self.socket_io() {
                    wire.quit(&namespace, &mut received);
                }
                self.act(received, ctx);
            }
        }
    }
}
