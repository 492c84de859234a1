//! What a long life leaves behind.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{
    client::Plan,
    crowd::{Crowd, PATIENCE, patiently},
    fleet::{Fleet, Store, pause, rooms, sum},
    ledger::{Published, Room},
    load::Load,
    support::hub::Hub,
    trial::{Report, Trial},
    wire::Wire,
};

/// Connections come and go, politely and not. Then no gauge, descriptor or thread remembers them. In the twin one stays.
pub fn connect_cycles(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let cycles: usize = trial.size(2_000, 100_000);
    let store = Store::start();
    let config = format!("[broker]\nlinger = \"100ms\"\n{}", rooms(10).replace("10m", "1s"));
    let fleet = Fleet::start(&config, &[store.url()]);
    let hub = fleet.hub(0);
    // What a first connection starts for good stays.
    (0..20).for_each(|number| cycle(hub, number));
    patiently("the first are gone", || Remains::of(hub).is_nobody());
    let before = Remains::of(hub);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cycles {
                        return;
                    }
                    cycle(hub, number);
                }
            });
        }
    });
    let leak = (!trial.has_cure).then(|| open(hub, 2));
    let began = Instant::now();
    let patience = if trial.has_cure { PATIENCE } else { PATIENCE / 20 };
    while Remains::of(hub).exceeds(&before) && began.elapsed() < patience {
        pause(100);
    }
    let after = Remains::of(hub);
    report.figure(format!("{cycles} cycles; before {before:?}, after {after:?}, {:.1} s later", began.elapsed().as_secs_f64()));
    report.claim(&format!("all is as before: {before:?}, not {after:?}"), !after.exceeds(&before));
    drop(leak);
    report
}

/// What could be left over.
#[derive(Debug)]
struct Remains {
    connections: usize,
    rooms: usize,
    users: usize,
    channels: usize,
    descriptors: usize,
    threads: usize,
}

/// Descriptors of requests that are just ending, ours for the metrics among them.
const SLACK: usize = 5;

impl Remains {
    fn is_nobody(&self) -> bool {
        self.connections + self.rooms + self.users + self.channels == 0
    }

    fn exceeds(&self, before: &Self) -> bool {
        let exact = [
            (self.connections, before.connections),
            (self.rooms, before.rooms),
            (self.users, before.users),
            (self.channels, before.channels),
            (self.threads, before.threads),
        ];
        exact.iter().any(|(now, before)| now > before) || self.descriptors > before.descriptors + SLACK
    }

    fn of(hub: &Hub) -> Self {
        let text = hub.get("/metrics").text();
        let gauge = |name: &str| sum(&text, name) as usize;
        let count = |folder: &str| fs::read_dir(format!("/proc/{}/{folder}", hub.process.pid())).map_or(0, Iterator::count);
        Self {
            connections: gauge("callboard_connections{"),
            rooms: gauge("callboard_rooms "),
            users: gauge("callboard_users "),
            channels: hub.get("/api/rooms").json()["rooms"].as_array().map_or(0, Vec::len),
            descriptors: count("fd"),
            threads: count("task"),
        }
    }
}

/// Connects and joins one of a thousand rooms.
fn open(hub: &Hub, number: usize) -> TcpStream {
    let room = Room(u16::try_from(number % 1_000).expect("small"));
    let wire = [Wire::Sse, Wire::WebSocket, Wire::SocketIo][number % 3];
    let mut stream = TcpStream::connect(hub.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(wire.handshake(&[room], None).as_bytes()).expect("an open connection");
    let mut chunk = [0; 4096];
    assert!(stream.read(&mut chunk).expect("an answer") > 0, "the hub closed the connection");
    let joins = wire.joins(&[room], |_| None);
    if wire == Wire::WebSocket {
        stream.write_all(&joins).expect("an open connection");
        // Some go before the answer comes.
        if number.is_multiple_of(2) {
            assert!(stream.read(&mut chunk).expect("an answer") > 0, "the hub closed the connection");
        }
    }
    stream
}

fn cycle(hub: &Hub, number: usize) {
    let stream = open(hub, number);
    // Most reset: a port that ends politely is taken for a minute, and there are 28,000.
    if !number.is_multiple_of(5) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }
}

/// Clients come and go while events flow, for a long time; memory ends where it was after the first third. In the twin much may
/// wait for clients who never read; it lasts for as many events as make a difference, however slowly they are taken.
pub fn soak(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let minutes: f64 = trial.size(0.25, 30.0);
    let clients: usize = trial.size(60, 500);
    let store = Store::start();
    let waits = if trial.has_cure { "" } else { "[server]\ntcp_user_timeout = \"1h\"\n[mailbox]\nconnection = 1000000\nroom = 100000\n" };
    let fleet = Fleet::start(&format!("{waits}{}", rooms(100)), &[store.url()]);
    let all: Vec<Room> = (0..20).map(Room).collect();
    let plan = |client: usize| {
        let reads = trial.has_cure;
        Plan { wire: if reads { Wire::of(client) } else { Wire::Sse }, reads, ..Plan::new(client, vec![all[client % all.len()]]) }
    };
    let crowd = Crowd::gather(&fleet.board, (0..clients).map(plan));
    let (rate, count) = if trial.has_cure { (200, usize::MAX) } else { (4_000, 60_000) };
    let publisher = Load { padding: 1_000, count, ..Load::new(&[store.door()], &all, rate) }.start();
    let span = Duration::from_secs_f64(minutes * 60.0);
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut number = 0;
    while if trial.has_cure { began.elapsed() < span } else { !publisher.is_done() } {
        for _ in 0..10 {
            cycle(fleet.hub(0), number);
            number += 1;
        }
        pause(100);
        samples.push(resident(fleet.hub(0)));
    }
    let published = publisher.stop();
    judge(&mut report, &samples);
    report.figure(format!("{minutes} min, {clients} clients, {number} more came and went, {} published", published.taken()));
    if trial.has_cure {
        end(&mut report, &crowd, &published);
    }
    report
}

/// The average of the second third against that of the last.
fn judge(report: &mut Report, samples: &[u64]) {
    let third = samples.len() / 3;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    let (middle, last) = (mean(&samples[third..2 * third]), mean(&samples[2 * third..]));
    report.figure(format!("resident {} KiB in the second third, {} KiB in the last", middle / 1024, last / 1024));
    report.claim(&format!("memory is flat: {middle} bytes, then {last}"), last <= middle + middle / 10 + (4 << 20));
}

fn end(report: &mut Report, crowd: &Crowd, published: &Published) {
    crowd.settle(published);
    report.whole_books(crowd.tally(published, true));
}

fn resident(hub: &Hub) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", hub.process.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).map_or(0, |kibibytes| kibibytes * 1024)
}
