//! A TLS stream that is lent to actix-web: it speaks through it until a connection takes it back.
//!
//! A plain socket has a duplicate; a TLS session has none, so what actix-web holds is a place that can be emptied under it.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::actors::socket::{Cutter, Spare};

type Place = RefCell<Option<TlsStream<TcpStream>>>;

/// What actix-web holds. Emptied, it is silent and swallows nothing: actix-web is on its way out by then.
pub struct Lent(Rc<Place>);

/// The right to take the stream back. It does not keep it: whom actix-web drops is gone.
#[derive(Clone)]
pub struct Claim(Weak<Place>);

impl Lent {
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(Rc::new(RefCell::new(Some(stream))))
    }

    pub fn claim(&self) -> Claim {
        Claim(Rc::downgrade(&self.0))
    }

    /// Whether HTTP/2 was negotiated (RFC 7301), whose streams share the connection.
    pub fn is_shared(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|stream| stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// What ends the connection from outside.
    pub fn cutter(&self) -> io::Result<Cutter> {
        let place = self.0.borrow();
        let stream = place.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        stream.get_ref().0.as_fd().try_clone_to_owned().map(Cutter::new)
    }

    fn poll<T>(
        &self,
        emptied: io::Result<T>,
        poll: impl FnOnce(Pin<&mut TlsStream<TcpStream>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.0.borrow_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(emptied),
        }
    }
}

impl Claim {
    /// Takes the stream off this thread's reactor. What its session has read or not yet written goes with it.
    pub fn take(&self) -> io::Result<Spare> {
        let stream = self.0.upgrade().and_then(|place| place.borrow_mut().take()).ok_or(io::ErrorKind::NotConnected)?;
        let (socket, session) = stream.into_inner();
        Ok(Spare::Tls(socket.into_std()?.into(), Box::new(session)))
    }
}

impl AsyncRead for Lent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(Err(io::ErrorKind::NotConnected.into()), |stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Lent {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(Err(io::ErrorKind::NotConnected.into()), |stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll(Err(io::ErrorKind::NotConnected.into()), |stream| stream.poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Ok(()), |stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(Ok(()), |stream| stream.poll_shutdown(cx))
    }
}
