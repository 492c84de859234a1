//! The publishers: numbered events over PUBLISH or HTTP, and the books of what the broker said it took.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    ledger::{Published, Room},
    wire::mark,
};

/// Where events go in.
#[derive(Debug, Clone, Copy)]
pub enum Door {
    Redis(u16),
    Http(SocketAddr),
}

/// What one publisher does. It alone publishes to its rooms, unless the numbers begin elsewhere for each.
#[derive(Debug, Clone)]
pub struct Load {
    pub doors: Vec<Door>,
    pub rooms: Vec<Room>,
    /// Events a second; 0: as fast as they are taken.
    pub rate: u32,
    /// Ends by itself after so many.
    pub count: usize,
    pub padding: usize,
    /// The number before the first.
    pub base: u32,
    /// A broker that does not answer for so long is given up, and asked anew.
    pub patience: Duration,
}

impl Load {
    pub fn new(doors: &[Door], rooms: &[Room], rate: u32) -> Self {
        Self { doors: doors.to_vec(), rooms: rooms.to_vec(), rate, count: usize::MAX, padding: 40, base: 0, patience: PATIENCE }
    }

    pub fn start(self) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Publisher { stop, thread: thread::spawn(move || self.run(&flag)) }
    }

    fn run(self, stop: &AtomicBool) -> Published {
        const TICK: Duration = Duration::from_millis(10);
        const MOST_AT_ONCE: usize = 500;
        let mut lines: Vec<Line> = self.doors.iter().map(|door| Line { door: *door, patience: self.patience, stream: None }).collect();
        let mut books: Vec<(Room, Vec<bool>)> = self.rooms.iter().map(|room| (*room, Vec::new())).collect();
        let (mut sent, mut last, mut credit) = (0, Instant::now(), 0.0);
        while sent < self.count && !stop.load(Ordering::Relaxed) {
            // What an outage kept from being published is not made up for.
            let now = Instant::now();
            credit = (credit + now.duration_since(last).as_secs_f64() * f64::from(self.rate))
                .min((TICK * 5).as_secs_f64() * f64::from(self.rate));
            last = now;
            let due = if self.rate == 0 { MOST_AT_ONCE } else { credit as usize };
            let batch = due.min(self.count - sent).min(MOST_AT_ONCE);
            if batch == 0 {
                thread::sleep(TICK);
                continue;
            }
            credit -= batch as f64;
            // What one door took is published; a door that is shut costs its own readers, not the order of the others'.
            let events: Vec<(usize, String)> = (sent..sent + batch).map(|event| self.event(event)).collect();
            let payloads: Vec<_> = events.iter().map(|(room, data)| (self.rooms[*room], data.as_str())).collect();
            let taken: Vec<usize> = lines.iter_mut().map(|line| line.publish(&payloads)).collect();
            let taken = taken.into_iter().min().unwrap_or(0);
            for (place, (room, _)) in events.iter().enumerate() {
                books[*room].1.push(place < taken);
            }
            sent += batch;
            if taken < batch {
                thread::sleep(TICK);
            }
        }
        Published(books)
    }

    /// The place of the room, and the data, of an event by its number over all rooms.
    fn event(&self, event: usize) -> (usize, String) {
        let (room, number) = (event % self.rooms.len(), event / self.rooms.len() + 1);
        let number = self.base + u32::try_from(number).expect("fewer than 2³² events");
        (room, mark(self.rooms[room], number, self.padding))
    }
}

/// A publisher at work.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Published>,
}

impl Publisher {
    pub fn stop(self) -> Published {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has published all it was to.
    pub fn wait(self) -> Published {
        self.thread.join().expect("the publisher")
    }
}

struct Line {
    door: Door,
    patience: Duration,
    stream: Option<BufReader<TcpStream>>,
}

/// Where nothing is to fail.
const PATIENCE: Duration = Duration::from_secs(60);

impl Line {
    /// Publishes all at once; how many were taken, from the first on. What comes behind may have been taken or not.
    fn publish(&mut self, events: &[(Room, &str)]) -> usize {
        let mut taken = 0;
        if let Err(error) = self.try_publish(events, &mut taken) {
            self.stream = None;
            if matches!(self.door, Door::Http(_)) {
                eprintln!("a publish over HTTP failed: {error}");
            }
        }
        taken
    }

    fn try_publish(&mut self, events: &[(Room, &str)], taken: &mut usize) -> io::Result<()> {
        let (patience, address) = match self.door {
            Door::Redis(port) => (self.patience, ([127, 0, 0, 1], port).into()),
            Door::Http(address) => (self.patience, address),
        };
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.set_nodelay(true)?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut().ok_or_else(|| io::Error::other("just set"))?;
        match self.door {
            Door::Redis(_) => publish_over_redis(stream, events, taken),
            Door::Http(_) => events.iter().try_for_each(|(room, data)| {
                publish_over_http(stream, *room, data)?;
                *taken += 1;
                Ok(())
            }),
        }
    }
}

fn publish_over_redis(stream: &mut BufReader<TcpStream>, events: &[(Room, &str)], taken: &mut usize) -> io::Result<()> {
    let mut bytes = String::new();
    for (room, data) in events {
        let channel = format!("callboard:room:{}", room.name());
        let payload = format!(r#"{{"event":"e","data":"{data}"}}"#);
        bytes += &format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n{payload}\r\n", channel.len(), payload.len());
    }
    stream.get_mut().write_all(bytes.as_bytes())?;
    for _ in events {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || !line.starts_with(':') {
            return Err(io::Error::other(line));
        }
        *taken += 1;
    }
    Ok(())
}

fn publish_over_http(stream: &mut BufReader<TcpStream>, room: Room, data: &str) -> io::Result<()> {
    let body = format!(r#"{{"room":"{}","event":"e","data":"{data}"}}"#, room.name());
    let head = "POST /api/publish HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: ";
    stream.get_mut().write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())?;
    let (mut status, mut length) = (String::new(), 0);
    stream.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("content-length", text)) => length = text.parse().map_err(io::Error::other)?,
            Some(_) => {}
            None => break,
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    if status.contains(" 200 ") { Ok(()) } else { Err(io::Error::other(status)) }
}
