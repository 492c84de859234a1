//! Socket.IO clients of every protocol and transport, as far as the tables of this suite need them: what a namespace is
//! answered, and what an event is.

use std::{collections::VecDeque, io::Write, net::TcpStream};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    client::IntoClientRequest,
    http::HeaderValue,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::support::Hub;

/// Protocol and transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Polling5,
    WebSocket5,
    Polling4,
    WebSocket4,
    Polling1,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Polling5, Self::WebSocket5, Self::Polling4, Self::WebSocket4, Self::Polling1];

    pub const fn path(self) -> &'static str {
        match self {
            Self::Polling5 => "/socket.io/?EIO=4&transport=polling",
            Self::WebSocket5 => "/socket.io/?EIO=4&transport=websocket",
            Self::Polling4 => "/socket.io/?EIO=3&transport=polling&b64=1",
            Self::WebSocket4 => "/socket.io/?EIO=3&transport=websocket",
            Self::Polling1 => "/socket.io/1/?t=1",
        }
    }

    pub const fn is_web_socket(self) -> bool {
        matches!(self, Self::WebSocket5 | Self::WebSocket4)
    }
}

/// How a token comes to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `auth.token`, which protocol 5 alone has.
    Auth,
    Query,
    Bearer,
    Cookie,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Auth, Self::Query, Self::Bearer, Self::Cookie];
}

enum Line {
    Socket(Box<WebSocket<TcpStream>>),
    /// The path of polls and posts.
    Polls(String),
}

/// A client whose root namespace is connected.
pub struct Client<'a> {
    hub: &'a Hub,
    kind: Kind,
    line: Line,
    packets: VecDeque<String>,
    calls: u64,
}

impl<'a> Client<'a> {
    /// None where the hub says that this is nobody it lets in.
    pub fn connect(hub: &'a Hub, kind: Kind, token: Option<(Way, &str)>) -> Option<Self> {
        let query = match token {
            Some((Way::Query, token)) => {
                format!("&token={}", form_urlencoded::byte_serialize(token.as_bytes()).collect::<String>())
            }
            _ => String::new(),
        };
        let header = match token {
            Some((Way::Bearer, token)) => Some(("Authorization", format!("Bearer {token}"))),
            Some((Way::Cookie, token)) => Some(("Cookie", format!("a=b; callboard_token={token}"))),
            _ => None,
        };
        let path = format!("{}{query}", kind.path());
        let headers: Vec<(&str, &str)> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut packets = VecDeque::new();
        let line = match kind {
            Kind::WebSocket5 | Kind::WebSocket4 => Line::Socket(Box::new(open_socket(hub, &path, &headers))),
            Kind::Polling5 | Kind::Polling4 | Kind::Polling1 => {
                let answer = hub.get(&path, &headers);
                if answer.status == 403 && kind == Kind::Polling1 {
                    return None;
                }
                assert_eq!(answer.status, 200, "{kind:?}: {}", answer.head);
                let text = answer.text();
                if kind == Kind::Polling1 {
                    Line::Polls(format!("/socket.io/1/xhr-polling/{}?t=1", text.split(':').next().expect("an id")))
                } else {
                    packets.extend(packets_of(kind, &text));
                    Line::Polls(String::new())
                }
            }
        };
        let client = Self { hub, kind, line, packets, calls: 0 };
        client.connect_root(matches!(token, Some((Way::Auth, _))).then(|| token.map_or("", |(_, token)| token)))
    }

    /// From the open packet to the namespace's answer.
    fn connect_root(mut self, auth: Option<&str>) -> Option<Self> {
        if self.kind == Kind::Polling1 {
            assert_eq!(self.packet(), "1::");
            return Some(self);
        }
        let open = self.packet();
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON");
        if let Line::Polls(path) = &mut self.line {
            *path = format!("{}&sid={}", self.kind.path(), open["sid"].as_str().expect("an id"));
        }
        if matches!(self.kind, Kind::Polling5 | Kind::WebSocket5) {
            self.send(&format!("40{}", auth.map_or(String::new(), |token| json!({ "token": token }).to_string())));
        }
        let answer = self.packet();
        if answer.starts_with("44") {
            assert!(answer.contains("unauthorized"), "{answer}");
            return None;
        }
        assert!(answer.starts_with("40"), "{:?}: {answer}", self.kind);
        Some(self)
    }

    /// Sends an event, and waits for the answer to it. Events that come before are passed over.
    pub fn call(&mut self, name: &str, arguments: &Value) -> Value {
        self.calls += 1;
        let ack = self.calls;
        let (packet, answer) = if self.kind == Kind::Polling1 {
            (format!("5:{ack}+::{}", json!({ "name": name, "args": arguments })), format!("6:::{ack}+"))
        } else {
            let mut event = vec![json!(name)];
            event.extend_from_slice(arguments.as_array().expect("a list"));
            (format!("42{ack}{}", Value::from(event)), format!("43{ack}"))
        };
        self.send(&packet);
        loop {
            let packet = self.packet();
            if let Some(arguments) = packet.strip_prefix(&answer) {
                let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{packet}: {error}"));
                return arguments[0].clone();
            }
        }
    }

    /// Where it polls and posts.
    pub fn poll_path(&self) -> &str {
        match &self.line {
            Line::Polls(path) => path,
            Line::Socket(_) => panic!("{:?} polls nowhere", self.kind),
        }
    }

    pub fn send(&mut self, packet: &str) {
        match &mut self.line {
            Line::Socket(socket) => socket.send(Message::text(packet)).expect("it is open"),
            Line::Polls(path) => {
                let body =
                    if self.kind == Kind::Polling4 { format!("{}:{packet}", packet.encode_utf16().count()) } else { packet.to_owned() };
                let answer = self.hub.send("POST", path, &[], &body);
                assert_eq!(answer.status, 200, "{packet}");
            }
        }
    }

    /// The next packet; pings are passed over.
    pub fn packet(&mut self) -> String {
        loop {
            let packet = match (self.packets.pop_front(), &mut self.line) {
                (Some(packet), _) => packet,
                (None, Line::Socket(socket)) => match socket.read().expect("a message") {
                    Message::Text(text) => text.to_string(),
                    other => panic!("{other:?} is no text"),
                },
                (None, Line::Polls(path)) => {
                    let answer = self.hub.get(path, &[]);
                    assert_eq!(answer.status, 200);
                    self.packets.extend(packets_of(self.kind, &answer.text()));
                    continue;
                }
            };
            if !matches!(packet.as_str(), "2" | "6" | "8::" | "2::") {
                return packet;
            }
        }
    }

    /// A frame as it is, however wrong.
    pub fn send_frame(&mut self, payload: &[u8], is_binary: bool) {
        let mut frame = Frame::message(payload.to_vec(), OpCode::Data(if is_binary { Data::Binary } else { Data::Text }), true);
        frame.header_mut().mask = Some([0; 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).expect("memory takes it");
        self.socket().get_mut().write_all(&bytes).expect("it takes them");
    }

    /// The code of the close frame, whatever comes before.
    pub fn close_code(&mut self) -> Result<u16, String> {
        loop {
            match self.socket().read() {
                Ok(Message::Close(frame)) => return Ok(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn socket(&mut self) -> &mut WebSocket<TcpStream> {
        match &mut self.line {
            Line::Socket(socket) => socket,
            Line::Polls(path) => panic!("{path} is no WebSocket"),
        }
    }

    /// The packet that says goodbye: no other is expected.
    pub fn end(mut self) -> (Kind, String) {
        (self.kind, self.packet())
    }
}

fn open_socket(hub: &Hub, path: &str, headers: &[(&str, &str)]) -> WebSocket<TcpStream> {
    let mut request = format!("ws://{}{path}", hub.address).into_client_request().expect("a request");
    for (name, value) in headers {
        let name = tungstenite::http::HeaderName::try_from(*name).expect("a name");
        request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a value"));
    }
    tungstenite::client(request, hub.connect()).unwrap_or_else(|error| panic!("{path}: {error}")).0
}

/// The packets of a poll's answer.
fn packets_of(kind: Kind, body: &str) -> Vec<String> {
    match kind {
        Kind::Polling5 => body.split('\u{1e}').map(str::to_owned).collect(),
        Kind::Polling4 => framed(body, "", ":"),
        Kind::Polling1 if body.starts_with('\u{fffd}') => framed(body, "\u{fffd}", "\u{fffd}"),
        _ => vec![body.to_owned()],
    }
}

/// Packets with their length before them, in UTF-16 units, between two marks.
fn framed(mut body: &str, before: &str, behind: &str) -> Vec<String> {
    let mut packets = Vec::new();
    while let Some((length, rest)) = body.strip_prefix(before).and_then(|body| body.split_once(behind)) {
        let length: usize = length.parse().unwrap_or_else(|error| panic!("{body}: {error}"));
        let mut units = 0;
        let end = rest.char_indices().find(|(_, character)| {
            let is_end = units >= length;
            units += character.len_utf16();
            is_end
        });
        let (packet, next) = rest.split_at(end.map_or(rest.len(), |(index, _)| index));
        packets.push(packet.to_owned());
        body = next;
    }
    packets
}
