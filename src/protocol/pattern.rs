//! Room patterns: `*` stands for any run of characters, also none, anywhere; every other character stands for itself.
//! No regex: a pattern comes from a token as well, so matching must be linear in the name and cannot be made slow.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

use super::names::MAX_NAME_BYTES;

/// Which rooms a rule or a claim speaks of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RoomPattern(Arc<str>);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("is empty")]
    Empty,
    #[error("has {0} bytes, more than {MAX_NAME_BYTES}")]
    TooLong(usize),
}

impl RoomPattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            0 => Err(PatternError::Empty),
            length if length > MAX_NAME_BYTES => Err(PatternError::TooLong(length)),
            _ => Ok(Self(Arc::from(text))),
        }
    }

    /// The pattern that matches every room.
    pub fn any() -> Self {
        Self(Arc::from("*"))
    }

    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first star and the text after the last are anchored; each literal between is looked for once, from left
    /// to right. Taking the leftmost place of each is enough: it leaves the most room for the rest.
    pub fn matches(&self, name: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return *self.0 == *name };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(name) = name.strip_prefix(head) else { return false };
        let Some(mut name) = name.strip_suffix(tail) else { return false };
        for literal in middle.split('*').filter(|literal| !literal.is_empty()) {
            match name.find(literal) {
                Some(at) => name = &name[at + literal.len()..],
                None => return false,
            }
        }
        true
    }
}

impl FromStr for RoomPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl serde::Serialize for RoomPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for RoomPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|_| {
            serde::de::Error::custom(format_args!("expected a room pattern of 1 to {MAX_NAME_BYTES} bytes, such as \"chat/*\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        RoomPattern::parse(pattern).expect("a pattern").matches(name)
    }

    /// The definition, exponential and plainly right.
    fn defined(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| defined(rest, &name[skip..])),
            Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| first == byte && defined(rest, name)),
        }
    }

    #[test]
    fn a_star_is_any_run_and_the_rest_is_literal() {
        for (pattern, name, expected) in [
            ("*", "lobby", true),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("demo*", "demo", true),
            ("demo*", "my-demo", false),
            ("*/private", "chat/private", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*bc*c", "abc", false),
            ("**", "x", true),
            ("a.c", "abc", false),
            ("[ab]", "a", false),
            ("é*", "été", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn a_pattern_is_bounded_and_not_empty() {
        assert_eq!(RoomPattern::parse(""), Err(PatternError::Empty));
        assert_eq!(RoomPattern::parse(&"*".repeat(201)), Err(PatternError::TooLong(201)));
        assert!(RoomPattern::any().is_any() && !RoomPattern::parse("*a").expect("a pattern").is_any());
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), defined(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
