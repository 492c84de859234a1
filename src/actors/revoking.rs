//! Rooms that the broker serves no more, although it did: their members are told, as those are whom it refuses at once.

use std::collections::{HashMap, HashSet};

use actix::{Context, Handler};
use foldhash::fast::RandomState;

use super::{
    hall::{Hall, Refused},
    messages::{BrokerError, Revoked},
    registry::RoomRegistry,
};
use crate::protocol::{ConnectionId, Target};

impl Handler<Revoked> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Revoked(targets): Revoked, ctx: &mut Context<Self>) {
        let mut revoked: HashMap<_, _, RandomState> = targets.into_iter().map(|(target, error)| (target, (error, Vec::new()))).collect();
        for (connection, client) in &self.connections {
            for target in client.targets() {
                if let Some((_, members)) = revoked.get_mut(&target) {
                    members.push(*connection);
                }
            }
        }
        for (target, (error, members)) in revoked {
            self.revoke(&target, &error, members, ctx);
        }
    }
}

impl RoomRegistry {
    fn revoke(&mut self, target: &Target, error: &BrokerError, members: Vec<ConnectionId>, ctx: &mut Context<Self>) {
        let mut waiting = HashSet::new();
        for worker in self.halls.get(target).map(Hall::workers).unwrap_or_default() {
            if let Some(hall) = self.halls.get_mut(target) {
                waiting.extend(hall.refuse(worker, error).turned_away);
            }
            self.end_group(target, worker);
        }
        let (turned_away, unproven) = members.into_iter().partition(|connection| waiting.contains(connection));
        self.retract(target, Refused { turned_away, unproven }, error, ctx);
    }
}
