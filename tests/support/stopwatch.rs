//! Time, where the contract names one. A machine with other things to do is no fault of the hub: the kernel says for how long a
//! thread was ready and got no processor. So much later may come what is promised, for each process that has a part in it; ours is
//! one of them. And it says for how long a hypervisor let no processor of the machine run. On a machine that has nothing else to do,
//! and a host to itself, both are next to nothing.

use std::{
    collections::HashMap,
    fmt, fs,
    time::{Duration, Instant},
};

pub struct Stopwatch {
    began: Instant,
    processes: Vec<u32>,
    /// By thread, at the start.
    waited: Vec<HashMap<u32, u64>>,
    stolen: Duration,
}

/// How long something took, and how much of it the machine may have been busy with other things.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    took: Duration,
    waited: Duration,
}

impl Stopwatch {
    /// For something in which these processes have a part.
    pub fn start(processes: impl IntoIterator<Item = u32>) -> Self {
        let processes: Vec<u32> = processes.into_iter().chain([std::process::id()]).collect();
        Self { began: Instant::now(), waited: waited(&processes), stolen: stolen(), processes }
    }

    pub fn read(&self) -> Reading {
        let took = self.began.elapsed();
        // What a process does, its threads do side by side: the one that waited longest counts.
        let longest = |(now, before): (HashMap<u32, u64>, &HashMap<u32, u64>)| {
            let since = now.into_iter().map(|(task, now)| now.saturating_sub(before.get(&task).copied().unwrap_or(0)));
            since.max().unwrap_or(0)
        };
        let waited: u64 = waited(&self.processes).into_iter().zip(&self.waited).map(longest).sum();
        Reading { took, waited: Duration::from_nanos(waited) + stolen().saturating_sub(self.stolen) }
    }
}

impl Reading {
    pub fn is_within(self, limit: Duration) -> bool {
        self.took <= limit + self.waited
    }

    /// Of two, the one that is harder to excuse.
    pub fn or_slower(self, other: Self) -> Self {
        let unexcused = |reading: Self| (reading.took.saturating_sub(reading.waited), reading.took);
        if unexcused(other) > unexcused(self) { other } else { self }
    }

    /// From an earlier reading of the same watch to this.
    pub fn since(self, earlier: Self) -> Self {
        Self { took: self.took.saturating_sub(earlier.took), waited: self.waited.saturating_sub(earlier.waited) }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.took.as_secs_f64())?;
        match self.waited.as_secs_f64() {
            waited if waited >= 0.1 => write!(f, " ({waited:.1} s without a processor)"),
            _ => Ok(()),
        }
    }
}

/// For how many nanoseconds each thread of these processes has been ready to run and did not.
fn waited(processes: &[u32]) -> Vec<HashMap<u32, u64>> {
    let of_process = |process: &u32| {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        // One may end while we look.
        let waited = tasks.filter_map(|task| {
            let number = task.file_name().to_str()?.parse().ok()?;
            Some((number, of_task(&fs::read_to_string(task.path().join("schedstat")).ok()?)?))
        });
        waited.collect()
    };
    processes.iter().map(of_process).collect()
}

/// The second of its numbers (Linux, Documentation/scheduler/sched-stats.rst): nanoseconds on a run queue.
fn of_task(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// For how long processors of this machine had work and were not let run. The eighth number behind `cpu` in /proc/stat (proc(5)), in
/// hundredths of a second.
fn stolen() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = text.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    Duration::from_millis(ticks.unwrap_or(0) * 10)
}
