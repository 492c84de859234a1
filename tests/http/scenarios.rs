//! One table for every way in and every way out: what a publisher sends arrives once and in order on each wire.

use crate::support::{
    hub::{Hub, Setup},
    publisher::Publisher,
    redis::Redis,
    sse::Stream,
    websocket::Socket,
};

/// A listening client of either wire.
enum Client {
    Stream(Stream),
    Socket(Box<Socket>),
}

impl Client {
    /// One per wire, all of them members of the room when this returns.
    fn on_every_wire(hub: &Hub, room: &str) -> [Self; 2] {
        let mut socket = Socket::open(hub.address, &format!("/ws?room={room}"));
        socket.expect("welcome");
        socket.expect("joined");
        [Self::Stream(Stream::open(hub.address, &format!("/sse?room={room}"))), Self::Socket(Box::new(socket))]
    }

    fn take(&mut self, count: usize) -> Vec<(String, String)> {
        match self {
            Self::Stream(stream) => stream.take(count),
            Self::Socket(socket) => socket.take(count),
        }
    }
}

/// What is published, and what must arrive of it: an event's name, its data as a stream shows it and as WebSocket does.
struct Scenario {
    way: &'static str,
    room: &'static str,
    publish: fn(&Hub, &mut Publisher, usize),
    expect: fn(usize) -> [String; 3],
}

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        way: "the HTTP API",
        room: "lobby",
        publish: |hub, _, n| hub.publish(&format!(r#"{{"room":"lobby","event":"tick","data":{{"n":{n}}}}}"#)),
        expect: |n| ["tick".into(), format!(r#"{{"n":{n}}}"#), format!(r#"{{"n":{n}}}"#)],
    },
    Scenario {
        way: "the HTTP API, with a batch",
        room: "lobby",
        publish: |hub, _, n| {
            let answer = hub.post("/api/batch", &format!(r#"[{{"room":"lobby","args":[{n},"b"]}},{{"room":"elsewhere","data":0}}]"#));
            assert_eq!(answer.status, 200, "{answer:?}");
        },
        expect: |n| ["message".into(), format!(r#"[{n},"b"]"#), format!(r#"[{n},"b"]"#)],
    },
    Scenario {
        way: "PUBLISH, native",
        room: "lobby",
        publish: |_, redis, n| redis.publish("callboard:room:lobby", &format!(r#"{{"event":"tick","data":{n}}}"#)),
        expect: |n| ["tick".into(), n.to_string(), n.to_string()],
    },
    Scenario {
        way: "PUBLISH, native, without data",
        room: "lobby",
        publish: |_, redis, n| redis.publish("callboard:room:lobby", &format!(r#"{{"event":"e{n}"}}"#)),
        expect: |n| [format!("e{n}"), "null".into(), "null".into()],
    },
    Scenario {
        way: "PUBLISH, django-sse",
        room: "sse",
        publish: |_, redis, n| redis.publish("sse", &format!(r#"["myevent", "{{\"n\": {n}}}"]"#)),
        expect: |n| ["myevent".into(), format!(r#"{{"n": {n}}}"#), format!(r#""{{\"n\": {n}}}""#)],
    },
    Scenario {
        way: "PUBLISH, django-sse, several lines",
        room: "sse",
        publish: |_, redis, n| redis.publish("sse", &format!(r#"["myevent", ["one", "{n}"]]"#)),
        expect: |n| ["myevent".into(), format!("one\n{n}"), format!(r#""one\n{n}""#)],
    },
    Scenario {
        way: "PUBLISH, gevent-socketio",
        room: "lobby",
        publish: |_, redis, n| redis.publish("socketio_lobby", &format!(r#"{{"name": "myevent", "args": ["lobby", {n}]}}"#)),
        expect: |n| ["myevent".into(), n.to_string(), n.to_string()],
    },
];

fn run_all(hub: &Hub, redis_port: u16) {
    for Scenario { way, room, publish, expect } in SCENARIOS {
        let mut clients = Client::on_every_wire(hub, room);
        let mut publisher = Publisher::connect(redis_port);
        for n in 0..20 {
            publish(hub, &mut publisher, n);
        }
        // What comes last shows that nothing came twice.
        hub.publish(&format!(r#"{{"room":"{room}","event":"end","data":0}}"#));
        for (wire, client) in clients.iter_mut().enumerate() {
            let mut expected: Vec<(String, String)> = (0..20)
                .map(|n| {
                    let [name, stream, socket] = expect(n);
                    (name, if wire == 0 { stream } else { socket })
                })
                .collect();
            expected.push(("end".into(), "0".into()));
            assert_eq!(client.take(21), expected, "{way}, wire {wire}");
        }
    }
}

#[test]
fn what_is_published_arrives_on_every_wire_once_and_in_order() {
    let hub = Hub::start("");
    run_all(&hub, hub.resp);
}

#[test]
fn the_same_holds_over_redis() {
    let redis = Redis::start();
    let hub = Setup::new("").variable("REDIS_URL", &redis.url()).start();
    run_all(&hub, redis.port);
}

#[test]
fn an_event_reaches_only_its_room() {
    let hub = Hub::start("");
    let mut here = Client::on_every_wire(&hub, "here");
    let mut there = Client::on_every_wire(&hub, "there");
    hub.publish(r#"{"room":"here","data":1}"#);
    hub.publish(r#"{"room":"there","data":2}"#);
    hub.publish(r#"{"rooms":["here","there"],"data":3}"#);
    let events = |numbers: [u8; 2]| numbers.map(|number| ("message".to_owned(), number.to_string()));
    here.iter_mut().for_each(|client| assert_eq!(client.take(2), events([1, 3])));
    there.iter_mut().for_each(|client| assert_eq!(client.take(2), events([2, 3])));
}

#[test]
fn an_event_for_several_rooms_reaches_a_member_of_both_once() {
    let hub = Hub::start("");
    let mut stream = Stream::open(hub.address, "/sse?room=a&room=b");
    hub.publish(r#"{"rooms":["a","b"],"data":1}"#);
    hub.publish(r#"{"room":"b","data":2}"#);
    assert_eq!(stream.take(2), ["1", "2"].map(|data| ("message".to_owned(), data.to_owned())));
}

/// Lines of CLIENT LIST.
fn count_clients(redis: &Redis, filter: &[&str]) -> usize {
    let mut command = std::process::Command::new("redis-cli");
    let listed = command.args(["-p", &redis.port.to_string(), "client", "list"]).args(filter).output().expect("redis-cli");
    String::from_utf8_lossy(&listed.stdout).trim().lines().count()
}

#[test]
fn with_redis_many_clients_need_one_subscription_connection() {
    let redis = Redis::start();
    let hub = Setup::new("").variable("REDIS_URL", &redis.url()).start();
    let _clients: Vec<_> = (0..20).map(|number| Stream::open(hub.address, &format!("/sse?room=r{number}&room=all"))).collect();
    assert_eq!(count_clients(&redis, &["type", "pubsub"]), 1);
    // Two of the hub, and the one that asks.
    assert_eq!(count_clients(&redis, &[]), 3);
}
