//! What tests of the running hub share: the binary as a process, clients on plain sockets, and a Redis of the test's own.
//! Included by path. Everything blocks, with a time-out: no test waits longer than [`PATIENCE`] for what must come.
#![allow(dead_code, reason = "each test crate uses a part")]

pub mod cluster;
pub mod http;
pub mod hub;
pub mod ports;
pub mod publisher;
pub mod redis;
pub mod sentinel;
pub mod sse;
pub mod stopwatch;
pub mod websocket;

pub use ports::free_port;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// For everything that must happen. Longer than on any machine, because it is only ever waited for in full by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What ./scripts/test installs and names in the environment.
pub fn installed(name: &str) -> std::ffi::OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: ./scripts/test installs the packages and sets it"))
}

/// A path that no other test uses.
pub fn unique_path(name: &str) -> std::path::PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()))
}

/// A new directory that no other test uses.
pub fn unique_dir(name: &str) -> std::path::PathBuf {
    let path = unique_path(name);
    std::fs::create_dir_all(&path).expect("a directory for the test");
    path
}
