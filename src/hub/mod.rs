//! The composition root: builds the hub from its configuration, opens the door, and says goodbye in order.

mod bus;
mod core;
mod listen;
mod reload;
mod server;
mod tls;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actix_server::Server;
use actix_web::web;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

use self::{
    core::Core,
    listen::Listener,
    server::Sockets,
    tls::{Certificate, TlsError},
};
use crate::{
    actors::messages::Drain,
    auth::KeyError,
    broker::{redis::AddressError, resp},
    config::{BrokerUrl, Config, SocketIo, SourceConfig, SourceData},
    http::{self, door::Door},
    lifeline::{Readiness, Watch},
    protocol::{
        NameError, RoomName,
        dialect::{DataShape, Dialect, Options, UnknownDialect},
        source::{Source, SourceError, Sources},
    },
};

pub use reload::ReadConfig;

/// How long connections may take to end after the last goodbye.
const FLUSH: Duration = Duration::from_secs(2);

/// Why the hub does not run.
#[derive(Debug, Error)]
pub enum HubError {
    #[error("cannot listen on {bind}: {error}")]
    Bind { bind: String, error: io::Error },
    #[error("[broker] resp: {0}")]
    Resp(#[from] resp::RespError),
    #[error("[[source]] {channel:?}: {error}")]
    Source { channel: String, error: SourceMistake },
    #[error("[[source]]: {0}")]
    Sources(SourceError),
    #[error("auth.jwt: {0}")]
    Key(#[from] KeyError),
    #[error("broker.tls_ca: cannot read {}: {error}", path.display())]
    TlsRoot { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no randomness for this node's name: {0}")]
    Randomness(getrandom::Error),
    #[error("[broker] {0}")]
    Broker(#[from] AddressError),
    #[error("{0}")]
    Server(io::Error),
    #[error("the {0} died; the log says why")]
    Died(&'static str),
}

impl HubError {
    /// Whether the configuration is at fault.
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Resp(_) | Self::Source { .. } | Self::Sources(_) | Self::Key(_) | Self::Tls(_) | Self::TlsRoot { .. } | Self::Broker(_)
        )
    }
}

/// What is wrong with one source.
#[derive(Debug, Error)]
pub enum SourceMistake {
    #[error(transparent)]
    Dialect(#[from] UnknownDialect),
    #[error("its room {0}")]
    Room(#[from] NameError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Reads the sources of the configuration as the protocol knows them.
pub fn sources(config: &Config) -> Result<Sources, HubError> {
    let sources = config
        .sources
        .iter()
        .map(|source| read_source(source).map_err(|error| HubError::Source { channel: source.channel.clone(), error }));
    Sources::new(sources.collect::<Result<_, _>>()?).map_err(HubError::Sources)
}

fn read_source(source: &SourceConfig) -> Result<Source, SourceMistake> {
    let data = match source.data {
        SourceData::List => DataShape::List,
        SourceData::Raw => DataShape::Raw,
    };
    let options = Options { room_argument: source.room_argument, data, control: source.control };
    let room = source.room.as_deref().map(RoomName::parse).transpose()?;
    Ok(Source::new(&source.channel, Dialect::from_str(&source.dialect)?, options, room)?)
}

/// Runs the hub until a signal ends it; SIGHUP has `read` called for the configuration as it is then.
pub fn serve(config: Config, read: ReadConfig, conformance: bool) -> Result<(), HubError> {
    actix_web::rt::System::new().block_on(run(config, read, conformance))
}

async fn run(config: Config, read: ReadConfig, conformance: bool) -> Result<(), HubError> {
    // rustls comes without a provider. An error says that one is in place already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = config;
    // The suites' times are short: who sets others has cases of its own, and a slow machine.
    if conformance && config.socketio == SocketIo::default() {
        config.socketio = http::socketio::conformance_config();
    }
    let config = Arc::new(config);
    let readiness: Arc<Readiness> = Arc::default();
    let mut watch = Watch::new();
    let core = Core::prepare(Arc::clone(&config), Arc::clone(&readiness), &watch, conformance)?;
    let resp = core.resp_address();
    let certificate = config.server.tls.as_ref().map(Certificate::read).transpose()?;
    let listeners = listen::open_all(&config)?;
    raise_file_limit(config.server.max_connections);
    let mut signals = Signals::new().map_err(HubError::Server)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(HubError::Server)?;
    let scheme = |address: String| if certificate.is_some() { address.replacen("http:", "https:", 1) } else { address };
    let addresses: Vec<String> = listeners.iter().map(Listener::to_string).map(scheme).collect();
    let door: Arc<OnceLock<web::Data<Door>>> = Arc::default();
    let rustls = certificate.as_ref().map(Certificate::server_config).transpose()?;
    let server = open_door(&config, core, Sockets { listeners, rustls }, Arc::clone(&door)).map_err(HubError::Server)?;
    let handle = server.handle();
    let mut serving = actix_web::rt::spawn(server);
    // Whoever started the hub may not read what it says.
    let _ = announce(&config, &addresses, resp);
    loop {
        tokio::select! {
            ended = &mut serving => return ended.map_err(io::Error::other).and_then(|ended| ended).map_err(HubError::Server),
            name = watch.cut() => return Err(HubError::Died(name)),
            () = signals.next() => break readiness.set_draining(),
            _ = hang_up.recv() => {
                let Some(door) = door.get() else { continue };
                if let Err(error) = reload::reload(&read, door, certificate.as_deref()) {
                    log::error!("the configuration stays as it was: {error}");
                }
            }
        }
    }
    log::info!("draining: telling every client to connect again within {:?}", config.server.drain);
    tokio::select! {
        () = drain(&config, &door) => {}
        () = signals.next() => log::warn!("a second signal: stopping at once"),
    }
    handle.stop(false).await;
    Ok(())
}

/// Starts the workers. The first of them also runs what there is one of.
fn open_door(config: &Config, core: Core, sockets: Sockets, door: Arc<OnceLock<web::Data<Door>>>) -> io::Result<Server> {
    let core = Arc::new(Mutex::new(Some(core)));
    let open = move || {
        let door = door.get_or_init(|| {
            let core = core.lock().unwrap_or_else(PoisonError::into_inner).take();
            match core {
                Some(core) => web::Data::new(core.start()),
                None => unreachable!("it is taken once, inside this initialiser"),
            }
        });
        door.clone()
    };
    server::build(&config.server, sockets, open)
}

/// Says goodbye to everybody, spread over `server.drain`, and waits until they have it.
async fn drain(config: &Config, door: &OnceLock<web::Data<Door>>) {
    let Some(door) = door.get() else { return };
    // An error says that the registry is gone, and everybody with it.
    let _ = door.registry.send(Drain { over: config.server.drain }).await;
    let deadline = Instant::now() + FLUSH;
    while door.capacity.taken() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Each connection is a descriptor, and the usual soft limit is 1,024.
fn raise_file_limit(connections: usize) {
    let wanted = (connections as u64).saturating_add(1024);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => log::info!("this process may open {limit} files, less than server.max_connections = {connections}"),
        Ok(_) => {}
        Err(error) => log::warn!("the limit of open files could not be raised: {error}"),
    }
}

fn announce(config: &Config, addresses: &[String], resp: Option<SocketAddr>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let browsers = addresses.iter().find(|address| address.starts_with("http"));
    writeln!(out, "callboard {} is listening on {}", env!("CARGO_PKG_VERSION"), addresses.join(", "))?;
    let Some(address) = browsers else { return Ok(()) };
    writeln!(out, "  open     {address}/")?;
    writeln!(out, "  listen   curl -N '{address}/sse?room=demo'")?;
    writeln!(out, r#"  publish  curl {address}/api/publish --json '{{"room":"demo","event":"hello","data":"world"}}'"#)?;
    if let Some(resp) = resp {
        let (host, port, prefix) = (resp.ip(), resp.port(), &config.broker.prefix);
        writeln!(out, r#"           redis-cli -h {host} -p {port} PUBLISH {prefix}:room:demo '{{"event":"hello","data":"world"}}'"#)?;
    }
    if config.broker.url != BrokerUrl::Memory {
        writeln!(out, "  broker   {}", config.broker.url)?;
    }
    Ok(())
}

/// SIGTERM and SIGINT, one after the other.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
