//! `callboard bench`: subscribers by the thousand on one thread, a publisher beside them, and exact books of what arrived.
//!
//! - [`crowd`], [`readiness`], [`transport`] and [`subscriber`] receive; [`wire`] and [`h2`] are as much of the protocols as they need; [`ledger`] keeps the books.
//! - [`publisher`] and [`link`] send; [`streams`] names the rooms or users, [`marker`] numbers the events.
//! - [`fanout`] and [`churn`] are the modes; [`process`], [`histogram`], [`report`] and [`progress`] say what it cost.
//!
//! Nothing here uses the rest of the hub, not even its codecs: a fault of theirs must not cancel itself out.

mod churn;
mod crowd;
mod fanout;
mod h2;
mod histogram;
mod ledger;
mod link;
mod marker;
mod process;
mod progress;
mod publisher;
mod readiness;
mod report;
mod streams;
mod subscriber;
mod transport;
mod wire;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use thiserror::Error;

use self::{
    crowd::Crowd, link::Via, marker::Marker, process::Sample, report::Report, streams::Streams, subscriber::Terms, transport::Endpoint,
    wire::Wire,
};

/// Measure a hub: deliveries, latency, CPU and memory, with loss, doubles and order checked exactly.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The server that subscribers connect to
    #[arg(default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// PEM file with the root, or the self-signed certificate, of an https server
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// What to measure
    #[arg(long, value_enum, default_value = "fanout")]
    pub mode: Mode,
    /// What subscribers speak
    #[arg(long, value_enum, default_value = "sse")]
    pub wire: Wire,
    /// Event streams on each of their connections (--wire h2 --mode idle)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub streams: u32,
    /// How many subscribers
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Further subscribers that never read, from when all are connected (--mode fanout)
    #[arg(long, default_value_t = 0)]
    pub never_readers: u32,
    /// Rooms they are dealt out to
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Users they are dealt out to, instead of rooms
    #[arg(long, conflicts_with = "rooms", requires = "jwt_secret", value_parser = clap::value_parser!(u32).range(1..))]
    pub users: Option<u32>,
    /// HS256 secret that the users' tokens are signed with
    #[arg(long)]
    pub jwt_secret: Option<String>,
    /// Where to publish: redis://host:port (the embedded broker's RESP port too) or http://host:port/api/publish. With `{name}` in
    /// an HTTP path, the room's or user's name stands there and the body is the bare data
    #[arg(long, default_value = "redis://127.0.0.1:6380")]
    pub via: Via,
    /// Key of the publish API
    #[arg(long)]
    pub api_key: Option<String>,
    /// Events a second over all rooms or users
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    pub rate: f64,
    /// Publish when the last burst has reached everyone, instead of at a rate
    #[arg(long, conflicts_with = "rate")]
    pub closed_loop: bool,
    /// Events that are written together, to one room or user
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub burst: u32,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 256, value_parser = payload_size)]
    pub size: usize,
    /// Lost events are counted but are no error: for loads that are meant to be too much
    #[arg(long)]
    pub allow_loss: bool,
    /// Length of the measured window
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// Traffic before the window
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub warm_up_seconds: f64,
    /// Without a delivery for so long, what is missing counts as lost
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub patience_seconds: f64,
    /// Local process of the server, for its CPU and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// How often to connect and close everyone (--mode idle)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub cycles: u32,
    /// How long idle connections are held before memory is read (--mode idle)
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub hold_seconds: f64,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// A text to tell this run from others in the JSON
    #[arg(long, requires = "json")]
    pub label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Publish and receive
    Fanout,
    /// Connect, hold, read the memory, close, again
    Idle,
    /// Connect and close, as fast as it goes
    Connects,
}

#[derive(Debug, Error)]
pub enum BenchError {
    #[error("`{0}` is no address of the form http://host:port, or https://host:port with --tls-ca")]
    Server(String),
    #[error("--wire h2 is for an https server and --mode idle or connects, --streams for --wire h2 --mode idle")]
    Http2,
    #[error("can't use the certificates of {file}: {source}")]
    Certificates { file: PathBuf, source: io::Error },
    #[error("can't resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("can't connect to {server}: {source}")]
    Connect { server: SocketAddr, source: io::Error },
    #[error("{server} did not take a subscriber: {source}")]
    Refused { server: SocketAddr, source: io::Error },
    #[error("only {ready} of {wanted} subscribers became ready, and no more for 20 s")]
    Stuck { ready: usize, wanted: usize },
    #[error("can't poll the sockets: {0}")]
    Poll(io::Error),
    #[error("can't publish: {0}")]
    Publish(io::Error),
    #[error("can't sign a token: {0}")]
    Token(jsonwebtoken::errors::Error),
    #[error("can't read the counters of process {pid}: {source}")]
    Process { pid: String, source: io::Error },
    #[error("can't print the report: {0}")]
    Print(io::Error),
    #[error("{0} deliveries were wrong or missing")]
    Inexact(u64),
}

/// Runs a measurement and prints its report. Deliveries that are lost, doubled or out of order are an error, after the report.
pub async fn run(args: BenchArgs) -> Result<(), BenchError> {
    let allow_loss = args.allow_loss;
    // A thread of its own: the crowd's poll is not the runtime's.
    let measured = tokio::task::spawn_blocking(move || {
        let report = measure(&args)?;
        report.print(args.json).map_err(BenchError::Print)?;
        Ok(report)
    });
    let report = match measured.await {
        Ok(result) => result?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match report.faults(allow_loss) {
        0 => Ok(()),
        faults => Err(BenchError::Inexact(faults)),
    }
}

fn measure(args: &BenchArgs) -> Result<Report, BenchError> {
    let bench = Bench::new(args)?;
    match args.mode {
        Mode::Fanout => fanout::run(&bench),
        Mode::Idle => churn::idle(&bench),
        Mode::Connects => churn::connects(&bench),
    }
}

/// What all modes start from.
struct Bench<'a> {
    args: &'a BenchArgs,
    host: String,
    server: SocketAddr,
    streams: Arc<Streams>,
    origin: Instant,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs) -> Result<Self, BenchError> {
        let invalid = || BenchError::Server(args.server.clone());
        let (scheme, host) = args.server.trim_end_matches('/').split_once("://").ok_or_else(invalid)?;
        let port = match (scheme, &args.tls_ca) {
            ("http", None) => 80,
            ("https", Some(_)) => 443,
            _ => return Err(invalid()),
        };
        if host.is_empty() || host.contains('/') {
            return Err(invalid());
        }
        let is_h2 = args.wire == Wire::H2;
        if is_h2 && (scheme == "http" || args.mode == Mode::Fanout) || args.streams > 1 && !(is_h2 && args.mode == Mode::Idle) {
            return Err(BenchError::Http2);
        }
        let host = link::with_port(host, port);
        let server = link::resolve(&host).map_err(|source| BenchError::Resolve { host: host.clone(), source })?;
        let run = format!("{:x}", std::process::id());
        let streams = match (args.users, &args.jwt_secret) {
            (Some(users), Some(secret)) => Streams::users(users, run, args.wire, &host, secret)?,
            _ => Streams::rooms(args.rooms, run, args.wire, &host, args.streams),
        };
        Ok(Self { args, host, server, streams: Arc::new(streams), origin: Instant::now() })
    }

    fn crowd(&self) -> Result<Crowd<'_>, BenchError> {
        let args = self.args;
        let terms = Terms { wire: args.wire, streams: &self.streams, size: args.size, on_each: args.streams, origin: self.origin };
        let endpoint = match &args.tls_ca {
            None => Endpoint::plain(self.server),
            Some(file) => Endpoint::tls(self.server, &self.host, file, args.wire)
                .map_err(|source| BenchError::Certificates { file: file.clone(), source })?,
        };
        Crowd::new(endpoint, terms).map_err(BenchError::Poll)
    }

    fn connections(&self) -> usize {
        self.args.connections as usize
    }

    /// The server's counters, where its process was named.
    fn sample_server(&self) -> Result<Option<Sample>, BenchError> {
        self.args.pid.map(|pid| sample(Some(pid))).transpose()
    }
}

fn sample(pid: Option<u32>) -> Result<Sample, BenchError> {
    let name = || pid.map_or("self".into(), |pid| pid.to_string());
    Sample::of(pid).map_err(|source| BenchError::Process { pid: name(), source })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err("must be a number above 0 and at most 1e9".into()),
    }
}

fn payload_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (Marker::BYTES..=1 << 20).contains(&size) => Ok(size),
        _ => Err(format!("must be {} to {} bytes", Marker::BYTES, 1 << 20)),
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}
