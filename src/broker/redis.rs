//! The link to Redis: one PubSub connection that listens and one multiplexed connection for commands, whatever the number of
//! clients and rooms; on a Redis Cluster, so many for each shard. Only this file and its folder know the `redis` crate.
//!
//! One task runs it, next to the bridge. It reads as fast as Redis sends and hands on within `mailbox.bridge`; it never waits
//! for a fan-out, because a reader that is late for 32 MB is cut off by Redis without a word.

mod archive;
mod cluster;
mod connect;
mod key;
mod listen;
mod orders;
mod slots;
mod task;
mod topology;
mod way;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix::Addr;
use bytes::Bytes;
use futures_util::future::{self, LocalBoxFuture};
use redis::{ErrorKind, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, watch},
    task::unconstrained,
};

use self::{
    cluster::is_passing,
    listen::Native,
    orders::{Orders, Wish},
    task::{Marks, Task},
    way::{Seat, Way},
};
use super::{
    archive::Archive,
    bridge::RedisBridge,
    claims::Claim,
    clock::Clock,
    link::{Link, Once},
};
use crate::{
    actors::messages::BrokerError,
    metrics::Metrics,
    protocol::{
        gossip::NodeChannel,
        resume::{ResumeKey, RoomHash},
        source::Standing,
    },
};

pub use self::{
    archive::RedisArchive,
    cluster::{Cluster, Seeds},
    connect::{AddressError, Connector},
    topology::Layout,
};

/// The bridge's end of the link.
pub struct RedisLink {
    /// The task takes them before each attempt to connect, so an outage heaps up no more than a few seconds' worth.
    wishes: mpsc::UnboundedSender<Wish>,
    /// The command connection, while the link is up.
    commands: watch::Receiver<Option<MultiplexedConnection>>,
    prefix: String,
    native: Native,
    /// On a cluster.
    seat: Option<Seat>,
}

/// Which Redis a link is to.
pub enum Place {
    One(Connector),
    /// One shard of a cluster, as this node counts them.
    Shard(Rc<Cluster>, usize),
}

pub struct LinkParts {
    pub place: Place,
    /// `broker.prefix`.
    pub prefix: String,
    /// What every node listens to all the time.
    pub standing: Vec<Standing>,
    /// This node's name on the clock.
    pub node: String,
    /// Offered to the nodes as the key that signs their ids.
    pub key: ResumeKey,
    pub bridge: Addr<RedisBridge>,
    pub metrics: Metrics,
}

impl RedisLink {
    /// Starts the task on this thread. It connects, and connects again, for as long as the bridge lives.
    pub fn start(parts: LinkParts) -> Self {
        let (wishes, wished) = mpsc::unbounded_channel();
        let (commands, command_connection) = watch::channel(None);
        let (way, seat) = match parts.place {
            Place::One(connector) => (Way::One(connector), None),
            Place::Shard(cluster, shard) => {
                let seat = Seat { cluster, shard };
                (Way::Shard(seat.clone()), Some(seat))
            }
        };
        let task = Task {
            way,
            clock_channel: Arc::from(""),
            gossip: NodeChannel::ALL.iter().map(|channel| channel.name(&parts.prefix)).collect(),
            astray: Vec::new(),
            leaving: HashSet::default(),
            farewell: None,
            standing: parts.standing,
            clock: Clock::new(&parts.node),
            bridge: parts.bridge,
            metrics: parts.metrics,
            wished,
            commands,
            wanted: HashMap::default(),
            confirmed: Vec::new(),
            joined: 0,
            orders: Orders::default(),
            lost: HashMap::default(),
            refusal_logged: None,
            marks: Marks::default(),
            is_whole: true,
            prefix: parts.prefix.clone(),
            key: parts.key,
        };
        actix::spawn(task.run());
        Self { wishes, commands: command_connection, native: Native::new(&parts.prefix), prefix: parts.prefix, seat }
    }

    fn redis_archive(&self) -> RedisArchive {
        match &self.seat {
            None => RedisArchive::new(self.prefix.clone(), self.commands.clone()),
            Some(seat) => RedisArchive::on_cluster(self.prefix.clone(), Rc::clone(&seat.cluster)),
        }
    }

    fn wish(&self, wish: Wish) {
        // The task ends only with the bridge.
        let _ = self.wishes.send(wish);
    }
}

impl Link for RedisLink {
    fn subscribe(&mut self, channels: Vec<Arc<str>>) {
        self.wish(Wish::Subscribe(channels));
    }

    fn unsubscribe(&mut self, channels: Vec<Arc<str>>) {
        self.wish(Wish::Unsubscribe(channels));
    }

    fn mark(&mut self, rooms: Vec<RoomHash>) {
        self.wish(Wish::Mark(rooms));
    }

    fn archive(&self) -> Option<Rc<dyn Archive>> {
        Some(Rc::new(self.redis_archive()))
    }

    fn is_lead(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.cluster.lead() == Some(seat.shard))
    }

    fn is_all(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.cluster.is_complete())
    }

    fn publish_once(
        &mut self,
        claim: Claim,
        channels: Vec<Arc<str>>,
        payload: Bytes,
    ) -> LocalBoxFuture<'static, Result<Once, BrokerError>> {
        let Some(mut connection) = self.commands.borrow().clone() else {
            return Box::pin(future::ready(Err(BrokerError::Unavailable)));
        };
        let (_, mut command) = archive::claiming(&self.prefix, &claim);
        command.arg(&payload[..]);
        channels.iter().for_each(|channel| _ = command.arg(&**channel));
        begin(async move {
            let (is_known, id, listeners): archive::Claimed =
                command.query_async(&mut connection).await.map_err(|error| refusal(&error))?;
            Ok(if is_known { Once::Known(id.into()) } else { Once::Sent(listeners) })
        })
    }

    fn release(&mut self, claim: Claim) -> LocalBoxFuture<'static, ()> {
        self.redis_archive().release(&claim)
    }

    fn publish(&mut self, channels: Vec<Arc<str>>, payload: Bytes) -> LocalBoxFuture<'static, Result<Vec<u64>, BrokerError>> {
        let Some(mut connection) = self.commands.borrow().clone() else {
            return Box::pin(future::ready(Err(BrokerError::Unavailable)));
        };
        let mut pipeline = redis::pipe();
        for channel in &channels {
            let command = self.seat.as_ref().map_or("PUBLISH", |seat| seat.publishing(channel, &self.native));
            pipeline.cmd(command).arg(&**channel).arg(&payload[..]);
        }
        let seat = self.seat.clone();
        begin(async move {
            match pipeline.query_async::<Vec<u64>>(&mut connection).await {
                Ok(listeners) => Ok(listeners),
                Err(error) if is_passing(&error) && seat.is_some() => {
                    seat.iter().for_each(|seat| seat.cluster.look_again());
                    Err(BrokerError::Unavailable)
                }
                Err(error) => Err(refusal(&error)),
            }
        })
    }
}

/// Puts the command into the connection's queue now, so that events leave in the order in which they were published, whichever
/// answer is waited for first.
fn begin<T: 'static>(asked: impl Future<Output = T> + 'static) -> LocalBoxFuture<'static, T> {
    let mut asked = Box::pin(unconstrained(asked));
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Box::pin(future::ready(answer)),
        Poll::Pending => asked,
    }
}

/// Redis has answered, and the answer is no.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// What an error means to a publisher.
fn refusal(error: &RedisError) -> BrokerError {
    if is_answer(error) { BrokerError::Refused(error.to_string()) } else { BrokerError::Unavailable }
}
