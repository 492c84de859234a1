//! A server of Server-Sent Events that takes `PUBLISH` and makes the mistake it is told to.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The event that a fault befalls.
const CHOSEN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Loss,
    Double,
    Disorder,
}

/// Every event goes to every subscriber, whichever room it asked for.
pub struct Server {
    pub http: SocketAddr,
    pub resp: u16,
}

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

impl Server {
    /// Its threads end with the test's process.
    pub fn start(fault: Fault) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (http, resp) = (listen(), listen());
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let server = Self { http: address(&http), resp: address(&resp).port() };
        let subscribers = Subscribers::default();
        let admitted = Arc::clone(&subscribers);
        thread::spawn(move || http.incoming().flatten().for_each(|socket| admit(socket, &admitted)));
        thread::spawn(move || resp.incoming().flatten().for_each(|socket| serve_publisher(socket, fault, &subscribers)));
        server
    }
}

fn admit(socket: TcpStream, subscribers: &Subscribers) {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    while reader.read_line(&mut line).expect("a head") > 2 {
        line.clear();
    }
    let mut socket = reader.into_inner();
    let mut all = subscribers.lock().expect("the subscribers");
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n").expect("an open socket");
    all.push(socket);
}

fn serve_publisher(socket: TcpStream, fault: Fault, subscribers: &Subscribers) {
    let mut answers = socket.try_clone().expect("a second handle");
    // Seven lines make `*3 $7 PUBLISH $n channel $n payload`; the generator's payloads hold no line end.
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    let mut held: Option<String> = None;
    for number in 0.. {
        let Some(payload) = lines.nth(6) else { return };
        let data = payload.strip_prefix(r#"{"event":"bench","data":"#).and_then(|rest| rest.strip_suffix('}')).expect("an event");
        let block = format!("event: bench\ndata: {data}\n\n");
        match fault {
            Fault::Loss if number == CHOSEN => {}
            Fault::Double if number == CHOSEN => send(subscribers, &block.repeat(2)),
            Fault::Disorder if number == CHOSEN => held = Some(block),
            _ => send(subscribers, &(block + &held.take().unwrap_or_default())),
        }
        answers.write_all(b":1\r\n").expect("an open socket");
    }
}

fn send(subscribers: &Subscribers, text: &str) {
    // One that has hung up misses nothing.
    subscribers.lock().expect("the subscribers").retain_mut(|socket| socket.write_all(text.as_bytes()).is_ok());
}
