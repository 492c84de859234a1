//! Names that users choose, and the ids that the hub gives. A value of these types exists only if it is valid.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// Longest room or user name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 200;
/// Longest event name, in bytes of UTF-8.
pub const MAX_EVENT_NAME_BYTES: usize = 128;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("has {actual} bytes, more than {limit}")]
    TooLong { actual: usize, limit: usize },
    #[error("has a control character at byte {at}")]
    ControlCharacter { at: usize },
}

fn check_name(text: &str) -> Result<(), NameError> {
    check_length(text, MAX_NAME_BYTES)?;
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(NameError::ControlCharacter { at }),
        None => Ok(()),
    }
}

/// CR, LF and NUL would forge fields of an SSE stream (WHATWG HTML §9.2.6); other characters are the publisher's choice.
fn check_event_name(text: &str) -> Result<(), NameError> {
    check_length(text, MAX_EVENT_NAME_BYTES)?;
    match text.bytes().position(|b| matches!(b, b'\r' | b'\n' | 0)) {
        Some(at) => Err(NameError::ControlCharacter { at }),
        None => Ok(()),
    }
}

fn check_length(text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        actual if actual > limit => Err(NameError::TooLong { actual, limit }),
        _ => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(|error| serde::de::Error::custom(format_args!("the name {text:?} {error}")))
            }
        }
    };
}

name_type!(
    /// A room: 1 to 200 bytes of UTF-8 without control characters.
    RoomName,
    check_name
);
name_type!(
    /// A user: 1 to 200 bytes of UTF-8 without control characters.
    UserName,
    check_name
);
name_type!(
    /// An event's name: 1 to 128 bytes of UTF-8 without CR, LF or NUL.
    EventName,
    check_event_name
);

impl EventName {
    /// What an event is called when its publisher gave no name; SSE leaves the `event:` field out for it.
    pub const DEFAULT: &'static str = "message";

    pub fn is_default(&self) -> bool {
        self.as_str() == Self::DEFAULT
    }
}

impl Default for EventName {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

/// One live client, on every node: the upper half is drawn at random by its node at start, the lower half counts.
/// Public: it names a connection in `except` and in the API, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub const fn new(node: u32, number: u32) -> Self {
        Self(((node as u64) << 32) | number as u64)
    }

    /// Whose it is.
    pub const fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ConnectionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ConnectionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format_args!("{text:?} is no connection id")))
    }
}

impl FromStr for ConnectionId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bounded_in_bytes_not_in_characters() {
        assert!(RoomName::parse(&"é".repeat(100)).is_ok());
        assert_eq!(RoomName::parse(&"é".repeat(101)), Err(NameError::TooLong { actual: 202, limit: 200 }));
        assert_eq!(RoomName::parse(""), Err(NameError::Empty));
    }

    #[test]
    fn a_room_name_holds_no_control_character_of_any_plane() {
        for text in ["a\nb", "a\u{7f}", "a\u{85}b", "\0"] {
            assert!(matches!(RoomName::parse(text), Err(NameError::ControlCharacter { .. })), "{text:?}");
        }
    }

    #[test]
    fn an_event_name_cannot_forge_a_field_of_a_stream() {
        for text in ["a\rb", "a\nb", "a\0b"] {
            assert_eq!(EventName::parse(text), Err(NameError::ControlCharacter { at: 1 }), "{text:?}");
        }
        assert!(EventName::parse("tab\tis fine").is_ok());
    }

    #[test]
    fn a_connection_id_reads_back_as_it_was_written() {
        let id = ConnectionId::new(0xdead_beef, 7);
        assert_eq!(id.to_string(), "deadbeef00000007");
        assert_eq!(id.to_string().parse::<ConnectionId>(), Ok(id));
    }
}
