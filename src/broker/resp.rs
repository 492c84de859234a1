//! The listener of the embedded broker: it takes PUBLISH as Redis would, so that publisher code written for Redis works with
//! only its URL changed. It is no Redis: nothing is stored and nobody subscribes here.
//!
//! - this file: what the hub plugs in, the accept loop, the bounds
//! - `connection`: moves bytes; `decode` and `inline`: bytes to arguments, bounded before anything is buffered
//! - `command`: arguments to a command, or the refusal; `session`: what a command does; `transaction`: MULTI's queue
//! - `reply`: answers to bytes, in RESP2 and RESP3

mod command;
mod connection;
/// Open to the fuzzer.
pub mod decode;
mod inline;
mod reply;
mod session;
mod transaction;

use std::{fmt, future::Future, io::Write, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::Instant,
};

use self::connection::ConnectionError;

/// Where a PUBLISH goes.
pub trait Sink: Clone + 'static {
    /// Answers how many subscribers took the payload. One connection's publications are handed over one after another, in
    /// the order in which they were sent.
    fn publish(&self, channel: &str, payload: Bytes) -> impl Future<Output = Result<u64, PublishError>>;
}

/// Why a publication was not taken. The publisher reads the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    #[error("the hub is busy, publish again later")]
    Busy,
    #[error("the hub is shutting down")]
    Closed,
    #[error("{0}")]
    Refused(String),
}

/// Why the listener may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RespError {
    #[error("{addr} can be reached from other machines and no password is set: anyone could publish; bind 127.0.0.1 or set a password")]
    OpenToAll { addr: SocketAddr },
}

/// Bounds and the password. `Default` has the values of the fields' docs and no password.
#[derive(Clone)]
pub struct Options {
    /// What AUTH must show, as user `default`; without it, everyone who connects may publish.
    pub password: Option<String>,
    /// Largest argument in bytes, and with it the largest payload: 1 MiB. A larger one is refused by its header, unread.
    pub max_payload: usize,
    /// Publishers connected at once: 1,000. One more is told so and closed.
    pub max_connections: usize,
    /// How long a peer may leave a command half sent, or its replies untaken: 30 s. An idle connection may stay for ever.
    pub stall: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { password: None, max_payload: 1 << 20, max_connections: 1_000, stall: Duration::from_secs(30) }
    }
}

impl fmt::Debug for Options {
    /// Without the password: options are logged at start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("has_password", &self.password.is_some())
            .field("max_payload", &self.max_payload)
            .field("max_connections", &self.max_connections)
            .field("stall", &self.stall)
            .finish()
    }
}

/// Whether a listener may be opened there. Loopback needs no password; an empty password is none.
pub fn check_bind(addr: SocketAddr, password: Option<&str>) -> Result<(), RespError> {
    let has_password = password.is_some_and(|password| !password.is_empty());
    // `::ffff:127.0.0.1` is loopback too.
    if addr.ip().to_canonical().is_loopback() || has_password { Ok(()) } else { Err(RespError::OpenToAll { addr }) }
}

/// Protocol errors are logged this often: a hostile web page must not fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Pause after a failed accept, which is mostly the lack of file descriptors: trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A publisher whose machine vanished is noticed after about this long, and its place is free again.
const KEEPALIVE: Duration = Duration::from_secs(300);

type Ended = (SocketAddr, Result<(), ConnectionError>);

/// Serves publishers until the future is dropped, which ends their connections too. Runs on a current-thread runtime with
/// local tasks, such as actix's arbiters.
pub async fn serve<S: Sink>(listener: TcpListener, options: Options, sink: S) {
    let options = Rc::new(options);
    let mut connections: JoinSet<Ended> = JoinSet::new();
    let mut last_warning = None;
    let mut next_id: u64 = 1;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() >= options.max_connections => turn_away(stream),
                Ok((stream, peer)) => {
                    prepare(&stream);
                    let session = session::Session::new(next_id, options.clone(), sink.clone());
                    let stall = options.stall;
                    next_id += 1;
                    connections.spawn_local(async move { (peer, connection::run(stream, session, stall).await) });
                }
                Err(error) => {
                    log::warn!("resp listener: accept failed: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => log_end(ended, &mut last_warning),
        }
    }
}

/// Publishers wait for each reply, so Nagle's algorithm would only delay. Neither option failing is worth a connection.
fn prepare(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let set = stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        log::debug!("resp listener: socket options: {error}");
    }
}

/// Best effort: the socket is new, so its empty send buffer takes the line without waiting.
fn turn_away(stream: TcpStream) {
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(b"-ERR max number of clients reached\r\n"));
}

fn log_end(ended: Result<Ended, JoinError>, last_warning: &mut Option<Instant>) {
    match ended {
        Ok((_, Ok(()))) => {}
        Ok((peer, Err(ConnectionError::Io(error)))) => log::debug!("resp connection of {peer}: {error}"),
        Ok((peer, Err(error))) => {
            let now = Instant::now();
            if last_warning.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL) {
                *last_warning = Some(now);
                log::warn!("resp connection of {peer} closed: {error}");
            }
        }
        Err(error) => log::error!("resp connection failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_bound_without_a_password() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        for local in ["127.0.0.1:6380", "127.9.9.9:1", "[::1]:6380", "[::ffff:127.0.0.1]:6380"] {
            assert_eq!(check_bind(addr(local), None), Ok(()), "{local}");
        }
        for open in ["0.0.0.0:6380", "[::]:6380", "192.168.1.7:6380", "[::ffff:10.0.0.1]:6380"] {
            assert_eq!(check_bind(addr(open), None), Err(RespError::OpenToAll { addr: addr(open) }), "{open}");
            assert!(check_bind(addr(open), Some("")).is_err(), "{open}: an empty password is none");
            assert_eq!(check_bind(addr(open), Some("secret")), Ok(()), "{open}");
        }
    }

    #[test]
    fn options_never_print_the_password() {
        let options = Options { password: Some("hunter2".into()), ..Options::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
