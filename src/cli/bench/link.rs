//! The link to whatever takes the publishes: Redis, the embedded broker's RESP port, or an HTTP API. Blocking, with
//! answers read behind the writes so that a round trip does not limit the rate.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use thiserror::Error;

use super::{marker::Marker, streams::Streams, wire::parse_head};

/// A server that answers nothing for so long is taken to be stuck.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// In a path, what the name of the room or user stands in for. The body is then the data alone: so other servers take it.
const PLACE_OF_NAME: &str = "{name}";

/// Where to publish, as given with `--via`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    Redis { host: String },
    Http { host: String, path: String },
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is neither redis://host:port nor http://host:port/path")]
pub struct ViaError(String);

impl FromStr for Via {
    type Err = ViaError;
    fn from_str(text: &str) -> Result<Self, ViaError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| ViaError(text.into()))?;
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        match scheme {
            _ if host.is_empty() || host.contains('@') => Err(ViaError(text.into())),
            "redis" => Ok(Self::Redis { host: with_port(host, 6379) }),
            "http" if !path.is_empty() => Ok(Self::Http { host: with_port(host, 80), path: format!("/{path}") }),
            _ => Err(ViaError(text.into())),
        }
    }
}

pub fn with_port(host: &str, port: u16) -> String {
    if host.rsplit_once(':').is_some_and(|(_, digits)| digits.parse::<u16>().is_ok()) { host.into() } else { format!("{host}:{port}") }
}

pub fn resolve(host: &str) -> io::Result<SocketAddr> {
    host.to_socket_addrs()?.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address")))
}

/// An open link. Commands are appended to a buffer, written together, and answered later.
pub struct Link {
    socket: TcpStream,
    via: Via,
    api_key: Option<String>,
    out: Vec<u8>,
    answers: Vec<u8>,
    unanswered: usize,
}

impl Link {
    pub fn open(via: Via, api_key: Option<String>) -> io::Result<Self> {
        let (Via::Redis { host } | Via::Http { host, .. }) = &via;
        let socket = TcpStream::connect(resolve(host)?)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
        Ok(Self { socket, via, api_key, out: Vec::new(), answers: Vec::new(), unanswered: 0 })
    }

    /// Adds one publish to what is to be written.
    pub fn append(&mut self, streams: &Streams, marker: &Marker, size: usize) {
        let mut data = Vec::with_capacity(size + 2);
        data.push(b'"');
        marker.append_to(&mut data, size);
        data.push(b'"');
        match &self.via {
            Via::Redis { .. } => {
                let channel = streams.channel(marker.stream);
                let head = br#"{"event":"bench","data":"#;
                let length = head.len() + data.len() + 1;
                self.out.extend_from_slice(format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${length}\r\n", channel.len()).as_bytes());
                self.out.extend_from_slice(head);
                self.out.extend_from_slice(&data);
                self.out.extend_from_slice(b"}\r\n");
            }
            Via::Http { host, path } => {
                let name = streams.name(marker.stream);
                let (path, head, tail) = match path.contains(PLACE_OF_NAME) {
                    true => (path.replace(PLACE_OF_NAME, &name), String::new(), ""),
                    false => (path.clone(), format!(r#"{{"{}":"{name}","event":"bench","data":"#, streams.kind_name()), "}"),
                };
                let length = head.len() + data.len() + tail.len();
                let key = self.api_key.as_ref().map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
                self.out.extend_from_slice(
                    format!(
                        "POST {path} HTTP/1.1\r\nHost: {host}\r\n{key}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                    )
                    .as_bytes(),
                );
                self.out.extend_from_slice(head.as_bytes());
                self.out.extend_from_slice(&data);
                self.out.extend_from_slice(tail.as_bytes());
            }
        }
        self.unanswered += 1;
    }

    /// Bytes that were added and not written.
    pub fn unwritten(&self) -> usize {
        self.out.len()
    }

    /// Writes what was added, then reads answers until at most so many are outstanding.
    pub fn flush(&mut self, may_be_unanswered: usize) -> io::Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        let mut chunk = [0; 16 * 1024];
        while self.unanswered > may_be_unanswered {
            match self.socket.read(&mut chunk)? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the publish connection was closed")),
                length => self.answers.extend_from_slice(&chunk[..length]),
            }
            self.take_answers()?;
        }
        Ok(())
    }

    fn take_answers(&mut self) -> io::Result<()> {
        let mut used = 0;
        while let Some(length) = self.via.answer_length(&self.answers[used..])? {
            used += length;
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        self.answers.drain(..used);
        Ok(())
    }
}

impl Via {
    /// The length of the first whole answer; an answer that refuses the publish is an error.
    fn answer_length(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Redis { .. } => {
                let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
                match bytes[0] {
                    b':' => Ok(Some(end + 2)),
                    _ => Err(refused(&bytes[..end])),
                }
            }
            Self::Http { .. } => {
                let Some((status, head)) = parse_head(bytes) else { return Ok(None) };
                let length = head + content_length(&bytes[..head]);
                match bytes.get(..length) {
                    Some(_) if matches!(status, 200..300) => Ok(Some(length)),
                    Some(answer) => Err(refused(answer)),
                    None => Ok(None),
                }
            }
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let value = head.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    value.and_then(|(_, digits)| digits.trim().parse().ok()).unwrap_or(0)
}

fn refused(answer: &[u8]) -> io::Error {
    io::Error::other(format!("a publish was refused: {}", String::from_utf8_lossy(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Via {
        "http://h/api/publish".parse().unwrap()
    }

    #[test]
    fn a_via_is_redis_or_an_http_path() {
        assert_eq!("redis://h".parse(), Ok(Via::Redis { host: "h:6379".into() }));
        assert_eq!("redis://h:1/0".parse(), Ok(Via::Redis { host: "h:1".into() }));
        assert_eq!(http(), Via::Http { host: "h:80".into(), path: "/api/publish".into() });
        for bad in ["h:1", "https://h/p", "http://h", "redis://:secret@h", "redis://"] {
            assert!(bad.parse::<Via>().is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_counted_whole_and_refusals_are_errors() {
        let redis = Via::Redis { host: String::new() };
        assert_eq!(redis.answer_length(b":12\r\n:1\r\n").unwrap(), Some(5));
        assert_eq!(redis.answer_length(b":12\r").unwrap(), None);
        assert!(redis.answer_length(b"-NOPERM no\r\n").unwrap_err().to_string().contains("-NOPERM no"));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(http().answer_length(answer).unwrap(), Some(answer.len()));
        assert_eq!(http().answer_length(&answer[..answer.len() - 1]).unwrap(), None);
        assert!(http().answer_length(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
