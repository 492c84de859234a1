//! All that crosses actors, by direction. Orders are imperatives, facts are in the past, questions are nouns.

mod history;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;
use tokio::{sync::oneshot, time::Instant};

use super::{
    outbox::Outbox,
    receipt::Receipt,
    socket::{Cutter, Socket, Spare},
    worker::Worker,
};
use crate::{
    auth::Identity,
    config::Config,
    protocol::{
        Command, ConnectionId, Encoding, ErrorCode, Event, Publication, Reference, Reply, RoomName, Target, UserName,
        dialect::Control,
        engineio::Carrier,
        gossip::{ConnectionReport, NodeChannel, Subject},
        socketio::Namespace,
        wire::Heartbeat,
    },
};

pub use self::history::{Greet, HistoryExtent, Hold, Kept, Release, Replay, Replayed, Track, WouldReplay};

// ---- down: bridge → group → connection --------------------------------------------------------------------------------------

/// Bridge → group, by `try_send` only: fan out this publication.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    pub publication: Arc<Publication>,
    /// When it reached this node.
    pub received: Instant,
    pub receipt: Option<Receipt>,
}

/// Where the bridge delivers a room's or user's publications on one worker.
#[derive(Debug, Clone)]
pub struct Feed {
    pub worker: usize,
    pub deliver_to: Recipient<Deliver>,
    /// Publications that the group's full mailbox refused. The bridge adds, the group takes, counts and tells its members.
    pub missed: Arc<AtomicU64>,
    pub account_to: Recipient<AccountForMissed>,
}

impl Feed {
    /// Notes that the group will not get so many publications. It hears of it even if no other ever comes.
    #[expect(clippy::disallowed_methods, reason = "at most one waits, and it must pass a full mailbox")]
    pub fn miss(&self, publications: u64) {
        if self.missed.fetch_add(publications, Ordering::AcqRel) == 0 {
            self.account_to.do_send(AccountForMissed);
        }
    }
}

/// Bridge → group, when publications were missed and none had been since the group last looked: count them, tell the members.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct AccountForMissed;

/// Registry → group: say this to every member.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Announce(pub Reply);

// ---- up: door → connection → registry ---------------------------------------------------------------------------------------

/// Door → connection: register, and join these rooms. Answers when the client may be told that it is listening. A connection
/// that may not have all of them ends.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Open {
    pub rooms: Vec<RoomName>,
    /// The last id that the client saw.
    pub since: Option<Box<str>>,
}

/// Door → connection: the response head has left; the socket is yours, and these bytes came behind the request.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Attach {
    pub socket: Socket,
    pub early: Bytes,
}

/// Door → connection: the response head is on its way, and a response body carries your bytes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Listen;

/// Door → connection: actix keeps the socket, and this cuts it from outside when the client takes nothing any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct KeepCutter(pub Cutter);

/// Door → connection: do this as if the client had said it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wish(pub Command);

/// Door → connection: input that came by a request body, where actix keeps the socket.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Receive(pub Bytes);

/// Door → connection: a post of a polling client. False if it broke the protocol, which ended the session.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Post {
    pub body: Bytes,
    /// Engine.IO 3 with a body of bytes; else it is text.
    pub is_octets: bool,
}

/// Door → connection: a WebSocket carries you from now on, no more polls. Without a socket a response body carries your bytes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Move {
    pub spare: Option<Spare>,
    /// What the client sent on it already.
    pub early: Bytes,
}

/// Connection → pulse: keep its time.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
    pub outbox: Arc<Outbox>,
    pub heartbeat: Heartbeat,
}

/// Connection → pulse: one of those watched has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unwatch;

/// Connection → registry: a client is here, or is now known to be somebody. Answers when its user's own events are listened to.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Connect {
    pub connection: ConnectionId,
    pub identity: Arc<Identity>,
    pub outbox: Arc<Outbox>,
    /// How its user's own events are spelled; none: it does not want them yet.
    pub user_encoding: Option<Encoding>,
    /// Where a connection joins by itself what the application orders, because it alone knows how a room is spelled for it.
    pub summon: Option<Recipient<Summon>>,
    pub worker: Arc<Worker>,
}

/// Connection → registry: become a member. The greeting reaches the client before the first event of the room; the answer
/// comes when the broker has confirmed the subscription, or after two seconds.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Join {
    pub connection: ConnectionId,
    pub room: RoomName,
    pub encoding: Encoding,
    /// The last id that the client saw there: what came after it is replayed, between the greeting and the live events.
    pub since: Option<Box<str>>,
    pub greeting: Option<Greeting>,
    /// The application ordered it: no rule is asked.
    pub is_granted: bool,
}

/// What a member is told first: that it has joined this room, as an answer to this.
#[derive(Debug, Clone)]
pub struct Greeting {
    pub room: RoomName,
    pub reference: Reference,
}

impl Greeting {
    /// The bytes for a client that stands at this id; none where its wire has no word for it.
    pub fn spell(self, encoding: Encoding, id: Option<Box<str>>) -> Option<Bytes> {
        encoding.reply(&Reply::Joined { room: self.room, id, reference: self.reference })
    }
}

/// Registry → connection: the application wants this of you.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Summon {
    /// Be a member of this room.
    Enter(RoomName),
    /// Be a member no more.
    Leave(RoomName),
    /// Disconnect this namespace.
    Quit(Namespace),
}

/// Connection → registry: a namespace of Socket.IO is connected, and its events are spelled so; or it is no more, and with the
/// root its user's own events end. Answers when what is emitted to all of it is listened to.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Attend {
    pub connection: ConnectionId,
    pub namespace: Namespace,
    pub encoding: Option<Encoding>,
}

/// Bridge → registry, by `try_send` only: a publisher of python-socketio wants this of its clients.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Steer(pub Control);

/// Connection → registry → groups: this Socket.IO connection is carried by a WebSocket now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ChangeCarrier {
    pub connection: ConnectionId,
    pub carrier: Carrier,
}

/// Connection → registry: be a member no more. No event of the room follows the farewell. False if it was none. Answers when
/// the farewell is said.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Leave {
    pub connection: ConnectionId,
    pub room: RoomName,
    pub farewell: Option<Bytes>,
}

/// Connection → registry: a client publishes, under the room's rule.
#[derive(Debug, Message)]
#[rtype(result = "Result<Published, Refusal>")]
pub struct PublishAs {
    pub connection: ConnectionId,
    pub room: RoomName,
    pub event: Event,
}

/// Connection → registry: the client has shown a new token. From now on it may what this identity may; rooms that it is in
/// stay. Refused if it names somebody else.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Renew {
    pub connection: ConnectionId,
    pub identity: Arc<Identity>,
}

/// Connection → registry: the client is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ConnectionEnded {
    pub connection: ConnectionId,
}

/// Registry → group: a member more. Later deliveries follow the greeting.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AddMember {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
    pub greeting: Option<Greeting>,
    pub answer: Option<Answer>,
}

/// Who asked to come in is answered by the group, behind its greeting: on every wire one is told of a room first, and then
/// that what one asked for is done.
pub type Answer = oneshot::Sender<Result<(), Refusal>>;

/// Registry → group: a member less.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RemoveMember {
    pub connection: ConnectionId,
    pub farewell: Option<Bytes>,
    /// Dropped when it is said.
    pub unsaid: Option<oneshot::Sender<()>>,
}

// ---- registry ↔ bridge ------------------------------------------------------------------------------------------------------

/// Registry → bridge: deliver this target's events here. Answers when the broker has confirmed; while the broker is away the
/// wish is kept and the answer waits.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), BrokerError>")]
pub struct Subscribe {
    pub target: Target,
    pub feed: Feed,
}

/// Registry → bridge: deliver no more of it to this worker.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribe {
    pub target: Target,
    pub worker: usize,
}

/// Registry or door → bridge: send this through the broker, to all nodes and back.
#[derive(Debug, Message)]
#[rtype(result = "Result<Published, BrokerError>")]
pub struct Publish {
    pub targets: SmallVec<[Target; 1]>,
    pub event: Event,
    pub except: Vec<ConnectionId>,
    /// Within five minutes a second publish under this key, on whichever node, is answered like the first and not sent.
    pub idempotency_key: Option<Box<str>>,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub id: Box<str>,
    /// Connections of this node that took it.
    pub delivered: usize,
}

/// Bridge → registry: the subscription was lost and is whole again. What was published in between may be missing. Answered when
/// the members were told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BridgeRestored {
    /// The rooms and users that were subscribed when it was lost, and are again.
    pub targets: Vec<Target>,
}

/// Bridge → registry: the broker served these, and refuses them now. Whoever is there listens to nothing.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Revoked(pub Vec<(Target, BrokerError)>);

/// Bridge → registry: the broker delivers, for the first time or again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BridgeUp;

/// Bridge → registry: the broker is lost, and with it what other nodes say, until the next [`BridgeUp`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BridgeDown;

/// Registry → bridge: say this to every node, this one among them. Answers when the broker has taken it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), BrokerError>")]
pub struct TellNodes {
    pub channel: NodeChannel,
    pub payload: Bytes,
}

/// Bridge → registry, by `try_send` only: a node said this.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NodeSaid {
    pub channel: NodeChannel,
    pub payload: Bytes,
}

/// Why the broker did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BrokerError {
    #[error("the broker is not reachable")]
    Unavailable,
    #[error("the broker's queue is full")]
    Overloaded,
    #[error("the broker refuses it: {0}")]
    Refused(String),
    /// No node would read it.
    #[error("the event has {bytes} bytes as it is published, more than {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

// ---- door → registry --------------------------------------------------------------------------------------------------------

/// Hub → registry: tell every connection to go, spread over this time. Answers when all have been told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Drain {
    pub over: Duration,
}

/// Door → registry: another configuration holds from now on. Members stay members.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Reconfigure(pub Arc<Config>);

/// Door → registry: the rooms of this node, by name, with their members here.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(RoomName, usize)>")]
pub struct RoomList;

/// Door → registry: who is in a room; on all nodes where the room's rule asks for presence, else on this one.
#[derive(Debug, Message)]
#[rtype(result = "RoomMembers")]
pub struct RoomMemberList {
    pub room: RoomName,
}

/// The members of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomMembers {
    /// Users with their number of connections, by name.
    pub users: Vec<(UserName, usize)>,
    pub anonymous: usize,
}

/// Door → registry: one connection, of whichever node. `None`: no node has it; an error says that the others could not be asked.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<ConnectionReport>, BrokerError>")]
pub struct ConnectionLookup {
    pub connection: ConnectionId,
}

/// Door → registry: make these connections members of a room, or members no more, on every node. Answers how many of this node
/// are in it now, or have left it; an error says that the other nodes could not be told.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, BrokerError>")]
pub struct Enrol {
    pub subject: Subject,
    pub room: RoomName,
    pub is_member: bool,
}

/// Door → registry: end these connections, for good, on every node. Answers how many of this node it concerned; an error says
/// that the other nodes could not be told.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, BrokerError>")]
pub struct Disconnect {
    pub subject: Subject,
}

/// Why a client's wish was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let code = match error {
            BrokerError::Overloaded => ErrorCode::Overloaded,
            BrokerError::TooLarge { .. } => ErrorCode::TooLarge,
            BrokerError::Unavailable | BrokerError::Refused(_) => ErrorCode::BrokerUnavailable,
        };
        Self::new(code, error.to_string())
    }
}
