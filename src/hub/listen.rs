//! The sockets that the hub listens on, opened before anything else so that a taken port shows at start.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
};

use socket2::{Domain, Socket, Type};

use super::HubError;
use crate::{
    broker::resp,
    config::{Bind, BrokerUrl, Config, Secret},
};

/// Connections that the kernel holds for us while we are busy.
pub const BACKLOG: i32 = 4096;

/// A socket that browsers connect to.
pub enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}"),
            Self::Unix(_, path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// All of `server.bind`.
pub fn open_all(config: &Config) -> Result<Vec<Listener>, HubError> {
    let mut listeners = Vec::new();
    for bind in &config.server.bind {
        open(bind, config, &mut listeners).map_err(|error| HubError::Bind { bind: bind.to_string(), error })?;
    }
    Ok(listeners)
}

/// Where the embedded broker takes PUBLISH; nowhere off this machine unless there is a password.
pub fn open_resp(config: &Config) -> Result<Option<TcpListener>, HubError> {
    let (BrokerUrl::Memory, Some(bind)) = (&config.broker.url, &config.broker.resp) else { return Ok(None) };
    let failed = |error| HubError::Bind { bind: format!("{bind} ([broker] resp)"), error };
    let Bind::Tcp { host, port } = bind else {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the embedded broker listens on TCP only")));
    };
    let address = resolve(host, *port).map_err(failed)?;
    resp::check_bind(address, config.broker.resp_password.as_ref().map(Secret::expose))?;
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Some(listener))
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    (host, port).to_socket_addrs()?.next().ok_or_else(unknown)
}

fn open(bind: &Bind, config: &Config, listeners: &mut Vec<Listener>) -> io::Result<()> {
    match bind {
        Bind::Tcp { host, port } => {
            for address in (host.as_str(), *port).to_socket_addrs()? {
                let listener = listen(address, config)?;
                let address = listener.local_addr()?;
                listeners.push(Listener::Tcp(listener, address));
                // A name may have several addresses; with port 0 each would get another port.
                if *port == 0 {
                    break;
                }
            }
        }
        Bind::Unix(path) => {
            // A socket file that nobody listens on is left from a process that was killed.
            if UnixStream::connect(path).is_err() {
                let _ = std::fs::remove_file(path);
            }
            listeners.push(Listener::Unix(UnixListener::bind(path)?, path.clone()));
        }
    }
    Ok(())
}

/// Accepted sockets inherit these options, under TLS too: a peer that acknowledges nothing is cut by the kernel, and one that
/// never reads hides no megabytes in its send queue (measured: 2.8 MB without a bound).
fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if !config.server.tcp_user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(config.server.tcp_user_timeout))?;
    }
    socket.set_send_buffer_size(config.server.send_buffer)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
