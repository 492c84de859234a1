//! The dialogue with a client, the same on every wire that has one: commands come up, replies go down.

use serde::Serialize;

use super::{
    event::Event,
    names::{ConnectionId, RoomName, UserName},
};

/// What a client's message is called by when it is answered. Made by a wire and read only by the same wire: JSON text of
/// the `ref` on the native WebSocket, an ack's id on Socket.IO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference(pub Option<Box<str>>);

/// What a client wants.
#[derive(Debug, Clone)]
pub enum Command {
    Join {
        room: RoomName,
        since: Option<Box<str>>,
        reference: Reference,
    },
    Leave {
        room: RoomName,
        reference: Reference,
    },
    Publish {
        room: RoomName,
        event: Event,
        reference: Reference,
    },
    /// Renews the grant in place.
    Token {
        token: Box<str>,
        reference: Reference,
    },
    Ping {
        reference: Reference,
    },
}

impl Command {
    pub fn into_reference(self) -> Reference {
        match self {
            Self::Join { reference, .. }
            | Self::Leave { reference, .. }
            | Self::Publish { reference, .. }
            | Self::Token { reference, .. }
            | Self::Ping { reference } => reference,
        }
    }
}

/// What the hub says to a client beside events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Welcome {
        connection: ConnectionId,
        user: Option<UserName>,
    },
    Joined {
        room: RoomName,
        /// Where the client stands in a room with history: what it shows to resume before the first event came.
        id: Option<Box<str>>,
        reference: Reference,
    },
    Left {
        room: RoomName,
        reference: Reference,
    },
    Ack {
        id: Option<Box<str>>,
        reference: Reference,
    },
    Pong {
        reference: Reference,
    },
    /// Events may be missing and were not replayed.
    Gap {
        rooms: Vec<RoomName>,
        user: bool,
        reason: GapReason,
        dropped: Option<u64>,
    },
    /// Members of a room with presence came or went.
    Presence {
        room: RoomName,
        joined: Vec<UserName>,
        left: Vec<UserName>,
    },
    Error {
        code: ErrorCode,
        message: String,
        reference: Reference,
    },
}

/// Why a client's command was refused; the `code` of an error on WebSocket, Socket.IO and HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    RoomNameInvalid,
    UserNameInvalid,
    EventNameInvalid,
    Forbidden,
    Unauthorized,
    NotJoined,
    TooManyRooms,
    TooManyConnections,
    RateLimited,
    TooLarge,
    Overloaded,
    BrokerUnavailable,
    /// Who could say who the client is does not answer.
    AuthUnavailable,
    Draining,
    NotFound,
    MethodNotAllowed,
    TimedOut,
    Internal,
}

impl ErrorCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::RoomNameInvalid => "room_name_invalid",
            Self::UserNameInvalid => "user_name_invalid",
            Self::EventNameInvalid => "event_name_invalid",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::NotJoined => "not_joined",
            Self::TooManyRooms => "too_many_rooms",
            Self::TooManyConnections => "too_many_connections",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::AuthUnavailable => "auth_unavailable",
            Self::Draining => "draining",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TimedOut => "timed_out",
            Self::Internal => "internal",
        }
    }
}

/// Why events may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The subscription was lost; what was published meanwhile is gone.
    BrokerLost,
    /// A queue of the hub was full.
    Overflow,
    /// The history does not reach back to the client's last id.
    HistoryTrimmed,
    /// The client's last id is not one of ours, or of another time.
    UnknownPosition,
    /// The room keeps no history to replay from.
    NoHistory,
}

impl GapReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerLost => "broker_lost",
            Self::Overflow => "overflow",
            Self::HistoryTrimmed => "history_trimmed",
            Self::UnknownPosition => "unknown_position",
            Self::NoHistory => "no_history",
        }
    }
}
