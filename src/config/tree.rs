//! Configuration as it was written: values that remember the line or the environment variable they come from, so that an error can
//! name it. Both layers, file and environment, are read into one such tree before anything is typed.

use std::{fmt, ops::Range, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{ConfigError, Mistake};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Line { file: Arc<str>, line: usize },
    Environment(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// One value, and what its writer wrote.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub written: Box<str>,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// A date, or a number that fits no type: nothing in the configuration is one.
    Other,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key was written; the value may begin elsewhere.
    pub place: Place,
    pub value: Node,
}

impl Node {
    pub fn empty_table(place: Place) -> Self {
        Self { place, written: "{}".into(), kind: Kind::Table(Vec::new()) }
    }

    /// Reads a file's text.
    pub fn from_file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: Arc<str> = path.display().to_string().into();
        let reader = Reader { text, place: &|at| Place::Line { file: file.clone(), line: line_of(text, at) } };
        let table = DeTable::parse(text).map_err(|error| {
            let place = (reader.place)(error.span().map_or(0, |span| span.start));
            Mistake::Syntax { place, message: error.message().to_owned() }
        })?;
        let span = table.span();
        Ok(Self { place: (reader.place)(0), written: "".into(), kind: reader.table(table.into_inner(), span.start) })
    }

    /// Reads an environment variable's value: as TOML where it is TOML, else as the text it is.
    pub fn from_environment(name: &str, text: &str) -> Self {
        let place = Place::Environment(name.into());
        match DeValue::parse(text) {
            Ok(value) => Reader { text, place: &|_| place.clone() }.node(value),
            Err(_) => Self { place, written: text.into(), kind: Kind::Text(text.to_owned()) },
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Table(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Puts a value at a path, over what stands there; tables on the way are made.
    pub fn set(&mut self, path: &[&str], value: Self) {
        let Some((key, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.kind, Kind::Table(_)) {
            *self = Self::empty_table(value.place.clone());
        }
        let Kind::Table(entries) = &mut self.kind else { return };
        let place = value.place.clone();
        match entries.iter_mut().find(|entry| entry.key == *key) {
            Some(entry) => {
                entry.place = place;
                entry.value.set(rest, value);
            }
            None => {
                let mut node = Self::empty_table(place.clone());
                node.set(rest, value);
                entries.push(Entry { key: (*key).to_owned(), place, value: node });
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    place: &'a dyn Fn(usize) -> Place,
}

impl Reader<'_> {
    fn node(&self, value: Spanned<DeValue<'_>>) -> Node {
        let span = value.span();
        let kind = match value.into_inner() {
            DeValue::String(text) => Kind::Text(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or(Kind::Other, Kind::Integer),
            DeValue::Float(number) => number.as_str().parse().map_or(Kind::Other, Kind::Float),
            DeValue::Boolean(value) => Kind::Boolean(value),
            DeValue::Datetime(_) => Kind::Other,
            DeValue::Array(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            DeValue::Table(table) => self.table(table, span.start),
        };
        Node { place: (self.place)(span.start), written: self.written(span), kind }
    }

    fn table(&self, table: DeTable<'_>, start: usize) -> Kind {
        let mut entries: Vec<(usize, Entry)> = table
            .into_iter()
            .map(|(key, value)| {
                let at = if key.span().is_empty() { start } else { key.span().start };
                let place = (self.place)(at);
                (at, Entry { key: key.into_inner().into_owned(), place, value: self.node(value) })
            })
            .collect();
        // In the order of the file, so that the first mistake is the first one named.
        entries.sort_by_key(|(at, _)| *at);
        Kind::Table(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    fn written(&self, span: Range<usize>) -> Box<str> {
        self.text.get(span).unwrap_or_default().into()
    }
}
