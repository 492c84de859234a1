//! Notices: what the hub tells a client of its own accord, as the JSON that every wire shows. SSE and Socket.IO send a
//! notice as an event; the native WebSocket as a message with a `type`.

use serde::Serialize;

use super::{
    command::{GapReason, Reply},
    names::{RoomName, UserName},
};

/// The fields of a notice.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Notice<'a> {
    Gap {
        rooms: &'a [RoomName],
        /// The user's own events may be missing too.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        user: bool,
        reason: GapReason,
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<u64>,
    },
    Presence {
        room: &'a RoomName,
        joined: &'a [UserName],
        left: &'a [UserName],
    },
}

impl<'a> Notice<'a> {
    /// `None` for the replies that answer a command.
    pub fn of(reply: &'a Reply) -> Option<Self> {
        match reply {
            Reply::Gap { rooms, user, reason, dropped } => Some(Self::Gap { rooms, user: *user, reason: *reason, dropped: *dropped }),
            Reply::Presence { room, joined, left } => Some(Self::Presence { room, joined, left }),
            Reply::Welcome { .. }
            | Reply::Joined { .. }
            | Reply::Left { .. }
            | Reply::Ack { .. }
            | Reply::Pong { .. }
            | Reply::Error { .. } => None,
        }
    }

    /// The event's name on wires that show a notice as an event.
    pub const fn event_name(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "callboard:gap",
            Self::Presence { .. } => "callboard:presence",
        }
    }

    /// The JSON text, one line.
    pub fn to_json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => json,
            // Struct fields, strings and numbers: nothing in them fails to serialize.
            Err(error) => unreachable!("a notice always serializes: {error}"),
        }
    }
}
