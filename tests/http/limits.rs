//! One client's excess is its own: it is cut within its bound, and its neighbours miss nothing. Each cure has a twin that shows
//! the fault without it.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
};

use crate::support::{
    eventually, http,
    hub::Hub,
    sse::Stream,
    websocket::{End, Socket},
};

/// An event larger than all buffers between the hub and a client that does not read take in a few of.
fn large_event(number: usize) -> String {
    format!(r#"{{"room":"a","event":"e{number}","data":"{}"}}"#, "x".repeat(48 * 1024))
}

/// A member of room `a` that opened its door and then never reads.
fn deaf_client(hub: &Hub, wire: &str) -> TcpStream {
    let before = hub.metric(&format!("callboard_connections{{wire=\"{wire}\"}}"));
    let mut client = http::connect(hub.address);
    match wire {
        "sse" => http::send(&mut client, "GET", "/sse?room=a", &[], b""),
        _ => {
            let headers = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            http::send(&mut client, "GET", "/ws?room=a", &headers, b"");
        }
    }
    let head = http::read_head(&mut client);
    assert!(matches!(head.status, 200 | 101), "{head:?}");
    hub.wait_for_metric(&format!("callboard_connections{{wire=\"{wire}\"}}"), before + 1.0);
    eventually("it is a member", || {
        let members = hub.get("/api/rooms/a").json()["connections"].as_u64().unwrap_or(0);
        (members as f64 > before).then_some(())
    });
    client
}

fn is_connected(hub: &Hub, wire: &str) -> bool {
    hub.metric(&format!("callboard_connections{{wire=\"{wire}\"}}")) > 0.0
}

#[test]
fn a_client_that_falls_behind_its_mailbox_is_cut_and_its_neighbour_misses_nothing() {
    for (wire, neighbours) in [("sse", "websocket"), ("websocket", "sse")] {
        // It is cut for falling behind; the goodbye may then wait as long as bytes may wait at all.
        let hub = Hub::start("[mailbox]\nconnection = 8\n[server]\ntcp_user_timeout = \"5s\"");
        let mut stream = (neighbours == "sse").then(|| Stream::open(hub.address, "/sse?room=a"));
        let mut socket = (neighbours == "websocket").then(|| {
            let mut socket = Socket::open(hub.address, "/ws?room=a");
            socket.expect("welcome");
            socket.expect("joined");
            socket
        });
        let deaf = deaf_client(&hub, wire);
        let mut number = 0;
        eventually("the deaf client is cut", || {
            hub.publish(&large_event(number));
            let heard = match (&mut stream, &mut socket) {
                (Some(stream), _) => stream.take(1),
                (_, Some(socket)) => socket.take(1),
                _ => unreachable!("there is one neighbour"),
            };
            assert_eq!(heard[0].0, format!("e{number}"));
            number += 1;
            (!is_connected(&hub, wire)).then_some(())
        });
        assert_eq!(hub.metric(&format!("callboard_closes_total{{wire=\"{wire}\",reason=\"slow_consumer\"}}")), 1.0);
        drop(deaf);
    }
}

/// The twin: with room for everything nobody is cut, and the hub holds what the client does not read.
#[test]
fn without_a_bound_the_same_client_would_stay_and_cost_memory() {
    const EVENTS: usize = 200;
    let hub = Hub::start("[mailbox]\nconnection = 100000\n[server]\ntcp_user_timeout = \"1h\"");
    let _deaf = deaf_client(&hub, "sse");
    let before = hub.metric("process_resident_memory_bytes");
    (0..EVENTS).for_each(|number| hub.publish(&large_event(number)));
    let grown = hub.metric("process_resident_memory_bytes") - before;
    assert!(is_connected(&hub, "sse"));
    assert!(grown > (EVENTS * 48 * 1024 / 2) as f64, "{grown} bytes");
}

/// Nothing polls the stream of a client that stops reading, and within its mailbox it may be silent for ever: the watchdog
/// outside sees it. Its twin runs first and longer, with the watchdog off.
#[test]
fn a_client_that_acknowledges_nothing_is_cut_in_time_though_its_mailbox_has_room() {
    for wire in ["sse", "websocket"] {
        let twin = Hub::start("[server]\ntcp_user_timeout = \"0s\"");
        let cured = Hub::start("[server]\ntcp_user_timeout = \"1s\"");
        let _of_twin = deaf_client(&twin, wire);
        (0..100).for_each(|number| twin.publish(&large_event(number)));
        let _of_cured = deaf_client(&cured, wire);
        (0..100).for_each(|number| cured.publish(&large_event(number)));
        eventually("the client is cut", || (!is_connected(&cured, wire)).then_some(()));
        assert!(is_connected(&twin, wire), "without the cure it stays");
    }
}

#[test]
fn a_frame_that_declares_a_gibibyte_costs_nothing() {
    let hub = Hub::start("");
    let mut neighbour = Stream::open(hub.address, "/sse?room=a");
    let mut socket = Socket::open(hub.address, "/ws?room=a");
    socket.expect("welcome");
    socket.expect("joined");
    let before = hub.metric("process_resident_memory_bytes");
    // Final, text, masked, a length of 2^30 in eight bytes; and some of the payload.
    let mut frame = vec![0x81, 0xff];
    frame.extend_from_slice(&(1_u64 << 30).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&[b'x'; 4096]);
    socket.stream().write_all(&frame).expect("an open socket");
    assert_eq!(socket.end(), End::Code(1009), "answered before the payload came");
    let grown = hub.metric("process_resident_memory_bytes") - before;
    assert!(grown < 8_000_000.0, "{grown} bytes");
    hub.publish(r#"{"room":"a","data":1}"#);
    assert_eq!(neighbour.take(1)[0].1, "1");
}

/// With no comment and no event due, only the FIN itself can tell.
#[test]
fn a_closed_tab_is_noticed_though_nothing_is_sent() {
    let hub = Hub::start("[http]\nsse_keepalive = \"1h\"\nws_ping = \"1h\"");
    let stream = Stream::open(hub.address, "/sse?room=a").into_socket();
    let mut socket = Socket::open(hub.address, "/ws?room=a");
    hub.wait_for_metric(r#"callboard_connections{wire="sse"}"#, 1.0);
    hub.wait_for_metric(r#"callboard_connections{wire="websocket"}"#, 1.0);
    stream.shutdown(Shutdown::Both).expect("an open socket");
    socket.stream().shutdown(Shutdown::Both).expect("an open socket");
    hub.wait_for_metric(r#"callboard_connections{wire="sse"}"#, 0.0);
    hub.wait_for_metric(r#"callboard_connections{wire="websocket"}"#, 0.0);
    hub.wait_for_metric("callboard_rooms", 0.0);
}

#[test]
fn connections_that_come_and_go_leave_no_descriptor_behind() {
    let hub = Hub::start("");
    let visit = || {
        let _stream = Stream::open(hub.address, "/sse?room=a");
        let _socket = Socket::open(hub.address, "/ws?room=a");
    };
    let rest = || {
        hub.wait_for_metric(r#"callboard_connections{wire="sse"}"#, 0.0);
        hub.wait_for_metric(r#"callboard_connections{wire="websocket"}"#, 0.0);
    };
    visit();
    rest();
    let before = hub.metric("process_open_fds");
    (0..50).for_each(|_| visit());
    rest();
    eventually("the descriptors are closed", || (hub.metric("process_open_fds") <= before).then_some(()));
}

#[test]
fn a_client_over_its_rate_is_told_and_then_closed() {
    let hub = Hub::start("[http]\nclient_rate = \"1/s\"");
    let mut socket = Socket::open(hub.address, "/ws?room=a");
    socket.expect("welcome");
    socket.expect("joined");
    // It may be closed before all of these are written.
    for _ in 0..1000 {
        if socket.stream().write_all(b"\x89\x80\0\0\0\0\x81\x8f\0\0\0\0{\"type\":\"ping\"}").is_err() {
            break;
        }
    }
    assert!(matches!(socket.end(), End::Code(1008) | End::Cut));
    eventually("it is counted", || (hub.metric(r#"callboard_closes_total{wire="websocket",reason="policy"}"#) == 1.0).then_some(()));
}
