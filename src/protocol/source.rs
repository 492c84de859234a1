//! Sources: which Redis channels feed which room or user, in which dialect. The first source whose template matches a channel
//! decides, for subscribing as for reading, so that a channel never means two things.

use std::sync::Arc;

use thiserror::Error;

use super::{
    dialect::{Address, DataShape, DecodeError, Delivery, Dialect, Emit, Options},
    names::RoomName,
    publication::Target,
    template::{Match, Template, TemplateError},
};

/// One `[[source]]` of the configuration, found to make sense.
#[derive(Debug, Clone)]
pub struct Source {
    template: Template,
    dialect: Dialect,
    options: Options,
    /// Whom a channel without placeholder stands for.
    room: Option<RoomName>,
}

/// Why a source makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("channel `{channel}` says no room: give it a placeholder {{room}} or {{user}}, or set `room` (dialect {dialect} names none)")]
    NoRoom { channel: Arc<str>, dialect: Dialect },
    #[error("channel `{channel}` takes no placeholder and no `room`: payloads of dialect {dialect} name their room")]
    RoomTwice { channel: Arc<str>, dialect: Dialect },
    #[error("channel `{channel}` has a placeholder and a `room`: one of them must go")]
    RoomAndPlaceholder { channel: Arc<str> },
    #[error("channel `{channel}`: dialect {dialect} has no option `{option}`")]
    UnknownOption { channel: Arc<str>, dialect: Dialect, option: &'static str },
    #[error("channels `{first}` and `{second}` overlap: Redis would deliver their messages twice")]
    Overlap { first: Arc<str>, second: Arc<str> },
}

impl Source {
    pub fn new(channel: &str, dialect: Dialect, options: Options, room: Option<RoomName>) -> Result<Self, SourceError> {
        let template = Template::parse(channel)?;
        let channel = Arc::clone(template.text());
        match (template.has_placeholder(), room.is_some(), dialect.names_rooms()) {
            (true, true, _) => return Err(SourceError::RoomAndPlaceholder { channel }),
            (true, _, true) | (_, true, true) => return Err(SourceError::RoomTwice { channel, dialect }),
            (false, false, false) => return Err(SourceError::NoRoom { channel, dialect }),
            _ => {}
        }
        match unknown_option(dialect, options) {
            Some(option) => Err(SourceError::UnknownOption { channel, dialect, option }),
            None => Ok(Self { template, dialect, options, room }),
        }
    }

    /// The text of the template: the source's name in metrics and logs.
    pub fn label(&self) -> &Arc<str> {
        self.template.text()
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn channel_of(&self, target: &Target) -> Option<Arc<str>> {
        match (&self.room, target) {
            (Some(ours), Target::Room(room)) if ours == room && !self.template.is_pattern() => Some(Arc::clone(self.label())),
            (Some(_), _) => None,
            (None, target) => self.template.channel_of(target),
        }
    }

    /// Whom the channel stands for, where it is of this source.
    fn read(&self, channel: &str) -> Option<Reading> {
        Some(match self.template.read(channel)? {
            Match::Whole => Ok(self.room.clone().map(Target::Room)),
            Match::Target(target) => Ok(Some(target)),
            Match::BadName { what, error } => Err(DecodeError::NameInvalid { what, source: error }),
        })
    }

    /// Always subscribed: no room's first member brings these channels up.
    fn is_standing(&self) -> bool {
        self.dialect.names_rooms() || self.template.is_pattern()
    }
}

/// An option that is set though the dialect has no use for it; an owner of such a file expects something that won't happen.
fn unknown_option(dialect: Dialect, options: Options) -> Option<&'static str> {
    let misplaced = [
        ("room_argument", options.room_argument, Dialect::GeventSocketio),
        ("data", options.data != DataShape::default(), Dialect::PythonSocketio),
        ("control", options.control, Dialect::PythonSocketio),
    ];
    misplaced.into_iter().find(|(_, is_set, owner)| *is_set && dialect != *owner).map(|(option, ..)| option)
}

/// Whom a channel stands for; `None` where its payloads say so.
type Reading = Result<Option<Target>, DecodeError>;

/// A subscription that every node holds all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Channel(Arc<str>),
    Pattern(Arc<str>),
}

/// What a source made of a message.
#[derive(Debug)]
pub struct Decoded {
    /// The source's place in the configuration.
    pub source: usize,
    /// The source's name in metrics and logs.
    pub label: Arc<str>,
    pub deliveries: Result<Vec<Delivery<Target>>, DecodeError>,
}

/// All sources, in the order of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    pub fn new(sources: Vec<Source>) -> Result<Self, SourceError> {
        for (index, first) in sources.iter().enumerate() {
            if let Some(second) = sources[index + 1..].iter().find(|second| first.template.overlaps(&second.template)) {
                return Err(SourceError::Overlap { first: Arc::clone(first.label()), second: Arc::clone(second.label()) });
            }
        }
        Ok(Self(sources))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// The channels that feed a room or user. A channel that an earlier source claims for another one is not among them.
    pub fn channels_of(&self, target: &Target) -> Vec<Arc<str>> {
        let mut channels: Vec<Arc<str>> = Vec::new();
        for channel in self.0.iter().filter_map(|source| source.channel_of(target)) {
            let is_ours = matches!(self.claim(&channel), Some((_, _, Ok(Some(claimed)))) if claimed == *target);
            if is_ours && !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// The channels and patterns whose payloads name their rooms.
    pub fn standing(&self) -> Vec<Standing> {
        let mut standing = Vec::new();
        for (index, source) in self.0.iter().enumerate().filter(|(_, source)| source.is_standing()) {
            let text = Arc::clone(source.label());
            if source.template.is_pattern() {
                standing.push(Standing::Pattern(text));
            } else if self.claim(&text).is_some_and(|(claimed_by, ..)| claimed_by == index) {
                standing.push(Standing::Channel(text));
            }
        }
        standing
    }

    /// The name of the source that a channel is of.
    pub fn label_of(&self, channel: &str) -> Option<&Arc<str>> {
        self.claim(channel).map(|(_, source, _)| source.label())
    }

    /// What a message says; nothing where its channel is of no source.
    pub fn decode(&self, channel: &str, payload: &[u8]) -> Option<Decoded> {
        let (index, source, target) = self.claim(channel)?;
        let deliveries = target.and_then(|target| {
            let deliveries = source.dialect.decode(source.options, payload)?;
            Ok(deliveries.into_iter().filter_map(|delivery| resolve(delivery, target.as_ref())).collect())
        });
        Some(Decoded { source: index, label: Arc::clone(source.label()), deliveries })
    }

    /// The first source that matches the channel, and whom the channel stands for.
    fn claim(&self, channel: &str) -> Option<(usize, &Source, Reading)> {
        self.0.iter().enumerate().find_map(|(index, source)| Some((index, source, source.read(channel)?)))
    }
}

/// Puts the channel's target where a payload left it to the channel. [`Source::new`] sees to it that there is one whenever a
/// dialect does.
fn resolve(delivery: Delivery, target: Option<&Target>) -> Option<Delivery<Target>> {
    let Emit { to, event, except, except_rooms, duplicate_key } = match delivery {
        Delivery::Emit(emit) => emit,
        Delivery::Control(control) => return Some(Delivery::Control(control)),
    };
    let to = match to {
        Address::Channel => target?.clone(),
        Address::Room(room) => Target::Room(room),
        Address::Namespace(namespace) => Target::Namespace(namespace),
    };
    Some(Delivery::Emit(Emit { to, event, except, except_rooms, duplicate_key }))
}
