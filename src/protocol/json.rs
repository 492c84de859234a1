//! JSON text from strangers: how deep it may nest before anything parses it.

use thiserror::Error;

/// The text nests deeper than its reader allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("nests deeper than {limit} levels")]
pub struct TooDeep {
    pub limit: usize,
}

/// Counts open brackets outside strings. It takes any bytes: what is no JSON at all is for the parser to say.
pub fn check_depth(text: &[u8], limit: usize) -> Result<(), TooDeep> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') if depth == limit => return Err(TooDeep { limit }),
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_only_outside_strings() {
        assert_eq!(check_depth(br#"[{"a":"[[[\"[[["}]"#, 2), Ok(()));
        assert_eq!(check_depth(br#"[{"a":"\\",[]}]"#, 2), Err(TooDeep { limit: 2 }));
    }
}
