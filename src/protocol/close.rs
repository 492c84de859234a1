//! Why a connection ended: one table with what each wire says of it.

/// The reason a connection is closed by the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said goodbye, or its socket ended.
    Gone,
    /// This process stops at once.
    GoingAway,
    /// This process drains: reconnect, elsewhere if you can.
    Draining,
    /// The client reads more slowly than its events come.
    SlowConsumer,
    /// The client is silent: it answers no ping, or acknowledges no byte.
    TimedOut,
    /// The bytes break the protocol of the wire.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidText,
    /// A frame or message over `http.max_frame`.
    TooLarge,
    /// Messages that are no JSON, three times.
    Unsupported,
    /// A rule forbids it: message rate, rooms.
    Policy,
    /// The grant ended and was not renewed.
    Expired,
    /// The server side asked for it (`/api/disconnect`).
    Disconnected,
}

impl CloseReason {
    /// The status code of a WebSocket close frame (RFC 6455 §7.4.1; 1012 and 1013 from IANA's registry).
    pub const fn code(self) -> u16 {
        match self {
            Self::Gone | Self::Disconnected => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::Unsupported => 1003,
            Self::InvalidText => 1007,
            Self::Policy | Self::Expired => 1008,
            Self::TooLarge => 1009,
            Self::TimedOut => 1001,
            Self::Draining => 1012,
            Self::SlowConsumer => 1013,
        }
    }

    /// The name in metrics, logs and close frames.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::GoingAway => "going_away",
            Self::Draining => "draining",
            Self::SlowConsumer => "slow_consumer",
            Self::TimedOut => "timed_out",
            Self::ProtocolError => "protocol_error",
            Self::InvalidText => "invalid_text",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Policy => "policy",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
        }
    }

    /// Whether the client is welcome to connect again, as it is.
    pub const fn invites_back(self) -> bool {
        matches!(self, Self::GoingAway | Self::Draining | Self::SlowConsumer | Self::TimedOut)
    }

    /// Every reason, for tables and metrics.
    pub const ALL: [Self; 12] = [
        Self::Gone,
        Self::GoingAway,
        Self::Draining,
        Self::SlowConsumer,
        Self::TimedOut,
        Self::ProtocolError,
        Self::InvalidText,
        Self::TooLarge,
        Self::Unsupported,
        Self::Policy,
        Self::Expired,
        Self::Disconnected,
    ];
}
