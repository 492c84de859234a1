//! Readiness: a set of sockets, and which of them have something for us.

use std::{io, time::Duration};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

/// What the kernel says of one socket.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub place: usize,
    pub is_writable: bool,
    pub is_readable: bool,
    /// The peer sends no more, or the connection failed.
    pub is_ended: bool,
}

pub struct Readiness {
    poll: Poll,
    events: Events,
    at_once: usize,
    sockets: usize,
}

impl Readiness {
    /// One that tells of so many sockets at once.
    pub fn new(at_once: usize) -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(at_once), at_once, sockets: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.sockets == 0
    }

    /// Adds a socket; what it already holds is told too.
    pub fn add(&mut self, place: usize, socket: &mut TcpStream) -> io::Result<()> {
        self.sockets += 1;
        self.poll.registry().register(socket, Token(place), Interest::READABLE | Interest::WRITABLE)
    }

    pub fn remove(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.sockets -= 1;
        self.poll.registry().deregister(socket)
    }

    /// Waits at most so long and appends what is told; true where there may be more at once.
    pub fn wait(&mut self, timeout: Duration, arrivals: &mut Vec<Arrival>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            result => result?,
        }
        let before = arrivals.len();
        arrivals.extend(self.events.iter().map(|event| {
            let is_ended = event.is_read_closed() || event.is_error();
            Arrival {
                place: event.token().0,
                is_writable: event.is_writable() || event.is_error(),
                is_readable: event.is_readable() || is_ended,
                is_ended,
            }
        }));
        Ok(arrivals.len() - before == self.at_once)
    }
}
