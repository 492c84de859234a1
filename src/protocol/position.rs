//! Where a publication stands in its room: the same on every node, growing, and valid as the id of a Redis Stream entry.

use std::{fmt, str::FromStr};

/// The time of the last clock marker before the publication, in milliseconds of the broker's clock, and the count of
/// publications to the room since that marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    pub marker_ms: u64,
    pub count: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.marker_ms, self.count)
    }
}

/// The text is not `<ms>-<count>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no position of the form milliseconds-count")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (ms, count) = text.split_once('-').ok_or(PositionError)?;
        match (ms.parse(), count.parse()) {
            (Ok(marker_ms), Ok(count)) => Ok(Self { marker_ms, count }),
            _ => Err(PositionError),
        }
    }
}
