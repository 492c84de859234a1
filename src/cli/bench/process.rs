//! What a local process costs, read from `/proc` (proc(5)): CPU, resident memory, descriptors.

use std::{fs, io, path::PathBuf};

use serde::Serialize;

/// The counters of a process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Time on a CPU of all living threads, from `schedstat`: exact to the nanosecond, but without a split.
    cpu_ns: u64,
    /// User and system time in clock ticks of 10 ms; only their proportion is used.
    user_ticks: u64,
    system_ticks: u64,
    pub rss_bytes: u64,
    /// The highest it ever was.
    pub peak_rss_bytes: u64,
    pub descriptors: u64,
}

/// CPU time of an interval, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub total: f64,
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    /// Microseconds for each of `count` things; none where there was nothing to share it.
    pub fn us_per(self, count: u64) -> Option<Self> {
        let scale = |ns: f64| ns / 1e3 / count as f64;
        (count > 0).then(|| Self { total: scale(self.total), user: scale(self.user), system: scale(self.system) })
    }
}

impl Sample {
    /// Reads the counters of a process, or of this one.
    pub fn of(pid: Option<u32>) -> io::Result<Self> {
        let root = PathBuf::from("/proc").join(pid.map_or("self".into(), |pid| pid.to_string()));
        let (user_ticks, system_ticks) = parse_ticks(&fs::read_to_string(root.join("stat"))?).ok_or_else(|| malformed("stat"))?;
        let status = fs::read_to_string(root.join("status"))?;
        let size = |name| parse_size(&status, name).ok_or_else(|| malformed("status"));
        let (rss_bytes, peak_rss_bytes) = (size("VmRSS:")?, size("VmHWM:")?);
        let mut cpu_ns = 0;
        for task in fs::read_dir(root.join("task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu_ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).ok_or_else(|| malformed("schedstat"))?;
        }
        // Another user's descriptors can't be listed: not worth failing for.
        let descriptors = fs::read_dir(root.join("fd")).map_or(0, |entries| entries.count() as u64);
        Ok(Self { cpu_ns, user_ticks, system_ticks, rss_bytes, peak_rss_bytes, descriptors })
    }

    /// The CPU spent since an earlier sample.
    pub fn cpu_since(&self, earlier: &Self) -> Cpu {
        let total = self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64;
        let user = self.user_ticks.saturating_sub(earlier.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(earlier.system_ticks) as f64;
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        Cpu { total, user: total * user_share, system: total * (1.0 - user_share) }
    }
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc file {file} is not as proc(5) says"))
}

/// Fields 14 and 15, counted behind the command name, which may itself hold spaces and parentheses.
fn parse_ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_size(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_hostile_command_name() {
        let stat = "42 (a) b (c) 1 2) S 1 42 42 0 -1 4194560 500 0 0 0 17 5 0 0 20 0 3 0 100 0 0";
        assert_eq!(parse_ticks(stat), Some((17, 5)));
        assert_eq!(parse_ticks("42 (a"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "VmHWM:\t  9 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!((parse_size(status, "VmHWM:"), parse_size(status, "VmRSS:")), (Some(9 * 1024), Some(2048 * 1024)));
        assert_eq!(parse_size(status, "VmSwap:"), None);
    }

    #[test]
    fn total_time_is_split_in_the_proportion_of_the_ticks() {
        let before = Sample { cpu_ns: 1_000, user_ticks: 10, system_ticks: 10, ..Sample::default() };
        let after = Sample { cpu_ns: 9_000, user_ticks: 11, system_ticks: 13, ..Sample::default() };
        let cpu = after.cpu_since(&before);
        assert_eq!((cpu.total, cpu.user, cpu.system), (8_000.0, 2_000.0, 6_000.0));
        assert_eq!(cpu.us_per(4), Some(Cpu { total: 2.0, user: 0.5, system: 1.5 }));
    }

    #[test]
    fn cost_per_delivery_without_a_delivery_is_not_zero_but_unknown() {
        assert_eq!(Cpu::default().us_per(0), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let sample = Sample::of(None).unwrap();
        assert!(sample.cpu_ns > 0 && sample.rss_bytes > 0 && sample.descriptors > 0);
    }
}
