//! Every bound with every policy, through a room: beside one who reads stands one who does not, and the books are exact.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix::{Actor, Addr};
use callboard::{
    actors::{
        Outbox, Room,
        group::{Group, GroupOptions},
        line::Line,
        messages::{AddMember, Feed, RemoveMember},
        outbox::Notice,
    },
    config::Overflow,
    metrics::{DropReason, Metrics},
    protocol::{Encoding, wire::WireName},
};
use futures_util::StreamExt;

use super::support::{Peer, deliver, delivered, drain, dropped, id, outbox, publication, room, tcp_pair};

const CAPACITIES: [usize; 5] = [1, 16, 64, 256, 1024];
const POLICIES: [(Overflow, DropReason); 4] = [
    (Overflow::Disconnect, DropReason::SlowConsumer),
    (Overflow::DropOldest, DropReason::DropOldest),
    (Overflow::DropNewest, DropReason::DropNewest),
    (Overflow::KeepLatest, DropReason::Superseded),
];
/// More than the sockets of a pair hold.
const BEYOND_THE_SOCKETS: usize = 100;
/// Of a server's frame with 126 to 65,535 bytes (RFC 6455 §5.2).
const FRAME_HEAD: usize = 4;
/// No member's number.
const NOBODY: u32 = u32::MAX;

struct Hosted {
    group: Addr<Room>,
    feed: Feed,
    metrics: Metrics,
}

impl Hosted {
    fn new(overflow: Overflow) -> Self {
        let (missed, metrics): (Arc<AtomicU64>, _) = (Arc::default(), Metrics::new());
        let options = GroupOptions { mailbox: 64, overflow, missed: Arc::clone(&missed), metrics: metrics.clone() };
        let group = Group::new(room("r"), options).start();
        let (deliver_to, account_to) = (group.clone().recipient(), group.clone().recipient());
        Self { group, feed: Feed { worker: 0, deliver_to, missed, account_to }, metrics }
    }

    /// A member whose line moves what waits for it.
    async fn join(&self, number: u32, capacity: usize) -> (Arc<Outbox>, Peer) {
        let (socket, peer) = tcp_pair().await;
        let socket = Arc::new(socket);
        let outbox = outbox(capacity, WireName::WebSocket, &self.metrics);
        outbox.attach(Arc::clone(&socket));
        let mut line = Line::new(Arc::clone(&outbox), Some(socket), Duration::from_secs(600));
        actix::spawn(async move { while line.next().await.is_some() {} });
        let order =
            AddMember { connection: id(number), encoding: Encoding::WebSocket, outbox: Arc::clone(&outbox), greeting: None, answer: None };
        self.group.send(order).await.expect("a group");
        (outbox, peer)
    }

    /// Returns when the event is fanned out: the first answer comes before the walk, the second after it.
    async fn publish(&self, data: &str) {
        self.feed.deliver_to.try_send(deliver(publication(room("r"), data))).expect("a place in the mailbox");
        for _ in 0..2 {
            self.group.send(RemoveMember { connection: id(NOBODY), farewell: None, unsaid: None }).await.expect("a group");
        }
    }
}

/// Whole events among these bytes; one that was cut in the middle does not count.
fn count_events(bytes: &[u8], length: usize) -> u64 {
    (bytes.len() / length) as u64
}

async fn check(capacity: usize, overflow: Overflow, reason: DropReason) {
    let case = format!("{capacity} {overflow:?}");
    let hosted = Hosted::new(overflow);
    let (_reading, mut reader) = hosted.join(1, capacity).await;
    let (stuck, mut never_reader) = hosted.join(2, capacity).await;
    let data = "x".repeat(1000);
    let mut length = 0;
    let published = (capacity + BEYOND_THE_SOCKETS) as u64;
    for _ in 0..published {
        hosted.publish(&data).await;
        let (_, event) = reader.frame().await.expect("a slow neighbour costs the reader nothing");
        length = FRAME_HEAD + event.len();
        assert!(stuck.queued_events() <= capacity, "{case}: {} wait", stuck.queued_events());
    }
    let by_policy = hosted.metrics.dropped(reason).get();
    stuck.end();
    let received = published + count_events(&never_reader.rest().await, length);
    assert_eq!(received, delivered(&hosted.metrics), "{case}: delivered is what came");
    assert_eq!(delivered(&hosted.metrics) + dropped(&hosted.metrics), published * 2, "{case}: published × members");
    let closed = hosted.metrics.dropped(DropReason::Closed).get();
    assert_eq!(by_policy + closed, dropped(&hosted.metrics), "{case}: each drop has its reason");
    assert!(by_policy > 0, "{case}: nothing overflowed");
}

#[actix::test]
async fn published_times_members_is_delivered_plus_dropped_for_every_bound_and_policy_of_a_room() {
    for capacity in CAPACITIES {
        for (overflow, reason) in POLICIES {
            // A single place is held by the event that the kernel has a part of: nothing may take that from it.
            let reason = if capacity == 1 && overflow != Overflow::Disconnect { DropReason::DropNewest } else { reason };
            check(capacity, overflow, reason).await;
        }
    }
}

#[actix::test]
async fn an_overload_of_a_room_is_told_once_to_who_is_behind_and_cuts_nobody() {
    for (overflow, _) in POLICIES {
        let hosted = Hosted::new(overflow);
        let behind = outbox(256, WireName::WebSocket, &hosted.metrics);
        let order =
            AddMember { connection: id(1), encoding: Encoding::WebSocket, outbox: Arc::clone(&behind), greeting: None, answer: None };
        hosted.group.send(order).await.expect("a group");
        hosted.publish("it waits").await;
        for _ in 0..1000 {
            hosted.feed.miss(2);
            hosted.group.send(RemoveMember { connection: id(NOBODY), farewell: None, unsaid: None }).await.expect("a group");
        }
        assert_eq!(behind.take_notice(), None, "{overflow:?}");
        drain(&behind);
        assert_eq!(behind.take_notice(), Some(Notice::Lost(vec![(room("r").into(), 2000)])), "{overflow:?}");
    }
}
