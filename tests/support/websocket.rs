//! A native WebSocket client: JSON in, JSON out.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    client::IntoClientRequest,
    error::ProtocolError,
    handshake::{HandshakeError, client::Response},
    http::{HeaderName, HeaderValue},
};

use super::http;

pub struct Socket {
    socket: WebSocket<TcpStream>,
    pub head: Response,
}

/// The end of a WebSocket, as the client sees it.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Code(u16),
    /// Without a close frame.
    Cut,
}

impl Socket {
    /// Opens it, which must succeed.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        Self::request(address, path, &[]).unwrap_or_else(|response| panic!("refused: {response:?}"))
    }

    /// Opens it, or shows the refusal.
    pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Response>> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header"));
        }
        match tungstenite::client(request, http::connect(address)) {
            Ok((socket, head)) => Ok(Self { socket, head }),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => Err(response),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    pub fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("an open socket");
    }

    pub fn send_message(&mut self, message: Message) {
        self.socket.send(message).expect("an open socket");
    }

    /// The next JSON message, or how the socket ended.
    pub fn read(&mut self) -> Result<Value, End> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(Some(close))) => return Err(End::Code(close.code.into())),
                Ok(Message::Close(None)) => return Err(End::Code(1005)),
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return Err(End::Cut),
                Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Err(End::Cut),
                Err(tungstenite::Error::Io(error)) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(End::Cut),
                Err(error) => panic!("no message: {error}"),
            }
        }
    }

    pub fn next(&mut self) -> Value {
        self.read().unwrap_or_else(|end| panic!("the socket ended: {end:?}"))
    }

    /// The next message, which must be of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let message = self.next();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Sends and returns the answer.
    pub fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        self.next()
    }

    /// How it ends, whatever comes before.
    pub fn end(&mut self) -> End {
        loop {
            if let Err(end) = self.read() {
                return end;
            }
        }
    }

    /// The names and data of the next messages, which must be events.
    pub fn take(&mut self, count: usize) -> Vec<(String, String)> {
        (0..count)
            .map(|_| {
                let event = self.expect("event");
                let data = if event.get("args").is_some() { &event["args"] } else { &event["data"] };
                (event["event"].as_str().expect("a name").to_owned(), data.to_string())
            })
            .collect()
    }

    /// The TCP connection below, for bytes that no client would send.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }
}
