//! What a run found, as text for a person and as one line of JSON for scripts.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use super::{
    BenchArgs, Mode,
    crowd::Tally,
    histogram::Histogram,
    process::{Cpu, Sample},
    wire::Wire,
};

#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    mode: &'static str,
    wire: Wire,
    connections: u32,
    /// On each connection.
    streams: u32,
    never_readers: u32,
    rooms: u32,
    users: u32,
    size: usize,
    burst: u32,
    /// Absent in a closed loop.
    rate: Option<f64>,
    pub connects: Option<ConnectFigures>,
    /// One a cycle.
    pub memory: Option<Vec<MemoryFigures>>,
    pub growth: Option<GrowthFigures>,
    pub traffic: Option<Traffic>,
    /// Of the subscribers that were timed: all in a closed loop, one in eight at a rate.
    pub latency_us: Option<LatencyFigures>,
    pub publisher_late_us: Option<LatencyFigures>,
    /// Per delivery.
    pub server_cpu_us: Option<Cpu>,
    /// Per delivery, publishing included.
    pub generator_cpu_us: Option<Cpu>,
    pub faults: Option<Faults>,
}

#[derive(Debug, Serialize)]
pub struct ConnectFigures {
    made: u64,
    per_second: f64,
    server_cpu_us: Option<Cpu>,
}

impl ConnectFigures {
    pub fn new(made: u64, time: Duration, server: Option<Cpu>) -> Self {
        Self { made, per_second: made as f64 / time.as_secs_f64(), server_cpu_us: server.and_then(|cpu| cpu.us_per(made)) }
    }
}

#[derive(Debug, Serialize)]
pub struct MemoryFigures {
    rss_bytes: u64,
    rss_bytes_per_connection: f64,
    descriptors: u64,
    /// After everyone was closed.
    closed_rss_bytes: Option<u64>,
    closed_descriptors: Option<u64>,
}

impl MemoryFigures {
    pub fn new(before: &Sample, held: &Sample, closed: Option<&Sample>, connections: usize) -> Self {
        Self {
            rss_bytes: held.rss_bytes,
            rss_bytes_per_connection: (held.rss_bytes as f64 - before.rss_bytes as f64) / connections as f64,
            descriptors: held.descriptors,
            closed_rss_bytes: closed.map(|sample| sample.rss_bytes),
            closed_descriptors: closed.map(|sample| sample.descriptors),
        }
    }
}

/// What traffic made of the server's memory.
#[derive(Debug, Serialize)]
pub struct GrowthFigures {
    /// From when everyone was connected to the end of the window.
    rss_bytes: f64,
    /// The most that the process ever held.
    peak_rss_bytes: u64,
}

impl GrowthFigures {
    pub fn new(connected: &Sample, end: &Sample) -> Self {
        Self { rss_bytes: end.rss_bytes as f64 - connected.rss_bytes as f64, peak_rss_bytes: end.peak_rss_bytes }
    }
}

#[derive(Debug, Serialize)]
pub struct Traffic {
    seconds: f64,
    published: u64,
    delivered: u64,
    published_per_second: f64,
    delivered_per_second: f64,
}

impl Traffic {
    pub fn new(published_before: u64, published: u64, delivered_before: u64, delivered: u64, time: Duration) -> Self {
        let (published, delivered, seconds) = (published - published_before, delivered - delivered_before, time.as_secs_f64());
        let (published_per_second, delivered_per_second) = (published as f64 / seconds, delivered as f64 / seconds);
        Self { seconds, published, delivered, published_per_second, delivered_per_second }
    }
}

#[derive(Debug, Serialize)]
pub struct LatencyFigures {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl LatencyFigures {
    /// None where nothing was counted.
    pub fn new(histogram: &Histogram) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        let [p50, p90, p99, p99_9] = [0.5, 0.9, 0.99, 0.999].map(|share| us(histogram.percentile(share)));
        Some(Self { p50, p90, p99, p99_9, max: us(histogram.max()) })
    }

    fn line(&self) -> String {
        let Self { p50, p90, p99, p99_9, max } = self;
        format!("p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p99_9:.0}  max {max:.0} µs")
    }
}

/// What must be zero, and two things that explain it where it is not.
#[derive(Debug, Serialize)]
pub struct Faults {
    lost: u64,
    doubled: u64,
    out_of_order: u64,
    misrouted: u64,
    gap_notices: u64,
    streams_ended_by_server: u64,
}

impl Faults {
    pub fn new(tally: &Tally, lost: u64) -> Self {
        Self {
            lost,
            doubled: tally.doubled,
            out_of_order: tally.out_of_order,
            misrouted: tally.misrouted,
            gap_notices: tally.gap_notices,
            streams_ended_by_server: tally.ended,
        }
    }
}

impl Report {
    pub fn new(args: &BenchArgs) -> Self {
        Self {
            label: args.label.clone(),
            mode: match args.mode {
                Mode::Fanout => "fanout",
                Mode::Idle => "idle",
                Mode::Connects => "connects",
            },
            wire: args.wire,
            connections: args.connections,
            streams: args.streams,
            never_readers: args.never_readers,
            rooms: if args.users.is_some() { 0 } else { args.rooms },
            users: args.users.unwrap_or(0),
            size: args.size,
            burst: args.burst,
            rate: (!args.closed_loop).then_some(args.rate),
            connects: None,
            memory: None,
            growth: None,
            traffic: None,
            latency_us: None,
            publisher_late_us: None,
            server_cpu_us: None,
            generator_cpu_us: None,
            faults: None,
        }
    }

    /// Deliveries that were not as promised.
    pub fn faults(&self, allow_loss: bool) -> u64 {
        let Some(Faults { lost, doubled, out_of_order, misrouted, .. }) = self.faults else { return 0 };
        doubled + out_of_order + misrouted + if allow_loss { 0 } else { lost }
    }

    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        self.print_text(&mut out)
    }

    fn print_text(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(connects) = &self.connects {
            write!(out, "connects    {} at {:.0}/s", connects.made, connects.per_second)?;
            match &connects.server_cpu_us {
                Some(cpu) => writeln!(out, ", server {} per connect", cpu_line(cpu))?,
                None => writeln!(out)?,
            }
        }
        for memory in self.memory.iter().flatten() {
            let MemoryFigures { rss_bytes, rss_bytes_per_connection, descriptors, .. } = memory;
            write!(out, "memory      {rss_bytes_per_connection:.0} B per connection, RSS {rss_bytes} B, {descriptors} descriptors")?;
            match (memory.closed_rss_bytes, memory.closed_descriptors) {
                (Some(rss), Some(descriptors)) => writeln!(out, "; closed: RSS {rss} B, {descriptors} descriptors")?,
                _ => writeln!(out)?,
            }
        }
        if let Some(GrowthFigures { rss_bytes, peak_rss_bytes }) = &self.growth {
            writeln!(out, "growth      {rss_bytes:+.0} B in the traffic, peak RSS {peak_rss_bytes} B")?;
        }
        if let Some(traffic) = &self.traffic {
            let Traffic { seconds, published, delivered, published_per_second, delivered_per_second } = traffic;
            writeln!(out, "published   {published} in {seconds:.1} s, {published_per_second:.0}/s")?;
            writeln!(out, "delivered   {delivered}, {delivered_per_second:.0}/s")?;
        }
        if let Some(latency) = &self.latency_us {
            writeln!(out, "latency     {}", latency.line())?;
        }
        if let Some(lateness) = &self.publisher_late_us {
            writeln!(out, "publisher   late by {}", lateness.line())?;
        }
        for (name, cpu) in [("server", &self.server_cpu_us), ("generator", &self.generator_cpu_us)] {
            if let Some(cpu) = cpu {
                writeln!(out, "{name:<11} {} per delivery", cpu_line(cpu))?;
            }
        }
        if let Some(faults) = &self.faults {
            let Faults { lost, doubled, out_of_order, misrouted, gap_notices, streams_ended_by_server } = faults;
            writeln!(out, "faults      lost {lost}, doubled {doubled}, out of order {out_of_order}, misrouted {misrouted}")?;
            writeln!(out, "notices     gaps {gap_notices}, streams ended by the server {streams_ended_by_server}")?;
        }
        Ok(())
    }
}

fn cpu_line(cpu: &Cpu) -> String {
    format!("{:.2} µs (user {:.2}, system {:.2})", cpu.total, cpu.user, cpu.system)
}
