//! A Redis of the test's own: no file, no other client.

use std::{net::TcpStream, process::Command};

use super::{eventually, free_port, hub::Process, publisher::Publisher, unique_dir};

pub struct Redis {
    pub process: Process,
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        // Somebody else may take a port between our look and Redis' own.
        (0..5).find_map(|_| Self::try_start(free_port(), &[])).expect("a free port in five attempts")
    }

    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        Self::try_start(port, arguments).expect("Redis starts")
    }

    /// `None` where it ends again, as it does if somebody else has the port.
    pub fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(arguments);
        command.current_dir(unique_dir("redis"));
        let mut redis = Self { process: Process::spawn(command), port };
        let is_up = eventually("Redis answers", || match redis.process.is_running() {
            false => Some(false),
            true if TcpStream::connect(("127.0.0.1", port)).is_err() => None,
            true => Some(!Publisher::connect(port).command(&["PING"]).is_empty()),
        });
        is_up.then_some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
