//! Socket.IO over long polling: requests on one kept connection.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    client::{Client, Shared},
    ledger::Entry,
    wire::{Item, Wire, packet},
};

struct Line(BufReader<TcpStream>);

impl Line {
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<String> {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n");
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes()).await?;
        let (mut status, mut length) = (String::new(), 0);
        self.0.read_line(&mut status).await?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::Error::other("cut"));
            }
            match line.trim_end().to_lowercase().split_once(": ") {
                Some(("content-length", text)) => length = text.parse().map_err(io::Error::other)?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        match status.contains(" 200 ") {
            true => String::from_utf8(body).map_err(io::Error::other),
            false => Err(io::Error::other(status)),
        }
    }
}

/// One session, to its end.
pub async fn visit(client: &Client, (place, address): (usize, SocketAddr), shared: &Shared) -> io::Result<()> {
    let mut line = Line(BufReader::new(TcpStream::connect(address).await?));
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = line.ask("GET", path, "").await?;
    let sid = open.split(r#""sid":""#).nth(1).and_then(|rest| rest.split('"').next()).ok_or_else(|| io::Error::other(open.clone()))?;
    let path = format!("{path}&sid={sid}");
    let connect = Wire::Polling.connect(&client.last_id().unwrap_or_default());
    line.ask("POST", &path, str::from_utf8(&connect).expect("text")).await?;
    client.note(shared, Entry::Opened(place));
    let mut joined = 0;
    loop {
        // A hub that lets a polling client go answers its next poll 400: every client then comes back, which packet 1 prevents.
        let packets = match line.ask("GET", &path, "").await {
            Err(error) if error.to_string().contains(" 400 ") => return client.take(Item::Goodbye("400".to_owned()), &mut joined, shared),
            answer => answer?,
        };
        for item in packets.split('\x1e').filter_map(packet) {
            match item {
                Item::Answer(bytes) => drop(line.ask("POST", &path, str::from_utf8(&bytes).expect("text")).await?),
                Item::Connected => {
                    let joins = Wire::Polling.joins(&client.plan.rooms, |_| None);
                    line.ask("POST", &path, str::from_utf8(&joins).expect("text")).await?;
                }
                item => client.take(item, &mut joined, shared)?,
            }
        }
    }
}
