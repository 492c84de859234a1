//! `[[source]]`: which Redis channels feed which room or user, and in whose dialect. Text only; `protocol` knows what it means.

use serde::{Deserialize, Serialize};

use crate::protocol::dialect::Dialect;

/// How a python-socketio payload carries an event's arguments: publishers since 5.15.1 send a list, 5.14.0 to 5.15.0 the bare
/// value, and a payload does not say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceData {
    #[default]
    List,
    Raw,
}

/// What a mistake in `dialect` is answered with.
const DIALECTS: &str = "expected one of callboard, raw, django-sse, gevent-socketio, flask-sse, django-eventstream, python-socketio, \
     socket.io-emitter, action-cable, anycable, laravel";

/// One `[[source]]`. The first whose channel matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The Redis channel, with at most one `{room}` or `{user}`. No default.
    pub channel: String,
    /// The payload format its publishers speak. No default: it is never guessed.
    pub dialect: String,
    /// The room that a channel without `{room}` feeds. Without it the payload must name one, where the dialect can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// gevent-socketio: keep the room as the first argument. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub room_argument: bool,
    /// python-socketio: `list` or `raw`. Default `list`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: SourceData,
    /// python-socketio: obey enter_room, leave_room, disconnect and close_room. Default false: who may publish may then also evict.
    #[serde(default, skip_serializing_if = "is_default")]
    pub control: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SourceConfig {
    /// A source with every option at its default.
    pub fn new(channel: impl Into<String>, dialect: impl Into<String>) -> Self {
        Self {
            channel: channel.into(),
            dialect: dialect.into(),
            room: None,
            room_argument: false,
            data: SourceData::default(),
            control: false,
        }
    }

    /// What is wrong with it beyond its types: the key, and what is expected there.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let placeholders = self.channel.matches("{room}").count() + self.channel.matches("{user}").count();
        let literal = self.channel.replace("{room}", "").replace("{user}", "");
        if self.channel.is_empty() || placeholders > 1 || literal.contains(['{', '}']) || literal.chars().any(char::is_control) {
            return Some(("channel", "expected a channel name with at most one {room} or {user}"));
        }
        if self.dialect.parse::<Dialect>().is_err() {
            return Some(("dialect", DIALECTS));
        }
        match self.room.as_deref() {
            Some(_) if placeholders > 0 => Some(("room", "expected only where the channel has no {room} or {user}")),
            Some(room) if crate::protocol::RoomName::parse(room).is_err() => Some(("room", "expected a room name")),
            _ => None,
        }
    }
}

/// The built-in sources. The native ones follow `broker.prefix`.
pub(super) fn default_sources(prefix: &str) -> Vec<SourceConfig> {
    vec![
        SourceConfig::new(format!("{prefix}:room:{{room}}"), "callboard"),
        SourceConfig::new(format!("{prefix}:user:{{user}}"), "callboard"),
        SourceConfig { room: Some("sse".into()), ..SourceConfig::new("sse", "django-sse") },
        SourceConfig::new("sse_{user}", "django-sse"),
        SourceConfig::new("socketio_{room}", "gevent-socketio"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_a_dialect_is_answered_with_all_of_them() {
        let listed: Vec<&str> = DIALECTS.trim_start_matches("expected one of ").split(", ").collect();
        assert_eq!(listed, Dialect::ALL.map(Dialect::as_str));
    }
}
