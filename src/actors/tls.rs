//! A TLS session over a socket that a connection owns: what a plain socket does, with records in between.
//!
//! Made from a session that actix-web's side has opened and answered the request over. rustls keeps what it has encrypted and the
//! kernel did not take; so that the outbox, its bounds and its stall limit see such a client as they see a plain one, the last byte of
//! it counts as unwritten until all has left. The outbox offers that byte again, and here it is passed over.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use rustls::ServerConnection;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Encrypted at a time, and so the most that is held of a client who takes nothing: one record (RFC 8446 §5.1).
const MAX_RECORD: usize = 16 * 1024;

#[derive(Debug)]
pub struct TlsSocket {
    stream: TcpStream,
    /// For `Sync` alone: rooms write and the line reads on one thread.
    session: Mutex<Session>,
}

#[derive(Debug)]
struct Session {
    connection: ServerConnection,
    /// The next byte offered was encrypted already.
    is_holding: bool,
    /// There may be bytes to read that the socket does not show any more.
    may_hold: bool,
}

/// The socket as rustls reads and writes it.
struct Raw<'a> {
    stream: &'a TcpStream,
    /// False: offers bytes to the kernel whatever the reactor knows, as [`super::socket::Socket::send`] does.
    asks_reactor: bool,
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.asks_reactor { self.stream.try_write(bytes) } else { SockRef::from(self.stream).send(bytes) }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.asks_reactor { self.stream.try_write_vectored(buffers) } else { SockRef::from(self.stream).send_vectored(buffers) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// False while the kernel takes no more.
    fn flush(&mut self, raw: &mut Raw<'_>) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(raw) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Says how many bytes count as written.
    fn write(&mut self, mut buffers: &mut [IoSlice<'_>], raw: &mut Raw<'_>) -> io::Result<usize> {
        if !self.flush(raw)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = usize::from(std::mem::take(&mut self.is_holding));
        IoSlice::advance_slices(&mut buffers, written);
        loop {
            let accepted = self.connection.writer().write_vectored(buffers)?;
            if accepted == 0 {
                return Ok(written);
            }
            written += accepted;
            if !self.flush(raw)? {
                // Never of an entry that has not begun for the outbox: it may still take that back.
                self.is_holding = last_piece(buffers, accepted) > 1;
                return Ok(written - usize::from(self.is_holding));
            }
            IoSlice::advance_slices(&mut buffers, accepted);
        }
    }

    /// One look at the socket at most: whoever floods us with records that say nothing gets no more turns than others.
    fn read(&mut self, buffer: &mut [u8], raw: &mut Raw<'_>) -> io::Result<usize> {
        match self.take_read(buffer, raw) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        self.connection.read_tls(raw)?;
        let processed = self.connection.process_new_packets();
        // An answer to what was read, or the alert that says why the session ends.
        self.flush(raw)?;
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.take_read(buffer, raw)
    }

    fn take_read(&mut self, buffer: &mut [u8], raw: &mut Raw<'_>) -> io::Result<usize> {
        let read = self.connection.reader().read(buffer);
        self.may_hold = matches!(read, Ok(count) if count == buffer.len());
        if matches!(read, Ok(0)) {
            // Who said goodbye hears one (RFC 8446 §6.1), if it still listens.
            self.connection.send_close_notify();
            let _ = self.flush(raw);
        }
        read
    }
}

/// How many of these first bytes lie in the last of the buffers that they reach.
fn last_piece(buffers: &[IoSlice<'_>], mut bytes: usize) -> usize {
    for buffer in buffers {
        if bytes <= buffer.len() {
            break;
        }
        bytes -= buffer.len();
    }
    bytes
}

impl TlsSocket {
    /// On this thread's reactor.
    pub fn new(socket: OwnedFd, mut connection: ServerConnection) -> io::Result<Self> {
        connection.set_buffer_limit(Some(MAX_RECORD));
        let session = Session { connection, is_holding: false, may_hold: true };
        Ok(Self { stream: TcpStream::from_std(socket.into())?, session: Mutex::new(session) })
    }

    /// A panic within rustls would leave a session that no longer reads or writes, and its client is cut.
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raw(&self, asks_reactor: bool) -> Raw<'_> {
        Raw { stream: &self.stream, asks_reactor }
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(&mut [IoSlice::new(bytes)], &mut self.raw(false))
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(&mut [IoSlice::new(bytes)], &mut self.raw(true))
    }

    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.lock().write(&mut SmallVec::<[IoSlice<'_>; 32]>::from_slice(buffers), &mut self.raw(true))
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lock().may_hold { Poll::Ready(Ok(())) } else { self.stream.poll_read_ready(cx) }
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buffer, &mut self.raw(true))
    }

    /// Says goodbye to the session, then that no more bytes come. Ready when it has.
    pub fn poll_end_writing(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.lock();
        // A second call does nothing.
        session.connection.send_close_notify();
        while let Ok(false) = session.flush(&mut self.raw(true)) {
            if ready!(self.stream.poll_write_ready(cx)).is_err() {
                break;
            }
        }
        // An error means that the peer is gone already.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        Poll::Ready(())
    }
}
