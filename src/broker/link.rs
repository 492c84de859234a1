//! The contract of a link: what the bridge asks of the thing that carries messages, and what it is told by it.

use std::{rc::Rc, sync::Arc};

use actix::Message;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::{archive::Archive, claims::Claim};
use crate::{
    actors::{messages::BrokerError, receipt::Receipt},
    protocol::resume::{ResumeKey, RoomHash},
};

/// Carries messages between nodes. All calls return at once; what comes of a subscription is told as [`Confirmed`] or
/// [`Refused`], and while the link is down it is kept and made when it is up again.
pub trait Link {
    fn subscribe(&mut self, channels: Vec<Arc<str>>);
    fn unsubscribe(&mut self, channels: Vec<Arc<str>>);
    /// Sends a marker of the clock soon, which comes back as a [`Marker`]. `rooms`: other nodes should say how far they have
    /// recorded these.
    fn mark(&mut self, rooms: Vec<RoomHash>);
    /// Where histories are kept for all nodes, if anywhere.
    fn archive(&self) -> Option<Rc<dyn Archive>>;
    /// Of several links that all hear what is said to all nodes, one is to act on it.
    fn is_lead(&self) -> bool {
        true
    }
    /// Whether nothing but this link keeps the bus from being up.
    fn is_all(&self) -> bool {
        true
    }
    /// Sends one payload to these channels, in this order. Done when the broker has taken it; says how many listeners it had
    /// on each.
    fn publish(&mut self, channels: Vec<Arc<str>>, payload: Bytes) -> LocalBoxFuture<'static, Result<Vec<u64>, BrokerError>>;
    /// The same, unless something was sent under the claim's key before. Both are one step: whoever dies, or loses patience, leaves
    /// no key behind whose event never went out, and none that did without its key.
    fn publish_once(&mut self, claim: Claim, channels: Vec<Arc<str>>, payload: Bytes)
    -> LocalBoxFuture<'static, Result<Once, BrokerError>>;
    /// What was sent under this claim reached nobody, and may be sent again.
    fn release(&mut self, claim: Claim) -> LocalBoxFuture<'static, ()>;
}

/// What became of a publication under a key.
#[derive(Debug)]
pub enum Once {
    /// With the listeners on each channel.
    Sent(Vec<u64>),
    /// It was sent before, under this id.
    Known(Box<str>),
}

/// Link → bridge, within `mailbox.bridge`: a message of a subscribed channel, in the broker's order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Inbound {
    pub channel: Arc<str>,
    pub payload: Bytes,
}

/// Embedded broker → bridge: a message whose publisher is held up until it is with all that it is for.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tracked {
    pub inbound: Inbound,
    pub receipt: Receipt,
}

/// Link → bridge: messages that found the bridge's mailbox full, by channel.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct InboundLost {
    pub channels: Vec<(Arc<str>, u64)>,
}

/// Link → bridge, in the order of the messages: the broker delivers these channels from here on, and a [`Marker`] that follows
/// was sent after their subscription. Until the next [`LinkUp`] nothing is proven.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Confirmed {
    pub channels: Vec<Arc<str>>,
}

/// Link → bridge: the broker will not deliver these channels.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Refused {
    pub channels: Vec<Arc<str>>,
    pub error: String,
}

/// Link → bridge: the subscription is proven; all that was asked for is confirmed or refused.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LinkUp;

/// Link → bridge: nothing comes any more until channels are confirmed anew, and what is published meanwhile is lost. Also where
/// the link was not up yet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LinkDown;

/// Link → bridge, in the order of the messages: the clock has moved on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Marker {
    pub ms: u64,
    /// Another node begins to count these rooms, and wants to know how far we have recorded them.
    pub wanted: Vec<RoomHash>,
    pub is_foreign: bool,
}

/// Link → bridge, in the order of the messages: these channels have moved to another shard of a cluster, and nothing of their
/// rooms is to be counted here any more. All nodes are told at the same place in the shard's order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Moved {
    pub channels: Vec<Arc<str>>,
}

/// Cluster → its bridge: slots have moved, or primaries have changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LayoutChanged;

/// Link → bridge, in the order of the messages: here something was lost, of whichever channel, or a marker.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Torn;

/// Link → bridge, before [`LinkUp`]: ids are signed with this.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Keyed(pub ResumeKey);
