//! What ends the process, and what it says of itself meanwhile.
//!
//! actix's Supervisor does not survive a panic: the mailbox is closed for good while everything else goes on. So a core
//! actor holds a [`Lifeline`]; when it drops without `release`, the process ends with a non-zero code and is started anew.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

/// Held by an actor that the process can't do without.
pub struct Lifeline {
    name: &'static str,
    lost: mpsc::UnboundedSender<&'static str>,
}

/// Waits for the first lifeline that was cut.
pub struct Watch {
    lost: mpsc::UnboundedReceiver<&'static str>,
    sender: mpsc::UnboundedSender<&'static str>,
}

impl Watch {
    pub fn new() -> Self {
        let (sender, lost) = mpsc::unbounded_channel();
        Self { lost, sender }
    }

    /// At most one message per lifeline ever passes, so the channel needs no bound.
    pub fn lifeline(&self, name: &'static str) -> Lifeline {
        Lifeline { name, lost: self.sender.clone() }
    }

    /// The name of the actor that died.
    pub async fn cut(&mut self) -> &'static str {
        match self.lost.recv().await {
            Some(name) => name,
            // `self.sender` is alive as long as `self`.
            None => std::future::pending().await,
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifeline {
    /// For an actor that the process can do without as little.
    pub fn another(&self) -> Self {
        Self { name: self.name, lost: self.lost.clone() }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // A closed channel means that the process is ending already.
        let _ = self.lost.send(self.name);
    }
}

/// What `/readyz` says. Written by the bridge and by the drain, read by the door.
#[derive(Debug, Default)]
pub struct Readiness {
    broker_up: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    pub fn set_broker_up(&self, up: bool) {
        self.broker_up.store(up, Ordering::Release);
    }

    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn is_broker_up(&self) -> bool {
        self.broker_up.load(Ordering::Acquire)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub fn is_ready(&self) -> bool {
        self.is_broker_up() && !self.is_draining()
    }
}
