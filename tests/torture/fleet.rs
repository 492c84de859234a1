//! Nodes and their Redis, and the ways in which they come to harm.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, RwLock},
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::Board,
    crowd::patiently,
    ledger::Room,
    load::Door,
    support::{
        hub::{Hub, Setup},
        publisher::Publisher,
        redis::Redis,
        unique_dir,
    },
};

/// Rooms that keep history and rooms that don't.
pub fn rooms(size: u32) -> String {
    format!("[[room]]\nmatch = \"kept-*\"\nhistory = {{ size = {size}, ttl = \"10m\" }}\n[[room]]\nmatch = \"*\"\n")
}

/// A Redis that keeps its data in a directory and so comes back with it.
pub struct Store {
    redis: Option<Redis>,
    pub port: u16,
    directory: PathBuf,
}

impl Store {
    pub fn start() -> Self {
        let directory = unique_dir("store");
        for _ in 0..5 {
            let port = crate::support::free_port();
            if let Some(redis) = Redis::try_start(port, &Self::arguments(&directory)) {
                return Self { redis: Some(redis), port, directory };
            }
        }
        panic!("no free port in five attempts");
    }

    fn arguments(directory: &std::path::Path) -> [&str; 4] {
        ["--dir", directory.to_str().expect("UTF-8"), "--appendonly", "yes"]
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.redis.take());
    }

    pub fn restart(&mut self) {
        self.redis = Some(Redis::start_at(self.port, &Self::arguments(&self.directory)));
    }

    pub fn signal(&self, name: &str) {
        self.redis.as_ref().expect("it runs").process.signal(name);
    }

    pub fn command(&self, words: &[&str]) -> String {
        Publisher::connect(self.port).command(words)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn door(&self) -> Door {
        Door::Redis(self.port)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
        // What is left behind is below the build's own directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Some nodes.
pub struct Fleet {
    pub hubs: Vec<Option<Hub>>,
    pub board: Arc<Board>,
    config: String,
}

impl Fleet {
    /// One node for each address of a broker.
    pub fn start(config: &str, urls: &[String]) -> Self {
        let hubs: Vec<_> = urls.iter().map(|url| Some(Setup::new(config).variable("REDIS_URL", url).start())).collect();
        let addresses = hubs.iter().flatten().map(|hub| hub.address).collect();
        Self { hubs, board: Arc::new(RwLock::new(addresses)), config: config.to_owned() }
    }

    pub fn hub(&self, place: usize) -> &Hub {
        self.hubs[place].as_ref().expect("the node runs")
    }

    pub fn kill(&mut self, place: usize) {
        drop(self.hubs[place].take());
    }

    /// Starts a node in place of one that is gone.
    pub fn restart(&mut self, place: usize, url: &str) {
        let hub = Setup::new(&self.config).variable("REDIS_URL", url).start();
        self.board.write().expect("the board")[place] = hub.address;
        self.hubs[place] = Some(hub);
    }

    pub fn metric(&self, name: &str) -> f64 {
        self.hubs.iter().flatten().map(|hub| hub.metric(name)).sum()
    }

    pub fn is_ready(&self) -> bool {
        self.hubs.iter().flatten().all(|hub| hub.get("/readyz").status == 200)
    }

    pub fn wait_until_ready(&self) {
        patiently("all nodes are ready", || self.is_ready());
    }

    pub fn wait_until_unready(&self) -> Duration {
        let began = Instant::now();
        patiently("all nodes say that they are not ready", || self.hubs.iter().flatten().all(|hub| hub.get("/readyz").status == 503));
        began.elapsed()
    }

    /// Waits until Redis holds what the nodes have to write of this room.
    pub fn wait_until_kept(&self, room: Room, length: usize) {
        let path = format!("/api/rooms/{}", room.name());
        patiently("the history is written", || self.hub(0).get(&path).json()["history"]["length"] == length);
    }
}

pub fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
