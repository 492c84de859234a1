//! What the tests of the bus share: a bus on either broker, listeners that stand in for groups, a Redis of one's own, and what
//! was logged.

mod bus;
mod dice;
mod logs;
#[path = "../support/ports.rs"]
mod ports;
mod proxy;
mod redis_server;
#[path = "../support/stopwatch.rs"]
#[allow(dead_code, reason = "other test crates use the rest")]
mod stopwatch;

pub use bus::{Bus, Fixture, Listener, Setup, event, room, source, user};
pub use dice::Dice;
pub use logs::logged;
pub use ports::free_port;
pub use proxy::{Proxy, Way};
pub use redis_server::Redis;
pub use stopwatch::Stopwatch;

use std::time::{Duration, Instant};

/// For what must happen; far longer than it ever takes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what another process or thread is about to do.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
