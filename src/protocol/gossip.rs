//! Gossip: what nodes say to each other on two channels of their own. Announcements of presence, which may be lost and are then
//! mended by the next heartbeat, orders of the application, which every node carries out for its own connections, and its questions
//! about a connection of another node.
//!
//! Fields that a node does not know are ignored, so that nodes of two releases can run side by side.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::names::{ConnectionId, RoomName, UserName};

/// Longest announcement that is read.
pub const MAX_BYTES: usize = 64 * 1024;
/// Longest order, question or answer: an answer names all rooms of a connection, of which there may be 100,000.
const MAX_CONTROL_BYTES: usize = 48 * 1024 * 1024;
/// Names in one announcement, in bytes. JSON doubles them at worst, and adds some 15 bytes to each.
const NAMES_PER_ANNOUNCEMENT: usize = 12 * 1024;
/// What a name costs beside its bytes, for the bound above.
const NAME_COST: usize = 16;

/// A channel that all nodes listen to, all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChannel {
    /// Who is where: [`Announcement`]s.
    Presence,
    /// What the application orders and asks: [`Control`].
    Control,
}

impl NodeChannel {
    pub const ALL: [Self; 2] = [Self::Presence, Self::Control];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Control => "control",
        }
    }

    /// Its name on Redis; `prefix` is `broker.prefix`.
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}:{}", self.as_str())
    }
}

/// Why a payload is no gossip.
#[derive(Debug, Error)]
pub enum GossipError {
    #[error("has {bytes} bytes, more than {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("is not as expected: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl GossipError {
    /// For the metric.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
        }
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8], limit: usize) -> Result<T, GossipError> {
    if payload.len() > limit {
        return Err(GossipError::TooLarge { bytes: payload.len(), limit });
    }
    Ok(serde_json::from_slice(payload)?)
}

fn encode(value: &impl Serialize) -> Bytes {
    match serde_json::to_vec(value) {
        Ok(json) => json.into(),
        // Struct fields, strings and numbers: nothing in them fails to serialize.
        Err(error) => unreachable!("gossip always serializes: {error}"),
    }
}

// ---- presence ---------------------------------------------------------------------------------------------------------------

/// What a node says of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub node: u32,
    /// Counts up, by one for each announcement of the node.
    pub sequence: u64,
    #[serde(flatten)]
    pub word: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Word {
    /// Tell me whom you have: said by a node that has just come, or come back.
    Sync,
    /// Of these nodes I have heard lately, and could have heard of any: the answer to a node that could not.
    Heard { nodes: Vec<u32> },
    /// I have nobody any more.
    Goodbye,
    /// These counts are others now.
    Change { rooms: Vec<Share> },
    /// A part of all that I have, the parts following one another. What none of them names is no more.
    Heartbeat { part: u32, parts: u32, rooms: Vec<Share> },
}

/// A node's members of a room, or some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub room: RoomName,
    /// Users and how many connections they have there; 0: none any more.
    pub users: Vec<(UserName, u32)>,
    /// Connections of nobody in particular.
    pub anonymous: u32,
}

impl Announcement {
    pub fn decode(payload: &[u8]) -> Result<Self, GossipError> {
        decode(payload, MAX_BYTES)
    }

    pub fn encode(&self) -> Bytes {
        encode(self)
    }
}

/// Parts of bounded size that together say the same.
pub fn chunks(shares: impl IntoIterator<Item = Share>) -> Vec<Vec<Share>> {
    let mut chunks = Vec::new();
    let mut chunk: Vec<Share> = Vec::new();
    let mut size = 0;
    for Share { room, users, anonymous } in shares {
        let new = || Share { room: room.clone(), users: Vec::new(), anonymous };
        let mut share = new();
        size += room.as_str().len() + NAME_COST;
        for (user, connections) in users {
            size += user.as_str().len() + NAME_COST;
            if size > NAMES_PER_ANNOUNCEMENT {
                chunk.push(std::mem::replace(&mut share, new()));
                chunks.push(std::mem::take(&mut chunk));
                size = room.as_str().len() + user.as_str().len() + 2 * NAME_COST;
            }
            share.users.push((user, connections));
        }
        chunk.push(share);
        if size > NAMES_PER_ANNOUNCEMENT {
            chunks.push(std::mem::take(&mut chunk));
            size = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

// ---- orders -----------------------------------------------------------------------------------------------------------------

/// What an application's server ordered one node to do, and that node asks of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The node that took it, and has done its part.
    pub node: u32,
    pub subject: Subject,
    #[serde(flatten)]
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Deed {
    Join { room: RoomName },
    Leave { room: RoomName },
    Disconnect,
}

/// Who is meant by a server-side order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    User(UserName),
    Connection(ConnectionId),
}

// ---- questions --------------------------------------------------------------------------------------------------------------

/// Asks the node that has it about one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The node that asks.
    pub node: u32,
    /// Told with the answer.
    pub number: u64,
    pub about: ConnectionId,
}

/// Answers the node that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub to: u32,
    pub number: u64,
    /// `None`: the connection has ended.
    pub found: Option<ConnectionReport>,
}

/// How one connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    pub wire: Box<str>,
    pub user: Option<UserName>,
    pub rooms: Vec<RoomName>,
    /// Events that wait for it.
    pub queued: usize,
    /// Events given up for it.
    pub dropped: u64,
}

/// All that is said on [`NodeChannel::Control`]. Each is told by its fields from the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Control {
    Order(Order),
    Question(Question),
    Answer(Answer),
}

impl Control {
    pub fn decode(payload: &[u8]) -> Result<Self, GossipError> {
        decode(payload, MAX_CONTROL_BYTES)
    }

    pub fn encode(&self) -> Bytes {
        encode(self)
    }
}
