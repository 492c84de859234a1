//! The mode that publishes: connect everyone, warm up, measure a window, wait for the rest, do the books.

use std::{
    io,
    sync::{
        Arc,
        atomic::Ordering::SeqCst,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Bench, BenchError,
    crowd::Crowd,
    histogram::Histogram,
    link::Link,
    process::{Cpu, Sample},
    progress::{Progress, share},
    publisher::{Pace, Published, Publisher, Shared},
    report::{ConnectFigures, Faults, GrowthFigures, LatencyFigures, MemoryFigures, Report, Traffic},
    sample, seconds,
};

const TURN: Duration = Duration::from_millis(100);

pub fn run(bench: &Bench<'_>) -> Result<Report, BenchError> {
    let args = bench.args;
    let mut progress = Progress::new();
    let mut crowd = bench.crowd()?;
    let before = bench.sample_server()?;
    let connecting = Instant::now();
    let everyone = bench.connections() + args.never_readers as usize;
    crowd.open(everyone, |ready| progress.show(share(ready, everyone), || format!("connected {ready} of {everyone}")))?;
    let connect_time = connecting.elapsed();
    let connected = bench.sample_server()?;
    for place in bench.connections()..everyone {
        crowd.deafen(place)?;
    }
    if !args.closed_loop {
        crowd.gather_most()?;
    }

    let mut traffic = Running::start(bench)?;
    traffic.run_for(seconds(args.warm_up_seconds), &mut crowd, &mut progress, "warming up")?;
    crowd.tally.latency = Histogram::default();
    let start = Moment::now(bench, &crowd, &traffic.shared)?;
    traffic.run_for(seconds(args.seconds), &mut crowd, &mut progress, "measuring")?;
    let end = Moment::now(bench, &crowd, &traffic.shared)?;
    let latency = crowd.tally.latency.clone();
    let published = traffic.finish(&mut crowd, &mut progress)?;
    progress.clear();

    let mut report = Report::new(args);
    report.connects = Some(ConnectFigures::new(everyone as u64, connect_time, cpu(before, connected)));
    report.memory = before.zip(connected).map(|(before, after)| vec![MemoryFigures::new(&before, &after, None, everyone)]);
    report.growth = connected.zip(end.server).map(|(connected, end)| GrowthFigures::new(&connected, &end));
    report.latency_us = LatencyFigures::new(&latency);
    report.publisher_late_us = LatencyFigures::new(&published.lateness);
    report.traffic = Some(Traffic::new(start.published, end.published, start.delivered, end.delivered, end.at - start.at));
    let deliveries = end.delivered - start.delivered;
    report.server_cpu_us = cpu(start.server, end.server).and_then(|cpu| cpu.us_per(deliveries));
    report.generator_cpu_us = end.generator.cpu_since(&start.generator).us_per(deliveries);
    report.faults = Some(Faults::new(&crowd.tally, crowd.lost(&published.per_stream)));
    Ok(report)
}

fn cpu(before: Option<Sample>, after: Option<Sample>) -> Option<Cpu> {
    before.zip(after).map(|(before, after)| after.cpu_since(&before))
}

/// The state of all counters at one end of the window.
struct Moment {
    at: Instant,
    published: u64,
    delivered: u64,
    server: Option<Sample>,
    generator: Sample,
}

impl Moment {
    fn now(bench: &Bench<'_>, crowd: &Crowd<'_>, shared: &Shared) -> Result<Self, BenchError> {
        Ok(Self {
            at: Instant::now(),
            published: shared.published.load(SeqCst),
            delivered: crowd.tally.delivered,
            server: bench.sample_server()?,
            generator: sample(None)?,
        })
    }
}

/// Traffic under way: the publisher's thread, and what the crowd owes it.
struct Running {
    shared: Arc<Shared>,
    publisher: JoinHandle<io::Result<Published>>,
    permits: Option<Permits>,
    delivered: u64,
    last_delivery: Instant,
    patience: Duration,
}

/// The closed loop's other half: lets the publisher go on when everything has arrived.
struct Permits {
    sender: Sender<()>,
    given: u64,
    burst: u64,
}

impl Running {
    fn start(bench: &Bench<'_>) -> Result<Self, BenchError> {
        let args = bench.args;
        let (pace, permits) = if args.closed_loop {
            let (sender, permits) = mpsc::channel();
            (Pace::OnPermit(permits), Some(Permits { sender, given: 0, burst: args.burst.into() }))
        } else {
            (Pace::Every(seconds(f64::from(args.burst) / args.rate)), None)
        };
        let shared = Arc::new(Shared::default());
        let publisher = Publisher {
            link: Link::open(args.via.clone(), args.api_key.clone()).map_err(BenchError::Publish)?,
            streams: bench.streams.clone(),
            members: bench.streams.members(bench.connections()),
            pace,
            burst: args.burst,
            size: args.size,
            origin: bench.origin,
            shared: shared.clone(),
        };
        let publisher = thread::spawn(move || publisher.run());
        Ok(Self { shared, publisher, permits, delivered: 0, last_delivery: Instant::now(), patience: seconds(args.patience_seconds) })
    }

    /// Receives for so long, or until the publisher or the deliveries have come to an end.
    fn run_for(&mut self, length: Duration, crowd: &mut Crowd<'_>, progress: &mut Progress, what: &str) -> Result<(), BenchError> {
        let end = Instant::now() + length;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Some(permits) = &mut self.permits {
                permits.give_if_all_arrived(&self.shared, crowd.tally.delivered);
            }
            crowd.turn(left.min(TURN))?;
            let done = 1.0 - left.as_secs_f64() / length.as_secs_f64();
            progress.show(done, || format!("{what}: {:.0} s left, {} delivered", left.as_secs_f64(), crowd.tally.delivered));
            if self.publisher.is_finished() || self.is_stalled(crowd) {
                break;
            }
        }
        Ok(())
    }

    fn is_stalled(&mut self, crowd: &Crowd<'_>) -> bool {
        let all_arrived = crowd.tally.delivered >= self.shared.expected.load(SeqCst);
        if crowd.tally.delivered > self.delivered || all_arrived {
            (self.delivered, self.last_delivery) = (crowd.tally.delivered, Instant::now());
        }
        self.last_delivery.elapsed() > self.patience
    }

    /// Stops publishing and receives until all has arrived, or nothing more comes.
    fn finish(mut self, crowd: &mut Crowd<'_>, progress: &mut Progress) -> Result<Published, BenchError> {
        self.shared.stop.store(true, SeqCst);
        loop {
            let (delivered, expected) = (crowd.tally.delivered, self.shared.expected.load(SeqCst));
            if self.publisher.is_finished() && delivered >= expected {
                break;
            }
            if self.is_stalled(crowd) && self.publisher.is_finished() {
                break;
            }
            crowd.turn(TURN)?;
            progress.show(share(delivered as usize, expected as usize), || "waiting for the last deliveries".into());
        }
        // Doubles come after what they double: one more look at all.
        let end = Instant::now() + TURN;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            crowd.turn(left)?;
        }
        match self.publisher.join() {
            Ok(result) => result.map_err(BenchError::Publish),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Permits {
    fn give_if_all_arrived(&mut self, shared: &Shared, delivered: u64) {
        // In this order: `expected` is raised before `published`.
        let is_published = shared.published.load(SeqCst) == self.given * self.burst;
        if is_published && delivered >= shared.expected.load(SeqCst) {
            self.given += 1;
            // A publisher that is gone is noticed by `run_for`.
            let _ = self.sender.send(());
        }
    }
}
