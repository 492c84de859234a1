//! How a Socket.IO client connects a namespace, and comes back to one: the terms that it gets, the rooms that it was in, and
//! what it said before it was answered.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};

use super::{
    connection::{Connection, registry_is_gone},
    messages::{Join, WouldReplay},
    recovery::{Recoveries, Remains, Surrender},
    session::Candidate,
};
use crate::protocol::{
    CloseReason, Reference, Reply, RoomName, socketio::Revision, socketio_session::Terms, socketio_wire::Manner, wire::Wire,
};

/// A session that goes on.
struct Recovered {
    name: Box<str>,
    rooms: Vec<RoomName>,
    /// The last id that its client saw.
    offset: Box<str>,
}

impl Connection {
    fn recoveries(&self) -> Option<&Recoveries> {
        let is_served = |wire: &Wire| matches!(wire, Wire::SocketIo(wire) if wire.manner() == Manner::Hub && wire.session().spelling().revision == Revision::V5);
        self.parts.options.recoveries.as_ref().filter(|_| is_served(&self.parts.wire))
    }

    /// Whoever asks for ids gets them, and everybody where sessions are recovered by them.
    pub(super) fn shows_ids(&self, candidate: &Candidate) -> bool {
        candidate.auth.since.is_some() || self.recoveries().is_some()
    }

    /// Connects a namespace, as a session that goes on where all is there that its client missed.
    pub(super) fn recover(&mut self, candidate: Candidate, ctx: &mut Context<Self>) {
        let (Some(recoveries), Some((name, offset))) = (self.recoveries().cloned(), candidate.auth.recovery.clone()) else {
            return self.welcome(candidate, None, ctx);
        };
        let (connection, registry) = (self.parts.id, self.parts.options.registry.clone());
        let (user, namespace) = (self.parts.identity.user.clone(), candidate.request.namespace.clone());
        let recovered = async move {
            let Remains { rooms, .. } = recoveries
                .claim(&name, connection)
                .await
                .filter(|remains| remains.user == user && remains.namespace == namespace && !remains.rooms.is_empty())?;
            let question = WouldReplay { rooms: rooms.clone(), since: offset.clone() };
            let is_whole = registry.send(question).await.unwrap_or(false);
            is_whole.then_some(Recovered { name, rooms, offset })
        };
        ctx.spawn(recovered.into_actor(self).map(|recovered, connection, ctx| connection.welcome(candidate, recovered, ctx)));
    }

    /// Where publishers may emit to all of a namespace, it is listened to before its client is told that it is connected.
    fn welcome(&mut self, candidate: Candidate, recovered: Option<Recovered>, ctx: &mut Context<Self>) {
        if !self.parts.options.hears_namespaces {
            return self.accept(candidate, recovered, ctx);
        }
        let (namespace, shows_ids) = (candidate.request.namespace.clone(), self.shows_ids(&candidate));
        self.attend(namespace, shows_ids, |connection, ctx| connection.accept(candidate, recovered, ctx), ctx);
    }

    fn accept(&mut self, candidate: Candidate, recovered: Option<Recovered>, ctx: &mut Context<Self>) {
        let shows_ids = self.shows_ids(&candidate);
        let Candidate { request, auth } = candidate;
        let pid = self.name_session(recovered.as_ref().map(|recovered| recovered.name.clone()), ctx);
        let since = auth.since.filter(|since| !since.is_empty() && recovered.is_none());
        let sid = self.parts.id.to_string();
        let Some(wire) = self.socket_io() else { return };
        let packets = wire.accept(&request, &sid, Terms { shows_ids, since, pid });
        let (rooms, offset) = recovered.map(|recovered| (recovered.rooms, recovered.offset)).unwrap_or_default();
        rooms.iter().for_each(|room| wire.restore(&request.namespace, room));
        packets.into_iter().for_each(|packet| self.parts.outbox.push_control(packet));
        rooms.into_iter().for_each(|room| self.rejoin(room, offset.clone(), ctx));
        let mut early = Vec::new();
        if let Some(wire) = self.socket_io() {
            wire.catch_up(&request.namespace, &mut early);
        }
        self.act(early, ctx);
    }

    /// The room is entered as it was left: nobody is told, and no rule asked again.
    fn rejoin(&mut self, room: RoomName, offset: Box<str>, ctx: &mut Context<Self>) {
        let join = self.order_join(room.clone(), Some(offset), Reference::default());
        let sent = self.parts.options.registry.send(Join { greeting: None, is_granted: true, ..join }).into_actor(self);
        ctx.spawn(sent.map(move |answer, connection, _| {
            if let Err(refusal) = answer.unwrap_or_else(|_| Err(registry_is_gone())) {
                let reference = Reference::default();
                connection.refuse(refusal, reference.clone());
                connection.say(&Reply::Left { room, reference });
            }
        }));
    }

    // ---- the name to come back by --------------------------------------------------------------------------------------

    /// Gives a namespace its name, the one that it had or a new one.
    fn name_session(&mut self, known: Option<Box<str>>, ctx: &Context<Self>) -> Option<Box<str>> {
        let recoveries = self.recoveries()?.clone();
        let name = known.or_else(Recoveries::new_name)?;
        self.forget_names(&recoveries);
        recoveries.note_live(name.clone(), self.parts.id, ctx.address().recipient());
        self.parts.session.get_or_insert_default().names.push(name.clone());
        Some(name)
    }

    /// Gives up the names of namespaces that the client has left.
    fn forget_names(&mut self, recoveries: &Recoveries) {
        let remains = self.remains();
        let Some(session) = &mut self.parts.session else { return };
        for gone in session.names.extract_if(.., |name| !remains.iter().any(|(known, _)| known == name)) {
            recoveries.note_away(&gone, self.parts.id, None);
        }
    }

    /// What the client may come back to, by name.
    fn remains(&self) -> Vec<(Box<str>, Remains)> {
        let Wire::SocketIo(wire) = &self.parts.wire else { return Vec::new() };
        let user = &self.parts.identity.user;
        let remains = wire
            .session()
            .recoverable()
            .map(|(name, namespace, rooms)| (name.into(), Remains { user: user.clone(), namespace: namespace.clone(), rooms }));
        remains.collect()
    }

    /// The connection has ended: its client may come back, unless it was sent away.
    pub(super) fn leave_behind(&mut self) {
        let Some(recoveries) = self.recoveries().cloned() else { return };
        self.forget_names(&recoveries);
        let is_over = matches!(
            self.reason,
            Some(CloseReason::Disconnected | CloseReason::Expired | CloseReason::Policy | CloseReason::ProtocolError)
        );
        for (name, remains) in self.remains() {
            recoveries.note_away(&name, self.parts.id, Some(remains).filter(|_| !is_over));
        }
    }
}

impl Handler<Surrender> for Connection {
    type Result = Option<Remains>;

    fn handle(&mut self, Surrender(name): Surrender, _: &mut Context<Self>) -> Self::Result {
        let (_, remains) = self.remains().into_iter().find(|(known, _)| *known == name)?;
        self.reason.get_or_insert(CloseReason::Gone);
        self.parts.outbox.end();
        Some(remains)
    }
}
