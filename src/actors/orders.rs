//! What the application's servers and the hub itself ask of the registry: lists, counts, and orders over the heads of clients.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture};

use super::{
    messages::{
        ConnectionLookup, ConnectionState, Disconnect, Drain, Enrol, Reconfigure, Refusal, Renew, RoomList, RoomMemberList, RoomMembers,
        Subject,
    },
    outbox::Outbox,
    registry::RoomRegistry,
};
use crate::protocol::{CloseReason, ConnectionId, ErrorCode, RoomName, Target};

/// A drain says goodbye to a share of the connections at most this often.
const DRAIN_STEP: Duration = Duration::from_millis(50);

impl RoomRegistry {
    fn subject_connections(&self, subject: &Subject) -> Vec<ConnectionId> {
        match subject {
            Subject::Connection(id) => self.connections.contains_key(id).then_some(*id).into_iter().collect(),
            Subject::User(user) => {
                let is_theirs = |user_of_client| user_of_client == Some(user);
                let clients = self.connections.iter().filter(|(_, client)| is_theirs(client.identity.user.as_ref()));
                clients.map(|(id, _)| *id).collect()
            }
        }
    }
}

impl Handler<RoomList> for RoomRegistry {
    type Result = Vec<(RoomName, usize)>;

    fn handle(&mut self, RoomList: RoomList, _: &mut Context<Self>) -> Self::Result {
        let mut rooms: Vec<(RoomName, usize)> = Vec::new();
        for (target, hall) in &self.halls {
            if let (Target::Room(room), members @ 1..) = (target, hall.members()) {
                rooms.push((room.clone(), members));
            }
        }
        rooms.sort();
        rooms
    }
}

impl Handler<RoomMemberList> for RoomRegistry {
    type Result = actix::MessageResult<RoomMemberList>;

    fn handle(&mut self, RoomMemberList { room }: RoomMemberList, _: &mut Context<Self>) -> Self::Result {
        let mut members = RoomMembers::default();
        for client in self.connections.values().filter(|client| client.rooms.contains(&room)) {
            match &client.identity.user {
                None => members.anonymous += 1,
                Some(user) => match members.users.iter_mut().find(|(known, _)| known == user) {
                    Some((_, count)) => *count += 1,
                    None => members.users.push((user.clone(), 1)),
                },
            }
        }
        members.users.sort();
        actix::MessageResult(members)
    }
}

impl Handler<ConnectionLookup> for RoomRegistry {
    type Result = Option<ConnectionState>;

    fn handle(&mut self, question: ConnectionLookup, _: &mut Context<Self>) -> Self::Result {
        let client = self.connections.get(&question.connection)?;
        Some(ConnectionState { user: client.identity.user.clone(), rooms: client.rooms.to_vec(), outbox: Arc::clone(&client.outbox) })
    }
}

impl Handler<Disconnect> for RoomRegistry {
    type Result = usize;

    fn handle(&mut self, order: Disconnect, _: &mut Context<Self>) -> usize {
        let connections = self.subject_connections(&order.subject);
        let outboxes = connections.iter().filter_map(|id| self.connections.get(id)).map(|client| &client.outbox);
        outboxes.for_each(|outbox| outbox.close(order.reason));
        connections.len()
    }
}

impl Handler<Enrol> for RoomRegistry {
    type Result = usize;

    fn handle(&mut self, order: Enrol, ctx: &mut Context<Self>) -> usize {
        let connections = self.subject_connections(&order.subject);
        for connection in &connections {
            if order.is_member {
                let joined = self.enrol(*connection, order.room.clone(), ctx);
                ctx.spawn(joined.into_actor(self).map(|_, _, _| ()));
            } else {
                self.expel(*connection, &order.room);
            }
        }
        connections.len()
    }
}

impl Handler<Renew> for RoomRegistry {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, Renew { connection, identity }: Renew, _: &mut Context<Self>) -> Self::Result {
        let Some(client) = self.connections.get_mut(&connection) else {
            return Err(Refusal::new(ErrorCode::NotFound, "the connection has ended"));
        };
        // It gets the events of the user that it began as.
        if client.identity.user != identity.user {
            return Err(Refusal::new(ErrorCode::Forbidden, "the token names another user than the connection: connect anew"));
        }
        client.identity = identity;
        Ok(())
    }
}

impl Handler<Reconfigure> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Reconfigure(config): Reconfigure, _: &mut Context<Self>) {
        self.parts.config = config;
    }
}

impl Handler<Drain> for RoomRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Drain { over }: Drain, _: &mut Context<Self>) -> Self::Result {
        let outboxes: Vec<Arc<Outbox>> = self.connections.values().map(|client| Arc::clone(&client.outbox)).collect();
        let most_steps = usize::try_from(over.as_millis() / DRAIN_STEP.as_millis()).unwrap_or(usize::MAX);
        let steps = outboxes.len().clamp(1, most_steps.max(1));
        let share = outboxes.len().div_ceil(steps).max(1);
        let pause = over / u32::try_from(steps).unwrap_or(u32::MAX);
        let farewells = async move {
            for some in outboxes.chunks(share) {
                some.iter().for_each(|outbox| outbox.close(CloseReason::Draining));
                tokio::time::sleep(pause).await;
            }
        };
        Box::pin(farewells.into_actor(self))
    }
}
