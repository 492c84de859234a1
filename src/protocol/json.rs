//! JSON by its surface: what can be told from the text without building a value.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;

/// The text nests arrays and objects deeper than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("nests deeper than {limit} levels")]
pub struct TooDeep {
    pub limit: usize,
}

/// Counts brackets outside strings, without recursion: `RawValue` takes any depth, and what is passed on would overflow
/// the stack of whoever parses it next. Says nothing of whether the text is JSON.
pub fn check_depth(text: &[u8], limit: usize) -> Result<(), TooDeep> {
    let mut depth = 0usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' if depth == limit => return Err(TooDeep { limit }),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    Ok(())
}

/// For a field where `null` is a value and not the same as nothing: `#[serde(default, deserialize_with = "present")]`.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// From after the opening quote to after the closing one.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_the_deepest_branch() {
        for (text, depth) in [("1", 0), ("[]", 1), ("[[],[[]],{}]", 3), (r#"{"a":[{}]}"#, 3)] {
            assert_eq!(check_depth(text.as_bytes(), depth), Ok(()), "{text}");
            if depth > 0 {
                assert_eq!(check_depth(text.as_bytes(), depth - 1), Err(TooDeep { limit: depth - 1 }), "{text}");
            }
        }
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert_eq!(check_depth(br#"["[[[{", "\"[[", "\\", "]"]"#, 1), Ok(()));
        assert_eq!(check_depth(br#"["\\", []]"#, 1), Err(TooDeep { limit: 1 }));
    }

    #[test]
    fn text_that_is_no_json_neither_panics_nor_overflows() {
        for text in ["]]]]", "\"", "\"\\", "}{"] {
            assert_eq!(check_depth(text.as_bytes(), 1), Ok(()), "{text}");
        }
        assert_eq!(check_depth("[".repeat(1 << 20).as_bytes(), 64), Err(TooDeep { limit: 64 }));
    }
}
