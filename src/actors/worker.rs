//! The thread a connection lives on, as others address it.

use std::{
    cell::OnceCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::{Actor, Addr, Arbiter, ArbiterHandle};

use super::pulse::Pulse;

thread_local! {
    static CURRENT: OnceCell<Arc<Worker>> = const { OnceCell::new() };
}

/// A worker thread: actors are started there by its arbiter; its pulse keeps the time for all its connections. Shared, because
/// each copy of an address costs two allocations.
#[derive(Debug)]
pub struct Worker {
    pub index: usize,
    pub arbiter: ArbiterHandle,
    pub pulse: Addr<Pulse>,
}

impl Worker {
    /// This thread as a worker; it becomes one when it first asks. Called on an arbiter's thread only.
    pub fn current() -> Arc<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        CURRENT.with(|current| {
            let worker = current.get_or_init(|| {
                let index = COUNT.fetch_add(1, Ordering::Relaxed);
                Arc::new(Self { index, arbiter: Arbiter::current(), pulse: Pulse::default().start() })
            });
            Arc::clone(worker)
        })
    }
}
