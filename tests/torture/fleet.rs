//! Nodes and their Redis, and the ways in which they come to harm.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use crate::{
    client::Board,
    crowd::patiently,
    ledger::Room,
    load::Door,
    support::{
        free_port,
        hub::{Hub, Setup},
        publisher::Publisher,
        redis::Redis,
        stopwatch::{Reading, Stopwatch},
        unique_dir,
    },
};

/// Rooms that keep history and rooms that don't.
pub fn rooms(size: u32) -> String {
    format!("[[room]]\nmatch = \"kept-*\"\nhistory = {{ size = {size}, ttl = \"10m\" }}\n[[room]]\nmatch = \"*\"\n")
}

/// A Redis.
pub struct Store {
    redis: Option<Redis>,
    pub port: u16,
    /// Where it keeps its data, with which it comes back.
    directory: Option<PathBuf>,
}

impl Store {
    /// One that need not come back. It writes nothing: how long a disk takes is nobody's business here.
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// One that can be killed and started again.
    pub fn start_lasting() -> Self {
        Self::start_in(Some(unique_dir("store")))
    }

    fn start_in(directory: Option<PathBuf>) -> Self {
        for _ in 0..5 {
            let port = free_port();
            if let Some(redis) = Redis::try_start(port, &arguments(directory.as_deref())) {
                return Self { redis: Some(redis), port, directory };
            }
        }
        panic!("no free port in five attempts");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.redis.take());
    }

    /// Waits until it answers, with its data.
    pub fn restart(&mut self) {
        self.redis = Some(Redis::start_at(self.port, &arguments(self.directory.as_deref())));
        patiently("Redis has its data", || self.command(&["PING"]) == "+PONG");
    }

    pub fn process(&self) -> Option<u32> {
        self.redis.as_ref().map(|redis| redis.process.pid())
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

/// A killed process loses nothing that it has written, synced to the disk or not.
fn arguments(directory: Option<&Path>) -> Vec<&str> {
    match directory {
        Some(path) => vec!["--dir", path.to_str().expect("UTF-8"), "--appendonly", "yes", "--appendfsync", "no"],
        None => Vec::new(),
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
        // What is left behind is below the build's own directory.
        self.directory.iter().for_each(|directory| drop(fs::remove_dir_all(directory)));
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

    /// Of all nodes, and of all lines of this name, whatever their labels.
    pub fn metric(&self, name: &str) -> u64 {
        let of_hub = |hub: &Hub| sum(&hub.get("/metrics").text(), name);
        self.hubs.iter().flatten().map(of_hub).sum()
    }

    /// How often each node has subscribed anew.
    pub fn reconnects(&self) -> Vec<u64> {
        let of_hub = |hub: &Hub| sum(&hub.get("/metrics").text(), "callboard_broker_reconnects_total");
        self.hubs.iter().flatten().map(of_hub).collect()
    }

    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.hubs.iter().flatten().map(|hub| hub.process.pid())
    }

    pub fn is_ready(&self) -> bool {
        self.hubs.iter().flatten().all(|hub| hub.get("/readyz").status == 200)
    }

    pub fn wait_until_ready(&self) {
        patiently("all nodes are ready", || self.is_ready());
    }

    pub fn wait_until_unready(&self) -> Reading {
        let watch = Stopwatch::start(self.processes());
        patiently("all nodes say that they are not ready", || self.hubs.iter().flatten().all(|hub| hub.get("/readyz").status == 503));
        watch.read()
    }

    /// Waits until the last of so many events is written to the history of this room.
    pub fn wait_until_kept(&self, store: &Store, room: Room, last: usize) {
        let script = "return cjson.encode(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1))";
        let key = format!("callboard:history:{{{}}}", room.name());
        let newest = || Publisher::connect(store.port).command_lines(&["EVAL", script, "1", &key], 2).remove(1);
        patiently("the history is written", || newest().contains(&format!("~{}:{last}~", room.0)));
    }
}

/// Of all lines of /metrics that begin so.
pub fn sum(metrics: &str, name: &str) -> u64 {
    let of_name = metrics.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

pub fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
