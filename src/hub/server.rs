//! The workers and what they speak: HTTP over TCP, TLS and Unix sockets, put together from actix-web's own parts.
//!
//! `HttpServer` would do all of this, but its TLS streams can't be taken back (`http/lent.rs`). Its time-outs and its bound on
//! handshakes are kept.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config};
use actix_utils::counter::Counter;
use actix_web::{
    App,
    dev::AppConfig,
    rt::net::{TcpStream, UnixStream},
    web,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::listen::{BACKLOG, Listener};
use crate::{
    config,
    http::{self, door::Door, lent::Lent, takeover},
};

/// A request whose head takes longer to arrive is refused with 408.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to take the last bytes of a response, and to close its side.
const PARTING_PATIENCE: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(3);
/// TLS handshakes under way on a worker, beyond which it accepts nobody.
const HANDSHAKES: usize = 256;

thread_local! {
    static UNDER_WAY: Counter = Counter::new(HANDSHAKES);
}

/// What browsers connect to.
pub struct Sockets {
    pub listeners: Vec<Listener>,
    pub rustls: Option<ServerConfig>,
}

/// The server that opens this door on every worker.
pub fn build(config: &config::Server, sockets: Sockets, door: impl Fn() -> web::Data<Door> + Clone + Send + 'static) -> io::Result<Server> {
    let mut server = ServerBuilder::new()
        .disable_signals()
        .backlog(BACKLOG as u32)
        // Ours is exact, and answers 503 instead of letting clients wait.
        .max_concurrent_connections(config.max_connections.saturating_add(10_000));
    if config.workers > 0 {
        server = server.workers(config.workers);
    }
    let tls = sockets.rustls.map(|rustls| TlsAcceptor::from(Arc::new(rustls)));
    for listener in sockets.listeners {
        let (name, door) = (listener.to_string(), door.clone());
        server = match (listener, tls.clone()) {
            (Listener::Tcp(listener, _), Some(tls)) => server.listen(name, listener, move || {
                let tls = tls.clone();
                let accept = fn_factory(move || std::future::ready(Ok::<_, ()>(Accept(tls.clone()))));
                accept.and_then(speak(door()).map_err(drop))
            })?,
            (Listener::Tcp(listener, _), None) => server.listen(name, listener, move || {
                let accept = fn_service(async |stream: TcpStream| {
                    let peer = stream.peer_addr().ok();
                    Ok((stream, Protocol::Http1, peer))
                });
                accept.and_then(speak(door()))
            })?,
            (Listener::Unix(listener, _), _) => server.listen_uds(name, listener, move || {
                fn_service(async |stream: UnixStream| Ok((stream, Protocol::Http1, None))).and_then(speak(door()))
            })?,
        };
    }
    Ok(server.run())
}

/// HTTP over accepted streams.
fn speak<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    door: web::Data<Door>,
) -> impl ServiceFactory<(T, Protocol, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let app = App::new().configure(|app| http::routes(app, &door)).into_factory();
    let app = app.map_err(|error: actix_web::Error| error.as_response_error().error_response());
    HttpService::build()
        .client_request_timeout(HEAD_PATIENCE)
        .client_disconnect_timeout(PARTING_PATIENCE)
        // A client that is gone is seen at once, also by a stream that has nothing to say.
        .h1_allow_half_closed(false)
        .on_connect_ext(|stream: &T, extensions| takeover::keep_spare(stream, extensions))
        // Nobody asks it what it is reached by: the hub goes by the request, and by `http.allowed_origins`.
        .finish(map_config(app, |()| AppConfig::default()))
}

/// The TLS handshake.
struct Accept(TlsAcceptor);

/// Boxed, so that what it took is given back while the connection goes on.
type Accepting = Pin<Box<dyn Future<Output = Result<(Lent, Protocol, Option<SocketAddr>), ()>>>>;

impl Service<TcpStream> for Accept {
    type Response = (Lent, Protocol, Option<SocketAddr>);
    /// A handshake that failed, or came to no end: its client is gone, or hears why from the session itself.
    type Error = ();
    type Future = Accepting;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        if UNDER_WAY.with(|counter| counter.available(cx)) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&self, stream: TcpStream) -> Accepting {
        let under_way = UNDER_WAY.with(Counter::get);
        let accepting = self.0.accept(stream);
        Box::pin(async move {
            let accepted = timeout(HANDSHAKE_PATIENCE, accepting).await.map_err(drop)?.map_err(drop)?;
            drop(under_way);
            let peer = accepted.get_ref().0.peer_addr().ok();
            let stream = Lent::new(accepted);
            let protocol = if stream.is_shared() { Protocol::Http2 } else { Protocol::Http1 };
            Ok((stream, protocol, peer))
        })
    }
}
