//! Publishers' dialects: the payload formats of the packages that people already publish to Redis with.
//!
//! One file a dialect, each a pure decoder from a payload to deliveries. Nothing is sniffed: the source in the configuration
//! names the dialect. What doesn't decode is an error with a reason to count, never fatal. Whom a channel stands for is no
//! matter of a dialect: [`super::source`] knows.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    str::FromStr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Deserialize;
use thiserror::Error;

use super::{
    event::Event,
    names::{EventName, NameError, RoomName},
    socketio::{Namespace, NamespaceError},
};

mod action_cable;
mod anycable;
pub mod callboard;
mod django_eventstream;
mod django_sse;
mod flask_sse;
mod gevent_socketio;
mod laravel;
mod msgpack;
mod namespace;
mod payload;
mod python_socketio;
mod raw;
mod socketio_emitter;

pub use payload::{MAX_BINARY_PAYLOAD_BYTES, MAX_DEPTH, MAX_PAYLOAD_BYTES};

/// Most rooms that one payload may name, and most messages that one may hold.
pub const MAX_DELIVERIES: usize = 4096;

/// A publisher's payload format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Dialect {
    /// The hub's own.
    Callboard,
    /// The whole payload is the data of event `message`.
    Raw,
    DjangoSse,
    GeventSocketio,
    FlaskSse,
    DjangoEventstream,
    PythonSocketio,
    /// `@socket.io/redis-emitter` 5, and servers with `@socket.io/redis-adapter` 8.
    SocketioEmitter,
    ActionCable,
    Anycable,
    Laravel,
}

/// The configuration names a dialect that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown dialect `{0}`; the dialects are {names}", names = Dialect::ALL.map(Dialect::as_str).join(", "))]
pub struct UnknownDialect(pub String);

impl Dialect {
    /// Every dialect, for tables and messages.
    pub const ALL: [Self; 11] = [
        Self::Callboard,
        Self::Raw,
        Self::DjangoSse,
        Self::GeventSocketio,
        Self::FlaskSse,
        Self::DjangoEventstream,
        Self::PythonSocketio,
        Self::SocketioEmitter,
        Self::ActionCable,
        Self::Anycable,
        Self::Laravel,
    ];

    /// The name in config.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Callboard => "callboard",
            Self::Raw => "raw",
            Self::DjangoSse => "django-sse",
            Self::GeventSocketio => "gevent-socketio",
            Self::FlaskSse => "flask-sse",
            Self::DjangoEventstream => "django-eventstream",
            Self::PythonSocketio => "python-socketio",
            Self::SocketioEmitter => "socket.io-emitter",
            Self::ActionCable => "action-cable",
            Self::Anycable => "anycable",
            Self::Laravel => "laravel",
        }
    }

    /// True where the payload itself says which room it is for, so that one channel carries all of them.
    pub const fn names_rooms(self) -> bool {
        matches!(self, Self::DjangoEventstream | Self::PythonSocketio | Self::SocketioEmitter | Self::Anycable)
    }

    /// True where a payload may be for everyone on Socket.IO in a namespace, or for all but the members of some rooms.
    pub const fn addresses_namespaces(self) -> bool {
        matches!(self, Self::PythonSocketio | Self::SocketioEmitter)
    }

    /// What a payload asks for. A payload may ask for nothing, and may ask for the same event in several rooms.
    pub fn decode(self, options: Options, payload: &[u8]) -> Result<Vec<Delivery>, DecodeError> {
        // Only the hub's own payloads carry base64, and say so once they are read.
        payload::check_size(payload, if self == Self::Callboard { MAX_BINARY_PAYLOAD_BYTES } else { MAX_PAYLOAD_BYTES })?;
        match self {
            Self::Callboard => callboard::decode(payload),
            Self::Raw => raw::decode(payload),
            Self::DjangoSse => django_sse::decode(payload),
            Self::GeventSocketio => gevent_socketio::decode(options, payload),
            Self::FlaskSse => flask_sse::decode(payload),
            Self::DjangoEventstream => django_eventstream::decode(payload),
            Self::PythonSocketio => python_socketio::decode(options, payload),
            Self::SocketioEmitter => socketio_emitter::decode(payload),
            Self::ActionCable => action_cable::decode(payload),
            Self::Anycable => anycable::decode(payload),
            Self::Laravel => laravel::decode(payload),
        }
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == text).ok_or_else(|| UnknownDialect(text.to_owned()))
    }
}

impl TryFrom<String> for Dialect {
    type Error = UnknownDialect;
    fn try_from(text: String) -> Result<Self, UnknownDialect> {
        text.parse()
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What python-socketio puts in `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataShape {
    /// A list of arguments: since 5.15.1.
    #[default]
    List,
    /// The one bare argument: 5.14.0 to 5.15.0.
    Raw,
}

/// A source's choices where one dialect has two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// gevent-socketio: the room stays the first argument.
    pub room_argument: bool,
    /// python-socketio: what `data` holds.
    pub data: DataShape,
    /// python-socketio: publishers may move and disconnect clients.
    pub control: bool,
}

/// One thing that a payload asks for. `To` is [`Address`] as a dialect reads it, and a [`super::publication::Target`] once
/// the source has said whom its channel stands for.
#[derive(Debug, Clone)]
pub enum Delivery<To = Address> {
    Emit(Emit<To>),
    Control(Control),
}

/// An event and whom it is for.
#[derive(Debug, Clone)]
pub struct Emit<To = Address> {
    pub to: To,
    /// Shared by all deliveries of one event.
    pub event: Arc<Event>,
    /// Who is not to get it, as the publisher named them: connection ids, or a Socket.IO server's session ids.
    pub except: Arc<[Box<str>]>,
    /// Rooms whose members are not to get it, by the hub's names.
    pub except_rooms: Arc<[RoomName]>,
    /// Equal on the deliveries of one event to several rooms, and on no others.
    pub duplicate_key: Option<u64>,
}

/// Whom a payload is for, as far as the payload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The room or user that the channel stands for.
    Channel,
    Room(RoomName),
    /// Everyone on Socket.IO in this namespace, `/` included.
    Namespace(Namespace),
}

/// What a python-socketio publisher wants done to clients. Nothing of it is made unless the source has `control = true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    EnterRoom { sid: Box<str>, room: RoomName },
    LeaveRoom { sid: Box<str>, room: RoomName },
    Disconnect { sid: Box<str>, namespace: Namespace },
    CloseRoom { room: RoomName },
}

/// Why a payload was dropped. No message holds any of the payload: logs never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("payload has {actual} bytes, more than {limit}")]
    TooLarge { actual: usize, limit: usize },
    #[error("payload nests deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("payload holds more than {limit} rooms or messages")]
    TooMany { limit: usize },
    #[error("payload is a Python pickle, which is never read: python-socketio publishes JSON since 5.14, upgrade the publisher")]
    Pickle,
    #[error("payload is no UTF-8 text")]
    NotUtf8,
    #[error("payload is no JSON: line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("payload is no MessagePack, or ends too early or too late")]
    NotMessagePack,
    #[error("payload is not {expected}")]
    WrongShape { expected: &'static str },
    #[error("{what} name {source}")]
    NameInvalid { what: &'static str, source: NameError },
    #[error(transparent)]
    NamespaceInvalid(#[from] NamespaceError),
}

impl DecodeError {
    /// Every [`Self::reason`].
    pub const REASONS: [&str; 9] =
        ["too_large", "too_deep", "too_many", "pickle", "not_utf8", "not_json", "not_message_pack", "wrong_shape", "name_invalid"];

    /// The reason in metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooDeep { .. } => "too_deep",
            Self::TooMany { .. } => "too_many",
            Self::Pickle => "pickle",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::NotMessagePack => "not_message_pack",
            Self::WrongShape { .. } => "wrong_shape",
            Self::NameInvalid { .. } | Self::NamespaceInvalid(_) => "name_invalid",
        }
    }
}

impl Emit {
    fn new(to: Address, event: Event) -> Self {
        Self { to, event: Arc::new(event), except: Arc::default(), except_rooms: Arc::default(), duplicate_key: None }
    }
}

/// The usual payload: one event for the room or user of its channel.
fn to_channel(event: Event) -> Vec<Delivery> {
    vec![Delivery::Emit(Emit::new(Address::Channel, event))]
}

fn event_name(text: &str) -> Result<EventName, DecodeError> {
    EventName::parse(text).map_err(|source| DecodeError::NameInvalid { what: "event", source })
}

fn room_name(text: &str) -> Result<RoomName, DecodeError> {
    RoomName::parse(text).map_err(|source| DecodeError::NameInvalid { what: "room", source })
}

/// A key that no other event of this process has. A hash of the payload would not do: a publisher that says the same twice
/// wants it heard twice. The start is drawn so that keys of other nodes, which come in native payloads, don't meet these.
fn fresh_duplicate_key() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0)));
    NEXT.fetch_add(1, Ordering::Relaxed)
}
