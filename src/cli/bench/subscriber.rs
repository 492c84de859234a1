//! One subscriber: a socket, how far its handshake is, and what it has received. Moved by `crowd`, which owns the poll.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use super::{
    crowd::Tally,
    h2,
    ledger::{Arrival, Ledger},
    streams::Streams,
    transport::Transport,
    wire::{self, Unit, Wire, parse_head},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    AwaitingHead,
    /// The head has come, but not yet what says that events come from here on.
    AwaitingConfirmation,
    Ready,
    /// Never read from again: the slow client that every hub meets.
    Deaf,
    /// Ended by the server, or refused.
    Ended,
}

/// What all subscribers of a run have in common.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    pub wire: Wire,
    pub streams: &'a Streams,
    /// Bytes of a payload.
    pub size: usize,
    /// Streams on each connection.
    pub on_each: u32,
    /// The moment that the markers count from.
    pub origin: Instant,
}

pub struct Subscriber {
    pub transport: Transport,
    pub stage: Stage,
    /// The room or user whose events it expects.
    pub stream: u32,
    pub ledger: Ledger,
    /// Whether it is read the moment something comes, so that the time it took means something.
    pub is_timed: bool,
    /// HTTP/2: streams whose head has come.
    answered: u32,
    /// The start of a unit whose rest has not come. Empty, and without an allocation, while units come whole.
    carry: Vec<u8>,
}

impl Subscriber {
    pub fn new(transport: Transport, stream: u32) -> Self {
        Self { transport, stage: Stage::Connecting, stream, ledger: Ledger::default(), is_timed: true, answered: 0, carry: Vec::new() }
    }

    /// Sends the handshake once the connection stands. A fresh socket takes these few hundred bytes in one write.
    pub fn send_handshake(&mut self, handshake: &[u8]) -> io::Result<()> {
        if let Some(error) = self.transport.socket().take_error()? {
            return Err(error);
        }
        if self.transport.write(handshake)? != handshake.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the socket took only a part of the handshake"));
        }
        self.stage = Stage::AwaitingHead;
        Ok(())
    }

    /// Reads what has come. One read empties the socket unless it fills the buffer, since a poll that is edge-triggered tells
    /// again of what comes after it (epoll(7)); only at the end of the stream another is needed to see it.
    pub fn receive(&mut self, at_end: bool, buffer: &mut [u8], terms: &Terms<'_>, tally: &mut Tally) -> io::Result<()> {
        loop {
            match self.transport.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.take(&buffer[..length], terms, tally)?;
                    if length < buffer.len() && !at_end && self.transport.is_emptied_by_a_short_read() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], terms: &Terms<'_>, tally: &mut Tally) -> io::Result<()> {
        if self.carry.is_empty() {
            let used = self.consume(bytes, terms, tally)?;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            let used = self.consume(&carry, terms, tally)?;
            if used < carry.len() {
                carry.drain(..used);
                self.carry = carry;
            }
        }
        Ok(())
    }

    /// Handles every whole unit and returns how many bytes they were.
    fn consume(&mut self, bytes: &[u8], terms: &Terms<'_>, tally: &mut Tally) -> io::Result<usize> {
        let mut used = 0;
        if self.stage == Stage::AwaitingHead && terms.wire == Wire::H2 {
            self.stage = Stage::AwaitingConfirmation;
        } else if self.stage == Stage::AwaitingHead {
            let Some((status, length)) = parse_head(bytes) else { return Ok(0) };
            if status != terms.wire.accepting_status() {
                return Err(io::Error::other(format!("the server answered {status}")));
            }
            used = length;
            match terms.wire {
                Wire::Sse => self.become_ready(tally),
                Wire::Ws | Wire::SocketIo | Wire::H2 => self.stage = Stage::AwaitingConfirmation,
            }
        }
        let arrived_ns = terms.origin.elapsed().as_nanos() as u64;
        while let Some((unit, length)) = terms.wire.next_unit(&bytes[used..], terms.size) {
            self.handle(unit, arrived_ns, terms, tally)?;
            used += length;
        }
        Ok(used)
    }

    fn handle(&mut self, unit: Unit<'_>, arrived_ns: u64, terms: &Terms<'_>, tally: &mut Tally) -> io::Result<()> {
        match unit {
            Unit::Event(marker) if marker.stream != self.stream => tally.misrouted += 1,
            Unit::Event(marker) => {
                tally.delivered += 1;
                if self.is_timed {
                    tally.latency.record(arrived_ns.saturating_sub(marker.due_ns));
                }
                match self.ledger.record(marker.sequence) {
                    Arrival::InOrder => {}
                    Arrival::Late => tally.out_of_order += 1,
                    Arrival::Double => tally.doubled += 1,
                }
            }
            Unit::Ping(body) if terms.wire == Wire::H2 => self.transport.write_all(&h2::pong(body))?,
            Unit::Settings => self.transport.write_all(&h2::settings_ack())?,
            Unit::Answered(true) => {
                self.answered += 1;
                if self.answered == terms.on_each {
                    self.confirm(tally);
                }
            }
            Unit::Answered(false) => return Err(io::Error::other("the server refused a stream")),
            Unit::Ended => return Err(io::ErrorKind::UnexpectedEof.into()),
            Unit::Ping(body) => self.answer(wire::PONG, body)?,
            Unit::Heartbeat => self.answer(wire::TEXT, wire::HEARTBEAT)?,
            Unit::Open => self.answer(wire::TEXT, wire::CONNECT)?,
            Unit::Gap => tally.gap_notices += 1,
            Unit::Joined if !terms.streams.for_users() => self.confirm(tally),
            Unit::Welcome if terms.streams.for_users() => self.confirm(tally),
            Unit::Welcome if terms.wire == Wire::SocketIo => {
                self.answer(wire::TEXT, wire::subscribe(&terms.streams.name(self.stream)).as_bytes())?;
            }
            Unit::Joined | Unit::Welcome | Unit::Other => {}
        }
        Ok(())
    }

    /// Sends a frame of a few bytes, for which an idle socket always has room.
    fn answer(&mut self, opcode: u8, body: &[u8]) -> io::Result<()> {
        self.transport.write_all(&wire::client_frame(opcode, body))
    }

    fn confirm(&mut self, tally: &mut Tally) {
        if self.stage == Stage::AwaitingConfirmation {
            self.become_ready(tally);
        }
    }

    fn become_ready(&mut self, tally: &mut Tally) {
        self.stage = Stage::Ready;
        tally.ready += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::net::TcpStream;

    use super::*;
    use crate::cli::bench::marker::Marker;

    const SIZE: usize = 64;

    fn streams() -> Streams {
        Streams::rooms(1, "r".into(), Wire::Sse, "h", 1)
    }

    fn event(stream: u32, sequence: u64) -> Vec<u8> {
        let mut block = b"event: bench\ndata: \"".to_vec();
        Marker { stream, sequence, due_ns: 0 }.append_to(&mut block, SIZE);
        block.extend_from_slice(b"\"\n\n");
        block
    }

    /// Feeds a response of these events in pieces of so many bytes.
    fn feed(events: &[(u32, u64)], piece: usize) -> (Subscriber, Tally) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut subscriber = Subscriber { stage: Stage::AwaitingHead, ..Subscriber::new(Transport::Plain(socket), 7) };
        let streams = streams();
        let terms = Terms { wire: Wire::Sse, streams: &streams, size: SIZE, on_each: 1, origin: Instant::now() };
        let mut tally = Tally::default();
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 3000\n:\n\n".to_vec();
        events.iter().for_each(|(stream, sequence)| bytes.extend(event(*stream, *sequence)));
        for piece in bytes.chunks(piece) {
            subscriber.take(piece, &terms, &mut tally).unwrap();
        }
        assert!(subscriber.carry.is_empty());
        (subscriber, tally)
    }

    #[test]
    fn every_fault_of_a_server_is_counted_however_its_bytes_are_cut() {
        for piece in [1, 7, 100, 4096] {
            let (subscriber, tally) = feed(&[(7, 0), (7, 1), (7, 1), (7, 4), (7, 3), (8, 0)], piece);
            assert_eq!(subscriber.stage, Stage::Ready);
            assert_eq!((tally.delivered, tally.doubled, tally.out_of_order, tally.misrouted), (5, 1, 1, 1), "pieces of {piece}");
            assert_eq!(subscriber.ledger.lost(6), 2, "sequences 2 and 5");
        }
    }

    #[test]
    fn a_correct_stream_has_no_fault() {
        let (subscriber, tally) = feed(&[(7, 0), (7, 1), (7, 2)], 4096);
        assert_eq!((tally.ready, tally.delivered, tally.doubled, tally.out_of_order, tally.misrouted), (1, 3, 0, 0, 0));
        assert_eq!(subscriber.ledger.lost(3), 0);
    }

    #[test]
    fn a_refused_handshake_is_an_error_that_names_the_status() {
        let (mut subscriber, mut tally) = feed(&[], 4096);
        subscriber.stage = Stage::AwaitingHead;
        let streams = streams();
        let terms = Terms { wire: Wire::Sse, streams: &streams, size: SIZE, on_each: 1, origin: Instant::now() };
        let error = subscriber.take(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", &terms, &mut tally).unwrap_err();
        assert!(error.to_string().contains("503"));
    }
}
