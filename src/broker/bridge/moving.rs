//! On a cluster there is a bridge for each shard, and rooms move between them when their slots do: with their feeds, with those
//! who wait, and with what is recorded of them. What was missed on the way is fetched or told like after an outage.

use actix::{Context, Handler, Message, ResponseFuture};

use super::{
    RedisBridge,
    route::{ChannelState, Route},
};
use crate::{
    actors::messages::{BrokerError, Publish, Published},
    broker::{link::Moved, redis::Layout},
    protocol::Target,
};

/// Cluster → bridge of a shard: give up all whose native channels are no longer in it.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Mover>")]
pub struct Evacuate {
    pub shard: usize,
    pub layout: Layout,
}

/// Cluster → bridge of a shard: this one is here from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Settle(pub Mover);

/// Cluster → bridge of a shard: the part of a publish that is for rooms and users here.
#[derive(Debug, Message)]
#[rtype(result = "Result<Published, BrokerError>")]
pub struct PublishPart {
    pub order: Publish,
    /// Others of its addressees are elsewhere, and whoever is in two of their rooms is to get it once.
    pub is_one_of_several: bool,
}

/// A room or user between two shards.
pub struct Mover {
    pub target: Target,
    route: Route,
}

impl Mover {
    /// Whom its channel stands for, as the cluster places it.
    pub fn is_at(&self, layout: &Layout, prefix: &str) -> usize {
        layout.shard_of(&native_channel(prefix, &self.target))
    }
}

/// The channel that places a room or user in a cluster, and that the hub itself publishes to.
pub fn native_channel(prefix: &str, target: &Target) -> String {
    let (kind, name) = match target {
        Target::Room(room) => ("room", room.as_str()),
        Target::User(user) => ("user", user.as_str()),
        Target::Namespace(namespace) => ("namespace", namespace.as_str()),
    };
    format!("{prefix}:{kind}:{name}")
}

impl RedisBridge {
    /// Nothing of this room or user is counted or delivered here any more.
    fn freeze(&mut self, target: &Target) {
        let Some(route) = self.routes.get_mut(target) else { return };
        route.is_torn |= matches!(route.outcome(), Some(Ok(())));
        route.is_frozen = true;
        if let Some(recording) = &mut route.recording {
            recording.lose(&self.desk.timeline);
        }
    }

    fn release(&mut self, target: Target) -> Option<Mover> {
        self.freeze(&target);
        let mut route = self.close_route(&target)?;
        route.ask_again();
        // The answer to what is being written finds nobody here; it is written again there, where it is known already.
        if let Some(journal) = route.recording.as_mut().and_then(|recording| recording.journal.as_mut()) {
            journal.conclude(None);
        }
        if let Some(recording) = &mut route.recording {
            recording.is_queued = false;
        }
        Some(Mover { target, route })
    }

    /// All its channels are subscribed here: who was there before is told what may be missing, or gets it.
    pub(super) fn tell_torn(&mut self, target: &Target, ctx: &mut Context<Self>) {
        let Some(route) = self.routes.get_mut(target) else { return };
        let Some(outcome) = route.outcome().filter(|_| std::mem::take(&mut route.is_torn)) else { return };
        let can_catch_up = route.recording.as_ref().is_some_and(|recording| recording.can_catch_up());
        match outcome {
            Ok(()) if can_catch_up => {}
            Ok(()) => self.tell_members_soon(vec![target.clone()], ctx),
            Err(error) => self.revoke(vec![(target.clone(), error)]),
        }
    }
}

impl Handler<Moved> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Moved { channels }: Moved, _: &mut Context<Self>) {
        for channel in channels {
            if let Some(target) = self.owners.get(&channel).cloned() {
                self.freeze(&target);
                // Until it has followed its slot, or is subscribed here once more.
                if let Some(route) = self.routes.get_mut(&target) {
                    route.set(&channel, ChannelState::Asked);
                }
            }
        }
    }
}

impl Handler<Evacuate> for RedisBridge {
    type Result = actix::MessageResult<Evacuate>;

    fn handle(&mut self, Evacuate { shard, layout }: Evacuate, _: &mut Context<Self>) -> Self::Result {
        let prefix = &self.parts.prefix;
        let is_elsewhere = |target: &&Target| layout.shard_of(&native_channel(prefix, target)) != shard;
        let leaving: Vec<Target> = self.routes.keys().filter(is_elsewhere).cloned().collect();
        actix::MessageResult(leaving.into_iter().filter_map(|target| self.release(target)).collect())
    }
}

impl Handler<Settle> for RedisBridge {
    type Result = ();

    fn handle(&mut self, Settle(Mover { target, mut route }): Settle, ctx: &mut Context<Self>) {
        route.is_frozen = false;
        let channels = route.channels();
        channels.iter().for_each(|channel| _ = self.owners.insert(channel.clone(), target.clone()));
        if let (Target::Room(room), Some(recording)) = (&target, &mut route.recording) {
            self.desk.adopt(room, recording);
            if route.feeds.is_empty() {
                self.desk.note_deserted(target.clone(), recording);
            }
        }
        self.routes.insert(target.clone(), route);
        if let (Some(link), false) = (&mut self.link, channels.is_empty()) {
            link.subscribe(channels);
        } else if self.is_up {
            // It lives on channels that are always subscribed.
            self.tell_torn(&target, ctx);
            self.ask_for_marker(&target);
        }
    }
}

impl Handler<PublishPart> for RedisBridge {
    type Result = ResponseFuture<Result<Published, BrokerError>>;

    fn handle(&mut self, PublishPart { order, is_one_of_several }: PublishPart, ctx: &mut Context<Self>) -> Self::Result {
        self.publish(order, is_one_of_several, ctx)
    }
}

impl std::fmt::Debug for Mover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover").field("target", &self.target).finish_non_exhaustive()
    }
}
