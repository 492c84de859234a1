//! A hub in a process of its own, and what raw clients need: requests over plain sockets, and WebSockets.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::shared::{http, hub};

pub struct Hub {
    pub node: hub::Hub,
    pub address: String,
}

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Hub {
    /// With settings from the environment.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let setup = settings.iter().fold(hub::Setup::new(""), |setup, (name, value)| setup.variable(name, value));
        Self::of(setup.start())
    }

    pub fn of(node: hub::Hub) -> Self {
        let address = node.address.to_string();
        Self { node, address }
    }

    /// With this configuration; publishers find the hub's own broker at the port.
    pub fn configured(config: &str) -> (Self, u16) {
        let node = hub::Setup::new(config).start();
        let resp = node.resp;
        (Self::of(node), resp)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connect(&self) -> TcpStream {
        http::connect(self.node.address)
    }

    /// Sends a request and does not wait.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the hub reads");
        // A body that is refused may not be read to its end.
        let _ = stream.write_all(body);
        stream
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.ask("GET", path, "", b""))
    }

    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        answer(self.ask("POST", path, "Content-Type: text/plain;charset=UTF-8\r\n", body.as_ref()))
    }

    pub fn publish(&self, body: &str) {
        let answer = answer(self.ask("POST", "/api/publish", "Content-Type: application/json\r\n", body.as_bytes()));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub fn web_socket(&self, path: &str) -> Result<Socket, u16> {
        let stream = self.connect();
        match tungstenite::client(format!("ws://{}{path}", self.address), stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// A polling session of Engine.IO 4 in which `/` is connected: its path.
    pub fn session(&self) -> String {
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", self.open("EIO=4&transport=polling"));
        assert_eq!(self.post(&path, "40").body, "ok");
        assert!(self.get(&path).body.starts_with(r#"40{"sid":""#));
        path
    }

    /// The id of a new polling session.
    pub fn open(&self, query: &str) -> String {
        let answer = self.get(&format!("/socket.io/?{query}"));
        let json = &answer.body[answer.body.find('{').unwrap_or_else(|| panic!("{answer:?}"))..];
        let open: serde_json::Value = serde_json::from_str(json).expect("an open packet");
        open["sid"].as_str().expect("an id").to_owned()
    }

    /// A WebSocket of Engine.IO 4 in which `/` is connected.
    pub fn connected(&self) -> Socket {
        let mut socket = self.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
        assert!(socket.text().starts_with('0'));
        socket.send("40");
        assert!(socket.text().starts_with(r#"40{"sid":""#));
        socket
    }

    pub fn metric(&self, line: &str) -> String {
        let metrics = self.get("/metrics").body;
        let found = metrics.lines().find_map(|known| known.strip_prefix(line)).unwrap_or_default();
        found.trim().to_owned()
    }
}

pub fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    // A reset behind the answer cuts nothing off it.
    let _ = stream.read_to_end(&mut bytes);
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let bytes = bytes[split + 4..].to_vec();
    Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}

pub struct Socket(pub WebSocket<TcpStream>);

impl Socket {
    pub fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("the hub reads");
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).expect("the hub reads");
    }

    pub fn text(&mut self) -> String {
        match self.0.read().expect("a message") {
            Message::Text(text) => text.to_string(),
            other => panic!("{other:?} is no text"),
        }
    }

    /// The code of the close frame that comes, whatever comes before it.
    pub fn close_code(&mut self) -> u16 {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(Message::Close(None)) => return 1005,
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }
}
