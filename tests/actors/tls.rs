//! The line over TLS: the same as over a plain socket, whatever the records and the kernel make of the bytes. The clock runs.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use callboard::{
    actors::{
        Outbox,
        line::{Line, Signal},
        outbox::{Incoming, Pushed},
        socket::Spare,
    },
    config::Overflow,
    metrics::Metrics,
    protocol::{Target, wire::WireName},
};
use futures_util::{FutureExt, StreamExt, future::poll_fn};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::support::{delivered, outbox, patiently, room};

const STALL_LIMIT: Duration = Duration::from_secs(2);
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/tls");

/// The client's end.
struct Client {
    session: ClientConnection,
    stream: TcpStream,
}

impl Client {
    fn say(&mut self, text: &[u8]) {
        self.session.writer().write_all(text).expect("room for it");
        self.flush();
    }

    fn flush(&mut self) {
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).expect("memory");
        }
        assert_eq!(self.stream.try_write(&records).expect("an open socket"), records.len());
    }

    /// What comes next, `None` at the end that was announced.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.session.reader().read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => return Ok(Some(buffer[..count].to_vec())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            patiently(self.stream.readable()).await?;
            let mut records = [0; 1024];
            match self.stream.try_read(&mut records) {
                Ok(count) => {
                    self.session.read_tls(&mut &records[..count])?;
                    self.session.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read().await.expect("an end that was announced") {
            all.extend_from_slice(&bytes);
        }
        all
    }
}

/// Both ends after their handshake, which went through memory.
fn sessions() -> (ServerConnection, ClientConnection) {
    // An error says that one is in place already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(format!("{FOLDER}/first.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(format!("{FOLDER}/first.key.pem")).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{FOLDER}/ca.pem")).expect("a certificate")).expect("a root");
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").expect("a name")).expect("a client");
    while server.wants_write() || client.wants_write() {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).expect("memory");
        }
        feed(&mut server, &records);
        let mut records = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut records).expect("memory");
        }
        let mut unread = &records[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).expect("memory");
            client.process_new_packets().expect("a handshake");
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    (server, client)
}

fn feed(server: &mut ServerConnection, mut records: &[u8]) {
    while !records.is_empty() {
        server.read_tls(&mut records).expect("memory");
        server.process_new_packets().expect("whole records");
    }
}

async fn line_with(said: &[u8]) -> (Line, Arc<Outbox>, Client, Metrics) {
    let (mut server, mut session) = sessions();
    if !said.is_empty() {
        let mut records = Vec::new();
        session.writer().write_all(said).expect("room for it");
        session.write_tls(&mut records).expect("memory");
        feed(&mut server, &records);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let stream = TcpSocket::new_v4().expect("a socket");
    stream.set_recv_buffer_size(1).expect("a receive buffer");
    let stream = stream.connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("its other end");
    SockRef::from(&accepted).set_send_buffer_size(1).expect("a send buffer");
    let spare = Spare::Tls(accepted.into_std().expect("a socket").into(), Box::new(server));
    let socket = Arc::new(spare.into_socket().expect("a socket"));
    poll_fn(|cx| socket.poll_write_ready(cx)).await.expect("an open socket");
    let metrics = Metrics::new();
    let outbox = outbox(10_000, WireName::Sse, &metrics);
    outbox.attach(Arc::clone(&socket));
    (Line::new(Arc::clone(&outbox), Some(socket), STALL_LIMIT), outbox, Client { session, stream }, metrics)
}

async fn line() -> (Line, Arc<Outbox>, Client, Metrics) {
    line_with(b"").await
}

fn push(outbox: &Outbox, bytes: impl Into<Bytes>, overflow: Overflow) -> Pushed {
    outbox.push_event(&Incoming { bytes: &bytes.into(), target: &Target::from(room("r")), overflow, key: 0 })
}

/// The event of this number: its size, then as many bytes as no other neighbour has.
fn event(number: u32) -> Vec<u8> {
    let size = [1, 2, 3, 40, 900, 5000, 17_000, 40_000][number as usize % 8];
    (0..size).map(|at: u32| (number.wrapping_mul(31).wrapping_add(at) % 251) as u8).collect()
}

#[actix::test]
async fn all_bytes_arrive_in_order_however_little_the_kernel_takes() {
    let (mut line, outbox, mut client, metrics) = line().await;
    let expected: Vec<u8> = (0..400).flat_map(event).collect();
    let running = actix::spawn(async move { while line.next().await.is_some() {} });
    let hub = Arc::clone(&outbox);
    let pushing = actix::spawn(async move {
        let mut written = 0;
        for number in 0..400 {
            written += u64::from(push(&hub, event(number), Overflow::Disconnect) == Pushed::Written);
            if number % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        hub.finish(None);
        written
    });
    let received = client.rest().await;
    assert!(received == expected, "{} bytes of {} arrived, or others", received.len(), expected.len());
    let written = pushing.await.expect("all were pushed");
    drop(client);
    running.await.expect("it ends");
    assert_eq!(written + delivered(&metrics), 400);
}

#[actix::test]
async fn what_the_kernel_has_not_taken_is_waiting() {
    let (mut line, outbox, mut client, metrics) = line().await;
    push(&outbox, vec![b'x'; 1 << 20], Overflow::Disconnect);
    assert!(line.next().now_or_never().is_none(), "nothing happens");
    assert_eq!((outbox.queued_events(), delivered(&metrics)), (1, 0));
    assert!(outbox.waiting_since().is_some());
    let reading = actix::spawn(async move {
        let mut total = 0;
        while total < 1 << 20 {
            total += client.read().await.expect("records").expect("more").len();
        }
        client
    });
    let running = actix::spawn(async move { line.next().await });
    let _client = reading.await.expect("all of it");
    while outbox.waiting_since().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!((outbox.queued_events(), delivered(&metrics)), (0, 1));
    running.abort();
}

#[actix::test]
async fn what_counts_as_written_is_with_the_kernel() {
    let (_line, outbox, mut client, _) = line().await;
    let mut written = 0;
    // The last of them is on its way in part, and nobody moves the rest.
    while push(&outbox, vec![b'x'; 5000], Overflow::Disconnect) == Pushed::Written {
        written += 5000;
    }
    let mut received = 0;
    while received < written {
        received += client.read().await.expect("records").expect("more").len();
    }
    assert_eq!(outbox.queued_events(), 1);
}

#[actix::test]
async fn events_that_are_dropped_leave_those_on_their_way_whole() {
    let (mut line, outbox, mut client, _) = line().await;
    let framed = |number: u32| [&7u32.to_be_bytes()[..], &number.to_be_bytes(), &vec![number as u8; 3000]].concat();
    let running = actix::spawn(async move { while line.next().await.is_some() {} });
    let hub = Arc::clone(&outbox);
    actix::spawn(async move {
        for number in 0..20_000 {
            push(&hub, framed(number), Overflow::DropOldest);
        }
        hub.finish(None);
    });
    let received = client.rest().await;
    assert_eq!(received.len() % 3008, 0, "whole events");
    let numbers: Vec<u32> = received.chunks(3008).map(|event| u32::from_be_bytes([event[4], event[5], event[6], event[7]])).collect();
    assert!(received.chunks(3008).zip(&numbers).all(|(event, number)| event == framed(*number)), "none is torn");
    assert!(numbers.is_sorted_by(|one, next| one < next) && numbers.last() == Some(&19_999), "{numbers:?}");
    assert!(numbers.len() < 20_000, "some were dropped");
    drop(client);
    running.await.expect("it ends");
}

#[actix::test]
async fn a_client_that_takes_no_byte_is_cut_at_the_stall_limit() {
    let (mut line, outbox, _client, _) = line().await;
    push(&outbox, vec![b'x'; 4 << 20], Overflow::Disconnect);
    assert!(matches!(patiently(line.next()).await, Some(Signal::Stalled)));
}

#[actix::test]
async fn the_goodbye_and_the_end_of_the_session_reach_the_client() {
    let (mut line, outbox, mut client, _) = line().await;
    push(&outbox, vec![b'x'; 1 << 20], Overflow::Disconnect);
    outbox.finish(Some(Bytes::from_static(b"goodbye")));
    client.say(b"still talking");
    let ending = actix::spawn(async move { while patiently(line.next()).await.is_some() {} });
    let bytes = client.rest().await;
    assert_eq!((bytes.len(), &bytes[1 << 20..]), ((1 << 20) + 7, &b"goodbye"[..]));
    drop(client);
    ending.await.expect("a line");
}

#[actix::test]
async fn who_ends_the_session_is_gone_and_is_told_the_same() {
    let (mut line, _outbox, mut client, _) = line().await;
    client.session.send_close_notify();
    client.flush();
    assert!(patiently(line.next()).await.is_none());
    assert_eq!(client.rest().await, b"");
}

#[actix::test]
async fn who_hangs_up_without_a_word_is_gone() {
    let (mut line, _outbox, client, _) = line().await;
    drop(client);
    assert!(patiently(line.next()).await.is_none());
}

#[actix::test]
async fn what_the_session_had_read_before_is_heard_first() {
    let (mut line, _outbox, mut client, _) = line_with(b"early").await;
    client.say(b" and late");
    let mut heard = Vec::new();
    while heard.len() < b"early and late".len() {
        let signal = patiently(line.next()).await;
        let Some(Signal::Read(bytes)) = signal else { panic!("{signal:?}") };
        heard.extend_from_slice(&bytes);
    }
    assert_eq!(heard, b"early and late");
}

#[actix::test]
async fn more_than_is_read_at_a_time_is_heard_without_another_word() {
    let (mut line, _outbox, mut client, _) = line().await;
    let said: Vec<u8> = (0..40_000u32).map(|at| (at % 251) as u8).collect();
    client.session.set_buffer_limit(None);
    let expected = said.clone();
    let saying = actix::spawn(async move {
        client.session.writer().write_all(&said).expect("room for it");
        let mut records = Vec::new();
        while client.session.wants_write() {
            client.session.write_tls(&mut records).expect("memory");
        }
        let mut unsent = &records[..];
        while !unsent.is_empty() {
            client.stream.writable().await.expect("an open socket");
            unsent = &unsent[client.stream.try_write(unsent).unwrap_or(0)..];
        }
        client
    });
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let Some(Signal::Read(bytes)) = patiently(line.next()).await else { panic!("an end after {} bytes", heard.len()) };
        heard.extend_from_slice(&bytes);
    }
    assert!(heard == expected);
    drop(saying.await);
}

#[actix::test]
async fn rubbish_in_place_of_a_record_ends_the_line() {
    let (mut line, _outbox, client, _) = line().await;
    client.stream.try_write(&[23; 100]).expect("an open socket");
    assert!(patiently(line.next()).await.is_none());
}
