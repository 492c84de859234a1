//! A hub on ports of its own, and clients that speak its wires byte by byte.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const SECRET: &str = "a-secret-of-at-least-32-bytes-of-text";
/// Every site may connect with a token, and whoever has none is nobody.
pub const WITH_TOKENS: &str = "[auth.jwt]\nsecret = 'a-secret-of-at-least-32-bytes-of-text'\nleeway = '0s'\n";

pub struct Hub {
    child: Child,
    pub address: SocketAddr,
    pub config: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Hub {
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("security-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, config).expect("a file for the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
        let foreign = |name: &str| name.starts_with("CALLBOARD_") || name == "REDIS_URL" || name == "RUST_LOG";
        std::env::vars().filter(|(name, _)| foreign(name)).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.args(["serve", "--config"]).arg(&path).env("CALLBOARD_SERVER__BIND", r#"["127.0.0.1:0"]"#);
        command.env("CALLBOARD_BROKER__RESP", "").envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the hub");
        let log: Arc<Mutex<String>> = Arc::default();
        follow(child.stdout.take().expect("a pipe"), &log);
        follow(child.stderr.take().expect("a pipe"), &log);
        let mut hub = Self { child, address: ([127, 0, 0, 1], 0).into(), config: path, log };
        hub.address = hub.wait_for("is listening on ", |log| {
            let line = log.lines().find(|line| line.contains("is listening on "))?;
            line.rsplit("://").next()?.trim().parse().ok()
        });
        hub
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, || look(&self.log()))
    }

    pub fn wait_for_line(&self, text: &str) {
        self.wait_for(text, |log| log.contains(text).then_some(()));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes another configuration and has it read.
    pub fn reload(&self, config: &str) {
        fs::write(&self.config, config).expect("a file for the configuration");
        let status = Command::new("kill").args(["-HUP", &self.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the hub listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    /// One request and the whole answer, or its head where the answer is a stream.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        let host = if headers.iter().any(|(name, _)| *name == "Host") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let mut request = format!("{method} {path} HTTP/1.1\r\n{host}");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).expect("a request");
        Answer::read(stream)
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, "")
    }

    /// The status of a WebSocket handshake.
    pub fn handshake(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend_from_slice(headers);
        self.get(path, &all)
    }

    pub fn socket(&self, path: &str) -> Socket {
        let request = format!("ws://{}{path}", self.address).into_client_request().expect("a request");
        Socket(tungstenite::client(request, self.connect()).expect("a WebSocket").0)
    }

    pub fn publish(&self, room: &str, data: &Value) {
        let answer = self.send("POST", "/api/publish", &[], &json!({ "room": room, "event": "e", "data": data }).to_string());
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 200, "{text}");
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics", &[("Connection", "close")]).text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0.0, |line| line.rsplit(' ').next().expect("a value").parse().expect("a number"))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        if thread::panicking() {
            eprintln!("---- the hub said:\n{}", self.log());
        }
    }
}

fn follow(stream: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            log.lock().expect("the log").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// Looks until there is something to see.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// An answer whose head has been read.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: BufReader<TcpStream>,
}

impl Answer {
    pub fn read(stream: TcpStream) -> Self {
        let mut body = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && body.read_line(&mut head).is_ok_and(|count| count > 0) {}
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    /// The body by its length, or to the end of the stream.
    pub fn text(mut self) -> String {
        let mut body = Vec::new();
        let length = self.header("content-length").and_then(|length| length.parse::<u64>().ok());
        match length {
            Some(length) => self.body.take(length).read_to_end(&mut body).expect("a body"),
            None => self.body.read_to_end(&mut body).expect("a body"),
        };
        String::from_utf8(body).expect("text")
    }

    /// Reads lines until one holds `text`; false at the end of the stream.
    pub fn hears(&mut self, text: &str) -> bool {
        let mut line = String::new();
        while self.body.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.contains(text) {
                return true;
            }
            line.clear();
        }
        false
    }

    pub fn error_code(self) -> String {
        let text = self.text();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        value["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A native WebSocket client.
pub struct Socket(pub WebSocket<TcpStream>);

impl Socket {
    pub fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("it is open");
    }

    /// The next JSON message, or the code and text of the close.
    pub fn hear(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(frame)) => {
                    return Err(frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string())));
                }
                Ok(_) => {}
                Err(error) => return Err((0, error.to_string())),
            }
        }
    }

    /// The next message of this type; others are passed over.
    pub fn hear_type(&mut self, kind: &str) -> Value {
        loop {
            match self.hear() {
                Ok(value) if value["type"] == kind => return value,
                Ok(_) => {}
                Err(close) => panic!("no {kind}, but closed: {close:?}"),
            }
        }
    }
}

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

pub fn token(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("it signs")
}

pub fn token_of(user: &str) -> String {
    token(&json!({ "sub": user, "exp": now() + 600 }))
}
