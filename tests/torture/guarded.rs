//! A primary, its replica, and a Sentinel that watches them.

use std::{fs, io::Write, process::Command};

use crate::{
    crowd::patiently,
    fleet::Store,
    support::{eventually, free_port, hub::Process, publisher::Publisher, unique_dir},
};

pub struct Guarded {
    /// The primary, and what was or will be one. Empty while it is dead.
    stores: [Store; 2],
    primary: usize,
    sentinel: u16,
    _process: Process,
}

impl Guarded {
    pub fn start() -> Self {
        let stores = [Store::start_lasting(), Store::start_lasting()];
        follow(&stores[1], &stores[0]);
        let sentinel = free_port();
        let path = unique_dir("sentinel").join("sentinel.conf");
        let config = format!(
            "port {sentinel}\nbind 127.0.0.1\nsentinel monitor board 127.0.0.1 {} 1\nsentinel down-after-milliseconds board 2000\n\
             sentinel failover-timeout board 5000\nsentinel parallel-syncs board 1\n",
            stores[0].port
        );
        fs::File::create(&path).and_then(|mut file| file.write_all(config.as_bytes())).expect("a file");
        let mut command = Command::new("redis-server");
        command.arg(&path).arg("--sentinel");
        let guarded = Self { stores, primary: 0, sentinel, _process: Process::spawn(command) };
        guarded.wait_until_replica_is_known();
        guarded
    }

    fn wait_until_replica_is_known(&self) {
        let knows = || {
            std::net::TcpStream::connect(("127.0.0.1", self.sentinel)).is_ok()
                && Publisher::connect(self.sentinel).command(&["SENTINEL", "CKQUORUM", "board"]).starts_with("+OK")
                && Publisher::connect(self.sentinel).command(&["SENTINEL", "REPLICAS", "board"]) == "*1"
        };
        patiently("Sentinel knows the replica", knows);
        let replica = &self.stores[1 - self.primary];
        patiently("the replica is in step", || !replica.command(&["WAIT", "0", "0"]).starts_with(':') && is_linked(replica));
    }

    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/board", self.sentinel)
    }

    pub fn primary(&self) -> &Store {
        &self.stores[self.primary]
    }

    pub fn kill_primary(&mut self) {
        self.stores[self.primary].kill();
    }

    /// Whether the other one has become primary.
    pub fn finds_new_primary(&mut self) -> bool {
        let other = 1 - self.primary;
        let role = Publisher::connect(self.stores[other].port).command_lines(&["ROLE"], 3);
        let is_primary = role[2] == "master";
        if is_primary {
            self.primary = other;
        }
        is_primary
    }

    /// The one that was killed comes back and follows.
    pub fn restart_replica(&mut self) {
        let replica = 1 - self.primary;
        self.stores[replica].restart();
        follow(&self.stores[replica], &self.stores[self.primary]);
        self.wait_until_replica_is_known();
    }
}

fn follow(replica: &Store, primary: &Store) {
    // One that has just been started may still be loading.
    eventually("the replica follows", || (replica.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]) == "+OK").then_some(()));
}

fn is_linked(replica: &Store) -> bool {
    // slave, host, port, state, offset; the state is its own length and text.
    let role = Publisher::connect(replica.port).command_lines(&["ROLE"], 8);
    role.contains(&"connected".to_owned())
}
