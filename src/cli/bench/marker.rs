//! The marker: what an event of the generator says of itself. It stands at the start of the payload in fixed width, so that
//! a receiver finds and reads it without understanding the wire around it.

/// What a payload starts with: `~stream.sequence.due`, in hexadecimal of 8, 12 and 12 digits, and `~`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Which room or user it was sent to, by number.
    pub stream: u32,
    /// Its place among all events sent there, from 0.
    pub sequence: u64,
    /// When it was to be sent, in nanoseconds since the run began. The intended time, not the time of the write: a publisher
    /// held up by the server must not hide the wait.
    pub due_ns: u64,
}

impl Marker {
    pub const START: u8 = b'~';
    pub const BYTES: usize = 1 + 8 + 1 + 12 + 1 + 12 + 1;

    /// Appends the marker, padded to `size` bytes in all. No byte of it needs an escape in JSON.
    pub fn append_to(&self, out: &mut Vec<u8>, size: usize) {
        let start = out.len();
        out.push(Self::START);
        append_hex(out, u64::from(self.stream), 8);
        out.push(b'.');
        append_hex(out, self.sequence, 12);
        out.push(b'.');
        append_hex(out, self.due_ns, 12);
        out.push(Self::START);
        out.resize(out.len().max(start + size), b'x');
    }

    /// Reads the marker that `bytes` starts with.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::BYTES)?;
        let separators = [bytes[0], bytes[9], bytes[22], bytes[35]];
        if separators != [Self::START, b'.', b'.', Self::START] {
            return None;
        }
        Some(Self {
            stream: u32::try_from(parse_hex(&bytes[1..9])?).ok()?,
            sequence: parse_hex(&bytes[10..22])?,
            due_ns: parse_hex(&bytes[23..35])?,
        })
    }
}

fn append_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[(value >> (4 * digit)) as usize & 15]));
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker { stream: 0xdead_beef, sequence: 0x1234_5678_9abc, due_ns: 7 };

    #[test]
    fn a_marker_reads_back_and_fills_the_payload_to_its_size() {
        for size in [0, Marker::BYTES, 256] {
            let mut payload = Vec::new();
            MARKER.append_to(&mut payload, size);
            assert_eq!(payload.len(), size.max(Marker::BYTES));
            assert_eq!(Marker::parse(&payload), Some(MARKER));
        }
    }

    #[test]
    fn a_damaged_or_cut_marker_is_none() {
        let mut payload = Vec::new();
        MARKER.append_to(&mut payload, 0);
        assert_eq!(Marker::parse(&payload[..Marker::BYTES - 1]), None);
        for at in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] = b'!';
            assert_eq!(Marker::parse(&damaged), None, "byte {at}");
        }
    }
}
