//! The end: announced, spread, clean.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    eventually, http,
    hub::Hub,
    sse::Stream,
    websocket::{End, Socket},
};

/// Asks as a load balancer does, over one connection per question.
fn wait_for_unready(address: SocketAddr) {
    let answer = eventually("/readyz says no", || {
        let answer = http::request(address, "GET", "/readyz", &[], b"");
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(answer.json()["draining"], true);
}

#[test]
fn a_draining_node_says_so_turns_new_clients_away_and_still_serves_the_old() {
    // One goodbye each 50 ms at most: these are far from done when the second signal comes.
    const CLIENTS: usize = 400;
    let mut hub = Hub::start("[server]\ndrain = \"1h\"");
    let streams: Vec<_> = (0..CLIENTS).map(|_| Stream::open(hub.address, "/sse?room=a")).collect();
    hub.terminate();
    wait_for_unready(hub.address);
    let answer = hub.get("/sse");
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "draining"));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(Socket::request(hub.address, "/ws", &[]).err().expect("a refusal").status(), 503);
    let delivered = hub.post("/api/publish", r#"{"room":"a","data":1}"#).json()["delivered"].as_u64();
    assert!(delivered.is_some_and(|count| count > 0), "whose turn has not come still gets events: {delivered:?}");
    hub.terminate();
    assert_eq!(hub.process.wait().code(), Some(0), "a second signal ends it at once");
    let told = streams.into_iter().map(|mut stream| {
        while stream.next().is_some() {}
        stream.asides.iter().any(|line| line == ": draining")
    });
    assert!(told.filter(|was_told| !was_told).count() > 0, "at once, not after all goodbyes");
}

#[test]
fn a_drain_is_over_when_everybody_has_gone() {
    let mut hub = Hub::start("[server]\ndrain = \"1h\"");
    let clients: Vec<_> = (0..10).map(|_| Stream::open(hub.address, "/sse?room=a")).collect();
    hub.terminate();
    wait_for_unready(hub.address);
    drop(clients);
    assert_eq!(hub.process.wait().code(), Some(0));
}

#[test]
fn goodbyes_are_spread_over_the_drain_and_tell_clients_to_come_back() {
    const CLIENTS: usize = 30;
    let drain = Duration::from_secs(4);
    let mut hub = Hub::start("[server]\ndrain = \"4s\"\n[http]\nsse_retry = \"1s\"");
    let streams: Vec<_> = (0..CLIENTS).map(|_| Stream::open(hub.address, "/sse?room=a")).collect();
    let sockets: Vec<_> = (0..CLIENTS).map(|_| Socket::open(hub.address, "/ws?room=a")).collect();
    hub.wait_for_metric(r#"callboard_connections{wire="websocket"}"#, CLIENTS as f64);
    let goodbyes = thread::scope(|scope| {
        let of_streams = streams.into_iter().map(|mut stream| {
            scope.spawn(move || {
                assert_eq!(stream.next(), None, "an end, not an event");
                let said = Instant::now();
                let retry: Vec<u64> = stream.asides.iter().filter_map(|line| line.strip_prefix("retry: ")?.parse().ok()).collect();
                assert!(matches!(retry[..], [1000, 1000..=5000]), "{:?}", stream.asides);
                said
            })
        });
        let of_sockets = sockets.into_iter().map(|mut socket| {
            scope.spawn(move || {
                assert_eq!(socket.end(), End::Code(1012));
                Instant::now()
            })
        });
        let waiting: Vec<_> = of_streams.chain(of_sockets.collect::<Vec<_>>()).collect();
        hub.terminate();
        waiting.into_iter().map(|client| client.join().expect("a goodbye")).collect::<Vec<_>>()
    });
    let (first, last) = (goodbyes.iter().min().expect("one"), goodbyes.iter().max().expect("one"));
    assert!(last.duration_since(*first) > drain / 3, "all within {:?}", last.duration_since(*first));
    assert_eq!(hub.process.wait().code(), Some(0));
}

#[test]
fn a_node_without_clients_goes_at_once() {
    let mut hub = Hub::start("[server]\ndrain = \"1h\"");
    hub.terminate();
    assert_eq!(hub.process.wait().code(), Some(0));
}
