//! The crowd: all subscribers of a run on one thread and one poll, so that receiving costs little more than the read(2) it
//! must make.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    BenchError,
    histogram::Histogram,
    readiness::{Arrival, Readiness},
    subscriber::{Stage, Subscriber, Terms},
    transport::Endpoint,
};

/// Connections from one source address, of the 28,232 ports that Linux hands out by default. Near their end the kernel searches
/// long, and ports of closed connections stay taken: connects then stall by the second, and the server would be blamed.
const PER_SOURCE_ADDRESS: u32 = 10_000;
/// Source addresses that runs leave to each other.
const ADDRESSES_PER_RUN: u32 = 64;
/// Of so many subscribers one is timed where the others are gathered.
const TIMED_ONE_IN: u32 = 8;
/// How long what the others were sent may lie in their sockets.
const GATHER_PAUSE: Duration = Duration::from_millis(10);
const BUFFER_BYTES: usize = 128 * 1024;
/// Handshakes under way at once: below any listener's backlog.
pub const IN_FLIGHT: usize = 128;
/// How long nothing may move while subscribers are still being connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// What was received, over all subscribers.
#[derive(Default)]
pub struct Tally {
    pub ready: usize,
    pub delivered: u64,
    pub doubled: u64,
    pub out_of_order: u64,
    /// Events of a room or user that the subscriber never asked for.
    pub misrouted: u64,
    pub gap_notices: u64,
    /// Streams that the server ended after they had been ready.
    pub ended: u64,
    /// From the moment an event was due to the moment its subscriber read it.
    pub latency: Histogram,
}

pub struct Crowd<'a> {
    endpoint: Endpoint,
    terms: Terms<'a>,
    /// The sockets that wake this thread.
    awaited: Readiness,
    /// Those that are looked at in passing. To be woken for each delivery costs more than to take it, on both sides.
    gathered: Readiness,
    /// When the gathered were last found to hold nothing more.
    gathered_at: Instant,
    arrivals: Vec<Arrival>,
    buffer: Vec<u8>,
    /// The number of a subscriber is its place here; a place is free after `close`.
    subscribers: Vec<Option<Subscriber>>,
    /// Connections ever made, which chooses the source address.
    made: u32,
    pub tally: Tally,
}

impl<'a> Crowd<'a> {
    pub fn new(endpoint: Endpoint, terms: Terms<'a>) -> io::Result<Self> {
        Ok(Self {
            endpoint,
            terms,
            awaited: Readiness::new(1024)?,
            // Few at a time, or those that are timed would wait behind them.
            gathered: Readiness::new(32)?,
            gathered_at: Instant::now(),
            arrivals: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            subscribers: Vec::new(),
            made: 0,
            tally: Tally::default(),
        })
    }

    /// Connects until `wanted` subscribers are ready, telling `progress` how many are.
    pub fn open(&mut self, wanted: usize, mut progress: impl FnMut(usize)) -> Result<(), BenchError> {
        let mut moved = (Instant::now(), self.tally.ready);
        while self.tally.ready < wanted {
            while self.subscribers.len() < wanted && self.subscribers.len() - self.tally.ready < IN_FLIGHT {
                self.start_one(self.subscribers.len())?;
            }
            self.turn(Duration::from_millis(100))?;
            progress(self.tally.ready);
            if self.tally.ready > moved.1 {
                moved = (Instant::now(), self.tally.ready);
            } else if moved.0.elapsed() > CONNECT_PATIENCE {
                return Err(BenchError::Stuck { ready: self.tally.ready, wanted });
            }
        }
        Ok(())
    }

    /// Starts the connection at a place that is free, or one past the last.
    pub fn start_one(&mut self, place: usize) -> Result<(), BenchError> {
        let source = self.source_address();
        let mut socket =
            connect(self.endpoint.address, source).map_err(|source| BenchError::Connect { server: self.endpoint.address, source })?;
        self.made += 1;
        self.awaited.add(place, &mut socket).map_err(BenchError::Poll)?;
        let transport = self.endpoint.transport(socket).map_err(|source| BenchError::Connect { server: self.endpoint.address, source })?;
        let subscriber = Subscriber::new(transport, self.terms.streams.of_subscriber(place));
        if place == self.subscribers.len() {
            self.subscribers.push(Some(subscriber));
        } else {
            self.subscribers[place] = Some(subscriber);
        }
        Ok(())
    }

    /// Reads no more from the subscriber at this place.
    pub fn deafen(&mut self, place: usize) -> Result<(), BenchError> {
        let Some(subscriber) = self.subscribers[place].as_mut() else { return Ok(()) };
        subscriber.stage = Stage::Deaf;
        self.awaited.remove(subscriber.transport.socket()).map_err(BenchError::Poll)
    }

    /// From here on most are read in passing, and only the others are timed: right for traffic at a rate, which does not wait
    /// for anybody.
    pub fn gather_most(&mut self) -> Result<(), BenchError> {
        for (place, subscriber) in self.subscribers.iter_mut().enumerate() {
            let Some(subscriber) = subscriber.as_mut().filter(|subscriber| subscriber.stage == Stage::Ready) else { continue };
            // Fibonacci hashing: no period that a number of rooms could fall in step with.
            if (place as u32).wrapping_mul(0x9e37_79b1) > u32::MAX / TIMED_ONE_IN {
                subscriber.is_timed = false;
                self.awaited.remove(subscriber.transport.socket()).map_err(BenchError::Poll)?;
                self.gathered.add(place, subscriber.transport.socket()).map_err(BenchError::Poll)?;
            }
        }
        Ok(())
    }

    /// Waits for the sockets at most so long and handles what came.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), BenchError> {
        let until_gathering = GATHER_PAUSE.saturating_sub(self.gathered_at.elapsed());
        let timeout = if self.gathered.is_empty() { timeout } else { timeout.min(until_gathering) };
        self.awaited.wait(timeout, &mut self.arrivals).map_err(BenchError::Poll)?;
        self.receive()?;
        if !self.gathered.is_empty() && until_gathering.is_zero() {
            let may_be_more = self.gathered.wait(Duration::ZERO, &mut self.arrivals).map_err(BenchError::Poll)?;
            self.receive()?;
            if !may_be_more {
                self.gathered_at = Instant::now();
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), BenchError> {
        for arrival in self.arrivals.drain(..) {
            let Some(subscriber) = self.subscribers[arrival.place].as_mut() else { continue };
            let before = subscriber.stage;
            if let Err(source) = advance(subscriber, arrival, &self.terms, &mut self.buffer, &mut self.tally) {
                if before != Stage::Ready {
                    return Err(BenchError::Refused { server: self.endpoint.address, source });
                }
                subscriber.stage = Stage::Ended;
                self.tally.ended += 1;
            }
        }
        Ok(())
    }

    /// True where the handshake at this place is done, whatever came after.
    pub fn is_ready(&self, place: usize) -> bool {
        matches!(&self.subscribers[place], Some(Subscriber { stage: Stage::Ready | Stage::Ended, .. }))
    }

    pub fn close(&mut self, place: usize) {
        self.subscribers[place] = None;
    }

    pub fn close_all(&mut self) {
        self.subscribers.clear();
        self.tally = Tally::default();
    }

    /// Deliveries that never came, given how many events each room or user was sent.
    pub fn lost(&self, published: &[u64]) -> u64 {
        let listeners = self.subscribers.iter().flatten().filter(|subscriber| subscriber.stage != Stage::Deaf);
        listeners.map(|subscriber| subscriber.ledger.lost(published[subscriber.stream as usize])).sum()
    }

    /// 127.0.0.0/8 gives a local test more addresses than it needs, and each run others than the last; towards another machine
    /// the kernel chooses.
    fn source_address(&self) -> Option<Ipv4Addr> {
        let number = std::process::id().wrapping_mul(ADDRESSES_PER_RUN).wrapping_add(self.made / PER_SOURCE_ADDRESS);
        (self.endpoint.address.is_ipv4() && self.endpoint.address.ip().is_loopback())
            .then(|| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 256 + number % 0x00ff_0000))
    }
}

fn advance(subscriber: &mut Subscriber, arrival: Arrival, terms: &Terms<'_>, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
    match subscriber.stage {
        Stage::Connecting if arrival.is_writable => subscriber.send_handshake(terms.streams.handshake(subscriber.stream)),
        Stage::Connecting | Stage::Deaf | Stage::Ended => Ok(()),
        _ if arrival.is_readable => subscriber.receive(arrival.is_ended, buffer, terms, tally),
        _ => Ok(()),
    }
}

fn connect(server: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(server) };
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Linux' number of "operation now in progress"; std names no kind for it on every target.
const EINPROGRESS: i32 = 115;
