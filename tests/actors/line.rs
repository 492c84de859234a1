//! The line: who is gone, who is stuck, who only reads slowly, and how a connection ends.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use callboard::{
    actors::{
        Outbox,
        line::{Line, Signal},
        outbox::Incoming,
    },
    config::Overflow,
    metrics::Metrics,
    protocol::{Target, wire::WireName},
};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::support::{Peer, outbox, pair, pass, patiently, room};

const STALL_LIMIT: Duration = Duration::from_secs(10);

async fn line() -> (Line, Arc<Outbox>, Peer) {
    tokio::time::pause();
    let (socket, peer) = pair();
    let outbox = outbox(10_000, WireName::Sse, &Metrics::new());
    let socket = Arc::new(socket);
    outbox.attach(Arc::clone(&socket));
    (Line::new(Arc::clone(&outbox), Some(socket), STALL_LIMIT), outbox, peer)
}

fn push(outbox: &Outbox, bytes: Vec<u8>) {
    let target = Target::from(room("r"));
    outbox.push_event(&Incoming { bytes: &Bytes::from(bytes), target: &target, overflow: Overflow::Disconnect, key: 0 });
}

#[actix::test]
async fn a_client_that_goes_is_noticed_at_once() {
    let (mut line, _, peer) = line().await;
    let began = Instant::now();
    drop(peer);
    assert!(patiently(line.next()).await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[actix::test]
async fn a_client_that_takes_no_byte_is_cut_at_the_stall_limit_and_not_before() {
    let (mut line, outbox, _peer) = line().await;
    pass(Duration::from_secs(60)).await;
    push(&outbox, vec![b'x'; 4 << 20]);
    let began = Instant::now();
    assert!(matches!(patiently(line.next()).await, Some(Signal::Stalled)));
    // tokio's timers tick in milliseconds.
    assert!((0..=1).contains(&(began.elapsed() - STALL_LIMIT).as_millis()), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_slow_reader_who_makes_progress_is_not_cut() {
    let (mut line, outbox, mut peer) = line().await;
    push(&outbox, vec![b'x'; 1 << 20]);
    let reading = actix::spawn(async move {
        let mut total = 0;
        for _ in 0..20 {
            pass(Duration::from_secs(5)).await;
            total += peer.read_available().await;
        }
        (total, peer)
    });
    let cut = timeout(Duration::from_secs(99), line.next()).await;
    assert!(cut.is_err(), "{cut:?}");
    let (total, _peer) = reading.await.expect("a reader");
    assert!(total > 0 && outbox.queued_events() == 1, "{total} bytes were read, and not all");
}

#[actix::test]
async fn an_idle_client_is_never_cut_by_the_line() {
    let (mut line, outbox, mut peer) = line().await;
    push(&outbox, vec![b'x'; 1 << 20]);
    let reading = actix::spawn(async move {
        let mut total = 0;
        while total < 1 << 20 {
            total += peer.read_available().await;
            tokio::task::yield_now().await;
        }
        peer
    });
    let cut = timeout(Duration::from_secs(3600), line.next()).await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!((outbox.waiting_since(), outbox.queued_events()), (None, 0));
    drop(reading.await);
}

#[actix::test]
async fn the_goodbye_and_all_before_it_reach_the_client_before_the_end() {
    let (mut line, outbox, mut peer) = line().await;
    push(&outbox, vec![b'x'; 1 << 20]);
    outbox.finish(Some(Bytes::from_static(b"goodbye")));
    // Input that nobody reads any more must not turn the end into a reset.
    peer.send_frame(1, b"still talking").await;
    let ending = actix::spawn(async move { while patiently(line.next()).await.is_some() {} });
    let bytes = peer.rest().await;
    assert_eq!((bytes.len(), &bytes[1 << 20..]), ((1 << 20) + 7, &b"goodbye"[..]));
    let began = Instant::now();
    drop(peer);
    ending.await.expect("a line");
    assert_eq!(began.elapsed(), Duration::ZERO, "a client that closes too is not waited for");
}

#[actix::test]
async fn a_client_that_does_not_close_after_the_goodbye_is_left_after_a_second() {
    let (mut line, outbox, mut peer) = line().await;
    outbox.finish(Some(Bytes::from_static(b"goodbye")));
    let began = Instant::now();
    assert!(patiently(line.next()).await.is_none());
    assert!((1000..=1001).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(peer.rest().await, b"goodbye");
}

#[actix::test]
async fn an_end_without_goodbye_is_waited_for_no_longer_than_bytes_are() {
    tokio::time::pause();
    let outbox = outbox(4, WireName::Sse, &Metrics::new());
    let mut line = Line::new(Arc::clone(&outbox), None, STALL_LIMIT);
    outbox.finish(None);
    // The body is not polled: its peer reads nothing.
    assert!(matches!(patiently(line.next()).await, Some(Signal::Stalled)));
}

#[actix::test]
async fn what_the_client_says_comes_through_while_its_own_bytes_wait() {
    let (mut line, outbox, mut peer) = line().await;
    push(&outbox, vec![b'x'; 1 << 20]);
    peer.send_frame(1, b"hello").await;
    let signal = patiently(line.next()).await;
    assert!(matches!(&signal, Some(Signal::Read(bytes)) if bytes.ends_with(b"hello")), "{signal:?}");
}
