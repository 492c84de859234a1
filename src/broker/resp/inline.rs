//! Commands as people type them into telnet or nc: one line of words, quoted like Redis does. No codec crate knows them.

use bytes::Bytes;

/// Whether a line is the start of an HTTP request, or its `Host` header. Everything but the methods could be a publisher's.
pub fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI"];
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(first) = words.next() else { return false };
    // Redis drops these two whatever follows: neither is a command, and every attack has one of them.
    if first.eq_ignore_ascii_case(b"POST") || first.eq_ignore_ascii_case(b"Host:") {
        return true;
    }
    METHODS.contains(&first) && words.next_back().is_some_and(|last| last.starts_with(b"HTTP/"))
}

/// The words of a line; none if its quotes don't pair up or a word goes on behind a closing quote.
pub fn words(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(Bytes::from(word));
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' | b'\'' => {
                let after = quoted(after, byte, &mut word)?;
                return after.first().is_none_or(u8::is_ascii_whitespace).then_some((word, after));
            }
            byte if byte.is_ascii_whitespace() => break,
            byte => word.push(byte),
        }
        rest = after;
    }
    Some((word, rest))
}

/// Adds what stands before the closing `quote`; answers what stands behind it.
fn quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte == quote {
            return Some(rest);
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        let (&escaped, after) = rest.split_first()?;
        if quote == b'\'' {
            // Single quotes know one escape, of the quote itself.
            if escaped == b'\'' {
                rest = after;
            }
            word.push(if escaped == b'\'' { escaped } else { b'\\' });
        } else if let Some(byte) = hex_escape(rest) {
            word.push(byte);
            rest = &rest[3..];
        } else {
            word.push(unescaped(escaped));
            rest = after;
        }
    }
}

/// `xHH`, behind the backslash.
fn hex_escape(rest: &[u8]) -> Option<u8> {
    let digits = rest.strip_prefix(b"x")?.get(..2)?;
    // `from_str_radix` would take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_and_unquoted_as_redis_does() {
        let cases: [(&str, Option<&[&[u8]]>); 12] = [
            ("PING\r\n", Some(&[b"PING"])),
            ("  PUBLISH  room\thi \n", Some(&[b"PUBLISH", b"room", b"hi"])),
            ("\r\n", Some(&[])),
            (r#"a "b c" d"#, Some(&[b"a", b"b c", b"d"])),
            (r#""{\"a\":1}""#, Some(&[br#"{"a":1}"#])),
            (r#"'{"a":1}' ''"#, Some(&[br#"{"a":1}"#, b""])),
            (r#"'it\'s \n'"#, Some(&[br"it's \n"])),
            (r#""\x41\xff\n\t\xZZ\\""#, Some(&[b"A\xff\n\txZZ\\"])),
            (r#""open"#, None),
            (r#"'open\'"#, None),
            (r#""a"b"#, None),
            (r#"a"b""#, Some(&[b"ab"])),
        ];
        for (line, expected) in cases {
            let found = words(line.as_bytes());
            let found = found.as_ref().map(|words| words.iter().map(|word| &word[..]).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn http_is_known_by_its_first_line_and_no_publish_is_taken_for_it() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.1\r\n",
            "post\r\n",
            "Host: a\r\n",
            "HOST: a\n",
            "PRI * HTTP/2.0\r\n",
            "OPTIONS * HTTP/1.0\r\n",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["GET key\r\n", "PUBLISH GET HTTP/1.1\r\n", "PUBLISH Host: POST\r\n", "\r\n", "PING\r\n"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
