//! What Socket.IO's publishers ask for beside rooms: that a namespace hears what is emitted to all of it, and, of
//! python-socketio, that clients enter rooms, leave them and are disconnected. Every node hears it and does it for its own.

use actix::{ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};

use super::{
    messages::{Attend, RemoveMember, Steer, Summon},
    registry::{Answer, Arrival, RoomRegistry, at_once, connection_is_gone},
};
use crate::protocol::{CloseReason, ConnectionId, RoomName, Target, dialect::Control, socketio::Namespace, wire::Wire};

impl Handler<Attend> for RoomRegistry {
    type Result = Answer<()>;

    fn handle(&mut self, Attend { connection, namespace, encoding }: Attend, ctx: &mut Context<Self>) -> Self::Result {
        let is_root = namespace.is_root();
        let target = Target::Namespace(namespace);
        if let Some(encoding) = encoding {
            return self.enter(connection, target, Arrival { encoding, greeting: None, since: None }, ctx);
        }
        let Some(client) = self.connections.get_mut(&connection) else { return at_once(Err(connection_is_gone())) };
        let worker = client.worker.index;
        if client.forget(&target) {
            self.exit(worker, target, RemoveMember { connection, farewell: None, unsaid: None });
        }
        if is_root {
            self.leave_user(connection);
        }
        at_once(Ok(()))
    }
}

impl Handler<Steer> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Steer(control): Steer, ctx: &mut Context<Self>) {
        match control {
            Control::EnterRoom { sid, room } => {
                if let Some(connection) = connection_of(&sid) {
                    self.enrol(connection, &room, ctx);
                }
            }
            Control::LeaveRoom { sid, room } => {
                if let Some(connection) = connection_of(&sid) {
                    self.expel(connection, &room, ctx);
                }
            }
            Control::Disconnect { sid, namespace } => {
                if let Some(connection) = connection_of(&sid) {
                    self.dismiss(connection, namespace);
                }
            }
            Control::CloseRoom { room } => self.empty(&room, ctx),
        }
    }
}

/// What publishers call a session id is the connection's.
fn connection_of(sid: &str) -> Option<ConnectionId> {
    sid.parse().ok()
}

impl RoomRegistry {
    /// Ends one namespace of a Socket.IO connection, and a connection of another wire as a whole.
    fn dismiss(&self, connection: ConnectionId, namespace: Namespace) {
        let Some(client) = self.connections.get(&connection) else { return };
        if !client.summon(Summon::Quit(namespace)) {
            client.outbox.close(CloseReason::Disconnected);
        }
    }

    fn empty(&mut self, room: &RoomName, ctx: &mut Context<Self>) {
        let members = self.connections.iter().filter(|(_, client)| client.rooms.contains(room));
        let members: Vec<ConnectionId> = members.map(|(id, _)| *id).collect();
        for connection in members {
            self.expel(connection, room, ctx);
        }
    }
}

impl super::Connection {
    /// Says to the registry that a namespace is connected, where publishers may emit to all of it; then goes on.
    pub(super) fn attend(
        &self,
        namespace: Namespace,
        shows_ids: bool,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
        ctx: &mut Context<Self>,
    ) {
        let Wire::SocketIo(wire) = &self.parts.wire else { return };
        let encoding = Some(wire.session().namespace_encoding(&namespace, shows_ids));
        let attend = Attend { connection: self.parts.id, namespace, encoding };
        let sent = self.parts.options.registry.send(attend).into_actor(self);
        // A refusal says that the connection has ended.
        ctx.spawn(sent.map(|_, connection, ctx| then(connection, ctx)));
    }

    /// A namespace is left, and with the root its user's own events.
    #[expect(clippy::disallowed_methods, reason = "once per namespace, and it must not be lost")]
    pub(super) fn stay_away(&self, namespace: Namespace) {
        let has_user = namespace.is_root() && !self.parts.identity.is_anonymous();
        if self.parts.options.hears_namespaces || has_user {
            self.parts.options.registry.do_send(Attend { connection: self.parts.id, namespace, encoding: None });
        }
    }
}
