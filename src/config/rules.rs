//! Rules of rooms, and what happens when a queue is full.

use std::{sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};

use super::units;
use crate::protocol::{RoomName, RoomPattern};

/// What to do when a connection's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Cut the connection (1013): the client returns and resumes. Right where each event counts.
    Disconnect,
    /// Drop the oldest waiting event, and tell the client of the gap.
    DropOldest,
    /// Drop the event that found no place, and tell the client of the gap.
    DropNewest,
    /// Keep only the newest event of the room: right for a state that each event states anew (a price, a position).
    KeepLatest,
}

/// Who may join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinRule {
    #[default]
    Anyone,
    /// Whoever has a name.
    User,
    /// Whose identity grants this room.
    Granted,
}

/// Which clients may publish to a room. Publishers behind Redis and the HTTP API are not clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishRule {
    #[default]
    Nobody,
    /// Who has joined it.
    Members,
    /// Who has joined it and has a name.
    User,
    /// Whose identity grants publishing to this room.
    Granted,
}

/// What a room remembers for those who come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Events kept. 0, the default: none. Raise it to replay more after a longer absence; each costs its bytes in Redis.
    #[serde(default)]
    pub size: usize,
    /// How long an event is kept, and how long a room without local members goes on recording. Default 0s, needed with a size.
    #[serde(default, with = "units::duration")]
    pub ttl: Duration,
}

impl History {
    pub const fn is_kept(&self) -> bool {
        self.size > 0
    }
}

/// One `[[room]]`: what holds in rooms whose name matches. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// Rooms it speaks of; `*` is any run of characters. No default.
    #[serde(rename = "match")]
    pub pattern: RoomPattern,
    /// Who may join. Default `anyone`.
    #[serde(default)]
    pub join: JoinRule,
    /// Which clients may publish. Default `nobody`.
    #[serde(default)]
    pub publish: PublishRule,
    /// Whether members are listed and told of each other. Default false: each join and leave costs an event.
    #[serde(default)]
    pub presence: bool,
    /// What is kept for those who come back. Default nothing.
    #[serde(default)]
    pub history: History,
    /// In place of `mailbox.overflow` for this room's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
}

impl RoomRule {
    /// A rule for these rooms with every other key at its default.
    pub fn new(pattern: RoomPattern) -> Self {
        Self {
            pattern,
            join: JoinRule::default(),
            publish: PublishRule::default(),
            presence: false,
            history: History::default(),
            overflow: None,
        }
    }
}

/// What holds where no rule matches.
static DEFAULT_RULE: LazyLock<RoomRule> = LazyLock::new(|| RoomRule::new(RoomPattern::any()));

/// The first rule that matches decides.
pub(super) fn rule_for<'a>(rules: &'a [RoomRule], room: &RoomName) -> &'a RoomRule {
    rules.iter().find(|rule| rule.pattern.matches(room.as_str())).unwrap_or(&DEFAULT_RULE)
}

/// The built-in rules.
pub(super) fn default_rules() -> Vec<RoomRule> {
    let demo = RoomRule {
        publish: PublishRule::Members,
        presence: true,
        history: History { size: 100, ttl: Duration::from_secs(600) },
        // A literal of five bytes: it cannot be empty or too long.
        ..RoomRule::new(RoomPattern::parse("demo*").unwrap_or_else(|_| RoomPattern::any()))
    };
    vec![demo, DEFAULT_RULE.clone()]
}

/// Adds the default rule where the last one does not already catch every room.
pub(super) fn complete(rules: &mut Vec<RoomRule>) {
    if !rules.last().is_some_and(|rule| rule.pattern.is_any()) {
        rules.push(DEFAULT_RULE.clone());
    }
}
