//! A redis-server of the test's own, on a free port and a socket file, gone with the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use redis::{AsyncConnectionConfig, FromRedisValue, aio::MultiplexedConnection};

use super::{PATIENCE, eventually, free_port};

/// A directory of the test's own.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("callboard-broker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub struct Redis {
    pub port: u16,
    pub scratch: Scratch,
    options: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Started and answering.
    pub async fn start(options: &[&str]) -> Self {
        let mut redis = Self::prepare(options);
        redis.restart().await;
        redis
    }

    /// Where one will be.
    pub fn prepare(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { port: free_port(), scratch: Scratch::new(), options, process: None }
    }

    /// Beyond those it has, from the next start on.
    pub fn add_options(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
    }

    /// Starts it, on the same port as before.
    pub async fn restart(&mut self) {
        let directory = self.scratch.path();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--tls-auth-clients",
            "no",
        ]);
        command.args(["--dir", &directory.display().to_string(), "--unixsocket", &self.socket()]);
        command.args(&self.options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned = command.spawn();
        self.process = Some(spawned.unwrap_or_else(|error| {
            panic!("redis-server does not start ({error}); ./scripts/test says what the tests need and how to get it")
        }));
        let socket = self.socket();
        eventually("redis-server listens", async || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub fn socket(&self) -> String {
        self.scratch.path().join("redis.sock").display().to_string()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `kill -9`, and its end.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            let _ = fs::remove_file(self.socket());
        }
    }

    /// `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let id = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// A connection as the administrator: the default user, by the socket file.
    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis+unix://{}", self.socket())).unwrap();
        // The crate's half second is less than this thread may be busy with something else.
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    /// One command of the administrator's.
    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connect().await).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// How many connections listen to each channel.
    pub async fn listeners(&self, channels: &[String]) -> Vec<u64> {
        let words: Vec<&str> = ["PUBSUB", "NUMSUB"].into_iter().chain(channels.iter().map(String::as_str)).collect();
        self.ask::<Vec<(String, u64)>>(&words).await.into_iter().map(|(_, count)| count).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
