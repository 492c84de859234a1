//! What is wrong with a configuration: where, which key, which value, and what is expected instead.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::tree::Place;

/// Why there is no configuration. Every one is the operator's to mend: exit code 2.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Mistake(Box<Mistake>),
}

impl From<Mistake> for ConfigError {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(Box::new(mistake))
    }
}

/// Something written that does not hold.
#[derive(Debug, Error)]
pub enum Mistake {
    /// Text that is no TOML.
    #[error("{place}: {message}")]
    Syntax { place: Place, message: String },
    #[error("{place}: unknown section [{section}]; {}", suggest(nearest.as_deref(), known))]
    UnknownSection { place: Place, section: String, nearest: Option<String>, known: Vec<String> },
    #[error("{place}: {section} unknown key \"{key}\"; {}", suggest(nearest.as_deref(), known))]
    UnknownKey { place: Place, section: String, key: String, nearest: Option<String>, known: Vec<String> },
    /// `expected` is a whole clause: "expected …", or another that says what to do.
    #[error("{}{section} {key} = {value}: {expected}", at(place.as_ref()))]
    BadValue { place: Option<Place>, section: String, key: String, value: String, expected: String },
    /// The section is of the wrong shape as a whole, or lacks a key.
    #[error("{}{section} {expected}", at(place.as_ref()))]
    BadSection { place: Option<Place>, section: String, expected: String },
}

fn at(place: Option<&Place>) -> String {
    place.map(|place| format!("{place}: ")).unwrap_or_default()
}

fn suggest(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The known word that a typing error most likely meant: at most a third of its letters off.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), candidate);
    let close = known.iter().filter(|candidate| distance(candidate) <= (candidate.len() / 3).max(1));
    // A forgotten half ("origins" for "allowed_origins") is no typing error, and as plain.
    let part = || known.iter().find(|candidate| word.len() > 3 && (candidate.contains(word) || word.contains(*candidate)));
    close.min_by_key(|candidate| distance(candidate)).or_else(part).copied()
}
