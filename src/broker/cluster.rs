//! ClusterBridge: the bus on a Redis Cluster. A cluster is several buses side by side, each with one order and one clock, so
//! there is a [`RedisBridge`] for each shard, and this actor in front of them knows which room lives where.
//!
//! One per process, started by the hub in place of the one bridge, on the same thread; lives as long as the process. It is on the
//! way of wishes only: events go from each shard's bridge to the groups. A room or user lives in the shard of its native channel.
//! Why it is built so is told in docs/decisions/cluster.md.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
    dev::{MessageResponse, ToEnvelope},
};
use futures_util::future;
use smallvec::SmallVec;

use super::{
    archive::Archive,
    bridge::{
        RedisBridge,
        moving::{Evacuate, PublishPart, Settle, native_channel},
        random_id,
    },
    claims::Claim,
    link::LayoutChanged,
    redis::{Cluster, Layout},
};
use crate::{
    actors::messages::{
        BrokerError, HistoryExtent, Kept, Publish, Published, Reconfigure, Replay, Replayed, Subscribe, TellNodes, Unsubscribe,
    },
    lifeline::{Lifeline, Readiness},
    metrics::Metrics,
    protocol::{RoomName, Target},
};

/// Starts the bridge of a shard.
pub type StartShard = Box<dyn Fn(usize) -> Addr<RedisBridge>>;

pub struct ClusterParts {
    pub cluster: Rc<Cluster>,
    /// Keeps idempotency keys.
    pub archive: Rc<dyn Archive>,
    pub start_shard: StartShard,
    /// `broker.prefix`.
    pub prefix: String,
    pub readiness: Arc<Readiness>,
    pub metrics: Metrics,
    pub lifeline: Option<Lifeline>,
}

pub struct ClusterBridge {
    parts: ClusterParts,
    /// By shard. They never end: one whose slots are gone is used again for the next primary.
    bridges: Vec<Addr<RedisBridge>>,
    /// As the bridges know it.
    layout: Layout,
}

type Answer<T> = ResponseFuture<Result<T, BrokerError>>;

impl ClusterBridge {
    pub fn new(parts: ClusterParts) -> Self {
        let layout = parts.cluster.layout();
        let bridges = (0..parts.cluster.len()).map(&parts.start_shard).collect();
        Self { parts, bridges, layout }
    }

    fn shard_of(&self, target: &Target) -> usize {
        self.layout.shard_of(&native_channel(&self.parts.prefix, target))
    }

    fn bridge_of(&self, target: &Target) -> &Addr<RedisBridge> {
        &self.bridges[self.shard_of(target)]
    }

    fn bridge_of_room(&self, room: &RoomName) -> &Addr<RedisBridge> {
        self.bridge_of(&Target::Room(room.clone()))
    }

    /// Slots have moved: so do rooms. Nobody is answered meanwhile, so that no wish overtakes its room.
    fn rearrange(&mut self, ctx: &mut Context<Self>) {
        while self.bridges.len() < self.parts.cluster.len() {
            self.bridges.push((self.parts.start_shard)(self.bridges.len()));
        }
        let is_complete = self.parts.cluster.is_complete();
        self.parts.readiness.set_broker_up(is_complete);
        self.parts.metrics.broker_up().set(i64::from(is_complete));
        let layout = self.parts.cluster.layout();
        if layout == self.layout {
            return;
        }
        self.layout = layout.clone();
        let evacuated = self.bridges.iter().enumerate().map(|(shard, bridge)| bridge.send(Evacuate { shard, layout: layout.clone() }));
        let evacuated = future::join_all(evacuated).into_actor(self);
        ctx.wait(evacuated.then(|movers, cluster, _| {
            let movers = movers.into_iter().flatten().flatten();
            let settled: Vec<_> = movers.map(|mover| cluster.bridge_of(&mover.target).send(Settle(mover))).collect();
            if !settled.is_empty() {
                log::info!("{} rooms and users have moved to other shards of the Redis Cluster", settled.len());
            }
            future::join_all(settled).into_actor(cluster).map(|_, _, _| ())
        }));
    }

    fn publish(&self, order: Publish) -> Answer<Published> {
        let Publish { targets, mut event, except, .. } = order;
        let id = match event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        event.id = Some(id.clone());
        let mut by_shard: BTreeMap<usize, SmallVec<[Target; 1]>> = BTreeMap::new();
        let is_one_of_several = targets.len() > 1;
        for target in targets {
            by_shard.entry(self.shard_of(&target)).or_default().push(target);
        }
        let parts: Vec<_> = by_shard
            .into_iter()
            .map(|(shard, targets)| {
                let order = Publish { targets, event: event.clone(), except: except.clone(), idempotency_key: None };
                pass_on(&self.bridges[shard], PublishPart { order, is_one_of_several })
            })
            .collect();
        Box::pin(async move {
            let published = future::join_all(parts).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(Published { id, delivered: published.iter().map(|part| part.delivered).sum() })
        })
    }
}

/// Hands a question on; that the bridge is gone is an answer too.
fn pass_on<M, T>(bridge: &Addr<RedisBridge>, message: M) -> Answer<T>
where
    M: Message<Result = Result<T, BrokerError>> + Send + 'static,
    T: Send + 'static,
    RedisBridge: Handler<M>,
    <RedisBridge as Actor>::Context: ToEnvelope<RedisBridge, M>,
    Result<T, BrokerError>: MessageResponse<RedisBridge, M>,
{
    let answer = bridge.send(message);
    Box::pin(async move { answer.await.unwrap_or(Err(BrokerError::Unavailable)) })
}

impl Actor for ClusterBridge {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // What waits here waits for a shard's bridge, and that has a bound.
        ctx.set_mailbox_capacity(65_536);
        actix::spawn(Rc::clone(&self.parts.cluster).watch(ctx.address().recipient()));
    }
}

impl Handler<LayoutChanged> for ClusterBridge {
    type Result = ();

    fn handle(&mut self, LayoutChanged: LayoutChanged, ctx: &mut Context<Self>) {
        self.rearrange(ctx);
    }
}

impl Handler<Subscribe> for ClusterBridge {
    type Result = Answer<()>;

    fn handle(&mut self, wish: Subscribe, _: &mut Context<Self>) -> Self::Result {
        pass_on(self.bridge_of(&wish.target), wish)
    }
}

impl Handler<Unsubscribe> for ClusterBridge {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "once per subscription, and it must not be lost")]
    fn handle(&mut self, wish: Unsubscribe, _: &mut Context<Self>) {
        self.bridge_of(&wish.target).do_send(wish);
    }
}

impl Handler<Publish> for ClusterBridge {
    type Result = Answer<Published>;

    fn handle(&mut self, mut order: Publish, ctx: &mut Context<Self>) -> Self::Result {
        let Some(key) = order.idempotency_key.take() else { return self.publish(order) };
        let id = match order.event.id.take().map_or_else(random_id, Ok) {
            Ok(id) => id,
            Err(error) => return Box::pin(future::ready(Err(error))),
        };
        order.event.id = Some(id.clone());
        let claim = Claim { key, id };
        let (archive, cluster) = (Rc::clone(&self.parts.archive), ctx.address());
        Box::pin(async move {
            // Key and channels may lie on several nodes, so these are two steps. A claim that was answered too late may hold, and nothing
            // was published under it.
            let published = match archive.claim(&claim).await {
                Ok(Some(id)) => return Ok(Published { id, delivered: 0 }),
                Ok(None) => cluster.send(order).await.unwrap_or(Err(BrokerError::Unavailable)),
                Err(error) => Err(error),
            };
            if published.is_err() {
                archive.release(&claim).await;
            }
            published
        })
    }
}

impl Handler<TellNodes> for ClusterBridge {
    type Result = Answer<()>;

    /// Any shard carries it to all nodes.
    fn handle(&mut self, tell: TellNodes, _: &mut Context<Self>) -> Self::Result {
        pass_on(&self.bridges[self.parts.cluster.lead().unwrap_or_default()], tell)
    }
}

impl Handler<Replay> for ClusterBridge {
    type Result = ResponseFuture<Replayed>;

    fn handle(&mut self, question: Replay, _: &mut Context<Self>) -> Self::Result {
        let is_resumed = question.since.is_some();
        let answer = self.bridge_of_room(&question.room).send(question);
        let unknown = Replayed { gap: is_resumed.then_some(crate::protocol::GapReason::BrokerLost), ..Replayed::default() };
        Box::pin(async move { answer.await.unwrap_or(unknown) })
    }
}

impl Handler<Reconfigure> for ClusterBridge {
    type Result = ();

    #[expect(clippy::disallowed_methods, reason = "once per reload, and it must not be lost")]
    fn handle(&mut self, order: Reconfigure, _: &mut Context<Self>) {
        self.bridges.iter().for_each(|bridge| bridge.do_send(order.clone()));
    }
}

impl Handler<HistoryExtent> for ClusterBridge {
    type Result = Answer<Kept>;

    fn handle(&mut self, question: HistoryExtent, _: &mut Context<Self>) -> Self::Result {
        pass_on(self.bridge_of_room(&question.room), question)
    }
}
