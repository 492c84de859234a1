//! What the registry and the other nodes tell each other: who is where, and what the application ordered.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tokio::time::{Instant, timeout};

use super::{
    messages::{BridgeDown, BridgeUp, BrokerError, Disconnect, Enrol, Greeting, NodeSaid, RemoveMember, Summon, TellNodes},
    presence::Decided,
    registry::{Arrival, RoomRegistry},
};
use crate::{
    config::Config,
    protocol::{
        CloseReason, ConnectionId, Reference, Reply, RoomName, Target,
        gossip::{Announcement, Control, Deed, GossipError, NodeChannel, Order, Subject},
    },
};

/// A broker that takes no goodbye within this time is not waited for.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);

// ---- presence ---------------------------------------------------------------------------------------------------------------

impl RoomRegistry {
    /// A connection of this node has become a member: from now on it hears what its room is told.
    pub(super) fn note_present(&mut self, connection: ConnectionId, target: &Target, ctx: &mut Context<Self>) {
        let Target::Room(room) = target else { return };
        let Some(client) = self.connections.get_mut(&connection) else { return };
        // It may have left before it was let in.
        let counts = self.parts.config.rule_for(room).presence && client.rooms.contains(room) && !client.present.contains(room);
        if counts {
            client.present.push(room.clone());
            self.presence.enter(room, client.identity.user.as_ref(), Instant::now());
            self.await_presence(ctx);
        }
    }

    /// It is a member no more.
    pub(super) fn note_absent(&mut self, connection: ConnectionId, target: &Target, ctx: &mut Context<Self>) {
        let Target::Room(room) = target else { return };
        let Some(client) = self.connections.get_mut(&connection) else { return };
        if client.withdraw(room) {
            self.presence.exit(room, client.identity.user.as_ref(), Instant::now());
            self.await_presence(ctx);
        }
    }

    /// Other rules hold from now on: rooms may have come to presence, or lost it, with their members in them.
    pub(super) fn recount_presence(&mut self, previous: &Config, ctx: &mut Context<Self>) {
        let (config, now) = (Arc::clone(&self.parts.config), Instant::now());
        for client in self.connections.values_mut() {
            let user = client.identity.user.clone();
            for room in client.rooms.clone() {
                let (counts, counted) = (config.rule_for(&room).presence, client.present.contains(&room));
                if counts && !counted {
                    client.present.push(room.clone());
                    self.presence.enter(&room, user.as_ref(), now);
                } else if !counts && client.withdraw(&room) {
                    self.presence.exit(&room, user.as_ref(), now);
                }
            }
        }
        if asks_for_presence(&config) && !asks_for_presence(previous) {
            self.presence.restored(now);
        }
        self.await_presence(ctx);
    }

    /// Presence costs nothing, and nothing is heard of it, where no rule asks for it.
    fn has_presence(&self) -> bool {
        asks_for_presence(&self.parts.config)
    }

    /// Sets the timer to when the presence has something to do, unless it rings before.
    fn await_presence(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.presence.due() else { return };
        if let Some((set_to, timer)) = self.presence_due {
            if set_to <= due {
                return;
            }
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(due.saturating_duration_since(Instant::now()), |registry, ctx| {
            registry.presence_due = None;
            registry.act_on_presence();
            registry.await_presence(ctx);
        });
        self.presence_due = Some((due, timer));
    }

    fn act_on_presence(&mut self) {
        let Decided { announcements, notices } = self.presence.act(Instant::now());
        for payload in announcements {
            let told = self.parts.bridge.tell_nodes.send(TellNodes { channel: NodeChannel::Presence, payload });
            // What does not arrive is mended by a later heartbeat.
            actix::spawn(async move { _ = told.await });
        }
        for (room, notice) in notices {
            if let Some(hall) = self.halls.get(&Target::Room(room)) {
                hall.announce(&notice);
            }
        }
    }

    /// Tells the other nodes that this one has nobody any more. Done when the broker has taken it.
    pub(super) fn say_goodbye(&mut self) -> impl Future<Output = ()> + use<> {
        let channel = NodeChannel::Presence;
        let told = self.presence.say_goodbye().map(|payload| self.parts.bridge.tell_nodes.send(TellNodes { channel, payload }));
        async move {
            if let Some(told) = told {
                // Without it they wait until they have not heard of this node for a while.
                let _ = timeout(GOODBYE_PATIENCE, told).await;
            }
        }
    }

    fn hear(&mut self, payload: &[u8], ctx: &mut Context<Self>) -> Result<(), GossipError> {
        if self.has_presence() {
            self.presence.hear(Announcement::decode(payload)?, Instant::now());
            self.await_presence(ctx);
        }
        Ok(())
    }
}

fn asks_for_presence(config: &Config) -> bool {
    config.rooms.iter().any(|rule| rule.presence)
}

impl Handler<BridgeUp> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, BridgeUp: BridgeUp, ctx: &mut Context<Self>) {
        if self.has_presence() {
            self.presence.restored(Instant::now());
            self.await_presence(ctx);
        }
    }
}

impl Handler<BridgeDown> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, BridgeDown: BridgeDown, _: &mut Context<Self>) {
        self.presence.cut_off();
    }
}

impl Handler<NodeSaid> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, NodeSaid { channel, payload }: NodeSaid, ctx: &mut Context<Self>) {
        let heard = match channel {
            NodeChannel::Presence => self.hear(&payload, ctx),
            NodeChannel::Control => self.obey(&payload, ctx),
        };
        if let Err(error) = heard {
            self.parts.metrics.source_error(channel.as_str(), error.reason());
            log::debug!("a payload of the nodes' channel {:?} {error}", channel.as_str());
        }
    }
}

// ---- orders -----------------------------------------------------------------------------------------------------------------

/// How many connections of this node it concerned.
type Counted = ResponseFuture<Result<usize, BrokerError>>;

impl RoomRegistry {
    /// Carries an order out here, and passes it on.
    fn order(&mut self, subject: Subject, deed: Deed, ctx: &mut Context<Self>) -> Counted {
        let subjects = self.connections_of(&subject);
        let concerned = self.carry_out(&subjects, &deed, ctx);
        if matches!(subject, Subject::Connection(_)) && !subjects.is_empty() {
            // No other node has it.
            return Box::pin(async move { Ok(concerned) });
        }
        let told = self.tell_control(&Control::Order(Order { node: self.parts.node, subject, deed }));
        Box::pin(async move { told.await.map(|()| concerned) })
    }

    /// Says this to every node; done when the broker has taken it.
    pub(super) fn tell_control(&self, word: &Control) -> impl Future<Output = Result<(), BrokerError>> + use<> {
        let told = self.parts.bridge.tell_nodes.send(TellNodes { channel: NodeChannel::Control, payload: word.encode() });
        async move { told.await.unwrap_or(Err(BrokerError::Unavailable)) }
    }

    /// Another node has taken an order, asks about a connection, or answers.
    fn obey(&mut self, payload: &[u8], ctx: &mut Context<Self>) -> Result<(), GossipError> {
        match Control::decode(payload)? {
            Control::Order(Order { node, subject, deed }) if node != self.parts.node => {
                let subjects = self.connections_of(&subject);
                self.carry_out(&subjects, &deed, ctx);
            }
            Control::Order(_) => {}
            Control::Question(question) => self.answer(&question),
            Control::Answer(answer) => self.take_answer(answer),
        }
        Ok(())
    }

    fn connections_of(&self, subject: &Subject) -> Vec<ConnectionId> {
        match subject {
            Subject::Connection(id) => self.connections.contains_key(id).then_some(*id).into_iter().collect(),
            Subject::User(user) => {
                let theirs = self.connections.iter().filter(|(_, client)| client.identity.user.as_ref() == Some(user));
                theirs.map(|(id, _)| *id).collect()
            }
        }
    }

    /// Makes a connection a member because the application says so, whatever the room's rule says of who may join. False if it
    /// is in as many rooms as a connection may be.
    pub(super) fn enrol(&mut self, connection: ConnectionId, room: &RoomName, ctx: &mut Context<Self>) -> bool {
        let Some(client) = self.connections.get(&connection) else { return false };
        if client.rooms.contains(room) {
            return true;
        }
        if client.rooms.len() >= self.parts.config.http.max_rooms_per_connection {
            return false;
        }
        if client.summon(Summon::Enter(room.clone())) {
            return true;
        }
        let Some(encoding) = client.user_encoding else { return false };
        let greeting = Some(Greeting { room: room.clone(), reference: Reference::default() });
        let joined = self.enter(connection, Target::Room(room.clone()), Arrival { encoding, greeting, since: None }, ctx);
        ctx.spawn(joined.into_actor(self).map(|_, _, _| ()));
        true
    }

    /// Ends a membership because the application says so. False if there was none.
    pub(super) fn expel(&mut self, connection: ConnectionId, room: &RoomName, ctx: &mut Context<Self>) -> bool {
        let Some(client) = self.connections.get(&connection) else { return false };
        if client.rooms.contains(room) && client.summon(Summon::Leave(room.clone())) {
            return true;
        }
        let left = Reply::Left { room: room.clone(), reference: Reference::default() };
        let farewell = client.user_encoding.and_then(|encoding| encoding.reply(&left));
        self.leave(room, RemoveMember { connection, farewell, unsaid: None }, ctx)
    }

    fn carry_out(&mut self, subjects: &[ConnectionId], deed: &Deed, ctx: &mut Context<Self>) -> usize {
        let is_done = |connection: &&ConnectionId| match deed {
            Deed::Join { room } => self.enrol(**connection, room, ctx),
            Deed::Leave { room } => self.expel(**connection, room, ctx),
            Deed::Disconnect => {
                let client = self.connections.get(connection);
                client.map(|client| client.outbox.close(CloseReason::Disconnected)).is_some()
            }
        };
        subjects.iter().filter(is_done).count()
    }
}

impl Handler<Enrol> for RoomRegistry {
    type Result = Counted;

    fn handle(&mut self, Enrol { subject, room, is_member }: Enrol, ctx: &mut Context<Self>) -> Counted {
        self.order(subject, if is_member { Deed::Join { room } } else { Deed::Leave { room } }, ctx)
    }
}

impl Handler<Disconnect> for RoomRegistry {
    type Result = Counted;

    fn handle(&mut self, Disconnect { subject }: Disconnect, ctx: &mut Context<Self>) -> Counted {
        self.order(subject, Deed::Disconnect, ctx)
    }
}
