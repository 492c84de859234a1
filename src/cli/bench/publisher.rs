//! The publisher: a thread of its own, since sleeping with the precision of a rate and waiting on a poll do not go together.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{histogram::Histogram, link::Link, marker::Marker, streams::Streams};

/// Answers that may be outstanding while publishing at a rate.
const MAX_UNANSWERED: usize = 128;
/// Bytes that are written together at most, where several bursts are due.
const MAX_UNWRITTEN: usize = 64 * 1024;
/// How soon a sleeping publisher sees that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A publisher that has nothing to write rests at least so long, and then writes all that fell due: beyond 2,000 bursts a second
/// waking for each would cost more than the server spends on it. How late that makes them is in the report.
const SHORTEST_REST: Duration = Duration::from_micros(500);

/// When the next burst is due.
pub enum Pace {
    /// Bursts so far apart, whatever the server does: latency counts from the due time.
    Every(Duration),
    /// A burst for each permit: one comes when all of the last burst was delivered.
    OnPermit(Receiver<()>),
}

/// What publisher and crowd tell each other.
#[derive(Default)]
pub struct Shared {
    pub stop: AtomicBool,
    /// Deliveries that follow from all that was published; raised before the write, so a crowd that has counted so many has
    /// them all.
    pub expected: AtomicU64,
    pub published: AtomicU64,
}

pub struct Publisher {
    pub link: Link,
    pub streams: Arc<Streams>,
    /// Subscribers of each stream.
    pub members: Vec<u64>,
    pub pace: Pace,
    /// Events of one burst, all to one stream.
    pub burst: u32,
    pub size: usize,
    pub origin: Instant,
    pub shared: Arc<Shared>,
}

/// What a publisher did until it was stopped.
pub struct Published {
    /// Events sent to each stream.
    pub per_stream: Vec<u64>,
    /// How long after its due time each burst was written: the generator's own fault, not the server's.
    pub lateness: Histogram,
}

impl Publisher {
    pub fn run(mut self) -> io::Result<Published> {
        sharpen_sleep();
        let mut done = Published { per_stream: vec![0; self.members.len()], lateness: Histogram::default() };
        let mut due = Instant::now();
        let mut stream = 0;
        while self.wait_until(due) {
            if let Pace::OnPermit(_) = self.pace {
                due = Instant::now();
            }
            loop {
                done.lateness.record(due.elapsed().as_nanos() as u64);
                self.append_burst(stream, due, &mut done.per_stream[stream as usize]);
                stream = (stream + 1) % self.streams.count();
                let Pace::Every(gap) = self.pace else { break };
                due += gap;
                if due > Instant::now() || self.link.unwritten() >= MAX_UNWRITTEN {
                    break;
                }
            }
            self.link.flush(MAX_UNANSWERED)?;
        }
        self.link.flush(0)?;
        Ok(done)
    }

    fn append_burst(&mut self, stream: u32, due: Instant, sent: &mut u64) {
        let due_ns = due.saturating_duration_since(self.origin).as_nanos() as u64;
        for _ in 0..self.burst {
            self.link.append(&self.streams, &Marker { stream, sequence: *sent, due_ns }, self.size);
            *sent += 1;
        }
        let deliveries = u64::from(self.burst) * self.members[stream as usize];
        self.shared.expected.fetch_add(deliveries, Ordering::SeqCst);
        self.shared.published.fetch_add(u64::from(self.burst), Ordering::SeqCst);
    }

    /// Waits for the next burst's moment; false when there is to be none.
    fn wait_until(&self, due: Instant) -> bool {
        while !self.shared.stop.load(Ordering::SeqCst) {
            match &self.pace {
                Pace::Every(_) => match due.checked_duration_since(Instant::now()) {
                    None | Some(Duration::ZERO) => return true,
                    Some(wait) => thread::sleep(wait.clamp(SHORTEST_REST, STOP_CHECK)),
                },
                Pace::OnPermit(permits) => match permits.recv_timeout(STOP_CHECK) {
                    Ok(()) => return true,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return false,
                },
            }
        }
        false
    }
}

/// Linux lets a thread oversleep by 50 µs to save power (prctl(2), PR_SET_TIMERSLACK); at 5,000 events a second that is a quarter
/// of the gap. Where it can't be changed, the report's lateness says so.
fn sharpen_sleep() {
    let thread = fs::read_link("/proc/thread-self").ok();
    if let Some(id) = thread.as_ref().and_then(|path| path.file_name()) {
        let _ = fs::write(Path::new("/proc").join(id).join("timerslack_ns"), "1");
    }
}
