//! A Redis with a replica, watched by three sentinels that make the replica the master when the first is gone.

use std::{fs, process::Command};

use super::{cluster::cli, eventually, free_port, hub::Process, unique_dir};

pub const MASTER: &str = "main";
/// What the hub enters with.
pub const PASSWORD: &str = "a-password-of-redis";

pub struct Watched {
    redis: [Option<Process>; 2],
    pub ports: [u16; 2],
    _sentinels: Vec<Process>,
    sentinel_ports: Vec<u16>,
}

/// As `cli`, with the password.
fn ask(port: u16, words: &[&str]) -> String {
    cli(port, &[&["--no-auth-warning", "-a", PASSWORD], words].concat())
}

impl Watched {
    pub fn start() -> Self {
        let all: [u16; 5] = std::array::from_fn(|_| free_port());
        let ports = [all[0], all[1]];
        let redis = ports.map(|port| {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.args(["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]);
            command.current_dir(unique_dir("watched"));
            Some(Process::spawn(command))
        });
        ports.iter().for_each(|port| eventually("Redis answers", || (ask(*port, &["PING"]) == "PONG").then_some(())));
        assert_eq!(ask(ports[1], &["REPLICAOF", "127.0.0.1", &ports[0].to_string()]), "OK");
        eventually("the replica follows", || ask(ports[1], &["INFO", "replication"]).contains("master_link_status:up").then_some(()));
        let sentinels = all[2..].iter().map(|port| start_sentinel(*port, ports[0])).collect();
        let watched = Self { redis, ports, _sentinels: sentinels, sentinel_ports: all[2..].to_vec() };
        for port in &watched.sentinel_ports {
            eventually("a sentinel knows all", || {
                let known = cli(*port, &["SENTINEL", "MASTER", MASTER]);
                let number = |name: &str| known.lines().skip_while(|line| *line != name).nth(1).map(str::to_owned);
                let is_whole = number("num-slaves").as_deref() == Some("1") && number("num-other-sentinels").as_deref() == Some("2");
                is_whole.then_some(())
            });
        }
        watched
    }

    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinel_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://:{PASSWORD}@{}/{MASTER}", sentinels.join(","))
    }

    /// `kill -9` of the master, and the replica in its place.
    pub fn fail_over(&mut self) {
        self.redis[0] = None;
        eventually("the replica is the master", || ask(self.ports[1], &["ROLE"]).starts_with("master").then_some(()));
    }
}

fn start_sentinel(port: u16, master: u16) -> Process {
    let directory = unique_dir("sentinel");
    let config = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\nsentinel auth-pass {MASTER} {PASSWORD}\n\
         sentinel down-after-milliseconds {MASTER} 3000\nsentinel failover-timeout {MASTER} 5000\n",
        directory.display()
    );
    let file = directory.join("sentinel.conf");
    fs::write(&file, config).expect("a file for the sentinel");
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel").current_dir(directory);
    Process::spawn(command)
}
