//! How the registry tells connections that they may have missed events: once per cause, with all the rooms it concerns.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use actix::{AsyncContext, Context, Handler, ResponseFuture};
use foldhash::fast::RandomState;
use futures_util::{
    FutureExt,
    future::{join_all, ready},
};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{messages::BridgeRestored, registry::RoomRegistry};
use crate::protocol::{ConnectionId, GapReason, Reply, RoomName, Target};

/// Gaps of one outage are told in one notice; they come in within this time.
const GAP_COLLECTION: Duration = Duration::from_millis(100);

/// What is collected.
#[derive(Default)]
pub(super) struct Gaps {
    noted: BTreeMap<(ConnectionId, GapReason), Gap>,
    /// Dropped when all of it is told.
    untold: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Gap {
    rooms: Vec<RoomName>,
    user: bool,
}

fn notice(((_, reason), Gap { rooms, user }): ((ConnectionId, GapReason), Gap)) -> Reply {
    Reply::Gap { rooms, user, reason, dropped: None }
}

impl RoomRegistry {
    /// Remembers that a connection may have missed events of the target; it is told once, with all its rooms.
    pub(super) fn note_gap(&mut self, connection: ConnectionId, target: &Target, reason: GapReason, ctx: &mut Context<Self>) {
        if self.gaps.noted.is_empty() {
            ctx.run_later(GAP_COLLECTION, |registry, _| registry.tell_gaps());
        }
        let gap = self.gaps.noted.entry((connection, reason)).or_default();
        match target {
            Target::Room(room) if gap.rooms.contains(room) => {}
            Target::Room(room) => gap.rooms.push(room.clone()),
            Target::User(_) => gap.user = true,
            // A notice that names nothing is for everyone.
            Target::Namespace(_) => {}
        }
    }

    fn tell_gaps(&mut self) {
        let Gaps { noted, untold } = std::mem::take(&mut self.gaps);
        let mut all_said = Vec::new();
        for gap in noted {
            if let Some(client) = self.connections.get(&gap.0.0) {
                let (unsaid, said) = oneshot::channel();
                client.outbox.tell(notice(gap), Some(unsaid));
                all_said.push(said);
            }
        }
        if !untold.is_empty() {
            actix::spawn(async move {
                join_all(all_said).await;
                drop(untold);
            });
        }
    }

    /// Tells one connection now what it would be told soon. The answer comes when that is said.
    pub(super) fn tell_gaps_of(&mut self, connection: ConnectionId) -> oneshot::Receiver<()> {
        let (unsaid, said) = oneshot::channel();
        // The first reason and the last: between them are all.
        let causes = self.gaps.noted.range((connection, GapReason::BrokerLost)..=(connection, GapReason::NoHistory));
        let causes: SmallVec<[_; 2]> = causes.map(|(cause, _)| *cause).collect();
        let mut its_own: SmallVec<[_; 2]> = causes.iter().filter_map(|cause| self.gaps.noted.remove_entry(cause)).collect();
        let (last, outbox) = (its_own.pop(), self.connections.get(&connection).map(|client| &client.outbox));
        if let (Some(outbox), Some(last)) = (outbox, last) {
            its_own.into_iter().for_each(|gap| outbox.tell(notice(gap), None));
            outbox.tell(notice(last), Some(unsaid));
        }
        said
    }

    fn note_gaps_of(&mut self, targets: &HashSet<Target, RandomState>, ctx: &mut Context<Self>) {
        let mut affected = Vec::new();
        for (connection, client) in &self.connections {
            let of_client = client.targets().filter(|target| targets.contains(target));
            affected.extend(of_client.map(|target| (*connection, target)));
        }
        for (connection, target) in affected {
            self.note_gap(connection, &target, GapReason::BrokerLost, ctx);
        }
    }
}

impl Handler<BridgeRestored> for RoomRegistry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, fact: BridgeRestored, ctx: &mut Context<Self>) -> Self::Result {
        self.note_gaps_of(&fact.targets.into_iter().collect(), ctx);
        if self.gaps.noted.is_empty() {
            return Box::pin(ready(()));
        }
        let (untold, told) = oneshot::channel();
        self.gaps.untold.push(untold);
        // It is never sent, only dropped.
        Box::pin(told.map(drop))
    }
}
