//! Channel templates: `sse`, `sse_{user}`, `callboard:room:{room}`, `socket.io#*`. Which channel stands for a room or user,
//! and back. The text of the configuration is parsed once; what can't work is refused there.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::{
    names::{NameError, RoomName, UserName},
    publication::Target,
};

/// A text that describes Redis channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// One channel.
    Fixed,
    /// Every channel that begins with the text before the `*`.
    Pattern,
    /// One channel for each room or user.
    Named { prefix_end: usize, suffix_start: usize, placeholder: Placeholder },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Room,
    User,
}

/// What a template sees in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The channel stands for whatever its payloads say.
    Whole,
    /// The channel stands for this room or user.
    Target(Target),
    /// The channel is of this template, but what it names is no name.
    BadName { what: &'static str, error: NameError },
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("channel is empty")]
    Empty,
    #[error("channel `{0}` has a control character")]
    ControlCharacter(String),
    #[error("channel `{channel}` has the unknown placeholder `{placeholder}`; there are {{room}} and {{user}}")]
    UnknownPlaceholder { channel: String, placeholder: String },
    #[error("channel `{0}` has more braces than its one placeholder")]
    SeveralPlaceholders(String),
    #[error("channel `{0}` has a brace without its partner")]
    UnpairedBrace(String),
    #[error("channel `{0}` is no usable pattern: a pattern is plain text and one `*` at the end")]
    BadPattern(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.contains(char::is_control) {
            return Err(TemplateError::ControlCharacter(text.to_owned()));
        }
        let kind = match text.contains('*') {
            true => parse_pattern(text)?,
            false => parse_channel(text)?,
        };
        Ok(Self { text: Arc::from(text), kind })
    }

    /// As it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub fn is_pattern(&self) -> bool {
        self.kind == Kind::Pattern
    }

    pub fn has_placeholder(&self) -> bool {
        matches!(self.kind, Kind::Named { .. })
    }

    /// The channel of a room or user, where the template has a placeholder for it.
    pub fn channel_of(&self, target: &Target) -> Option<Arc<str>> {
        let Kind::Named { prefix_end, suffix_start, placeholder } = self.kind else { return None };
        let name = match (placeholder, target) {
            (Placeholder::Room, Target::Room(room)) => room.as_str(),
            (Placeholder::User, Target::User(user)) => user.as_str(),
            _ => return None,
        };
        Some([&self.text[..prefix_end], name, &self.text[suffix_start..]].concat().into())
    }

    /// What the channel stands for; nothing where it is not of this template. A placeholder takes at least one character, and
    /// any: a room `a:b` is no two parts.
    pub fn read(&self, channel: &str) -> Option<Match> {
        match self.kind {
            Kind::Fixed => (*self.text == *channel).then_some(Match::Whole),
            Kind::Pattern => channel.starts_with(self.literal_start()).then_some(Match::Whole),
            Kind::Named { suffix_start, placeholder, .. } => {
                let name = channel.strip_prefix(self.literal_start())?.strip_suffix(&self.text[suffix_start..])?;
                (!name.is_empty()).then(|| placeholder.read(name))
            }
        }
    }

    /// True where Redis could send one message twice, for the pattern and for a channel or pattern of the other template. It
    /// errs on the side of yes: it looks at no text after a placeholder.
    pub fn overlaps(&self, other: &Self) -> bool {
        let open_ended = |template: &Self| template.kind != Kind::Fixed;
        let (ours, theirs) = (self.literal_start(), other.literal_start());
        (self.is_pattern() || other.is_pattern())
            && ((ours.starts_with(theirs) && open_ended(other)) || (theirs.starts_with(ours) && open_ended(self)))
    }

    fn literal_start(&self) -> &str {
        match self.kind {
            Kind::Fixed => &self.text,
            Kind::Pattern => &self.text[..self.text.len() - 1],
            Kind::Named { prefix_end, .. } => &self.text[..prefix_end],
        }
    }
}

impl Placeholder {
    fn read(self, name: &str) -> Match {
        let (what, parsed) = match self {
            Self::Room => ("room", RoomName::parse(name).map(Target::Room)),
            Self::User => ("user", UserName::parse(name).map(Target::User)),
        };
        parsed.map_or_else(|error| Match::BadName { what, error }, Match::Target)
    }
}

/// Redis would read `?`, `[` and `\` as more of its pattern language, and a brace would be a placeholder.
fn parse_pattern(text: &str) -> Result<Kind, TemplateError> {
    match text.strip_suffix('*') {
        Some(start) if !start.contains(['*', '?', '[', ']', '\\', '{', '}']) => Ok(Kind::Pattern),
        _ => Err(TemplateError::BadPattern(text.to_owned())),
    }
}

fn parse_channel(text: &str) -> Result<Kind, TemplateError> {
    let Some(prefix_end) = text.find(['{', '}']) else { return Ok(Kind::Fixed) };
    let rest = &text[prefix_end..];
    let end = match (rest.starts_with('{'), rest.find('}')) {
        (true, Some(end)) => end + 1,
        _ => return Err(TemplateError::UnpairedBrace(text.to_owned())),
    };
    let placeholder = match &rest[..end] {
        "{room}" => Placeholder::Room,
        "{user}" => Placeholder::User,
        other => return Err(TemplateError::UnknownPlaceholder { channel: text.to_owned(), placeholder: other.to_owned() }),
    };
    let suffix_start = prefix_end + end;
    match text[suffix_start..].contains(['{', '}']) {
        false => Ok(Kind::Named { prefix_end, suffix_start, placeholder }),
        true => Err(TemplateError::SeveralPlaceholders(text.to_owned())),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
