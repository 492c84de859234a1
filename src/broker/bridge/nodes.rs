//! The channels on which nodes talk to each other: past the sources, between the link and the registry.

use std::sync::Arc;

use actix::{Context, Handler, Recipient, ResponseFuture, prelude::SendError};
use bytes::Bytes;
use futures_util::future;

use super::RedisBridge;
use crate::{
    actors::messages::{BrokerError, NodeSaid, TellNodes},
    metrics::Metrics,
    protocol::{gossip::NodeChannel, source::Standing},
};

/// What every node listens to beside its sources.
pub fn standing(prefix: &str) -> impl Iterator<Item = Standing> {
    NodeChannel::ALL.into_iter().map(move |channel| Standing::Channel(channel.name(prefix).into()))
}

/// Which of the nodes' channels this is, if it is one.
pub fn node_channel(channel: &str, prefix: &str) -> Option<NodeChannel> {
    let name = channel.strip_prefix(prefix)?.strip_prefix(':')?;
    NodeChannel::ALL.into_iter().find(|channel| channel.as_str() == name)
}

/// Hands on what a node said. It may be lost: presence is mended by heartbeats, and an order is counted.
pub fn hand_on(said: &Recipient<NodeSaid>, channel: NodeChannel, payload: Bytes, metrics: &Metrics) {
    if let Err(SendError::Full(_)) = said.try_send(NodeSaid { channel, payload }) {
        metrics.mailbox_full("registry");
    }
}

impl Handler<TellNodes> for RedisBridge {
    type Result = ResponseFuture<Result<(), BrokerError>>;

    fn handle(&mut self, TellNodes { channel, payload }: TellNodes, _: &mut Context<Self>) -> Self::Result {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Box::pin(future::ready(Err(BrokerError::Overloaded)));
        };
        let Some(link) = &mut self.link else { return Box::pin(future::ready(Err(BrokerError::Unavailable))) };
        let sent = link.publish(vec![channel.name(&self.parts.prefix).into()], payload);
        Box::pin(async move {
            let taken = sent.await;
            drop(permit);
            taken.map(drop)
        })
    }
}
