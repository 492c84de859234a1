//! What the dialects share in reading a payload: limits, JSON text of a known outer shape, base64 attachments.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{super::event::Argument, DecodeError};
use crate::protocol::json;

/// Largest payload that is read.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// What the hub writes around an event beside its id, so that a body of the API that is as long as allowed can be published.
pub const ENVELOPE_BYTES: usize = 64;
/// Largest payload with binary parts, which base64 makes a third longer: a megabyte from Socket.IO, with what stands around it.
pub const MAX_BINARY_PAYLOAD_BYTES: usize = 2 << 20;
/// Deepest nesting of a payload.
pub const MAX_DEPTH: usize = 64;

pub fn check_size(payload: &[u8], limit: usize) -> Result<(), DecodeError> {
    match payload.len() {
        actual if actual > limit => Err(DecodeError::TooLarge { actual, limit }),
        _ => Ok(()),
    }
}

pub fn check_depth(text: &str) -> Result<(), DecodeError> {
    json::check_depth(text.as_bytes(), MAX_DEPTH).map_err(|_| DecodeError::TooDeep { limit: MAX_DEPTH })
}

/// The payload as text. A binary pickle (protocol 2 and up) is named as what it is, so that the log can say what to do.
pub fn text(payload: &[u8]) -> Result<&str, DecodeError> {
    match payload {
        [0x80, 2..=5, ..] => Err(DecodeError::Pickle),
        _ => std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8),
    }
}

/// Reads a payload that is one JSON object. The check of the outer shape is not idle: serde's structs read arrays as well.
pub fn object<'a, T: Deserialize<'a>>(payload: &'a [u8], expected: &'static str) -> Result<T, DecodeError> {
    let text = text(payload)?;
    check_depth(text)?;
    object_text(text, expected)
}

/// As [`object`], of text whose depth is checked.
pub fn object_text<'a, T: Deserialize<'a>>(text: &'a str, expected: &'static str) -> Result<T, DecodeError> {
    starting_with('{', text, expected)
}

/// Reads a payload that is one JSON array.
pub fn array<'a, T: Deserialize<'a>>(payload: &'a [u8], expected: &'static str) -> Result<T, DecodeError> {
    let text = text(payload)?;
    check_depth(text)?;
    starting_with('[', text, expected)
}

fn starting_with<'a, T: Deserialize<'a>>(open: char, text: &'a str, expected: &'static str) -> Result<T, DecodeError> {
    if text.trim_ascii_start().starts_with(open) {
        return value(text, expected);
    }
    value::<&RawValue>(text, expected)?;
    Err(DecodeError::WrongShape { expected })
}

/// Reads JSON text whose depth is checked.
pub fn value<'a, T: Deserialize<'a>>(text: &'a str, expected: &'static str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => DecodeError::WrongShape { expected },
        false => DecodeError::NotJson { line: error.line(), column: error.column() },
    })
}

/// JSON where the text is JSON, else a JSON string of it.
pub fn json_or_string(text: &str) -> Result<Argument, DecodeError> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => check_depth(text).map(|()| Argument::Json(raw.to_owned())),
        Err(_) => Ok(Argument::from_value(&Value::from(text))),
    }
}

/// Attachments that came as base64 text.
pub fn attachments<'a>(texts: impl Iterator<Item = &'a str>, expected: &'static str) -> Result<Vec<Bytes>, DecodeError> {
    texts.map(|text| BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|_| DecodeError::WrongShape { expected })).collect()
}

/// Holds every placeholder to an attachment that exists: a Socket.IO client drops its connection over one that does not.
/// Without attachments a placeholder is only an odd object, on every wire. Beside attachments, JSON that a `Value` can't hold
/// (a number beyond a double, half a surrogate pair) is refused too: wires without binary could not put them in their places.
pub fn check_placeholders(arguments: &[Argument], attachments: &[Bytes], expected: &'static str) -> Result<(), DecodeError> {
    if attachments.is_empty() {
        return Ok(());
    }
    for argument in arguments {
        let Argument::Json(raw) = argument else { continue };
        let value = serde_json::from_str(raw.get()).map_err(|_| DecodeError::WrongShape { expected })?;
        if !placeholders_exist(&value, attachments.len()) {
            return Err(DecodeError::WrongShape { expected });
        }
    }
    Ok(())
}

fn placeholders_exist(value: &Value, count: usize) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| placeholders_exist(item, count)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            fields.get("num").and_then(Value::as_u64).is_some_and(|number| number < count as u64)
        }
        Value::Object(fields) => fields.values().all(|field| placeholders_exist(field, count)),
        _ => true,
    }
}
