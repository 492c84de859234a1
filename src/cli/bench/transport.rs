//! What carries a subscriber's bytes: a socket, or TLS on one.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::wire::Wire;

/// Where subscribers connect to, and how.
pub struct Endpoint {
    pub address: SocketAddr,
    tls: Option<Tls>,
}

struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Endpoint {
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// TLS towards `host:port`, whose certificate a root of this PEM file must have signed.
    pub fn tls(address: SocketAddr, host: &str, roots_file: &Path, wire: Wire) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(roots_file).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        if wire == Wire::H2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let config = Arc::new(config);
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        Ok(Self { address, tls: Some(Tls { config, name }) })
    }

    /// What carries the bytes of a connection under way.
    pub fn transport(&self, socket: TcpStream) -> io::Result<Transport> {
        let Some(Tls { config, name }) = &self.tls else { return Ok(Transport::Plain(socket)) };
        let session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        Ok(Transport::Tls(Box::new(TlsStream { socket, session })))
    }
}

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

pub struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
}

impl Transport {
    pub fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.socket,
        }
    }

    /// Whether a read that does not fill the buffer has emptied the socket. TLS gives out one record after the other.
    pub fn is_emptied_by_a_short_read(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    /// Also moves the handshake on, where it is that for which bytes came.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.session.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
            self.send_waiting()?;
        }
    }

    /// Before the handshake is done the session keeps the bytes until it is.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.session.writer().write(bytes)?;
        self.send_waiting()?;
        Ok(length)
    }

    fn send_waiting(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                // A few hundred bytes that an idle socket has no room for: what comes next tries again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                result => _ = result?,
            }
        }
        Ok(())
    }
}
