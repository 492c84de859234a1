//! The floor: what a delivery costs when nothing is there but the kernel. One thread, no rooms and no rules, one write(2) of
//! the ready bytes for each event and socket. It takes the generator's own handshakes and publishes, so that a hub's figure
//! can be given as a ratio to it: `floor HTTP_PORT RESP_PORT`.
//!
//! Subscribers stand in lists by the name they asked for (`room:r`, `user:u`); a PUBLISH to `callboard:<name>` goes to that
//! list. Nothing waits in a queue here: a socket that does not take a write whole is closed, and the generator counts it.

use std::{
    collections::HashMap,
    env,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const HTTP: Token = Token(0);
const RESP: Token = Token(1);
/// Tokens of connections begin here.
const FIRST: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its request head has not come whole.
    Asking,
    Sse,
    Ws,
    Publisher,
}

struct Connection {
    socket: TcpStream,
    role: Role,
    /// Bytes that are not a whole head or command yet.
    carry: Vec<u8>,
    /// The list it stands in.
    name: String,
}

struct Floor {
    poll: Poll,
    http: TcpListener,
    resp: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    lists: HashMap<String, Vec<usize>>,
    buffer: Vec<u8>,
    /// Ready bytes of the event at hand, for each wire.
    sse: Vec<u8>,
    ws: Vec<u8>,
}

fn main() -> io::Result<()> {
    let ports: Vec<u16> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let &[http, resp] = ports.as_slice() else {
        eprintln!("usage: floor HTTP_PORT RESP_PORT");
        std::process::exit(2);
    };
    Floor::bind(http, resp)?.run()
}

impl Floor {
    fn bind(http: u16, resp: u16) -> io::Result<Self> {
        let poll = Poll::new()?;
        let listen = |port, token| {
            let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
            poll.registry().register(&mut listener, token, Interest::READABLE)?;
            io::Result::Ok(listener)
        };
        let (http, resp) = (listen(http, HTTP)?, listen(resp, RESP)?);
        let (connections, free, lists) = (Vec::new(), Vec::new(), HashMap::new());
        Ok(Self { poll, http, resp, connections, free, lists, buffer: vec![0; 64 * 1024], sse: Vec::new(), ws: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    HTTP => self.accept(Role::Asking)?,
                    RESP => self.accept(Role::Publisher)?,
                    Token(token) => self.read(token - FIRST),
                }
            }
        }
    }

    fn accept(&mut self, role: Role) -> io::Result<()> {
        loop {
            let listener = if role == Role::Publisher { &self.resp } else { &self.http };
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or(self.connections.len());
            self.poll.registry().register(&mut socket, Token(place + FIRST), Interest::READABLE)?;
            let connection = Some(Connection { socket, role, carry: Vec::new(), name: String::new() });
            if place == self.connections.len() {
                self.connections.push(connection);
            } else {
                self.connections[place] = connection;
            }
        }
    }

    fn read(&mut self, place: usize) {
        loop {
            let Some(connection) = self.connections[place].as_mut() else { return };
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => return self.close(place),
                Ok(length) => {
                    let role = connection.role;
                    if matches!(role, Role::Asking | Role::Publisher) {
                        connection.carry.extend_from_slice(&self.buffer[..length]);
                    }
                    match role {
                        Role::Asking => self.admit(place),
                        Role::Publisher => self.take_commands(place),
                        Role::Sse | Role::Ws => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(place),
            }
        }
    }

    fn close(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        self.free.push(place);
        if let Some(list) = self.lists.get_mut(&connection.name) {
            list.retain(|member| *member != place);
            if list.is_empty() {
                self.lists.remove(&connection.name);
            }
        }
    }

    /// Answers a whole request head as the hub would, and puts the subscriber into its list.
    fn admit(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        if !connection.carry.ends_with(b"\r\n\r\n") {
            return;
        }
        let head = String::from_utf8_lossy(&connection.carry).into_owned();
        let answer = match header(&head, "sec-websocket-key") {
            Some(key) => {
                connection.role = Role::Ws;
                upgrade_answer(key, &head)
            }
            None => {
                connection.role = Role::Sse;
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\r\nretry: 3000\n:\n\n".to_vec()
            }
        };
        connection.carry = Vec::new();
        connection.name = list_name(&head);
        let is_sent = matches!(connection.socket.write(&answer), Ok(written) if written == answer.len());
        self.lists.entry(connection.name.clone()).or_default().push(place);
        if !is_sent {
            self.close(place);
        }
    }

    fn take_commands(&mut self, place: usize) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        let mut carry = std::mem::take(&mut connection.carry);
        let (mut used, mut answers) = (0, Vec::new());
        while let Some((channel, payload, length)) = publish_command(&carry[used..]) {
            let receivers = self.fan_out(channel, payload);
            answers.extend_from_slice(format!(":{receivers}\r\n").as_bytes());
            used += length;
        }
        carry.drain(..used);
        let Some(connection) = self.connections[place].as_mut() else { return };
        connection.carry = carry;
        if !answers.is_empty() && connection.socket.write_all(&answers).is_err() {
            self.close(place);
        }
    }

    /// The measured thing.
    fn fan_out(&mut self, channel: &str, payload: &str) -> usize {
        let Some(name) = channel.strip_prefix("callboard:") else { return 0 };
        let Some(data) = payload.strip_prefix(r#"{"event":"bench","data":"#).and_then(|rest| rest.strip_suffix('}')) else { return 0 };
        encode_sse(data, &mut self.sse);
        encode_ws(name, data, &mut self.ws);
        let Some(list) = self.lists.get(name) else { return 0 };
        let mut failed = Vec::new();
        for &place in list {
            let Some(connection) = self.connections[place].as_mut() else { continue };
            let bytes = if connection.role == Role::Ws { &self.ws } else { &self.sse };
            if !matches!(connection.socket.write(bytes), Ok(written) if written == bytes.len()) {
                failed.push(place);
            }
        }
        let receivers = list.len() - failed.len();
        failed.into_iter().for_each(|place| self.close(place));
        receivers
    }
}

fn encode_sse(data: &str, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"event: bench\ndata: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn encode_ws(name: &str, data: &str, out: &mut Vec<u8>) {
    let target = match name.split_once(':') {
        Some(("room", room)) => format!(r#""room":"{room}""#),
        _ => r#""user":true"#.into(),
    };
    let text = format!(r#"{{"type":"event",{target},"event":"bench","data":{data}}}"#);
    out.clear();
    append_text_frame(&text, out);
}

fn append_text_frame(text: &str, out: &mut Vec<u8>) {
    out.push(0x81);
    match u16::try_from(text.len()) {
        Ok(short @ ..126) => out.push(short as u8),
        Ok(medium) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => {
            out.push(127);
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// 101, `welcome`, and `joined` where a room was asked for.
fn upgrade_answer(key: &str, head: &str) -> Vec<u8> {
    let accept = derive_accept_key(key.as_bytes());
    let head_lines = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ";
    let mut answer = format!("{head_lines}{accept}\r\n\r\n").into_bytes();
    append_text_frame(r#"{"type":"welcome","connection":"0","user":null}"#, &mut answer);
    if let Some(room) = room_of(head) {
        append_text_frame(&format!(r#"{{"type":"joined","room":"{room}"}}"#), &mut answer);
    }
    answer
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn room_of(head: &str) -> Option<&str> {
    head.split(' ').nth(1)?.split_once("?room=").map(|(_, room)| room)
}

/// The list of a subscriber: its room, or the user that its token claims, which nobody here verifies.
fn list_name(head: &str) -> String {
    if let Some(room) = room_of(head) {
        return format!("room:{room}");
    }
    let claims = header(head, "authorization").and_then(|value| value.strip_prefix("Bearer ")?.split('.').nth(1));
    let claims = claims.and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Option<serde_json::Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let user = claims.as_ref().and_then(|claims| claims["sub"].as_str()).unwrap_or_default();
    format!("user:{user}")
}

/// The channel, payload and length of a whole `PUBLISH` at the start of the bytes (RESP2, an array of bulk strings).
fn publish_command(bytes: &[u8]) -> Option<(&str, &str, usize)> {
    let rest = bytes.strip_prefix(b"*3\r\n$7\r\nPUBLISH\r\n")?;
    let (channel, rest) = bulk_string(rest)?;
    let (payload, rest) = bulk_string(rest)?;
    Some((channel, payload, bytes.len() - rest.len()))
}

fn bulk_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let length: usize = std::str::from_utf8(bytes.get(1..end)?).ok()?.parse().ok()?;
    let text = bytes.get(end + 2..end + 2 + length)?;
    Some((std::str::from_utf8(text).ok()?, bytes.get(end + 4 + length..)?))
}
