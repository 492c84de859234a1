//! Many clients on one thread of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::{Semaphore, oneshot},
};

use crate::{
    client::{Board, Client, Plan, Shared},
    ledger::{Entry, Published, Reason, Record, Tally, Terms},
};

/// Nothing takes so long unless it never comes: the machine may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// When nothing has come to anybody in so many turns of the thread that reads, nothing will. A turn takes at least 50 ms, and more
/// where the machine is busy.
const QUIET: u64 = 80;
/// As `QUIET`, where all that is due can be counted.
const LONG_QUIET: u64 = 400;
const TURN: Duration = Duration::from_millis(50);
/// As the configuration has it by default: `mailbox.room` and `mailbox.connection`.
const WAITING: usize = 4_096 + 256;
/// Hands shaken at once: below any listener's backlog.
const POLITE: usize = 64;
/// As many as like.
pub const RUDE: usize = 100_000;

pub struct Crowd {
    pub clients: Vec<Arc<Client>>,
    /// What may wait for a client in the hub's mailboxes.
    pub waiting: usize,
    shared: Arc<Shared>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Connects them all and waits until each listens to all its rooms.
    pub fn gather(board: &Arc<Board>, plans: impl IntoIterator<Item = Plan>) -> Self {
        let crowd = Self::invite(board, plans, POLITE);
        crowd.wait_until_all_listen();
        crowd
    }

    /// As `gather`, but waits for nobody.
    pub fn invite(board: &Arc<Board>, plans: impl IntoIterator<Item = Plan>, openings: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || drop(runtime.block_on(stopped)));
        let shared = Arc::new(Shared {
            board: Arc::clone(board),
            entries: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            openings: Semaphore::new(openings),
        });
        handle.spawn(take_turns(Arc::clone(&shared)));
        let mut crowd = Self { clients: Vec::new(), waiting: WAITING, shared, handle, stop: Some(stop), thread: Some(thread) };
        crowd.add(plans.into_iter().map(Client::new));
        crowd
    }

    pub fn add(&mut self, clients: impl Iterator<Item = Client>) {
        for client in clients {
            let client = Arc::new(client);
            let seed = self.clients.len() as u64;
            self.handle.spawn(Arc::clone(&client).live(Arc::clone(&self.shared), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            self.clients.push(client);
        }
    }

    pub fn listening(&self) -> usize {
        self.clients.iter().filter(|client| client.is_listening.load(Ordering::Relaxed)).count()
    }

    pub fn wait_until_all_listen(&self) {
        patiently("all clients listen", || self.listening() == self.clients.len());
    }

    /// Waits until everybody has been shown from where he can resume: a publisher must be at work.
    pub fn wait_until_all_can_resume(&self) {
        patiently("all clients have ids", || self.clients.iter().all(|client| client.is_settled()));
    }

    /// How many have seen a conversation end.
    pub fn bereft(&self) -> usize {
        let has_ended = |record: &Record| record.0.iter().any(|(_, entry)| matches!(entry, Entry::Ended(_)));
        self.clients.iter().filter(|client| has_ended(&client.record.lock().expect("the record"))).count()
    }

    /// How often each was told since then that the broker was lost.
    pub fn notices_since(&self, then: Instant) -> Vec<usize> {
        let of_client = |client: &Arc<Client>| {
            let record = client.record.lock().expect("the record");
            let since = record.0.iter().rev().take_while(|(at, _)| *at >= then);
            since.filter(|(_, entry)| matches!(entry, Entry::Gap(_, Reason::BrokerLost))).count()
        };
        self.clients.iter().map(of_client).collect()
    }

    /// Waits until everybody has the last event of each room, and has been told of what is missing; or until nothing comes any
    /// more.
    pub fn settle(&self, published: &Published) {
        self.settle_when(QUIET, || self.add_up(published, true, false).is_complete());
    }

    /// As `settle`, where the number of deliveries is known.
    pub fn settle_at(&self, due: usize) {
        self.settle_when(LONG_QUIET, || self.received() >= due);
    }

    fn settle_when(&self, quiet: u64, is_complete: impl Fn() -> bool) {
        let began = Instant::now();
        let turns = || self.shared.turns.load(Ordering::Relaxed);
        let (mut seen, mut since) = (None, turns());
        while began.elapsed() < PATIENCE * 2 {
            let entries = Some(self.entries());
            if seen != entries {
                (seen, since) = (entries, turns());
            } else if is_complete() {
                break;
            } else if self.listening() == self.clients.len() && turns() - since > quiet {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        // For what comes once too often.
        thread::sleep(Duration::from_millis(500));
    }

    fn received(&self) -> usize {
        let events = |client: &Arc<Client>| {
            let record = client.record.lock().expect("the record");
            record.0.iter().filter(|(_, entry)| matches!(entry, Entry::Event(..))).count()
        };
        self.clients.iter().map(events).sum()
    }

    pub fn entries(&self) -> u64 {
        self.shared.entries.load(Ordering::Relaxed)
    }

    /// Adds up all readers' books. A twin takes gap notices for nothing.
    pub fn tally(&self, published: &Published, heeds_gaps: bool) -> Tally {
        self.add_up(published, heeds_gaps, heeds_gaps)
    }

    fn add_up(&self, published: &Published, heeds_gaps: bool, is_told: bool) -> Tally {
        let mut tally = Tally::default();
        for client in self.clients.iter().filter(|client| client.plan.reads) {
            let record = client.record.lock().expect("the record");
            for room in &client.plan.rooms {
                let terms = Terms { resumes: room.keeps(), heeds_gaps, waiting: self.waiting };
                let page = record.check(*room, published, &terms);
                if is_told && page.faults() > 0 {
                    eprintln!("{:?} at node {} in {}: {page}\n{}", client.plan.wire, client.plan.home, room.name(), record.story(*room));
                }
                tally += page;
            }
        }
        tally
    }

    /// How often each client was accepted, beyond the first time.
    pub fn returns(&self) -> usize {
        self.clients.iter().map(|client| client.returns()).sum()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn take_turns(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(TURN).await;
        shared.turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits, and looks now and then.
pub fn patiently(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
