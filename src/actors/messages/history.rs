//! What crosses actors where a room has history: those who come back are held, what they missed is asked for, then they are
//! released.

use std::sync::Arc;

use actix::{Message, dev::MessageResponse};

use super::{Answer, BrokerError, Greeting};
use crate::{
    actors::{outbox::Outbox, replay::Positions},
    protocol::{ConnectionId, Encoding, GapReason, Publication, RoomName, resume::Point},
};

/// Registry → group: a member more, to whom nothing is delivered before its [`Release`]. What is published meanwhile is kept.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Hold {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
}

/// Registry → group: deliver to a held member what it missed, then what was kept and is later, then what comes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Release {
    pub connection: ConnectionId,
    pub greeting: Option<Greeting>,
    /// Where the client stands before the first of them: the id in its greeting.
    pub stands: Option<Point>,
    pub missed: Vec<Arc<Publication>>,
    /// Nothing up to here is sent again. `None`: the room has no numbers now.
    pub after: Option<Point>,
    /// That is further on than what has come by on this node.
    pub is_ahead: bool,
    /// The client showed an id.
    pub is_resumed: bool,
    pub positions: Option<Arc<Positions>>,
    pub answer: Option<Answer>,
}

/// Registry → group: say this to one member.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Greet {
    pub connection: ConnectionId,
    pub greeting: Option<Greeting>,
    pub stands: Option<Point>,
    pub answer: Answer,
}

/// Registry → group: from now on the ids of this member's stream cover other rooms too.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Track {
    pub connection: ConnectionId,
    pub positions: Arc<Positions>,
}

/// Registry → bridge, for a room with history: where does it stand, and what came after this id? Asked after the group was told
/// to [`Hold`] the member, so that what comes later than the answer is kept there.
#[derive(Debug, Message)]
#[rtype(result = "Replayed")]
pub struct Replay {
    pub room: RoomName,
    pub since: Option<Box<str>>,
    /// Nobody gets what it says: whoever asks only wants to know whether it would be whole.
    pub is_trial: bool,
}

/// Connection → registry: would all be replayed that came in these rooms after this id?
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct WouldReplay {
    pub rooms: Vec<RoomName>,
    pub since: Box<str>,
}

/// What a member of a room with history missed.
#[derive(Debug, Clone, Default, MessageResponse)]
pub struct Replayed {
    /// In order.
    pub missed: Vec<Arc<Publication>>,
    /// Everything up to here is among them, or was seen before. `None`: the room has no numbers now.
    pub after: Option<Point>,
    /// Some of it is still to come by: the client has been on a node that is ahead of this one, or this one is catching up.
    pub is_ahead: bool,
    /// Where the client stands before the first of them, if that is known.
    pub from: Option<Point>,
    /// Why there may be more than that.
    pub gap: Option<GapReason>,
}

/// Door → bridge: what is kept of a room?
#[derive(Debug, Message)]
#[rtype(result = "Result<Kept, BrokerError>")]
pub struct HistoryExtent {
    pub room: RoomName,
}

/// What is kept of a room: how many events, and the ids of the first and last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    pub length: usize,
    pub first: Option<Box<str>>,
    pub last: Option<Box<str>>,
}
