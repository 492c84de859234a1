//! A hub, and clients that show the very answer: its head, the stream behind it, the text of a close.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    ops::Deref,
    sync::Arc,
    thread,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest};

use super::process::{
    http,
    hub::{self, Setup},
    stopwatch::{Reading, Stopwatch},
};

pub use super::process::{PATIENCE, eventually};

pub const SECRET: &str = "a-secret-of-at-least-32-bytes-of-text";
/// Every site may connect with a token, and whoever has none is nobody.
pub const WITH_TOKENS: &str = "[auth.jwt]\nsecret = 'a-secret-of-at-least-32-bytes-of-text'\nleeway = '0s'\n";

pub struct Hub(hub::Hub);

impl Deref for Hub {
    type Target = hub::Hub;

    fn deref(&self) -> &hub::Hub {
        &self.0
    }
}

impl Hub {
    pub fn start(config: &str) -> Self {
        Self(Setup::new(config).start_unready())
    }

    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let setup = variables.iter().fold(Setup::new(config), |setup, (name, value)| setup.variable(name, value));
        Self(setup.start_unready())
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn wait_for_line(&self, text: &str) {
        self.process.wait_for_line(text);
    }

    pub fn connect(&self) -> TcpStream {
        http::connect(self.address)
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
        self.socket_with(path, &[])
    }

    pub fn socket_with(&self, path: &str, headers: &[(&'static str, &str)]) -> Socket {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        Socket(tungstenite::client(request, self.connect()).expect("a WebSocket").0)
    }

    pub fn publish(&self, room: &str, data: &Value) {
        let answer = self.send("POST", "/api/publish", &[], &json!({ "room": room, "event": "e", "data": data }).to_string());
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 200, "{text}");
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

/// Reads to the end of a stream meanwhile; says when it came, and all that came before it.
pub fn end(mut stream: impl Read + Send + 'static, watch: &Arc<Stopwatch>) -> thread::JoinHandle<(Reading, String)> {
    let watch = Arc::clone(watch);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut bytes);
        (watch.read(), String::from_utf8_lossy(&bytes).into_owned())
    })
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

/// What `signed=` carries for this room.
pub fn sign(room: &str, expiry: u64) -> String {
    let (key, message) = (EncodingKey::from_secret(SECRET.as_bytes()), format!("room\n{expiry}\n{room}"));
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it signs");
    format!("{room}~{expiry}~{signature}")
}
