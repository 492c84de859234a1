//! Fixed work, one piece a case: what the codecs and the in-process fan-out do for one event of 256 bytes. `instructions` counts
//! it, `codecs` and `fan_out` take its time.
//!
//! A case is one line of [`CASES`]: its name, and a function that prepares its input and returns the work.

use std::{
    hint::black_box,
    io::Read,
    os::unix::net::UnixStream as Peer,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix::{Actor, Handler, Message, System};
use bytes::Bytes;
use callboard::{
    actors::{
        fan_out::{FanOut, Step},
        members::Member,
        messages::Deliver,
        outbox::{Outbox, OutboxLimits},
        socket::Socket,
    },
    config::Overflow,
    metrics::Metrics,
    protocol::{
        ConnectionId, Encoding, Event, EventName, Publication, RoomName, Target,
        dialect::{Dialect, Options},
        engineio::Carrier,
        event::Argument,
        socketio::Revision,
        websocket::Decoder,
        wire::WireName,
    },
};
use rmpv::Value;
use serde_json::json;
use tokio::{net::UnixStream, runtime, time::Instant};

pub type Work = Box<dyn FnMut()>;

/// A name, and what prepares the input and gives the work.
pub type Case = (&'static str, fn() -> Work);

pub const CASES: &[Case] = &[
    ("dialect_callboard", || decode(Dialect::Callboard)),
    ("dialect_raw", || decode(Dialect::Raw)),
    ("dialect_django_sse", || decode(Dialect::DjangoSse)),
    ("dialect_gevent_socketio", || decode(Dialect::GeventSocketio)),
    ("dialect_flask_sse", || decode(Dialect::FlaskSse)),
    ("dialect_django_eventstream", || decode(Dialect::DjangoEventstream)),
    ("dialect_python_socketio", || decode(Dialect::PythonSocketio)),
    ("dialect_socketio_emitter", || decode(Dialect::SocketioEmitter)),
    ("dialect_action_cable", || decode(Dialect::ActionCable)),
    ("dialect_anycable", || decode(Dialect::Anycable)),
    ("dialect_laravel", || decode(Dialect::Laravel)),
    ("encode_sse", || encode(Encoding::Sse)),
    ("encode_ws", || encode(Encoding::WebSocket)),
    ("encode_socketio", || encode(socket_io(Revision::V5, Carrier::WebSocket))),
    ("encode_socketio_poll", || encode(socket_io(Revision::V5, Carrier::Polling))),
    ("encode_socketio_v1", || encode(socket_io(Revision::V1, Carrier::Polling))),
    ("encode_again", || {
        let publication = publication();
        Box::new(move || drop(black_box(publication.bytes(Encoding::Sse))))
    }),
    ("ws_decode", ws_decode),
    ("fanout_sse", || Crowd::new(Encoding::Sse, WireName::Sse).work(1)),
    ("fanout_ws", || Crowd::new(Encoding::WebSocket, WireName::WebSocket).work(1)),
    ("fanout_burst", || Crowd::new(Encoding::Sse, WireName::Sse).work(BURST)),
    ("fanout_body", fan_out_to_bodies),
    ("fanout_stalled", fan_out_to_the_stalled),
    ("fanout_by_mailbox", fan_out_by_mailbox),
];

/// Members of the room that is fanned out to.
const MEMBERS: u32 = 32;
const BURST: usize = 50;
/// Events that may wait for a member.
const WAITING_EVENTS: usize = 256;
/// The peers' sockets are emptied whenever so many events went out: fewer than they hold.
const EVENTS_PER_READ: usize = 100;

fn room() -> RoomName {
    RoomName::parse("bench").expect("a literal without control characters")
}

fn text() -> String {
    "x".repeat(256)
}

/// The event of the fan-out measurements: 256 bytes of data, a short name, no id.
fn event() -> Arc<Event> {
    let name = EventName::parse("bench").expect("a literal without line ends");
    Arc::new(Event::new(name, [Argument::from_value(&json!(text()))]))
}

fn publication() -> Publication {
    Publication::new(Target::Room(room()), event())
}

fn socket_io(revision: Revision, carrier: Carrier) -> Encoding {
    Encoding::SocketIo { revision, carrier, namespace_length: 0, shows_ids: false }
}

/// The same event in the publisher's format.
fn payload(dialect: Dialect) -> Vec<u8> {
    let (text, quoted) = (text(), json!(text()).to_string());
    let json = match dialect {
        Dialect::Callboard => json!({"event": "bench", "data": text}),
        Dialect::Raw | Dialect::ActionCable => json!(text),
        Dialect::DjangoSse => json!(["bench", text]),
        Dialect::GeventSocketio => json!({"name": "bench", "args": ["default_room", text]}),
        Dialect::FlaskSse => json!({"data": text, "type": "bench"}),
        Dialect::DjangoEventstream => json!({"channel": "bench", "event_type": "bench", "data": quoted, "pub_id": null}),
        Dialect::PythonSocketio => json!({
            "method": "emit", "event": "bench", "data": [text], "binary": false, "namespace": "/", "room": "bench",
            "skip_sid": null, "callback": null, "host_id": "0123456789abcdef0123456789abcdef",
        }),
        Dialect::Anycable => json!({"stream": "bench", "data": quoted, "meta": {}}),
        Dialect::Laravel => json!({"event": "bench", "data": text, "socket": null}),
        Dialect::SocketioEmitter => return emitted(&text),
    };
    json.to_string().into_bytes()
}

/// What `@socket.io/redis-emitter` 5 publishes.
fn emitted(text: &str) -> Vec<u8> {
    let map = |pairs: Vec<(&str, Value)>| Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect());
    let data = Value::Array(vec!["bench".into(), text.into()]);
    let packet = map(vec![("type", 2.into()), ("data", data), ("nsp", "/".into())]);
    let (rooms, except) = (Value::Array(vec!["bench".into()]), Value::Array(Vec::new()));
    let options = map(vec![("rooms", rooms), ("flags", map(Vec::new())), ("except", except)]);
    let mut bytes = Vec::new();
    let whole = Value::Array(vec!["emitter".into(), packet, options]);
    rmpv::encode::write_value(&mut bytes, &whole).expect("a vector takes all");
    bytes
}

fn decode(dialect: Dialect) -> Work {
    let payload = payload(dialect);
    let decoded = dialect.decode(Options::default(), &payload).expect("a payload of its dialect");
    assert_eq!(decoded.len(), 1, "one event in {dialect}");
    Box::new(move || drop(black_box(dialect.decode(Options::default(), black_box(&payload)))))
}

fn encode(encoding: Encoding) -> Work {
    let event = event();
    Box::new(move || drop(black_box(Publication::new(Target::Room(room()), Arc::clone(&event)).bytes(encoding))))
}

/// A masked text frame, as a browser sends it.
fn ws_decode() -> Work {
    let (key, text) = ([0x37, 0xfa, 0x21, 0x3d], text());
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&u16::try_from(text.len()).expect("256").to_be_bytes());
    frame.extend_from_slice(&key);
    frame.extend(text.bytes().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    let mut decoder = Decoder::new(64 * 1024);
    Box::new(move || {
        let decoded = decoder.decode(&mut black_box(frame.as_slice()));
        assert!(matches!(black_box(decoded), Ok(Some(_))), "a whole message");
    })
}

/// A room whose members have sockets of their own.
struct Crowd {
    fan_out: FanOut,
    peers: Vec<Peer>,
    /// What the sockets are registered with.
    runtime: runtime::Runtime,
}

/// A socket, and the peer that reads it.
async fn socket() -> (Socket, Peer) {
    let (hub, peer) = UnixStream::pair().expect("two sockets");
    // A socket new to tokio's reactor takes nothing before the reactor has run once.
    hub.writable().await.expect("an open socket");
    (Socket::Unix(hub), peer.into_std().expect("a socket"))
}

/// Reads what so many events left with each peer. Only this is not the hub's own work, and it is little of it.
fn empty(peers: &mut [Peer], events: usize, buffer: &mut [u8]) {
    for peer in peers {
        let read = peer.read(buffer).expect("what was published");
        assert!(read > events * 256, "{read} bytes of {events} events");
    }
}

fn outbox(wire: WireName, metrics: &Metrics) -> Arc<Outbox> {
    Arc::new(Outbox::new(OutboxLimits { events: WAITING_EVENTS, bytes: 1 << 24 }, wire, metrics.clone()))
}

impl Crowd {
    fn new(encoding: Encoding, wire: WireName) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let metrics = Metrics::new();
        let mut fan_out = FanOut::new(Target::Room(room()), Overflow::Disconnect, metrics.clone());
        let mut peers = Vec::new();
        runtime.block_on(async {
            for number in 0..MEMBERS {
                let (socket, peer) = socket().await;
                peers.push(peer);
                let outbox = outbox(wire, &metrics);
                outbox.attach(Arc::new(socket));
                fan_out.members.add(Member::new(ConnectionId::new(1, number), encoding, outbox));
            }
        });
        Self { fan_out, peers, runtime }
    }

    /// Publishes `burst` events, which leave as one batch.
    fn work(mut self, burst: usize) -> Work {
        let event = event();
        let mut buffer = vec![0; 1 << 20];
        let mut unread = 0;
        Box::new(move || {
            let _alive = &self.runtime;
            publish(&mut self.fan_out, &event, burst);
            unread += burst;
            if unread >= EVENTS_PER_READ {
                empty(&mut self.peers, unread, &mut buffer);
                unread = 0;
            }
        })
    }
}

fn publish(fan_out: &mut FanOut, event: &Arc<Event>, burst: usize) {
    for _ in 0..burst {
        let publication = Arc::new(Publication::new(Target::Room(room()), Arc::clone(event)));
        fan_out.arrive(Deliver { publication, received: Instant::now(), receipt: None });
    }
    while fan_out.step() == Step::More {}
}

/// Members whose socket is actix's, as over TLS and HTTP/2: a response body takes each event out of the outbox.
fn fan_out_to_bodies() -> Work {
    let metrics = Metrics::new();
    let mut fan_out = FanOut::new(Target::Room(room()), Overflow::Disconnect, metrics.clone());
    let outboxes: Vec<_> = (0..MEMBERS).map(|_| outbox(WireName::Sse, &metrics)).collect();
    for (number, outbox) in (0..).zip(&outboxes) {
        fan_out.members.add(Member::new(ConnectionId::new(1, number), Encoding::Sse, Arc::clone(outbox)));
    }
    let event = event();
    Box::new(move || {
        publish(&mut fan_out, &event, 1);
        for outbox in &outboxes {
            let chunk = outbox.poll_chunk(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(black_box(chunk), Poll::Ready(Some(_))), "the event");
        }
    })
}

/// Members who read nothing: the oldest event that waits for each makes place for the new one.
fn fan_out_to_the_stalled() -> Work {
    let metrics = Metrics::new();
    let mut fan_out = FanOut::new(Target::Room(room()), Overflow::DropOldest, metrics.clone());
    for number in 0..MEMBERS {
        fan_out.members.add(Member::new(ConnectionId::new(1, number), Encoding::Sse, outbox(WireName::Sse, &metrics)));
    }
    let event = event();
    (0..WAITING_EVENTS).for_each(|_| publish(&mut fan_out, &event, 1));
    Box::new(move || publish(&mut fan_out, &event, 1))
}

/// What the hub does not do: a message for each member, whose actor writes it. For comparison.
fn fan_out_by_mailbox() -> Work {
    let system = System::with_tokio_rt(|| runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let (members, mut peers): (Vec<_>, Vec<_>) = system.block_on(async {
        let mut crowd = Vec::new();
        for _ in 0..MEMBERS {
            let (socket, peer) = socket().await;
            crowd.push((Writer(socket).start(), peer));
        }
        crowd.into_iter().unzip()
    });
    let (event, mut buffer, mut unread) = (event(), vec![0; 1 << 20], 0);
    Box::new(move || {
        system.block_on(async {
            let publication = Publication::new(Target::Room(room()), Arc::clone(&event));
            for member in &members {
                member.try_send(Write(publication.bytes(Encoding::Sse))).expect("an empty mailbox");
            }
            // Once for the last: the others were woken before it.
            tokio::task::yield_now().await;
        });
        unread += 1;
        if unread == EVENTS_PER_READ {
            empty(&mut peers, unread, &mut buffer);
            unread = 0;
        }
    })
}

struct Writer(Socket);

impl Actor for Writer {
    type Context = actix::Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Write(Bytes);

impl Handler<Write> for Writer {
    type Result = ();

    fn handle(&mut self, Write(bytes): Write, _: &mut actix::Context<Self>) {
        assert_eq!(self.0.try_write(&bytes).expect("an empty socket"), bytes.len());
    }
}
