//! The real binary as a process, on ports of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use super::{
    PATIENCE, eventually, free_port,
    http::{self, Answer},
    unique_path,
};

/// How a hub is started.
#[derive(Default)]
pub struct Setup {
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// `config` is the text of its config.toml; where it listens is not the test's business.
    pub fn new(config: &str) -> Self {
        Self { config: config.to_owned(), ..Self::default() }
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, config: &PathBuf, resp: u16) -> Command {
        fs::write(config, &self.config).expect("a file for the configuration");
        let mut command = binary();
        command.args(["serve", "--config"]).arg(config).args(&self.arguments);
        command.env("CALLBOARD_SERVER__BIND", r#"["127.0.0.1:0"]"#).env("CALLBOARD_BROKER__RESP", format!("127.0.0.1:{resp}"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Waits until it serves and is ready.
    pub fn start(self) -> Hub {
        let hub = self.start_unready();
        eventually("the hub is ready", || (hub.get("/readyz").status == 200).then_some(()));
        hub
    }

    /// Waits until it serves.
    pub fn start_unready(self) -> Hub {
        for _ in 0..5 {
            let (config, resp) = (unique_path("config.toml"), free_port());
            let mut process = Process::spawn(self.command(&config, resp));
            match process.read_address() {
                Some(address) => return Hub { process, address, resp, config },
                // Somebody else took the port between our look and the hub's.
                None if process.log().contains("Address already in use") => {}
                None => panic!("the hub does not start"),
            }
        }
        panic!("no free port in five attempts");
    }
}

/// The binary, deaf to the developer's environment. `CALLBOARD_TEST_BINARY` names another build of it, such as the released one.
pub fn binary() -> Command {
    let other = std::env::var_os("CALLBOARD_TEST_BINARY");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_callboard").into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CALLBOARD_") || text == "REDIS_URL" || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

/// A child process that dies with the test, and tells what it logged where the test fails.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
    name: String,
}

impl Process {
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let log: Arc<Mutex<String>> = Arc::default();
        let readers = vec![read_into(&log, child.stdout.take()), read_into(&log, child.stderr.take())];
        Self { child, log, readers, name }
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    fn read_address(&mut self) -> Option<SocketAddr> {
        eventually("the hub says where it listens", || {
            let has_ended = self.child.try_wait().expect("the process").is_some();
            if has_ended {
                self.readers.drain(..).for_each(|reader| reader.join().expect("a reader of the log"));
            }
            let log = self.log();
            let line = log.lines().find(|line| line.contains("is listening on http"));
            let address = line.and_then(|line| line.rsplit("://").next()?.trim().parse().ok());
            if has_ended || address.is_some() { Some(address) } else { None }
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().expect("sh");
        assert!(status.success(), "kill -{name}");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process").is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process ends", || self.child.try_wait().expect("the process"));
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader of the log"));
        status
    }

    /// Waits until a line of its output holds `text`.
    pub fn wait_for_line(&self, text: &str) {
        eventually(text, || self.log().contains(text).then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.log());
        }
    }
}

fn read_into(log: &Arc<Mutex<String>>, stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<()> {
    let log = Arc::clone(log);
    let stream = stream.expect("a pipe");
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            log.lock().expect("the log").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A hub that serves.
pub struct Hub {
    pub process: Process,
    pub address: SocketAddr,
    /// Where its embedded broker takes PUBLISH.
    pub resp: u16,
    config: PathBuf,
}

impl Hub {
    /// With the embedded broker.
    pub fn start(config: &str) -> Self {
        Setup::new(config).start()
    }

    pub fn get(&self, path: &str) -> Answer {
        http::request(self.address, "GET", path, &[], b"")
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        http::request(self.address, "POST", path, &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Publishes over HTTP, which must be taken. The body is the request's.
    pub fn publish(&self, body: &str) {
        let answer = self.post("/api/publish", body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// One line of /metrics, by its name with labels; 0 where it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub fn wait_for_metric(&self, name: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = self.metric(name);
            if is == value {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {is}, not {value}");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Writes another configuration and has it read. What the log says of it is the test's to await.
    pub fn reload(&self, config: &str) {
        fs::write(&self.config, config).expect("a file for the configuration");
        self.process.signal("HUP");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }
}
