//! The outbox: every event is delivered or dropped and counted, whatever the bound, the policy and the peer.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use callboard::{
    actors::{
        Outbox,
        line::{Line, Signal},
        outbox::{Incoming, Notice, OutboxLimits, Pushed},
    },
    config::Overflow,
    metrics::{DropReason, Metrics},
    protocol::{CloseReason, Target, wire::WireName},
};
use futures_util::StreamExt;
use tokio::time::{self, Instant};

use super::support::{Peer, delivered, drain, dropped, frame, outbox, patiently, room, settle, tcp_pair};

const POLICIES: [Overflow; 4] = [Overflow::Disconnect, Overflow::DropOldest, Overflow::DropNewest, Overflow::KeepLatest];
const CAPACITIES: [usize; 4] = [1, 2, 16, 256];

fn target() -> Target {
    room("r").into()
}

fn push(outbox: &Outbox, bytes: &Bytes, overflow: Overflow) -> Pushed {
    push_keyed(outbox, bytes, overflow, u64::from(overflow == Overflow::KeepLatest))
}

fn push_keyed(outbox: &Outbox, bytes: &Bytes, overflow: Overflow, key: u64) -> Pushed {
    outbox.push_event(&Incoming { bytes, target: &target(), overflow, key })
}

/// A frame of about a KiB that begins with its number.
fn numbered(number: usize) -> Bytes {
    frame(&format!("{number:08}{}", "x".repeat(1000)))
}

/// The numbers in the frames that reached the peer; the last bytes may be a torn one if the connection was cut.
fn numbers(mut bytes: &[u8]) -> Vec<usize> {
    let length = numbered(0).len();
    let mut found = Vec::new();
    while bytes.len() >= length {
        let text = std::str::from_utf8(&bytes[4..length]).expect("whole frames");
        assert!(text[8..].bytes().all(|byte| byte == b'x'), "a torn frame");
        found.push(text[..8].parse().expect("a number"));
        bytes = &bytes[length..];
    }
    found
}

/// An outbox on a socket that nobody reads.
async fn stuck(capacity: usize) -> (Arc<Outbox>, Peer, Metrics) {
    let metrics = Metrics::new();
    let (socket, peer) = tcp_pair().await;
    let outbox = outbox(capacity, WireName::WebSocket, &metrics);
    outbox.attach(Arc::new(socket));
    (outbox, peer, metrics)
}

/// Lets the outbox write while the peer reads, until nothing waits; then cuts the connection.
async fn read_all(outbox: &Arc<Outbox>, peer: &mut Peer) -> Vec<u8> {
    let draining = Arc::clone(outbox);
    actix::spawn(async move {
        poll_fn(|cx| {
            draining.register_drainer(cx.waker());
            draining.poll_flush(cx)
        })
        .await
        .expect("an open socket");
        draining.end();
    });
    peer.rest().await
}

#[actix::test]
async fn published_is_delivered_plus_dropped_for_every_bound_and_policy() {
    for capacity in CAPACITIES {
        for overflow in POLICIES {
            for is_read in [false, true] {
                let case = format!("{capacity} {overflow:?}, read: {is_read}");
                let (outbox, mut peer, metrics) = stuck(capacity).await;
                let published = 600;
                let mut written = 0;
                for number in 0..published {
                    written += u64::from(push(&outbox, &numbered(number), overflow) == Pushed::Written);
                    assert!(outbox.queued_events() <= capacity, "{case}");
                }
                let received = if is_read {
                    read_all(&outbox, &mut peer).await
                } else {
                    outbox.end();
                    peer.rest().await
                };
                push(&outbox, &numbered(published), overflow);
                let received = numbers(&received);
                assert!(received.is_sorted() && !received.is_empty(), "{case}: {received:?}");
                // What is written at once is counted by who pushes it, a whole slice of members together.
                assert_eq!(received.len() as u64, written + delivered(&metrics), "{case}");
                assert_eq!(received.len() as u64 + dropped(&metrics), published as u64 + 1, "{case}");
                let reasons = match overflow {
                    Overflow::Disconnect => [DropReason::SlowConsumer, DropReason::Closed],
                    Overflow::DropOldest => [DropReason::DropOldest, DropReason::Closed],
                    Overflow::DropNewest => [DropReason::DropNewest, DropReason::Closed],
                    Overflow::KeepLatest => [DropReason::Superseded, DropReason::Closed],
                };
                let named: u64 = reasons.into_iter().map(|reason| metrics.dropped(reason).get()).sum();
                // A single place is held by the event that the kernel has a part of: no policy can give it to another.
                if capacity > 1 {
                    assert_eq!(named, dropped(&metrics), "{case}");
                }
            }
        }
    }
}

#[actix::test]
async fn each_policy_keeps_the_events_that_it_promises() {
    for capacity in [2, 16, 256] {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::KeepLatest] {
            let (outbox, mut peer, _) = stuck(capacity).await;
            for number in 0..1000 {
                push(&outbox, &numbered(number), overflow);
            }
            let received = numbers(&read_all(&outbox, &mut peer).await);
            let newest: Vec<usize> = (1000 - (capacity - 1)..1000).collect();
            match overflow {
                // One place is held by the event of which the kernel has a part already.
                Overflow::DropOldest => assert_eq!(received[received.len() - (capacity - 1)..], newest, "{capacity}"),
                Overflow::DropNewest => assert_eq!(received, (0..received.len()).collect::<Vec<_>>(), "{capacity}"),
                Overflow::KeepLatest => {
                    let (latest, before) = received.split_last().expect("events");
                    assert_eq!((*latest, before), (999, &*(0..before.len()).collect::<Vec<_>>()), "{capacity}");
                }
                Overflow::Disconnect => unreachable!("not in the table"),
            }
        }
    }
}

#[test]
fn keep_latest_replaces_only_events_of_the_same_key() {
    let outbox = outbox(4, WireName::Sse, &Metrics::new());
    for (text, key) in [("a1 ", 1), ("b1 ", 3), ("a2 ", 1), ("c1 ", 5), ("b2 ", 3)] {
        assert_eq!(push_keyed(&outbox, &Bytes::from_static(text.as_bytes()), Overflow::KeepLatest, key), Pushed::Queued);
    }
    assert_eq!(drain(&outbox), b"a2 c1 b2 ");
}

#[test]
fn the_bound_is_one_of_bytes_too_but_a_single_large_event_passes() {
    let metrics = Metrics::new();
    let outbox = Outbox::new(OutboxLimits { events: 100, bytes: 1000 }, WireName::Sse, metrics.clone());
    outbox.push_control(Bytes::from_static(b"hello"));
    let (large, small) = (Bytes::from(vec![b'l'; 5000]), Bytes::from(vec![b's'; 400]));
    assert_eq!(push(&outbox, &large, Overflow::DropNewest), Pushed::Queued);
    assert_eq!(push(&outbox, &small, Overflow::DropNewest), Pushed::Dropped);
    assert_eq!(drain(&outbox).len(), 5005);
    let pushed: Vec<Pushed> = (0..3).map(|_| push(&outbox, &small, Overflow::DropOldest)).collect();
    assert_eq!(pushed, [Pushed::Queued; 3]);
    assert_eq!((drain(&outbox).len(), metrics.dropped(DropReason::DropOldest).get()), (800, 1));
}

#[test]
fn a_client_that_asks_and_never_reads_is_a_slow_consumer() {
    let outbox = outbox(4, WireName::WebSocket, &Metrics::new());
    let asked = (1..=1000).find(|_| {
        outbox.push_control(frame("pong"));
        outbox.take_notice() == Some(Notice::Closing(CloseReason::SlowConsumer))
    });
    assert_eq!(asked, Some(4 + 64 + 1));
    assert_eq!(outbox.take_notice(), None, "it is told once");
}

#[test]
fn a_client_that_caught_up_is_told_once_how_many_it_lost_of_which_room() {
    let outbox = outbox(2, WireName::Sse, &Metrics::new());
    let other = Target::from(room("s"));
    for _ in 0..5 {
        push(&outbox, &numbered(0), Overflow::DropNewest);
    }
    outbox.push_event(&Incoming { bytes: &numbered(0), target: &other, overflow: Overflow::DropNewest, key: 0 });
    assert_eq!(outbox.take_notice(), None, "it has not caught up");
    drain(&outbox);
    assert_eq!(outbox.take_notice(), Some(Notice::Lost(vec![(target(), 3), (other, 1)])));
    assert_eq!(outbox.take_notice(), None);
}

#[test]
fn who_is_behind_where_events_may_be_dropped_is_not_cut_for_what_the_hub_tells_its_rooms() {
    let stuck = |overflow| {
        let outbox = outbox(4, WireName::WebSocket, &Metrics::new());
        (0..1000).for_each(|_| outbox.push_notice(frame("presence"), &target(), overflow));
        outbox
    };
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::KeepLatest] {
        let outbox = stuck(overflow);
        assert_eq!(outbox.take_notice(), None, "{overflow:?}");
        assert_eq!(drain(&outbox).len(), (4 + 64) * frame("presence").len(), "{overflow:?}");
        assert_eq!(outbox.take_notice(), Some(Notice::Lost(vec![(target(), 0)])), "{overflow:?}");
    }
    assert_eq!(stuck(Overflow::Disconnect).take_notice(), Some(Notice::Closing(CloseReason::SlowConsumer)));
}

#[tokio::test(start_paused = true)]
async fn who_never_catches_up_is_told_what_it_lost_while_it_reads_at_most_once_a_second() {
    let outbox = outbox(256, WireName::WebSocket, &Metrics::new());
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Vec::new();
    for _ in 0..30 {
        (0..300).for_each(|number| _ = push(&outbox, &numbered(number), Overflow::DropOldest));
        assert_eq!(outbox.take_notice(), None, "nothing has moved since");
        time::advance(Duration::from_millis(100)).await;
        assert!(matches!(outbox.poll_chunk(&mut cx), Poll::Ready(Some(_))));
        if let Some(Notice::Lost(lost)) = outbox.take_notice() {
            outbox.push_next(frame("gap"));
            told.extend(lost);
        }
    }
    assert_eq!(told.len(), 3);
    let untold = drain_and_ask(&outbox);
    assert_eq!(told.iter().map(|(_, events)| events).sum::<u64>() + untold, outbox.dropped_events());
}

/// What it is told once it has caught up.
fn drain_and_ask(outbox: &Outbox) -> u64 {
    let gaps = String::from_utf8_lossy(&drain(outbox)).matches("gap").count();
    assert!(gaps <= 1, "{gaps} notices waited at once");
    match outbox.take_notice() {
        Some(Notice::Lost(lost)) => lost.iter().map(|(_, events)| events).sum(),
        _ => 0,
    }
}

#[actix::test]
async fn a_body_that_catches_up_wakes_the_line_to_say_so() {
    time::pause();
    let outbox = outbox(1, WireName::Sse, &Metrics::new());
    let mut line = Line::new(Arc::clone(&outbox), None, Duration::from_secs(10));
    let told = actix::spawn(async move { patiently(line.next()).await });
    settle().await;
    push(&outbox, &numbered(0), Overflow::DropNewest);
    push(&outbox, &numbered(1), Overflow::DropNewest);
    settle().await;
    let caught_up = Instant::now();
    drain(&outbox);
    let signal = told.await.expect("a line");
    assert_eq!(caught_up.elapsed(), Duration::ZERO);
    assert!(matches!(signal, Some(Signal::Notice(Notice::Lost(ref lost))) if *lost == [(target(), 1)]), "{signal:?}");
}

#[derive(Default)]
struct Turns(AtomicU64);

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_moves_the_bytes_is_woken_by_the_first_that_wait_and_not_by_those_behind_them() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::KeepLatest] {
        let outbox = outbox(4, WireName::WebSocket, &Metrics::new());
        let turns = Arc::new(Turns::default());
        for number in 0..20 {
            outbox.register_drainer(&Waker::from(Arc::clone(&turns)));
            push_keyed(&outbox, &numbered(number), overflow, if overflow == Overflow::KeepLatest { number as u64 % 3 + 1 } else { 0 });
            outbox.push_control(frame("pong"));
        }
        assert_eq!(turns.0.load(Ordering::Relaxed), 1, "{overflow:?}");
        drain(&outbox);
        outbox.register_drainer(&Waker::from(Arc::clone(&turns)));
        push(&outbox, &numbered(20), overflow);
        assert_eq!(turns.0.load(Ordering::Relaxed), 2, "{overflow:?}: it had caught up");
    }
}

#[test]
fn a_body_ends_after_the_goodbye_and_the_connection_with_it() {
    let outbox = outbox(4, WireName::Sse, &Metrics::new());
    push(&outbox, &Bytes::from_static(b"event "), Overflow::Disconnect);
    outbox.finish(Some(Bytes::from_static(b"goodbye")));
    assert_eq!(push(&outbox, &numbered(0), Overflow::Disconnect), Pushed::Dropped);
    assert_eq!(drain(&outbox), b"event goodbye");
    assert!(outbox.is_ended());
}

#[test]
fn a_key_is_taken_once_until_a_thousand_others_came() {
    let outbox = outbox(4, WireName::Sse, &Metrics::new());
    assert!(outbox.note_first(7) && !outbox.note_first(7));
    assert!((100..1123).all(|key| outbox.note_first(key)));
    assert!(!outbox.note_first(7));
    assert!(outbox.note_first(1123) && outbox.note_first(7));
}

#[actix::test]
async fn what_is_replayed_is_spelled_anew_after_the_move_to_a_web_socket() {
    let metrics = Metrics::new();
    let outbox = outbox(8, WireName::SocketIo, &metrics);
    outbox.respell(|bytes| Bytes::from(bytes.to_ascii_uppercase()));
    outbox.push_replayed(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")], &room("r").into());
    assert_eq!(drain(&outbox), b"AB");
}
