//! MessagePack into JSON text, as a browser would have seen the value: binary leaves as attachments, dates as ISO 8601.

use std::cell::RefCell;

use bytes::Bytes;
use rmpv::{
    ValueRef,
    decode::{Error, read_value_ref_with_max_depth},
};
use serde::{Serialize, Serializer, ser::Error as _, ser::SerializeMap};
use smallvec::SmallVec;

use super::{super::event::Argument, DecodeError, MAX_DEPTH};

/// The reader takes two off its count for each level of nesting, and up to three for the leaf.
const READER_DEPTH: usize = 2 * MAX_DEPTH + 3;
/// The extension type of timestamps in the MessagePack specification.
const TIMESTAMP: i8 = -1;

/// Reads exactly one value.
pub fn read(mut bytes: &[u8]) -> Result<ValueRef<'_>, DecodeError> {
    match read_value_ref_with_max_depth(&mut bytes, READER_DEPTH) {
        Ok(value) if bytes.is_empty() => Ok(value),
        Err(Error::DepthLimitExceeded) => Err(DecodeError::TooDeep { limit: MAX_DEPTH }),
        Ok(_) | Err(_) => Err(DecodeError::NotMessagePack),
    }
}

pub fn array<'a, 'b>(value: &'b ValueRef<'a>) -> Option<&'b [ValueRef<'a>]> {
    match value {
        ValueRef::Array(items) => Some(items),
        _ => None,
    }
}

/// The text of a string that is UTF-8.
pub fn text<'b>(value: &'b ValueRef<'_>) -> Option<&'b str> {
    match value {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

/// The values as an event's arguments and attachments; nothing where a value has no JSON: a string that is no UTF-8, a key
/// that is no string or integer, an extension other than a timestamp.
pub fn to_arguments(values: &[ValueRef<'_>]) -> Option<(SmallVec<[Argument; 1]>, Vec<Bytes>)> {
    let attachments = RefCell::new(Vec::new());
    let arguments = values
        .iter()
        .map(|value| serde_json::value::to_raw_value(&Json { value, attachments: &attachments }).map(Argument::Json))
        .collect::<Result<_, _>>();
    Some((arguments.ok()?, attachments.into_inner()))
}

struct Json<'a> {
    value: &'a ValueRef<'a>,
    /// Filled while serializing, in the order of the placeholders.
    attachments: &'a RefCell<Vec<Bytes>>,
}

impl<'a> Json<'a> {
    fn inner(&self, value: &'a ValueRef<'a>) -> Self {
        Self { value, attachments: self.attachments }
    }

    fn serialize_binary<S: Serializer>(&self, bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.attachments.borrow().len();
        self.attachments.borrow_mut().push(Bytes::copy_from_slice(bytes));
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("_placeholder", &true)?;
        map.serialize_entry("num", &number)?;
        map.end()
    }

    fn serialize_fields<S: Serializer>(&self, fields: &'a [(ValueRef<'a>, ValueRef<'a>)], serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (key, value) in fields {
            match key {
                ValueRef::Integer(number) => map.serialize_key(&number.to_string())?,
                other => map.serialize_key(text(other).ok_or_else(|| S::Error::custom("key is no string"))?)?,
            }
            map.serialize_value(&self.inner(value))?;
        }
        map.end()
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            ValueRef::Nil => serializer.serialize_unit(),
            ValueRef::Boolean(value) => serializer.serialize_bool(*value),
            // JSON has no NaN and no infinity: serde_json writes null, as JSON.stringify does.
            ValueRef::F32(number) => serializer.serialize_f64(f64::from(*number)),
            ValueRef::F64(number) => serializer.serialize_f64(*number),
            ValueRef::Integer(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => serializer.serialize_u64(number),
                (None, Some(number)) => serializer.serialize_i64(number),
                (None, None) => Err(S::Error::custom("integer has more than 64 bits")),
            },
            ValueRef::String(string) => match string.as_str() {
                Some(text) => serializer.serialize_str(text),
                None => Err(S::Error::custom("string is no UTF-8")),
            },
            ValueRef::Binary(bytes) => self.serialize_binary(bytes, serializer),
            ValueRef::Array(items) => serializer.collect_seq(items.iter().map(|item| self.inner(item))),
            ValueRef::Map(fields) => self.serialize_fields(fields, serializer),
            ValueRef::Ext(TIMESTAMP, bytes) => match milliseconds(bytes) {
                Some(ms) => iso_8601(ms).serialize(serializer),
                None => Err(S::Error::custom("timestamp has no such length")),
            },
            ValueRef::Ext(..) => Err(S::Error::custom("extension is no timestamp")),
        }
    }
}

/// Milliseconds since 1970 of a timestamp: 32 bits of seconds; 30 of nanoseconds and 34 of seconds; or 32 and 64.
fn milliseconds(bytes: &[u8]) -> Option<i128> {
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            (i64::try_from(both & 0x3_ffff_ffff).ok()?, u32::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanoseconds, seconds) = bytes.split_at(4);
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(nanoseconds.try_into().ok()?))
        }
        _ => return None,
    };
    Some(i128::from(seconds) * 1000 + i128::from(nanoseconds / 1_000_000))
}

/// The text that JSON.stringify gives a Date (ECMA-262 §21.4.4.36), nothing where a Date can't be so far from 1970.
fn iso_8601(ms: i128) -> Option<String> {
    const FARTHEST_MS: i64 = 8_640_000_000_000_000;
    const DAY_MS: i64 = 86_400_000;
    let ms = i64::try_from(ms).ok().filter(|ms| (-FARTHEST_MS..=FARTHEST_MS).contains(ms))?;
    let (year, month, day) = civil_date(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    Some(format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1000))
}

/// Year, month and day of the proleptic Gregorian calendar. Counted in years that begin in March, so that the leap day comes
/// last, and in cycles of 400 years, all equally long.
fn civil_date(days_since_1970: i64) -> (i64, i64, i64) {
    const CYCLE_DAYS: i64 = 146_097;
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let days = days_since_1970 + FROM_MARCH_OF_YEAR_0;
    let (cycle, day_of_cycle) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    let leap_days = day_of_cycle / 1460 - day_of_cycle / 36_524 + day_of_cycle / (CYCLE_DAYS - 1);
    let year_of_cycle = (day_of_cycle - leap_days) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // Five months from March on, and again from August on, have 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * cycle + year_of_cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_reads_as_in_javascript() {
        let table: [(i128, Option<&str>); 8] = [
            (0, Some("1970-01-01T00:00:00.000Z")),
            (-1, Some("1969-12-31T23:59:59.999Z")),
            (951_782_400_000, Some("2000-02-29T00:00:00.000Z")),
            (1_700_000_000_123, Some("2023-11-14T22:13:20.123Z")),
            (-62_167_219_200_001, Some("-000001-12-31T23:59:59.999Z")),
            (253_402_300_800_000, Some("+010000-01-01T00:00:00.000Z")),
            (8_640_000_000_000_000, Some("+275760-09-13T00:00:00.000Z")),
            (8_640_000_000_000_001, None),
        ];
        for (ms, expected) in table {
            assert_eq!(iso_8601(ms).as_deref(), expected, "{ms}");
        }
    }

    #[test]
    fn a_timestamp_comes_in_three_lengths() {
        assert_eq!(milliseconds(&[0, 0, 0, 1]), Some(1000));
        assert_eq!(milliseconds(&((5_000_000_u64 << 34) | 2).to_be_bytes()), Some(2005));
        let long = [&999_999_999_u32.to_be_bytes()[..], &(-1_i64).to_be_bytes()].concat();
        assert_eq!(milliseconds(&long), Some(-1));
        assert_eq!(milliseconds(&[0; 5]), None);
    }
}
