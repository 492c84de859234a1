//! What the application's servers and the hub itself ask of the registry: lists, counts, and the drain.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, Context, Handler, ResponseActFuture, WrapFuture};
use tokio::time::{Instant, sleep_until};

use super::{
    messages::{Drain, Reconfigure, Refusal, Renew, RoomList, RoomMemberList, RoomMembers},
    outbox::Outbox,
    registry::RoomRegistry,
};
use crate::protocol::{CloseReason, ErrorCode, RoomName, Target};

/// A drain says goodbye to a share of the connections at most this often.
const DRAIN_STEP: Duration = Duration::from_millis(50);

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
        if self.parts.config.rule_for(&room).presence {
            return actix::MessageResult(self.presence.members(&room));
        }
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

    #[expect(clippy::disallowed_methods, reason = "once per change of the configuration, and it must not be lost")]
    fn handle(&mut self, Reconfigure(config): Reconfigure, ctx: &mut Context<Self>) {
        self.parts.bridge.reconfigure.do_send(Reconfigure(Arc::clone(&config)));
        let previous = std::mem::replace(&mut self.parts.config, config);
        self.recount_presence(&previous, ctx);
        self.track_streams();
    }
}

impl Handler<Drain> for RoomRegistry {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Drain { over }: Drain, _: &mut Context<Self>) -> Self::Result {
        let outboxes = self.connections.values().map(|client| Arc::clone(&client.outbox)).collect();
        Box::pin(bid_farewell(outboxes, over).into_actor(self).then(|(), registry, _| registry.say_goodbye().into_actor(registry)))
    }
}

/// Tells these to go, in equal steps over this time; done before it is over where all have gone.
async fn bid_farewell(outboxes: Vec<Arc<Outbox>>, over: Duration) {
    let most_steps = usize::try_from(over.as_millis() / DRAIN_STEP.as_millis()).unwrap_or(usize::MAX);
    let steps = outboxes.len().clamp(1, most_steps.max(1));
    let pause = over / u32::try_from(steps).unwrap_or(u32::MAX);
    let mut here = &outboxes[..];
    for some in outboxes.chunks(outboxes.len().div_ceil(steps).max(1)) {
        some.iter().for_each(|outbox| outbox.close(CloseReason::Draining));
        let next = Instant::now() + pause;
        while Instant::now() < next {
            here = &here[here.iter().take_while(|outbox| outbox.is_ended()).count()..];
            if here.is_empty() {
                return;
            }
            sleep_until(next.min(Instant::now() + DRAIN_STEP)).await;
        }
    }
}
