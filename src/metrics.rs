//! Every metric, with its unit and meaning, in one place. No label carries a room, a user or an id: their number is bounded
//! by the code and the configuration, never by clients.
//!
//! Counters on the delivery path are resolved once; nothing there looks up a label.

use std::sync::{Arc, OnceLock, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::protocol::{CloseReason, ErrorCode, wire::WireName};

/// Why an event that was due did not reach a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The connection was cut because its outbox was full (`overflow = "disconnect"`).
    SlowConsumer,
    /// `overflow = "drop-oldest"`.
    DropOldest,
    /// `overflow = "drop-newest"`.
    DropNewest,
    /// `overflow = "keep-latest"`: a newer event of the same name took its place.
    Superseded,
    /// The connection ended while the event waited for it.
    Closed,
    /// A room's or user's mailbox was full.
    MailboxFull,
}

impl DropReason {
    pub const ALL: [Self; 6] = [Self::SlowConsumer, Self::DropOldest, Self::DropNewest, Self::Superseded, Self::Closed, Self::MailboxFull];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Superseded => "superseded",
            Self::Closed => "closed",
            Self::MailboxFull => "mailbox_full",
        }
    }
}

/// Whose mailboxes are counted when they are full.
const MAILBOXES: [&str; 5] = ["bridge", "registry", "room", "user", "namespace"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WireLabel {
    wire: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WireReasonLabel {
    wire: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceReasonLabel {
    source: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActorLabel {
    actor: &'static str,
}

/// Handles to every metric of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    connections: [Gauge; WireName::ALL.len()],
    delivered: [Counter; WireName::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
    rooms: Gauge,
    users: Gauge,
    published: Family<SourceLabel, Counter>,
    closes: Family<WireReasonLabel, Counter>,
    refusals: Family<WireReasonLabel, Counter>,
    source_errors: Family<SourceReasonLabel, Counter>,
    mailbox_full: Family<ActorLabel, Counter>,
    replayed: Counter,
    history: Family<OutcomeLabel, Counter>,
    replays: Family<OutcomeLabel, Counter>,
    replay_size: Histogram,
    broker_up: Gauge,
    broker_gaps: Counter,
    broker_reconnects: Counter,
    clock_round_trip: Gauge<f64, AtomicU64>,
    delivery: Histogram,
    process: ProcessGauges,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let connections = Family::<WireLabel, Gauge>::default();
        let delivered = Family::<WireLabel, Counter>::default();
        let dropped = Family::<ReasonLabel, Counter>::default();
        registry.register("callboard_connections", "Connections open now", connections.clone());
        registry.register("callboard_events_delivered", "Events handed to the kernel, per connection", delivered.clone());
        registry.register("callboard_events_dropped", "Events that were due to a connection and did not reach it", dropped.clone());
        let inner = Inner {
            connections: WireName::ALL.map(|wire| connections.get_or_create_owned(&WireLabel { wire: wire.as_str() })),
            delivered: WireName::ALL.map(|wire| delivered.get_or_create_owned(&WireLabel { wire: wire.as_str() })),
            dropped: DropReason::ALL.map(|reason| dropped.get_or_create_owned(&ReasonLabel { reason: reason.as_str() })),
            rooms: register(&mut registry, "callboard_rooms", "Rooms with members on this node"),
            users: register(&mut registry, "callboard_users", "Identified users with connections on this node"),
            published: register(&mut registry, "callboard_events_published", "Events that arrived for a room or user of this node"),
            closes: register(&mut registry, "callboard_closes", "Connections that ended"),
            refusals: register(&mut registry, "callboard_refusals", "Clients that got no connection, by the error they were told"),
            source_errors: register(&mut registry, "callboard_source_errors", "Payloads that a source's dialect does not read"),
            mailbox_full: register(&mut registry, "callboard_mailbox_full", "Messages refused because an actor's mailbox was full"),
            replayed: register(&mut registry, "callboard_events_replayed", "Events sent from a history to those who came back"),
            history: register(&mut registry, "callboard_history_writes", "Publications offered to Redis: added, duplicate, lost, failed"),
            replays: register(&mut registry, "callboard_replays", "Resumptions of a room: whole, or the reason of their gap"),
            replay_size: replay_histogram(&mut registry),
            broker_up: register(&mut registry, "callboard_broker_up", "1 while the broker's subscription is proven"),
            broker_gaps: register(&mut registry, "callboard_broker_gaps", "Times that events may have been missed"),
            broker_reconnects: register(&mut registry, "callboard_broker_reconnects", "Times that the broker was subscribed anew"),
            clock_round_trip: register_in_seconds(&mut registry, "callboard_clock_round_trip", "Last clock marker, there and back"),
            delivery: delivery_histogram(&mut registry),
            process: ProcessGauges::new(&mut registry),
            registry,
        };
        inner.begin();
        Self(Arc::new(inner))
    }

    /// Has the series of a source begin at 0, so that what is not there is nothing that happened (and `rate()` sees the first).
    pub fn expect_source(&self, source: &str, reasons: &[&'static str]) {
        drop(self.published(source));
        for reason in reasons {
            let label = SourceReasonLabel { source: source.to_owned(), reason };
            drop(self.0.source_errors.get_or_create(&label));
        }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.0.process.refresh();
        let mut text = String::new();
        match encode(&mut text, &self.0.registry) {
            Ok(()) => text,
            // Writing to a `String` does not fail.
            Err(std::fmt::Error) => unreachable!("a string takes every write"),
        }
    }

    pub fn connections(&self, wire: WireName) -> &Gauge {
        &self.0.connections[wire as usize]
    }

    pub fn delivered(&self, wire: WireName) -> &Counter {
        &self.0.delivered[wire as usize]
    }

    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.0.dropped[reason as usize]
    }

    pub fn rooms(&self) -> &Gauge {
        &self.0.rooms
    }

    pub fn users(&self) -> &Gauge {
        &self.0.users
    }

    pub fn published(&self, source: &str) -> Counter {
        self.0.published.get_or_create_owned(&SourceLabel { source: source.to_owned() })
    }

    pub fn closed(&self, wire: WireName, reason: CloseReason) {
        self.0.closes.get_or_create(&WireReasonLabel { wire: wire.as_str(), reason: reason.text() }).inc();
    }

    pub fn refused(&self, wire: WireName, code: ErrorCode) {
        self.0.refusals.get_or_create(&WireReasonLabel { wire: wire.as_str(), reason: code.as_str() }).inc();
    }

    pub fn source_error(&self, source: &str, reason: &'static str) {
        self.0.source_errors.get_or_create(&SourceReasonLabel { source: source.to_owned(), reason }).inc();
    }

    pub fn mailbox_full(&self, actor: &'static str) {
        self.0.mailbox_full.get_or_create(&ActorLabel { actor }).inc();
    }

    /// published × members + replayed = delivered + dropped.
    pub fn replayed(&self) -> &Counter {
        &self.0.replayed
    }

    /// `duplicate`: another node was faster, which is as it should be. `lost`: it came too late to stand where it belongs, or
    /// was given up because Redis was too slow; those who resume are told. `failed`: Redis refused a batch, which is tried again.
    pub fn history_writes(&self, outcome: &'static str, publications: u64) {
        self.0.history.get_or_create(&OutcomeLabel { outcome }).inc_by(publications);
    }

    pub fn replay(&self, outcome: &'static str, publications: usize) {
        self.0.replays.get_or_create(&OutcomeLabel { outcome }).inc();
        self.0.replay_size.observe(publications as f64);
    }

    pub fn broker_up(&self) -> &Gauge {
        &self.0.broker_up
    }

    pub fn broker_gaps(&self) -> &Counter {
        &self.0.broker_gaps
    }

    pub fn broker_reconnects(&self) -> &Counter {
        &self.0.broker_reconnects
    }

    pub fn clock_round_trip(&self) -> &Gauge<f64, AtomicU64> {
        &self.0.clock_round_trip
    }

    pub fn delivery(&self) -> &Histogram {
        &self.0.delivery
    }
}

impl Inner {
    /// As [`Metrics::expect_source`], for what no configuration names.
    fn begin(&self) {
        for actor in MAILBOXES {
            drop(self.mailbox_full.get_or_create(&ActorLabel { actor }));
        }
        for (wire, reason) in WireName::ALL.into_iter().flat_map(|wire| CloseReason::ALL.map(|reason| (wire, reason))) {
            drop(self.closes.get_or_create(&WireReasonLabel { wire: wire.as_str(), reason: reason.text() }));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn register_in_seconds<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// From the bridge's receipt of an event to the end of its fan-out on a worker.
fn delivery_histogram(registry: &mut Registry) -> Histogram {
    let histogram = Histogram::new([0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]);
    registry.register_with_unit("callboard_delivery", "From receipt to the end of the fan-out", Unit::Seconds, histogram.clone());
    histogram
}

/// Events of one room replayed to one client.
fn replay_histogram(registry: &mut Registry) -> Histogram {
    let histogram = Histogram::new([0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0]);
    registry.register("callboard_replay_size", "Events replayed to one client in one room", histogram.clone());
    histogram
}

/// The `process_*` metrics that Prometheus' client libraries agree on, read from /proc when scraped.
struct ProcessGauges {
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Gauge,
    open_fds: Gauge,
    start_time_seconds: Gauge<f64, AtomicU64>,
}

/// Linux reports process times in ticks of 1/100 s to user space (USER_HZ) on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

impl ProcessGauges {
    fn new(registry: &mut Registry) -> Self {
        let gauges = Self {
            cpu_seconds: register_in_seconds(registry, "process_cpu", "User and system CPU time"),
            resident_bytes: Gauge::default(),
            open_fds: register(registry, "process_open_fds", "Open file descriptors"),
            start_time_seconds: register_in_seconds(registry, "process_start_time", "Start of the process since the epoch"),
        };
        registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, gauges.resident_bytes.clone());
        gauges
    }

    fn refresh(&self) {
        let Some(stat) = ProcStat::read() else { return };
        self.resident_bytes.set(stat.resident_pages.saturating_mul(4096));
        self.cpu_seconds.inner().store((stat.cpu_ticks / TICKS_PER_SECOND).to_bits(), std::sync::atomic::Ordering::Relaxed);
        self.start_time_seconds.set(stat.start_time());
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
    }
}

struct ProcStat {
    cpu_ticks: f64,
    start_ticks: f64,
    resident_pages: i64,
}

impl ProcStat {
    /// Fields 14, 15, 22 and 24 of proc_pid_stat(5), counted after the command name's closing bracket.
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index - 3)?.parse::<f64>().ok();
        Some(Self { cpu_ticks: number(14)? + number(15)?, start_ticks: number(22)?, resident_pages: fields.get(24 - 3)?.parse().ok()? })
    }

    fn start_time(&self) -> f64 {
        static BOOT: OnceLock<f64> = OnceLock::new();
        let boot = BOOT.get_or_init(|| {
            let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
            text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0)
        });
        boot + self.start_ticks / TICKS_PER_SECOND
    }
}
