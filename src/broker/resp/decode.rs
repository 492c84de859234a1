//! Bytes to the arguments of one command. The gate reads the headers only and refuses what is too large before it is
//! buffered; the codec then decodes a frame that is known to be whole, flat and bounded. The codec alone would take any
//! declared size and recurse into nested arrays.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::{decode::decode_bytes, types::BytesFrame};
use thiserror::Error;

use super::inline;

/// Longest header (`*1024\r\n`, `$1048576\r\n`), generously.
const MAX_HEADER_BYTES: usize = 32;

/// What one command may be; an unauthenticated peer gets less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub arguments: usize,
    /// Bytes of one argument.
    pub bulk: usize,
    /// Bytes of the whole command, headers included.
    pub command: usize,
    /// Bytes of an inline command.
    pub line: usize,
}

/// Input that can't be taken, after which the connection ends: what follows would be read out of step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A browser was lured here by a hostile page (cross-protocol attack). It gets no answer.
    #[error("the peer speaks HTTP")]
    Http,
    #[error("Protocol error: too big inline request: more than {limit} bytes")]
    LineTooLong { limit: usize },
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("Protocol error: invalid length in header")]
    InvalidHeader,
    #[error("Protocol error: invalid multibulk length: {declared} arguments, this broker takes {limit}")]
    TooManyArguments { declared: usize, limit: usize },
    #[error("Protocol error: expected '$', got '{}'", found.escape_ascii())]
    ExpectedBulk { found: u8 },
    #[error("Protocol error: invalid bulk length: {declared} bytes, this broker takes {limit}")]
    BulkTooLong { declared: usize, limit: usize },
    #[error("Protocol error: command of more than {limit} bytes")]
    CommandTooLong { limit: usize },
    #[error("Protocol error: malformed command")]
    Malformed,
}

/// Collects what was read until it holds a command.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    gate: Gate,
}

impl Decoder {
    /// Where the next read goes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether nothing is half received.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole command; none if more must be read first. Empty lines and empty arrays are skipped, as Redis does.
    pub fn decode(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while let Some(&first) = self.buffer.first() {
            let arguments = if first == b'*' { self.decode_array(limits)? } else { self.decode_line(limits)? };
            match arguments {
                Some(arguments) if arguments.is_empty() => {}
                arguments => return Ok(arguments),
            }
        }
        Ok(None)
    }

    fn decode_array(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(length) = self.gate.admit(&self.buffer, limits)? else { return Ok(None) };
        self.gate = Gate::default();
        let bytes = self.buffer.split_to(length).freeze();
        match decode_bytes(&bytes) {
            Ok(Some((BytesFrame::Array(frames), _))) => frames.into_iter().map(into_argument).collect::<Result<_, _>>().map(Some),
            Ok(Some((BytesFrame::Null, _))) => Ok(Some(Vec::new())),
            _ => Err(ProtocolError::Malformed),
        }
    }

    fn decode_line(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(end) = self.buffer[self.gate.at..].iter().position(|byte| *byte == b'\n').map(|found| self.gate.at + found) else {
            if self.buffer.len() > limits.line {
                return Err(ProtocolError::LineTooLong { limit: limits.line });
            }
            self.gate.at = self.buffer.len();
            return Ok(None);
        };
        if end > limits.line {
            return Err(ProtocolError::LineTooLong { limit: limits.line });
        }
        self.gate = Gate::default();
        let line = self.buffer.split_to(end + 1);
        if inline::is_http(&line) {
            return Err(ProtocolError::Http);
        }
        let words = inline::words(&line).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.len() > limits.arguments {
            return Err(ProtocolError::TooManyArguments { declared: words.len(), limit: limits.arguments });
        }
        Ok(Some(words))
    }
}

fn into_argument(frame: BytesFrame) -> Result<Bytes, ProtocolError> {
    match frame {
        BytesFrame::BulkString(bytes) => Ok(bytes),
        _ => Err(ProtocolError::Malformed),
    }
}

/// How far the command at the head of the buffer was looked at, so that a command arriving in pieces is not looked at anew
/// with every piece.
#[derive(Debug, Default)]
struct Gate {
    /// Everything before is known to be good.
    at: usize,
    /// None before the array's header was read.
    arguments_left: Option<usize>,
}

impl Gate {
    /// The length of the array at the head of `input`; none if it isn't whole yet.
    fn admit(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let mut left = match self.arguments_left {
            Some(left) => left,
            None => {
                let Some((declared, end)) = header(input, 0)? else { return Ok(None) };
                // `*0` and `*-1` are whole as they stand; the codec refuses other negative counts.
                let declared = usize::try_from(declared).unwrap_or(0);
                if declared > limits.arguments {
                    return Err(ProtocolError::TooManyArguments { declared, limit: limits.arguments });
                }
                self.at = end;
                declared
            }
        };
        while left > 0 {
            self.arguments_left = Some(left);
            let Some(next) = self.bulk_end(input, limits)? else { return Ok(None) };
            self.at = next;
            left -= 1;
        }
        Ok(Some(self.at))
    }

    /// Where the bulk string at `self.at` ends.
    fn bulk_end(&self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&found) => return Err(ProtocolError::ExpectedBulk { found }),
        }
        let Some((declared, start)) = header(input, self.at)? else { return Ok(None) };
        let declared = usize::try_from(declared).map_err(|_| ProtocolError::InvalidHeader)?;
        if declared > limits.bulk {
            return Err(ProtocolError::BulkTooLong { declared, limit: limits.bulk });
        }
        let end = start + declared + 2;
        if end > limits.command {
            return Err(ProtocolError::CommandTooLong { limit: limits.command });
        }
        match input.get(end - 2..end) {
            None => Ok(None),
            Some(b"\r\n") => Ok(Some(end)),
            Some(_) => Err(ProtocolError::Malformed),
        }
    }
}

/// The number of the header whose marker is at `at`, and where it ends.
fn header(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    let digits_at = at + 1;
    let window = &input[digits_at..input.len().min(at + MAX_HEADER_BYTES)];
    let Some(length) = window.iter().position(|byte| *byte == b'\n') else {
        return if input.len() >= at + MAX_HEADER_BYTES { Err(ProtocolError::InvalidHeader) } else { Ok(None) };
    };
    let number = window[..length]
        .strip_suffix(b"\r")
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or(ProtocolError::InvalidHeader)?;
    Ok(Some((number, digits_at + length + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { arguments: 8, bulk: 64, command: 160, line: 96 };

    fn decode_all(pieces: &[&[u8]]) -> Result<Vec<Vec<Bytes>>, ProtocolError> {
        let mut decoder = Decoder::default();
        let mut commands = Vec::new();
        for piece in pieces {
            decoder.buffer().extend_from_slice(piece);
            while let Some(arguments) = decoder.decode(&LIMITS)? {
                commands.push(arguments);
            }
        }
        Ok(commands)
    }

    #[test]
    fn a_declared_size_is_refused_from_its_header_alone() {
        let cases: [(&[u8], ProtocolError); 8] = [
            (b"*9\r\n", ProtocolError::TooManyArguments { declared: 9, limit: 8 }),
            (b"*1\r\n$65\r\n", ProtocolError::BulkTooLong { declared: 65, limit: 64 }),
            (b"*1\r\n$1073741824\r\n", ProtocolError::BulkTooLong { declared: 1 << 30, limit: 64 }),
            (b"*1\r\n$-1\r\n", ProtocolError::InvalidHeader),
            (b"*1\r\n$99999999999999999999\r\n", ProtocolError::InvalidHeader),
            (b"*1\r\n*1\r\n", ProtocolError::ExpectedBulk { found: b'*' }),
            (b"*00000000000000000000000000000000001\r\n", ProtocolError::InvalidHeader),
            (b"*-2\r\n", ProtocolError::Malformed),
        ];
        for (input, expected) in cases {
            assert_eq!(decode_all(&[input]), Err(expected), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn many_arguments_that_are_each_small_enough_are_bounded_together() {
        let bulk = [b"$64\r\n".as_slice(), &[b'x'; 64], b"\r\n"].concat();
        let whole = [b"*2\r\n".as_slice(), &bulk, &bulk].concat();
        assert_eq!(decode_all(&[&whole]).unwrap()[0].len(), 2);
        assert_eq!(decode_all(&[b"*3\r\n", &bulk, &bulk, b"$64\r\n"]), Err(ProtocolError::CommandTooLong { limit: 160 }));
    }

    #[test]
    fn a_bulk_string_must_end_where_it_says() {
        assert_eq!(decode_all(&[b"*1\r\n$3\r\nfooo\r\n"]), Err(ProtocolError::Malformed));
    }

    #[test]
    fn a_line_is_bounded_with_and_without_its_end() {
        let long = [b'x'; 97];
        assert_eq!(decode_all(&[&long]), Err(ProtocolError::LineTooLong { limit: 96 }));
        assert_eq!(decode_all(&[&[&long[..], b"\n"].concat()]), Err(ProtocolError::LineTooLong { limit: 96 }));
        assert_eq!(decode_all(&[&long[..96], b"\n"]).unwrap()[0][0].len(), 96);
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_is_buffered_stays_bounded(pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                prop::sample::select(vec!["*", "*3\r\n", "$", "$5\r\n", "$64\r\n", "\r\n", "\r", "PUBLISH", "hello\r\n", "\"", "-1"])
                    .prop_map(|text| text.as_bytes().to_vec()),
            ],
            0..40,
        )) {
            let mut decoder = Decoder::default();
            'input: for piece in pieces {
                decoder.buffer().extend_from_slice(&piece);
                loop {
                    match decoder.decode(&LIMITS) {
                        Ok(Some(arguments)) => prop_assert!(!arguments.is_empty() && arguments.len() <= LIMITS.arguments),
                        Ok(None) => break,
                        Err(_) => break 'input,
                    }
                }
                prop_assert!(decoder.buffer().len() <= LIMITS.command, "{} bytes wait", decoder.buffer().len());
            }
        }

        #[test]
        fn a_command_reads_the_same_however_it_is_cut(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..10), 1..8), cut in any::<prop::sample::Index>()) {
            let mut whole = format!("*{}\r\n", arguments.len()).into_bytes();
            for argument in &arguments {
                whole.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                whole.extend_from_slice(argument);
                whole.extend_from_slice(b"\r\n");
            }
            let (head, tail) = whole.split_at(cut.index(whole.len()));
            prop_assert_eq!(decode_all(&[head, tail]).unwrap(), vec![arguments]);
        }
    }
}
