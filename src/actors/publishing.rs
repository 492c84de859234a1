//! What clients publish: the registry knows who they are and where they are members, and asks the room's rule.

use actix::{Context, Handler};
use smallvec::smallvec;

use super::{
    messages::{BrokerError, Publish, PublishAs, Published, Refusal},
    registry::{Answer, RoomRegistry, at_once, connection_is_gone},
};
use crate::{
    auth::rules,
    protocol::{ErrorCode, Target},
};

/// Names of the hub's notices begin so.
const OWN_EVENTS: &str = "callboard:";

impl RoomRegistry {
    fn may_publish(&self, order: &PublishAs) -> Result<(), Refusal> {
        let client = self.connections.get(&order.connection).ok_or_else(connection_is_gone)?;
        // It would pass for a notice of the hub.
        if order.event.name.as_str().starts_with(OWN_EVENTS) {
            let message = format!("event names that begin with {OWN_EVENTS} are the hub's own");
            return Err(Refusal::new(ErrorCode::EventNameInvalid, message));
        }
        let is_member = client.rooms.contains(&order.room);
        rules::may_publish(&client.identity, &order.room, self.parts.config.rule_for(&order.room), is_member)
            .map_err(|refused| Refusal::new(ErrorCode::Forbidden, refused.to_string()))
    }
}

impl Handler<PublishAs> for RoomRegistry {
    type Result = Answer<Published>;

    fn handle(&mut self, order: PublishAs, _: &mut Context<Self>) -> Self::Result {
        if let Err(refusal) = self.may_publish(&order) {
            return at_once(Err(refusal));
        }
        let targets = smallvec![Target::Room(order.room)];
        let sent = self.parts.bridge.publish.send(Publish { targets, event: order.event, except: Vec::new(), idempotency_key: None });
        Box::pin(async move { Ok(sent.await.unwrap_or(Err(BrokerError::Unavailable))?) })
    }
}
