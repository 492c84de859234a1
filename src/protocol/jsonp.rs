//! Scripts instead of bodies, for pages that may not read another origin: how Engine.IO 3 and Socket.IO 0.9 answer a
//! `<script>`, and how they post through a hidden form.

use std::borrow::Cow;

use bytes::Bytes;

/// The content type of an answer.
pub const CONTENT_TYPE: &str = "text/javascript; charset=UTF-8";

/// A poll's answer to an Engine.IO client that asked with `j=index`.
pub fn engineio(index: u32, payload: &str) -> Bytes {
    call("___eio", index, payload)
}

/// A poll's or handshake's answer to a Socket.IO 0.9 client that asked with `i=index` or `jsonp=index`.
pub fn legacy(index: u32, payload: &str) -> Bytes {
    call("io.j", index, payload)
}

/// A refused handshake of a Socket.IO 0.9 client that asked with `jsonp=index`.
pub fn legacy_error(index: u32, message: &str) -> Bytes {
    Bytes::from(format!("io.j[{index}](new Error({}));", script_string(message)))
}

fn call(callback: &str, index: u32, payload: &str) -> Bytes {
    Bytes::from(format!("{callback}[{index}]({});", script_string(payload)))
}

/// JSON text is JavaScript text but for two line ends that older engines refuse inside a string (ECMA-262 before 2019).
fn script_string(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    match json.contains(['\u{2028}', '\u{2029}']) {
        true => json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"),
        false => json,
    }
}

/// The payload that an Engine.IO client posted. A form turns line ends into CR LF, so the client writes a line end as `\n`
/// and what was already a written `\n` as `\\n`.
pub fn posted_engineio(body: &[u8]) -> Option<String> {
    let field = form_field(body, "d")?;
    let mut payload = String::with_capacity(field.len());
    let mut rest = field.as_str();
    while let Some(at) = rest.find('\\') {
        payload.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (plain, length) = match escape {
            _ if escape.starts_with("\\\\n") => ("\\n", 3),
            _ if escape.starts_with("\\n") => ("\n", 2),
            _ => ("\\", 1),
        };
        payload.push_str(plain);
        rest = &escape[length..];
    }
    payload.push_str(rest);
    Some(payload)
}

/// The payload that a Socket.IO 0.9 client posted: a JSON string, or the bare text where a client does not quote it.
pub fn posted_legacy(body: &[u8]) -> Option<String> {
    let field = form_field(body, "d")?;
    match field.starts_with('"') {
        true => serde_json::from_str(&field).ok(),
        false => Some(field),
    }
}

/// One field of an `application/x-www-form-urlencoded` body. None where it is absent or is no UTF-8.
fn form_field(body: &[u8], name: &str) -> Option<String> {
    let pairs = body.split(|byte| *byte == b'&');
    let value = pairs.into_iter().find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(percent_decoded(value).into_owned()).ok()
}

fn percent_decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, length) = match (first, tail) {
            (b'+', _) => (b' ', 1),
            (b'%', [high, low, ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            (other, _) => (other, 1),
        };
        plain.push(byte);
        rest = &rest[length..];
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_string_of_a_script() {
        assert_eq!(engineio(2, r#"116:0{"sid":"#), r#"___eio[2]("116:0{\"sid\":");"#);
        assert_eq!(legacy(0, "1::"), r#"io.j[0]("1::");"#);
        assert_eq!(legacy_error(3, "no"), r#"io.j[3](new Error("no"));"#);
        assert_eq!(legacy(0, "a\u{2028}b\u{2029}"), r#"io.j[0]("a\u2028b\u2029");"#);
    }

    #[test]
    fn an_engineio_form_tells_a_line_end_from_a_written_one() {
        assert_eq!(posted_engineio(br"d=4%3A4a%5Cnb").as_deref(), Some("4:4a\nb"));
        assert_eq!(posted_engineio(br"d=4a%5C%5Cnb").as_deref(), Some("4a\\nb"));
        assert_eq!(posted_engineio(br"d=a%5Ct%5C").as_deref(), Some("a\\t\\"));
    }

    #[test]
    fn a_legacy_form_holds_a_json_string() {
        assert_eq!(posted_legacy(b"d=%225%3A%3A%3A%7B%5C%22name%5C%22%3A%5C%22x+y%5C%22%7D%22").as_deref(), Some(r#"5:::{"name":"x y"}"#));
        assert_eq!(posted_legacy(b"t=1&d=2%3A%3A").as_deref(), Some("2::"));
        assert_eq!(posted_legacy(b"d=%22torn"), None);
        assert_eq!(posted_legacy(b"d=%ff"), None);
        assert_eq!(posted_legacy(b"e=1"), None);
    }
}
