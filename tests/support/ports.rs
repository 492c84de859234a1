//! Ports for programs that cannot be asked which one they got, or that must find theirs again.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// A port that was free a moment ago, is given to nobody else here, and can be had again after its owner was killed. One of those
/// that the kernel gives away by itself, from 32,768 on, might be taken meanwhile: by any program that listens on port 0, and
/// even by a client that tries to connect to it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes begin elsewhere.
    let offset = (std::process::id() * 97 % u32::from(COUNT)) as u16;
    loop {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
