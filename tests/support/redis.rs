//! A Redis of the test's own: no file, no other client.

use std::{net::TcpStream, process::Command};

use super::{eventually, free_port, hub::Process, publisher::Publisher, unique_dir};

pub struct Redis {
    pub process: Process,
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_at(free_port(), &[])
    }

    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(arguments);
        command.current_dir(unique_dir("redis"));
        let redis = Self { process: Process::spawn(command), port };
        eventually("Redis answers", || {
            let is_up = TcpStream::connect(("127.0.0.1", port)).is_ok();
            (is_up && !Publisher::connect(port).command(&["PING"]).is_empty()).then_some(())
        });
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
