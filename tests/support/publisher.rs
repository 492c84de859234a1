//! PUBLISH, byte by byte: against Redis and against the embedded broker alike.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use super::http;

pub struct Publisher(BufReader<TcpStream>);

impl Publisher {
    pub fn connect(port: u16) -> Self {
        Self(BufReader::new(http::connect(([127, 0, 0, 1], port).into())))
    }

    /// Sends one command; the answer's first line.
    pub fn command(&mut self, words: &[&str]) -> String {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(bytes.as_bytes()).expect("an open connection");
        self.line()
    }

    /// The next line that comes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("one more line");
        line.trim_end().to_owned()
    }

    /// The first lines of an answer, which must have so many.
    pub fn command_lines(&mut self, words: &[&str], count: usize) -> Vec<String> {
        let first = self.command(words);
        let mut lines = vec![first];
        lines.extend((1..count).map(|_| self.line()));
        lines
    }

    pub fn publish(&mut self, channel: &str, payload: &str) {
        let answer = self.command(&["PUBLISH", channel, payload]);
        assert!(answer.starts_with(':'), "{answer}");
    }
}
