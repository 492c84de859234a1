//! The client's half: bytes in, messages out. Every frame is judged by its header before its payload costs anything.

use std::mem;

use super::{FINAL, MAX_CONTROL, Message, Opcode};
use crate::protocol::CloseReason;

const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Longest header of a client's frame: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, CloseReason> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            _ => Err(CloseReason::ProtocolError),
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Turns the bytes of one client into messages, however the network cut them. Holds no buffer while no message is under
/// way, and never more than `max_message` bytes and one control frame.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    state: State,
    /// The message under way, which control frames may interrupt.
    assembly: Assembly,
    /// Payload of the control frame under way.
    control: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header(Header),
    Payload(Frame),
    /// A close frame came, or the client broke the protocol: nothing counts any more.
    Ended,
}

/// The frame whose payload is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    /// The mask, turned so that its first byte is for the next byte of payload.
    key: [u8; 4],
    remaining: usize,
}

impl Frame {
    /// What has come of the payload, and the mask as it stands for it.
    fn take<'a>(&mut self, input: &mut &'a [u8]) -> (&'a [u8], [u8; 4]) {
        let (chunk, key) = (take(input, self.remaining), self.key);
        self.remaining -= chunk.len();
        self.key.rotate_left(chunk.len() % 4);
        (chunk, key)
    }
}

impl Decoder {
    pub fn new(max_message: usize) -> Self {
        Self { max_message, state: State::Header(Header::default()), assembly: Assembly::default(), control: Vec::new() }
    }

    /// Takes from the front of `input` up to the end of the next message. `None`: all was taken, and more is needed.
    /// After an error or a close frame the rest of the stream is swallowed (§1.4, §7.1.7).
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Message>, CloseReason> {
        let result = self.advance(input);
        if matches!(result, Err(_) | Ok(Some(Message::Close(..)))) {
            self.state = State::Ended;
            self.assembly = Assembly::default();
            self.control = Vec::new();
        }
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Message>, CloseReason> {
        loop {
            match &mut self.state {
                State::Header(header) => {
                    if !header.fill(input) {
                        return Ok(None);
                    }
                    let header = *header;
                    self.state = State::Payload(self.open_frame(&header)?);
                }
                State::Payload(frame) => {
                    let (chunk, key) = frame.take(input);
                    let frame = *frame;
                    self.append(frame, chunk, key)?;
                    if frame.remaining > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header(Header::default());
                    if let Some(message) = self.finish_frame(frame)? {
                        return Ok(Some(message));
                    }
                }
                State::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Judges a frame by its header alone, before a byte of its payload costs anything.
    fn open_frame(&mut self, header: &Header) -> Result<Frame, CloseReason> {
        let [first, second, ..] = header.bytes;
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let is_final = first & FINAL != 0;
        if first & RESERVED != 0 || second & MASKED == 0 {
            return Err(CloseReason::ProtocolError);
        }
        let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
        if opcode.is_control() {
            if !is_final || length > MAX_CONTROL {
                return Err(CloseReason::ProtocolError);
            }
        } else {
            self.assembly.open(opcode)?;
            if length > self.max_message - self.assembly.bytes.len() {
                return Err(CloseReason::TooLarge);
            }
        }
        Ok(Frame { opcode, is_final, key: header.key(), remaining: length })
    }

    fn append(&mut self, frame: Frame, chunk: &[u8], key: [u8; 4]) -> Result<(), CloseReason> {
        if frame.opcode.is_control() {
            append_unmasked(&mut self.control, chunk, key);
        } else {
            self.assembly.reserve(chunk.len(), self.max_message);
            append_unmasked(&mut self.assembly.bytes, chunk, key);
            // A message that is complete is checked as a whole, once, when it becomes a `String`.
            if !(frame.is_final && frame.remaining == 0) {
                self.assembly.check_text()?;
            }
        }
        Ok(())
    }

    fn finish_frame(&mut self, frame: Frame) -> Result<Option<Message>, CloseReason> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(Message::Ping(mem::take(&mut self.control).into()))),
            Opcode::Pong => Ok(Some(Message::Pong(mem::take(&mut self.control).into()))),
            Opcode::Close => parse_close(&mem::take(&mut self.control)).map(Some),
            Opcode::Continuation | Opcode::Text | Opcode::Binary if !frame.is_final => Ok(None),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => mem::take(&mut self.assembly).into_message().map(Some),
        }
    }
}

/// The header under way.
#[derive(Debug, Default, Clone, Copy)]
struct Header {
    bytes: [u8; MAX_HEADER],
    filled: u8,
}

impl Header {
    /// True once the header is complete.
    fn fill(&mut self, input: &mut &[u8]) -> bool {
        loop {
            let filled = usize::from(self.filled);
            let missing = self.wanted() - filled;
            if missing == 0 {
                return true;
            }
            let chunk = take(input, missing);
            if chunk.is_empty() {
                return false;
            }
            self.bytes[filled..filled + chunk.len()].copy_from_slice(chunk);
            self.filled += chunk.len() as u8;
        }
    }

    /// A frame without mask is refused by its first two bytes, so no more of it are wanted.
    fn wanted(&self) -> usize {
        match self.filled {
            0 | 1 => 2,
            _ if self.bytes[1] & MASKED == 0 => 2,
            _ => 2 + self.length_bytes() + 4,
        }
    }

    fn length_bytes(&self) -> usize {
        match self.bytes[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    /// Longer spellings of a short length are let through: they harm nobody.
    fn length(&self) -> u64 {
        match self.length_bytes() {
            0 => u64::from(self.bytes[1] & !MASKED),
            bytes => self.bytes[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    fn key(&self) -> [u8; 4] {
        let start = 2 + self.length_bytes();
        std::array::from_fn(|i| self.bytes[start + i])
    }
}

/// A text or binary message as far as its fragments have come.
#[derive(Debug, Default)]
struct Assembly {
    /// The first fragment's opcode; `None` while no message is under way.
    kind: Option<Opcode>,
    bytes: Vec<u8>,
    /// How many bytes from the start are known to be UTF-8.
    checked: usize,
}

impl Assembly {
    fn open(&mut self, opcode: Opcode) -> Result<(), CloseReason> {
        match (self.kind, opcode) {
            (Some(_), Opcode::Continuation) => {}
            (None, Opcode::Text | Opcode::Binary) => self.kind = Some(opcode),
            _ => return Err(CloseReason::ProtocolError),
        }
        Ok(())
    }

    /// Room for what has come, not for what the header promised; doubling, but not past the longest message.
    fn reserve(&mut self, more: usize, max_message: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).min(max_message).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }

    /// Fails at the first byte that no continuation can make UTF-8; a sequence cut by the end of a chunk may go on.
    fn check_text(&mut self) -> Result<(), CloseReason> {
        if self.kind != Some(Opcode::Text) {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(CloseReason::InvalidText),
        }
        Ok(())
    }

    fn into_message(self) -> Result<Message, CloseReason> {
        match self.kind {
            Some(Opcode::Text) => String::from_utf8(self.bytes).map(Message::Text).map_err(|_| CloseReason::InvalidText),
            _ => Ok(Message::Binary(self.bytes.into())),
        }
    }
}

/// Splits up to `count` bytes off the front.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (chunk, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    chunk
}

fn append_unmasked(out: &mut Vec<u8>, chunk: &[u8], key: [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(chunk);
    let key: [u8; 16] = std::array::from_fn(|i| key[i % 4]);
    let (words, rest) = out[start..].as_chunks_mut::<16>();
    for word in words {
        *word = (u128::from_ne_bytes(*word) ^ u128::from_ne_bytes(key)).to_ne_bytes();
    }
    rest.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

fn parse_close(payload: &[u8]) -> Result<Message, CloseReason> {
    match payload {
        [] => Ok(Message::Close(None, String::new())),
        [_] => Err(CloseReason::ProtocolError),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            match (may_be_sent(code), std::str::from_utf8(reason)) {
                (true, Ok(reason)) => Ok(Message::Close(Some(code), reason.to_owned())),
                _ => Err(CloseReason::ProtocolError),
            }
        }
    }
}

/// The codes of §7.4 and IANA's registry that may stand in a frame: 1004 means nothing yet; 1005, 1006 and 1015 are for
/// local use.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::{super::put_header, *};

    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, Opcode::Text, payload.len());
        out[0] = first;
        out[1] |= MASKED;
        out.extend([0; 4]);
        out.extend(payload);
        out
    }

    #[test]
    fn a_decoder_at_rest_holds_no_buffer() {
        let mut decoder = Decoder::new(1 << 16);
        for input in [client_frame(0x81, &[b'a'; 5000]), client_frame(0x89, b"ping")] {
            assert!(decoder.decode(&mut &input[..]).unwrap().is_some());
            assert_eq!((decoder.assembly.bytes.capacity(), decoder.control.capacity()), (0, 0));
        }
        assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
    }

    #[test]
    fn a_message_under_way_costs_what_has_come_and_never_more_than_the_limit() {
        let mut decoder = Decoder::new(1000);
        let input = client_frame(0x82, &[7; 1000]);
        decoder.decode(&mut &input[..9]).unwrap();
        assert!(decoder.assembly.bytes.capacity() <= 16, "one byte came of a promised thousand");
        for byte in &input[9..input.len() - 1] {
            decoder.decode(&mut std::slice::from_ref(byte)).unwrap();
            assert!(decoder.assembly.bytes.capacity() <= 1000);
        }
    }
}
