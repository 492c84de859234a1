//! A socket that a connection owns: written by whoever has bytes for it, read and awaited by the connection alone.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::tls::TlsSocket;

/// A stream socket on this thread's reactor. All methods take `&self`: the kernel serialises writes, and only one task
/// ever waits.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed, so that the others are small.
    Tls(Box<TlsSocket>),
}

/// A socket on its way from one thread to another, on no reactor.
#[derive(Debug)]
pub enum Spare {
    Tcp(OwnedFd),
    Unix(OwnedFd),
    Tls(OwnedFd, Box<ServerConnection>),
}

impl Spare {
    /// The socket on this thread's reactor. It is non-blocking as its original is.
    pub fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(fd) => TcpStream::from_std(fd.into()).map(Socket::Tcp),
            Self::Unix(fd) => UnixStream::from_std(fd.into()).map(Socket::Unix),
            Self::Tls(fd, session) => TlsSocket::new(fd, *session).map(Box::new).map(Socket::Tls),
        }
    }
}

impl Socket {
    /// Offers bytes to the kernel without asking the reactor whether it would take them: while nothing waits it nearly always
    /// does, and the question would bring one more cache line of each connection in. A full buffer is met again, and waited
    /// for, by [`Self::try_write`].
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).send(bytes),
            Self::Unix(stream) => SockRef::from(stream).send(bytes),
            Self::Tls(session) => session.send(bytes),
        }
    }

    /// Writes what the kernel takes at once, unless the reactor knows that it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tls(session) => session.try_write(bytes),
        }
    }

    /// As [`Self::try_write`], for several buffers in one system call.
    pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(buffers),
            Self::Unix(stream) => stream.try_write_vectored(buffers),
            Self::Tls(session) => session.try_write_vectored(buffers),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Tls(session) => session.poll_write_ready(cx),
        }
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(session) => session.poll_read_ready(cx),
        }
    }

    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tls(session) => session.try_read(buffer),
        }
    }

    /// Says that no more bytes come; the peer may still speak. Ready when it is said. To be asked again does no harm.
    pub fn poll_end_writing(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error means that the peer is gone already.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Tls(session) => return session.poll_end_writing(cx),
        };
        Poll::Ready(())
    }
}

/// A duplicate of a socket that someone else reads and writes: it can only end it. A peer that reads nothing holds up whoever
/// writes to it, and then only shutdown(2) gets through.
#[derive(Debug, Clone)]
pub struct Cutter(Arc<OwnedFd>);

impl Cutter {
    pub fn new(duplicate: OwnedFd) -> Self {
        Self(Arc::new(duplicate))
    }

    /// Nothing comes and nothing goes any more.
    pub fn cut(&self) {
        // An error means that the peer is gone already.
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Both);
    }
}
