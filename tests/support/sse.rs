//! A reader of Server-Sent Events that keeps every line, so that tests see what no EventSource shows.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    PATIENCE,
    http::{self, Answer},
};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub event: String,
    pub data: String,
    pub id: Option<String>,
}

pub struct Stream {
    socket: TcpStream,
    pub head: Answer,
    buffer: Vec<u8>,
    lines: VecDeque<String>,
    /// Lines that belong to no event: comments and `retry:`, with whatever came before the newest event.
    pub asides: Vec<String>,
}

impl Stream {
    /// Opens it, which must succeed.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        Self::request(address, "GET", path, &[], b"")
    }

    pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut socket = http::connect(address);
        http::send(&mut socket, method, path, &[headers, &[("Accept", "text/event-stream")]].concat(), body);
        let head = http::read_head(&mut socket);
        assert_eq!(head.status, 200, "{head:?}");
        Self { socket, head, buffer: Vec::new(), lines: VecDeque::new(), asides: Vec::new() }
    }

    /// The next line; `None` at the stream's end.
    pub fn line(&mut self) -> Option<String> {
        self.line_within(PATIENCE).expect("a line in time")
    }

    /// As `line`, but gives up without a failure.
    pub fn line_within(&mut self, patience: Duration) -> Result<Option<String>, std::io::Error> {
        self.socket.set_read_timeout(Some(patience)).expect("a time-out");
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            let mut chunk = [0; 16 * 1024];
            let count = match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Ok(count) => count,
                Err(error) => return Err(error),
            };
            self.buffer.extend_from_slice(&chunk[..count]);
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.lines.push_back(String::from_utf8(line[..end].to_vec()).expect("UTF-8"));
            }
        }
    }

    /// The next event; `None` at the stream's end.
    pub fn next(&mut self) -> Option<Block> {
        self.asides.clear();
        let mut block = Block { event: "message".into(), data: String::new(), id: None };
        let mut data: Vec<String> = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", name)) => block.event = name.to_owned(),
                Some(("data", text)) => data.push(text.to_owned()),
                Some(("id", id)) => block.id = Some(id.to_owned()),
                _ if line.is_empty() && !data.is_empty() => return Some(Block { data: data.join("\n"), ..block }),
                _ => self.asides.push(line),
            }
        }
    }

    /// The names and data of the next events.
    pub fn take(&mut self, count: usize) -> Vec<(String, String)> {
        (0..count).map(|_| self.next().map(|block| (block.event, block.data)).expect("one more event")).collect()
    }

    /// The stream itself, for what a reader does not do.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }
}
