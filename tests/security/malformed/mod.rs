//! More than ten thousand malformed messages, seeded: handshakes, bodies, frames, polls and RESP. Each has its exact answer;
//! nothing panics, memory comes back, and neighbours who behave miss nothing.

mod frames;
mod requests;
mod resp;
mod socketio;

use serde_json::json;

use super::{
    socketio::{Client, Kind},
    support::{Answer, Hub, Socket, eventually},
};

const SEED: u64 = 0x5eed_ca11_b0a2;
/// Of each kind; there are eight.
const CASES: usize = 1600;
/// What memory may differ by when all is over.
const SLACK_BYTES: f64 = 8.0 * 1024.0 * 1024.0;

/// xorshift64*: the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most) + 1;
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn word(&mut self) -> String {
        let length = self.below(12) + 1;
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

/// Clients who behave, on every wire.
struct Neighbours<'a> {
    stream: Answer,
    socket: Socket,
    socket_io: Client<'a>,
    heard: usize,
}

impl<'a> Neighbours<'a> {
    fn of(hub: &'a Hub) -> Self {
        let mut socket = hub.socket("/ws?room=quiet");
        socket.hear_type("joined");
        let mut socket_io = Client::connect(hub, Kind::WebSocket5, None).expect("anybody may");
        socket_io.send(r#"42["subscribe","quiet"]"#);
        assert_eq!(socket_io.packet(), r#"42["joined","quiet"]"#);
        Self { stream: hub.get("/sse?room=quiet", &[]), socket, socket_io, heard: 0 }
    }

    /// They hear the next event, and it is the next.
    fn hear(&mut self, hub: &Hub) {
        hub.publish("quiet", &json!(self.heard));
        assert!(self.stream.hears(&format!("data: {}", self.heard)));
        assert_eq!(self.socket.hear_type("event")["data"], self.heard);
        assert_eq!(self.socket_io.packet(), format!("42[\"e\",{}]", self.heard));
        self.heard += 1;
    }
}

const CONFIG: &str = "
[http]
max_frame = '1KiB'
[socketio]
max_payload = '8KiB'
[server]
workers = 2
";

fn in_peace(kind: &str, mut case: impl FnMut(&Hub, &mut Random, usize)) {
    let hub = Hub::start(CONFIG);
    let mut random = Random(SEED);
    let mut neighbours = Neighbours::of(&hub);
    // What the allocator keeps after the first cases is no leak.
    (0..CASES / 4).for_each(|number| case(&hub, &mut random, number));
    let memory = hub.metric("process_resident_memory_bytes");
    for number in 0..CASES {
        case(&hub, &mut random, number);
        if number % 200 == 0 {
            neighbours.hear(&hub);
        }
    }
    neighbours.hear(&hub);
    for wire in ["sse", "websocket", "socketio"] {
        let left = format!("callboard_connections{{wire=\"{wire}\"}}");
        eventually(&format!("{kind}: only the neighbour is left of {wire}"), || (hub.metric(&left) == 1.0).then_some(()));
    }
    let grown = hub.metric("process_resident_memory_bytes") - memory;
    assert!(grown < SLACK_BYTES, "{kind}: memory grew by {grown} bytes");
    assert!(!hub.log().contains("panicked"), "{kind}: {}", hub.log());
}
