//! How durations, sizes and rates are written: a whole number and its unit. A bare number is refused, because nobody can
//! see from it whether seconds or milliseconds were meant.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1_000), ("B", 1)];

fn parse_with(units: &[(&str, u64)], text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The largest unit that leaves a whole number.
fn format_with(units: &[(&str, u64)], zero: &str, value: u64) -> String {
    match units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => zero.to_owned(),
    }
}

/// Reads `500ms`, `10s`, `10m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_with(&DURATIONS, text).map(Duration::from_millis)
}

/// Writes what [`parse_duration`] reads; below a millisecond is cut off.
pub fn format_duration(duration: Duration) -> String {
    format_with(&DURATIONS, "0s", u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Reads `512B`, `64KiB` (1024), `64KB` (1000), `1MiB`, `1MB`, `1GiB`, `1GB`.
pub fn parse_size(text: &str) -> Option<usize> {
    parse_with(&SIZES, text).and_then(|bytes| usize::try_from(bytes).ok())
}

/// Writes what [`parse_size`] reads.
pub fn format_size(bytes: usize) -> String {
    format_with(&SIZES, "0B", bytes as u64)
}

/// `#[serde(with = "units::duration")]`
pub mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        read(deserializer, parse_duration, r#"expected a duration such as "500ms", "10s" or "1h""#)
    }
}

/// `#[serde(with = "units::size")]`
pub mod size {
    use super::*;

    pub fn serialize<S: Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_size(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        read(deserializer, parse_size, r#"expected a size such as "64KiB" or "1MB""#)
    }
}

/// Reads a text through `parse`. Text of the wrong type is refused with the same words as text that does not parse.
pub(super) fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Result<T, D::Error> {
    String::deserialize(deserializer).ok().and_then(|text| parse(&text)).ok_or_else(|| D::Error::custom(expected))
}

/// So many per second, written `50/s`. In a burst twice as many may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
}

impl Rate {
    /// How many may come at once after silence.
    pub const fn burst(self) -> u32 {
        self.per_second.saturating_mul(2)
    }

    fn parse(text: &str) -> Option<Self> {
        let per_second = text.strip_suffix("/s")?.trim_end().parse().ok()?;
        (per_second > 0).then_some(Self { per_second })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.per_second)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, Self::parse, r#"expected a rate of at least one a second, such as "50/s""#)
    }
}

/// A text that is never shown: not in a log, not by `{:?}`, not in the effective configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// What stands in place of a secret.
pub const MASK: &str = "***";

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(Box::from(text))
    }

    /// The text itself, for the one place that proves or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, |text| (!text.is_empty()).then(|| Self::new(text)), "expected a text that is not empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_written_with_the_largest() {
        for (text, millis, written) in
            [("500ms", 500, "500ms"), ("1000ms", 1_000, "1s"), ("90s", 90_000, "90s"), ("10m", 600_000, "10m"), ("24h", 86_400_000, "1d")]
        {
            let duration = parse_duration(text).expect(text);
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(format_duration(duration), written);
        }
        assert_eq!(format_duration(Duration::ZERO), "0s");
        for text in ["", "10", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999s", "99999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_kib_is_1024_and_a_kb_is_1000() {
        for (text, bytes) in [("64KiB", 65_536), ("1MB", 1_000_000), ("1 MiB", 1_048_576), ("0B", 0), ("17B", 17), ("2GB", 2_000_000_000)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(parse_size(&format_size(bytes)), Some(bytes), "{text}");
        }
        for text in ["64", "KiB", "64kib", "1TB"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(Rate::parse("50/s"), Some(Rate { per_second: 50 }));
        for text in ["0/s", "50", "50/m", "/s", "-1/s"] {
            assert_eq!(Rate::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("json"), "\"***\"");
    }
}
