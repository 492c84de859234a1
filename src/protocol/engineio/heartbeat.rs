//! When a session is asked for a sign of life, and when it is given up. The clock is the caller's.

use std::time::{Duration, Instant};

use super::Version;

/// The heartbeat of one session.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    version: Version,
    interval: Duration,
    timeout: Duration,
    /// The next ping is due, or the answer to it is overdue.
    deadline: Instant,
    awaits_pong: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Ask again at this time.
    Wait(Instant),
    /// Send a ping.
    Ping,
    /// Close the session: [`crate::protocol::CloseReason::TimedOut`].
    TimedOut,
}

impl Heartbeat {
    pub fn new(version: Version, interval: Duration, timeout: Duration, now: Instant) -> Self {
        let mut heartbeat = Self { version, interval, timeout, deadline: now, awaits_pong: false };
        heartbeat.rearm(now);
        heartbeat
    }

    /// A packet came: a pong in version 4, any in version 3.
    pub fn rearm(&mut self, now: Instant) {
        self.awaits_pong = false;
        self.deadline = now
            + match self.version {
                Version::V4 => self.interval,
                // The client pings each interval; the server only listens.
                Version::V3 => self.interval + self.timeout,
            };
    }

    /// What is due now.
    pub fn beat(&mut self, now: Instant) -> Beat {
        if now < self.deadline {
            return Beat::Wait(self.deadline);
        }
        if self.version == Version::V3 || self.awaits_pong {
            return Beat::TimedOut;
        }
        self.awaits_pong = true;
        self.deadline = now + self.timeout;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(300);
    const TIMEOUT: Duration = Duration::from_millis(200);

    #[test]
    fn in_version_4_the_server_pings_and_waits_for_the_pong() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V4, INTERVAL, TIMEOUT, start);
        assert_eq!(heartbeat.beat(start), Beat::Wait(start + INTERVAL));
        assert_eq!(heartbeat.beat(start + INTERVAL), Beat::Ping);
        heartbeat.rearm(start + INTERVAL);
        assert_eq!(heartbeat.beat(start + INTERVAL * 2), Beat::Ping);
        assert_eq!(heartbeat.beat(start + INTERVAL * 2), Beat::Wait(start + INTERVAL * 2 + TIMEOUT));
        assert_eq!(heartbeat.beat(start + INTERVAL * 2 + TIMEOUT), Beat::TimedOut);
    }

    #[test]
    fn in_version_3_the_server_waits_for_the_clients_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V3, INTERVAL, TIMEOUT, start);
        assert_eq!(heartbeat.beat(start + INTERVAL), Beat::Wait(start + INTERVAL + TIMEOUT));
        heartbeat.rearm(start + INTERVAL);
        assert_eq!(heartbeat.beat(start + INTERVAL + TIMEOUT), Beat::Wait(start + INTERVAL * 2 + TIMEOUT));
        assert_eq!(heartbeat.beat(start + INTERVAL * 2 + TIMEOUT), Beat::TimedOut);
    }
}
