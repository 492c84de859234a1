//! Rooms and users: who gets what, in which order, and what a full mailbox costs.

use std::{
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll, Waker},
};

use actix::{Actor, Addr};
use bytes::Bytes;
use callboard::{
    actors::{
        Outbox, Room,
        fan_out::SLICE,
        group::{Group, GroupOptions},
        messages::{AddMember, ChangeCarrier, Feed, Greeting, Hold, Release, RemoveMember},
        outbox::Notice,
    },
    config::Overflow,
    metrics::{DropReason, Metrics},
    protocol::{
        Encoding, Position, Reference,
        engineio::Carrier,
        resume::{Point, ResumeKey},
        socketio::Revision,
        wire::WireName,
    },
};
use serde_json::{Value, json};

use super::support::{
    deliver, deliver_with_receipt, delivered, drain, drain_data, drain_json, dropped, frame, id, outbox, pair, publication, room, settle,
};

/// No member's number.
const NOBODY: u32 = u32::MAX;

/// A group and what tests need of it.
struct Hosted {
    group: Addr<Room>,
    feed: Feed,
    metrics: Metrics,
}

impl Hosted {
    async fn new(mailbox: usize) -> Self {
        Self::of("r", mailbox, Metrics::new()).await
    }

    async fn of(name: &str, mailbox: usize, metrics: Metrics) -> Self {
        let missed: Arc<AtomicU64> = Arc::default();
        let options = GroupOptions { mailbox, overflow: Overflow::Disconnect, missed: Arc::clone(&missed), metrics: metrics.clone() };
        let group = Group::new(room(name), options).start();
        let (deliver_to, account_to) = (group.clone().recipient(), group.clone().recipient());
        let hosted = Self { group, feed: Feed { worker: 0, deliver_to, missed, account_to }, metrics };
        hosted.served().await;
        hosted
    }

    async fn join(&self, number: u32, outbox: &Arc<Outbox>, encoding: Encoding) {
        let order = AddMember { connection: id(number), encoding, outbox: Arc::clone(outbox), greeting: None, answer: None };
        self.group.send(order).await.expect("a group");
    }

    async fn members(&self, numbers: std::ops::Range<u32>) -> Vec<Arc<Outbox>> {
        let mut members = Vec::new();
        for number in numbers {
            let outbox = outbox(256, WireName::WebSocket, &self.metrics);
            self.join(number, &outbox, Encoding::WebSocket).await;
            members.push(outbox);
        }
        members
    }

    async fn leave(&self, number: u32) {
        self.group.send(RemoveMember { connection: id(number), farewell: None, unsaid: None }).await.expect("a group");
    }

    fn publish(&self, data: impl Into<Value>) {
        self.feed.deliver_to.try_send(deliver(publication(room("r"), data))).expect("a place in the mailbox");
    }

    /// Returns when all that was sent is fanned out: the first answer comes before the walk, the second after it.
    async fn served(&self) {
        self.leave(NOBODY).await;
        self.leave(NOBODY).await;
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

fn chunk(outbox: &Outbox) -> Bytes {
    match outbox.poll_chunk(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(chunk)) => chunk,
        other => panic!("no chunk but {other:?}"),
    }
}

#[actix::test]
async fn every_member_gets_every_event_in_order_on_every_wire() {
    let hosted = Hosted::new(64).await;
    let members = hosted.members(0..2).await;
    let stream = outbox(256, WireName::Sse, &hosted.metrics);
    hosted.join(2, &stream, Encoding::Sse).await;
    for round in 0..3 {
        for number in 0..40 {
            hosted.publish(round * 40 + number);
        }
        hosted.served().await;
    }
    for member in members {
        assert_eq!(drain_data(&member), numbers(0..120));
    }
    let expected: String = (0..120).map(|number| format!("event: e\ndata: {number}\n\n")).collect();
    assert_eq!(String::from_utf8(drain(&stream)).expect("text"), expected);
    assert_eq!((delivered(&hosted.metrics), dropped(&hosted.metrics)), (360, 0));
}

#[actix::test]
async fn all_members_of_an_encoding_share_one_copy_of_the_bytes() {
    let hosted = Hosted::new(64).await;
    let members = hosted.members(0..3).await;
    hosted.publish("the same");
    hosted.served().await;
    let chunks: Vec<Bytes> = members.iter().map(|member| chunk(member)).collect();
    assert!(!chunks[0].is_empty());
    assert!(chunks.iter().all(|chunk| chunk.as_ptr() == chunks[0].as_ptr()), "encoded once, copied never");
}

#[actix::test]
async fn a_burst_of_fifty_events_is_one_write() {
    let hosted = Hosted::new(64).await;
    let metrics = &hosted.metrics;
    let (socket, mut peer) = pair();
    let member = outbox(64, WireName::WebSocket, metrics);
    member.attach(Arc::new(socket));
    hosted.join(1, &member, Encoding::WebSocket).await;
    for _ in 0..50 {
        hosted.publish("x".repeat(250));
    }
    hosted.served().await;
    // The kernel took the first part of one write of all: written one by one, the first events would be through.
    assert_eq!((member.queued_events(), delivered(metrics)), (50, 0));
    let flushing = Arc::clone(&member);
    actix::spawn(async move { std::future::poll_fn(|cx| flushing.poll_flush(cx)).await });
    for _ in 0..50 {
        assert_eq!(peer.json().await["data"], "x".repeat(250));
    }
    settle().await;
    assert_eq!((member.queued_events(), delivered(metrics)), (0, 50));
}

#[actix::test]
async fn whom_the_publisher_excepts_gets_all_but_that_event_in_order() {
    let hosted = Hosted::new(64).await;
    let members = hosted.members(0..2).await;
    hosted.publish(1);
    let mut second = publication(room("r"), 2);
    second.except.push(id(0));
    let (second, told) = deliver_with_receipt(second);
    hosted.feed.deliver_to.try_send(second).expect("a place");
    hosted.publish(3);
    assert_eq!(told.await, Ok(1));
    assert_eq!(drain_data(&members[0]), [json!(1), json!(3)]);
    assert_eq!(drain_data(&members[1]), numbers(1..4));
}

#[actix::test]
async fn an_event_to_two_rooms_of_a_connection_is_taken_once() {
    let metrics = Metrics::new();
    let (first, second) = (Hosted::of("r", 64, metrics.clone()).await, Hosted::of("s", 64, metrics.clone()).await);
    let (both, one) = (outbox(256, WireName::WebSocket, &metrics), outbox(256, WireName::WebSocket, &metrics));
    first.join(1, &both, Encoding::WebSocket).await;
    second.join(1, &both, Encoding::WebSocket).await;
    second.join(2, &one, Encoding::WebSocket).await;
    for (hosted, name) in [(&first, "r"), (&second, "s")] {
        let mut addressed = publication(room(name), "to both");
        addressed.duplicate_key = Some(7);
        hosted.feed.deliver_to.try_send(deliver(addressed)).expect("a place");
        hosted.feed.deliver_to.try_send(deliver(publication(room(name), name))).expect("a place");
        hosted.served().await;
    }
    assert_eq!(drain_data(&both), [json!("to both"), json!("r"), json!("s")]);
    assert_eq!(drain_data(&one), [json!("to both"), json!("s")]);
}

#[actix::test]
async fn who_comes_or_goes_during_a_long_fan_out_disturbs_nobody_else() {
    let hosted = Hosted::new(64).await;
    let count = u32::try_from(3 * SLICE).expect("a number") + 10;
    let members = hosted.members(0..count).await;
    hosted.publish("first");
    while members[0].queued_events() == 0 {
        tokio::task::yield_now().await;
    }
    let last = members.last().expect("members");
    assert_eq!(last.queued_events(), 0, "the fan-out is under way");
    // Already served, about to be served, and new.
    let late = outbox(256, WireName::WebSocket, &hosted.metrics);
    let leave = |number| RemoveMember { connection: id(number), farewell: Some(frame("bye")), unsaid: None };
    let add = AddMember { connection: id(count), encoding: Encoding::WebSocket, outbox: Arc::clone(&late), greeting: None, answer: None };
    for order in [leave(0), leave(count - 1), leave(count / 2)] {
        hosted.group.try_send(order).expect("a place");
    }
    hosted.group.try_send(add).expect("a place");
    hosted.served().await;
    hosted.publish("second");
    hosted.served().await;
    assert_eq!(drain_data(&late), [json!("second")]);
    for (number, member) in (0..).zip(&members) {
        let has_left = [0, count / 2, count - 1].contains(&number);
        let mut bytes = drain(member);
        let expected = if has_left { 1 } else { 2 };
        let farewell = frame("bye");
        assert_eq!(bytes.ends_with(&farewell), has_left, "member {number}");
        if has_left {
            bytes.truncate(bytes.len() - farewell.len());
        }
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("\"type\":\"event\"").count(), expected, "member {number}: {text}");
    }
}

#[actix::test]
async fn a_receipt_counts_those_who_took_the_event_and_no_others() {
    let hosted = Hosted::new(64).await;
    let members = hosted.members(0..300).await;
    members[150].end();
    let mut excepting = publication(room("r"), "x");
    excepting.except.push(id(299));
    let (excepting, told) = deliver_with_receipt(excepting);
    hosted.feed.deliver_to.try_send(excepting).expect("a place");
    assert_eq!(told.await, Ok(298));
    assert_eq!(hosted.metrics.dropped(DropReason::Closed).get(), 1);
}

#[actix::test]
async fn a_receipt_of_an_empty_room_says_none() {
    let hosted = Hosted::new(64).await;
    let (order, told) = deliver_with_receipt(publication(room("r"), "x"));
    hosted.feed.deliver_to.try_send(order).expect("a place");
    assert_eq!(told.await, Ok(0));
}

/// How many publications the group takes until its mailbox is full.
fn fill(hosted: &Hosted) -> u64 {
    (0..).find(|number| hosted.feed.deliver_to.try_send(deliver(publication(room("r"), *number))).is_err()).expect("a bound")
}

#[actix::test]
async fn the_mailbox_takes_its_capacity_and_one_for_each_sender() {
    for mailbox in [1, 4, 64] {
        let hosted = Hosted::new(mailbox).await;
        let members = hosted.members(0..2).await;
        let accepted = fill(&hosted);
        let bound = mailbox as u64..=mailbox as u64 + 2;
        assert!(bound.contains(&accepted), "{accepted} of {mailbox}");
        for _ in 0..10 {
            hosted.feed.miss(1);
        }
        hosted.served().await;
        for member in members {
            assert_eq!(drain_json(&member).len() as u64, accepted);
            assert_eq!(member.take_notice(), Some(Notice::Lost(vec![(room("r").into(), 10)])));
        }
        assert_eq!(hosted.metrics.dropped(DropReason::MailboxFull).get(), 20);
        assert_eq!(delivered(&hosted.metrics) + dropped(&hosted.metrics), 2 * (accepted + 10));
    }
}

#[actix::test]
async fn what_comes_during_a_fan_out_waits_within_the_bound_too() {
    let hosted = Hosted::new(8).await;
    let members = hosted.members(0..8 * SLICE as u32).await;
    hosted.publish("first");
    while members[0].queued_events() == 0 {
        tokio::task::yield_now().await;
    }
    let mut accepted = 0;
    for _ in 0..2 {
        accepted += fill(&hosted);
        tokio::task::yield_now().await;
        assert_eq!(members.last().expect("members").queued_events(), 0, "the fan-out is under way");
    }
    assert!((8..=10).contains(&accepted), "nothing was taken out of the mailbox meanwhile: {accepted}");
    hosted.served().await;
    hosted.served().await;
    assert!(members.iter().all(|member| drain_data(member).len() as u64 == accepted + 1));
}

#[actix::test]
#[expect(clippy::disallowed_methods, reason = "a stand-in for a publisher who refills the mailbox as fast as it empties")]
async fn a_batch_takes_no_more_than_the_mailbox_holds() {
    let hosted = Hosted::new(8).await;
    let members = hosted.members(0..2 * SLICE as u32).await;
    for number in 0..20 {
        hosted.group.do_send(deliver(publication(room("r"), number)));
    }
    while members[0].queued_events() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(members[0].queued_events(), 8);
    hosted.served().await;
    hosted.served().await;
    assert!(members.iter().all(|member| drain_data(member) == numbers(0..20)));
}

#[actix::test]
async fn what_is_missed_is_told_although_no_event_ever_follows() {
    let hosted = Hosted::new(8).await;
    let members = hosted.members(0..3).await;
    let stream = outbox(256, WireName::Sse, &hosted.metrics);
    hosted.join(9, &stream, Encoding::Sse).await;
    hosted.publish("the last");
    hosted.served().await;
    members.iter().chain([&stream]).for_each(|member| _ = drain(member));
    hosted.feed.miss(2);
    hosted.feed.miss(3);
    hosted.served().await;
    for member in &members {
        let gap = json!({"type": "gap", "rooms": ["r"], "reason": "overflow", "dropped": 5});
        assert_eq!(drain_json(member).last(), Some(&gap));
    }
    let text = String::from_utf8(drain(&stream)).expect("text");
    assert!(text.ends_with("event: callboard:gap\ndata: {\"rooms\":[\"r\"],\"reason\":\"overflow\",\"dropped\":5}\n\n"), "{text}");
    assert_eq!(hosted.metrics.dropped(DropReason::MailboxFull).get(), 20);
}

#[actix::test]
async fn a_group_ends_when_nobody_has_its_address() {
    let Hosted { group, feed, .. } = Hosted::new(8).await;
    let weak = group.downgrade();
    feed.miss(1);
    drop((group, feed));
    settle().await;
    assert!(weak.upgrade().is_none_or(|group| !group.connected()));
}

#[actix::test]
async fn a_greeting_precedes_the_first_event_and_a_farewell_follows_the_last() {
    let hosted = Hosted::new(8).await;
    let member = outbox(256, WireName::WebSocket, &hosted.metrics);
    let greeting = Some(Greeting { room: room("r"), reference: Reference::default() });
    hosted.publish("before");
    hosted.served().await;
    let add = AddMember { connection: id(1), encoding: Encoding::WebSocket, outbox: Arc::clone(&member), greeting, answer: None };
    hosted.group.send(add).await.expect("a group");
    hosted.publish("between");
    hosted.served().await;
    let remove = RemoveMember { connection: id(1), farewell: Some(frame("{\"type\":\"bye\"}")), unsaid: None };
    hosted.group.send(remove).await.expect("a group");
    hosted.publish("after");
    hosted.served().await;
    let seen: Vec<Value> = drain_json(&member).into_iter().map(|message| message.get("data").unwrap_or(&message["type"]).clone()).collect();
    assert_eq!(seen, [json!("joined"), json!("between"), json!("bye")]);
}

#[actix::test]
async fn members_who_leave_are_gone_and_the_others_stay() {
    let hosted = Hosted::new(8).await;
    let members = hosted.members(0..10).await;
    for number in [0, 9, 4] {
        hosted.leave(number).await;
    }
    hosted.publish(1);
    hosted.served().await;
    for (number, member) in (0..10).zip(&members) {
        assert_eq!(drain_data(member).len(), usize::from(![0, 9, 4].contains(&number)), "member {number}");
    }
}

#[actix::test]
async fn a_held_member_that_moves_to_a_web_socket_gets_what_it_missed_and_what_was_kept_as_frames() {
    let hosted = Hosted::new(8).await;
    let member = outbox(8, WireName::SocketIo, &hosted.metrics);
    let encoding = Encoding::SocketIo { revision: Revision::V5, carrier: Carrier::Polling, namespace_length: 0, shows_ids: false };
    hosted.group.send(Hold { connection: id(1), encoding, outbox: Arc::clone(&member) }).await.expect("a group");
    hosted.publish(2);
    hosted.served().await;
    assert_eq!(member.queued_events(), 0, "it is kept for it");
    hosted.group.send(ChangeCarrier { connection: id(1), carrier: Carrier::WebSocket }).await.expect("a group");
    let missed = vec![Arc::new(publication(room("r"), 1))];
    let release = Release {
        connection: id(1),
        greeting: None,
        stands: None,
        missed,
        after: None,
        is_ahead: false,
        is_resumed: true,
        positions: None,
        answer: None,
    };
    hosted.group.send(release).await.expect("a group");
    hosted.publish(3);
    hosted.served().await;
    let expected: Vec<u8> = (1..=3).flat_map(|number| frame(&format!(r#"42["e",{number}]"#))).collect();
    assert_eq!(drain(&member), expected);
}

/// Other nodes had numbered what this one could not yet, and so the replay has it.
#[actix::test]
async fn what_was_kept_before_the_room_had_numbers_here_does_not_come_again_behind_the_replay() {
    let hosted = Hosted::new(8).await;
    let member = outbox(8, WireName::WebSocket, &hosted.metrics);
    let encoding = Encoding::WebSocket;
    hosted.group.send(Hold { connection: id(1), encoding, outbox: Arc::clone(&member) }).await.expect("a group");
    hosted.publish(2);
    hosted.served().await;
    let missed = [1, 2].map(|number| Arc::new(publication(room("r"), number))).to_vec();
    let key = ResumeKey::new([0; 16]);
    let after = Point { room: key.room(&room("r")), position: Position { marker_ms: 1, count: 0 }, key };
    let release = Release {
        connection: id(1),
        greeting: None,
        stands: None,
        missed,
        after: Some(after),
        is_ahead: false,
        is_resumed: true,
        positions: None,
        answer: None,
    };
    hosted.group.send(release).await.expect("a group");
    hosted.publish(3);
    hosted.served().await;
    assert_eq!(drain_data(&member), [1, 2, 3]);
}

/// The room waits until its members were told of a hole, and who joins meanwhile is placed behind what waits.
#[actix::test]
async fn who_joins_where_the_node_is_behind_gets_only_what_is_published_from_then_on() {
    let hosted = Hosted::new(8).await;
    let member = outbox(8, WireName::WebSocket, &hosted.metrics);
    let (connection, encoding, key) = (id(1), Encoding::WebSocket, ResumeKey::new([0; 16]));
    let at = |count| Point { room: key.room(&room("r")), position: Position { marker_ms: 1, count }, key };
    let publish = |count| {
        let mut publication = publication(room("r"), count);
        publication.place(at(count));
        hosted.feed.deliver_to.try_send(deliver(publication)).expect("a place in the mailbox");
    };
    hosted.group.send(Hold { connection, encoding, outbox: Arc::clone(&member) }).await.expect("a group");
    publish(1);
    hosted.served().await;
    let after = Some(at(2));
    let (greeting, missed, positions, answer) = (None, Vec::new(), None, None);
    let release = Release { connection, greeting, stands: after, missed, after, is_ahead: true, is_resumed: false, positions, answer };
    hosted.group.send(release).await.expect("a group");
    (2..=3).for_each(publish);
    hosted.served().await;
    assert_eq!(drain_data(&member), [3]);
}
