//! Lengths as JavaScript counts them: in UTF-16 code units. Engine.IO 3 and Socket.IO 0.9 frame their packets by them.

/// How many UTF-16 code units the text takes.
pub fn length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char::len_utf16).sum() }
}

/// Splits after so many UTF-16 code units. None where the text is shorter or a surrogate pair would be torn apart.
pub fn split_at(text: &str, units: usize) -> Option<(&str, &str)> {
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Some(text.split_at(at));
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accent_is_one_unit_and_an_emoji_is_two() {
        assert_eq!(length("hello"), 5);
        assert_eq!(length("héllo"), 5);
        assert_eq!(length("h😀"), 3);
    }

    #[test]
    fn a_split_falls_between_characters_or_not_at_all() {
        assert_eq!(split_at("h😀llo", 3), Some(("h😀", "llo")));
        assert_eq!(split_at("h😀llo", 2), None);
        assert_eq!(split_at("é", 1), Some(("é", "")));
        assert_eq!(split_at("é", 2), None);
        assert_eq!(split_at("", 0), Some(("", "")));
    }
}
