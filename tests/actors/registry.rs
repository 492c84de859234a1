//! The registry: who may join, when it is true that somebody has, and that nothing stays behind.

use std::{sync::Arc, time::Duration};

use actix::Arbiter;
use callboard::{
    actors::{
        fan_out::SLICE,
        messages::{BridgeRestored, ConnectionEnded, Join, Leave, PublishAs},
        worker::Worker,
    },
    auth::Identity,
    config::Config,
    lifeline::Watch,
    protocol::{Encoding, ErrorCode, GapReason, Reply, RoomPattern, Target, engineio::Carrier, socketio::Revision},
};
use serde_json::json;
use tokio::time::Instant;

use super::support::{
    Answering, Guest, House, KEY, config, deliver, drain, drain_data, drain_json, event, frame, joined, joining, named, pass, patiently,
    publication, refused, room, settle, user,
};

const LINGER: Duration = Duration::from_secs(5);
/// Longer than the linger time and the sweep that follows it.
const LONG_AFTER: Duration = Duration::from_secs(7);

fn house() -> House {
    tokio::time::pause();
    House::new(Config::default())
}

async fn leave(house: &House, guest: &Guest, name: &str) -> bool {
    let farewell = Some(frame(&json!({"type": "left", "room": name}).to_string()));
    house.registry.send(Leave { connection: guest.id, room: room(name), farewell }).await.expect("a registry")
}

async fn end(house: &House, guest: &Guest) {
    house.registry.send(ConnectionEnded { connection: guest.id }).await.expect("a registry");
}

fn rooms_and_users(house: &House) -> (i64, i64) {
    (house.metrics.rooms().get(), house.metrics.users().get())
}

fn code(answer: Result<(), callboard::actors::messages::Refusal>) -> Option<ErrorCode> {
    answer.err().map(|refusal| refusal.code)
}

/// The gap notices among what a guest has been told since it was last asked: rooms, and whether its own events are meant.
fn gaps(guest: &Guest) -> Vec<(Vec<String>, bool, GapReason)> {
    let told = guest.told();
    let gaps = told.iter().filter_map(|reply| match reply {
        Reply::Gap { rooms, user, reason, .. } => Some((rooms.iter().map(ToString::to_string).collect(), *user, *reason)),
        _ => None,
    });
    gaps.collect()
}

#[actix::test]
async fn joined_is_said_when_the_broker_has_confirmed_and_not_before() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    let answer = house.registry.send(joining(&guest, "r"));
    let answer = actix::spawn(answer);
    pass(Duration::from_millis(1900)).await;
    assert_eq!((drain_json(&guest.outbox), answer.is_finished()), (vec![], false));
    house.answer_waiting(Ok(())).await;
    assert_eq!(patiently(answer).await.expect("a task").expect("a registry"), Ok(()));
    assert_eq!(drain_json(&guest.outbox), [joined("r")]);
    pass(LONG_AFTER).await;
    assert_eq!(gaps(&guest), [], "nothing was missed");
}

#[actix::test]
async fn a_broker_that_takes_longer_than_two_seconds_is_not_waited_for_but_its_gap_is_told() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    let began = Instant::now();
    assert_eq!(house.join(&guest, "r").await, Ok(()));
    assert!((2000..=2001).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    settle().await;
    assert_eq!(drain_json(&guest.outbox), [joined("r")]);
    pass(Duration::from_secs(60)).await;
    assert_eq!(gaps(&guest), [], "the broker has not confirmed yet");
    house.answer_waiting(Ok(())).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(gaps(&guest), [(vec!["r".into()], false, GapReason::BrokerLost)]);
}

#[actix::test]
async fn who_joins_an_open_room_is_a_member_at_once_and_gets_its_events() {
    let house = house();
    let (first, second) = (house.connect(1, Identity::anonymous()).await, house.connect(2, Identity::anonymous()).await);
    for guest in [&first, &second] {
        assert_eq!(house.join(guest, "r").await, Ok(()));
    }
    assert_eq!(house.subscribed(), 1, "one subscription, however many members");
    house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    settle().await;
    assert_eq!((drain_data(&first.outbox), drain_data(&second.outbox)), (vec![json!(1)], vec![json!(1)]));
}

#[actix::test]
async fn a_room_that_the_broker_refuses_is_refused_and_asked_for_anew_by_the_next() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::No);
    for attempt in 1..=3 {
        let refusal = house.join(&guest, "r").await.expect_err("a refusal");
        assert_eq!((refusal.code, refusal.message.contains("NOPERM")), (ErrorCode::BrokerUnavailable, true));
        settle().await;
        assert_eq!((house.subscribed(), house.unsubscribed(), rooms_and_users(&house)), (attempt, attempt, (0, 0)));
    }
    assert_eq!(drain_json(&guest.outbox), Vec::<serde_json::Value>::new(), "nobody was told that it had joined");
    house.answer(Answering::Yes);
    assert_eq!(house.join(&guest, "r").await, Ok(()));
    assert_eq!(rooms_and_users(&house), (1, 0));
}

#[actix::test]
async fn who_was_told_joined_too_early_is_told_when_the_broker_refuses() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    assert_eq!(house.join(&guest, "r").await, Ok(()));
    house.answer_waiting(Err(refused())).await;
    pass(Duration::from_secs(1)).await;
    let told = guest.told();
    let refused = [ErrorCode::BrokerUnavailable];
    assert!(matches!(&told[..], [Reply::Error { code, .. }, Reply::Left { .. }, Reply::Gap { .. }] if refused.contains(code)), "{told:?}");
    assert!(!leave(&house, &guest, "r").await, "it is no member");
}

#[actix::test]
async fn who_leaves_while_the_broker_is_asked_is_no_member_afterwards() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    let answer = actix::spawn(house.registry.send(joining(&guest, "r")));
    settle().await;
    assert!(leave(&house, &guest, "r").await);
    assert_eq!(code(patiently(answer).await.expect("a task").expect("a registry")), Some(ErrorCode::NotJoined));
    house.answer_waiting(Ok(())).await;
    house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    settle().await;
    assert_eq!(drain_json(&guest.outbox), [json!({"type": "left", "room": "r"})]);
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (1, (0, 0)));
}

#[actix::test]
async fn who_leaves_after_asking_twice_is_told_so_once() {
    let house = house();
    house.answer(Answering::Later);
    for (number, is_unproven) in [(1, false), (2, true)] {
        let guest = house.connect(number, Identity::anonymous()).await;
        let first = actix::spawn(house.registry.send(joining(&guest, "r")));
        pass(Duration::from_secs(if is_unproven { 3 } else { 0 })).await;
        let second = actix::spawn(house.registry.send(joining(&guest, "r")));
        settle().await;
        assert!(leave(&house, &guest, "r").await);
        let first = code(patiently(first).await.expect("a task").expect("a registry"));
        assert_eq!(first, (!is_unproven).then_some(ErrorCode::NotJoined));
        assert_eq!(code(patiently(second).await.expect("a task").expect("a registry")), Some(ErrorCode::NotJoined));
        settle().await;
        let said = drain_json(&guest.outbox);
        assert_eq!(said.iter().filter(|said| said["type"] == "left").count(), 1, "{said:?}");
    }
}

#[actix::test]
async fn who_leaves_and_joins_again_before_the_broker_answers_is_a_member_once() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    let first = actix::spawn(house.registry.send(joining(&guest, "r")));
    settle().await;
    leave(&house, &guest, "r").await;
    let second = actix::spawn(house.registry.send(joining(&guest, "r")));
    settle().await;
    house.answer_waiting(Ok(())).await;
    assert_eq!(code(patiently(first).await.expect("a task").expect("a registry")), Some(ErrorCode::NotJoined));
    assert_eq!(patiently(second).await.expect("a task").expect("a registry"), Ok(()));
    house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    settle().await;
    assert_eq!(drain_data(&guest.outbox), [json!(1)]);
}

#[actix::test]
async fn the_answer_to_an_ended_subscription_is_not_taken_for_that_of_the_next() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.answer(Answering::Later);
    let first = actix::spawn(house.registry.send(joining(&guest, "r")));
    settle().await;
    leave(&house, &guest, "r").await;
    pass(LONG_AFTER).await;
    assert_eq!(house.unsubscribed(), 1);
    // A bridge answers those whose route it drops with an error; here it comes when another asks already.
    let second = actix::spawn(house.registry.send(joining(&guest, "r")));
    settle().await;
    let both = house.take_waiting();
    assert_eq!(both.len(), 2);
    for (waiting, answer) in both.into_iter().zip([Err(refused()), Ok(())]) {
        waiting.send(answer).expect("a listener");
        settle().await;
    }
    assert!(patiently(first).await.expect("a task").expect("a registry").is_err());
    assert_eq!(patiently(second).await.expect("a task").expect("a registry"), Ok(()));
}

#[actix::test]
async fn the_last_to_leave_ends_the_room_after_the_linger_time() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    house.join(&guest, "r").await.expect("a member");
    assert_eq!(rooms_and_users(&house), (1, 0));
    assert!(leave(&house, &guest, "r").await);
    pass(LINGER - Duration::from_millis(100)).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (0, (1, 0)));
    pass(Duration::from_secs(2)).await;
    assert_eq!((house.seen.borrow().unsubscribed.clone(), rooms_and_users(&house)), (vec![Target::from(room("r"))], (0, 0)));
}

#[actix::test]
async fn who_returns_within_the_linger_time_finds_the_room_subscribed() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    for _ in 0..5 {
        house.join(&guest, "r").await.expect("a member");
        pass(Duration::from_secs(1)).await;
        leave(&house, &guest, "r").await;
        pass(Duration::from_secs(4)).await;
    }
    house.join(&guest, "r").await.expect("a member");
    pass(10 * LINGER).await;
    assert_eq!((house.subscribed(), house.unsubscribed()), (1, 0));
    drain_json(&guest.outbox);
    house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    settle().await;
    assert_eq!(drain_data(&guest.outbox), [json!(1)]);
}

#[actix::test]
async fn who_joins_a_room_twice_is_greeted_twice_and_served_once() {
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    for _ in 0..2 {
        house.join(&guest, "r").await.expect("a member");
    }
    settle().await;
    assert_eq!(drain_json(&guest.outbox), [joined("r"), joined("r")]);
    house.feed(room("r")).deliver_to.try_send(deliver(publication(room("r"), 1))).expect("a place");
    settle().await;
    assert_eq!(drain_data(&guest.outbox), [json!(1)]);
    leave(&house, &guest, "r").await;
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (1, (0, 0)));
}

#[actix::test]
async fn an_outage_is_one_notice_to_each_connection_with_all_its_rooms() {
    let house = house();
    let alice = house.connect(1, named("alice")).await;
    let (bob, carol) = (house.connect(2, Identity::anonymous()).await, house.connect(3, Identity::anonymous()).await);
    for (guest, name) in [(&alice, "a"), (&alice, "b"), (&alice, "whole"), (&bob, "b"), (&carol, "whole")] {
        house.join(guest, name).await.expect("a member");
    }
    // The bridge may say it in pieces.
    for targets in [vec![room("a").into(), user("alice").into()], vec![room("b").into(), room("a").into()]] {
        house.registry.try_send(BridgeRestored { targets }).expect("a place");
    }
    pass(Duration::from_secs(10)).await;
    assert_eq!(gaps(&alice), [(vec!["a".into(), "b".into()], true, GapReason::BrokerLost)]);
    assert_eq!(gaps(&bob), [(vec!["b".into()], false, GapReason::BrokerLost)]);
    assert_eq!(gaps(&carol), []);
    house.registry.try_send(BridgeRestored { targets: vec![room("b").into()] }).expect("a place");
    pass(Duration::from_secs(1)).await;
    assert_eq!((gaps(&alice).len(), gaps(&bob).len()), (1, 1), "another outage is another notice");
}

#[actix::test]
async fn the_bridge_hears_when_all_members_were_told_of_an_outage() {
    let house = house();
    let (alice, bob) = (house.connect(1, named("alice")).await, house.connect(2, Identity::anonymous()).await);
    for guest in [&alice, &bob] {
        house.join(guest, "a").await.expect("a member");
    }
    let told = actix::spawn(house.registry.send(BridgeRestored { targets: vec![room("a").into()] }));
    pass(Duration::from_secs(1)).await;
    assert_eq!(gaps(&alice).len(), 1);
    settle().await;
    assert!(!told.is_finished(), "bob was not told yet");
    assert_eq!(gaps(&bob).len(), 1);
    assert_eq!(told.await.expect("an answer"), Ok(()));
    let nobody = house.registry.send(BridgeRestored { targets: vec![room("c").into()] });
    assert_eq!(nobody.await, Ok(()), "there is nobody to tell");
}

#[actix::test]
async fn a_connection_may_be_in_so_many_rooms_and_not_in_one_more() {
    tokio::time::pause();
    let house = House::new(config("[http]\nmax_rooms_per_connection = 2\n"));
    let guest = house.connect(1, Identity::anonymous()).await;
    for name in ["a", "b", "a"] {
        assert_eq!(house.join(&guest, name).await, Ok(()));
    }
    assert_eq!(code(house.join(&guest, "c").await), Some(ErrorCode::TooManyRooms));
    leave(&house, &guest, "a").await;
    assert_eq!(house.join(&guest, "c").await, Ok(()));
}

const RULES: &str = r#"
[[room]]
match = "private"
join = "user"
publish = "members"
[[room]]
match = "team/*"
join = "granted"
publish = "granted"
[[room]]
match = "*"
"#;

#[actix::test]
async fn the_rules_decide_who_joins() {
    tokio::time::pause();
    let house = House::new(config(RULES));
    let (anonymous, alice) = (house.connect(1, Identity::anonymous()).await, house.connect(2, named("alice")).await);
    let pattern = RoomPattern::parse("team/a*").expect("a pattern");
    let granted = house.connect(3, Identity { join: Some(vec![pattern]), ..named("bob") }).await;
    let forbidden = Some(ErrorCode::Forbidden);
    for (guest, name, expected) in [
        (&anonymous, "public", None),
        (&anonymous, "private", forbidden),
        (&alice, "private", None),
        (&alice, "team/a1", forbidden),
        (&granted, "team/a1", None),
        (&granted, "team/b1", forbidden),
    ] {
        assert_eq!(code(house.join(guest, name).await), expected, "{name}");
    }
    assert_eq!(rooms_and_users(&house), (3, 2), "a refused room was never opened");
}

#[actix::test]
async fn the_rules_decide_who_publishes() {
    tokio::time::pause();
    let house = House::new(config(RULES));
    let pattern = RoomPattern::parse("team/*").expect("a pattern");
    let (alice, bob) =
        (house.connect(1, named("alice")).await, house.connect(2, Identity { publish: Some(vec![pattern]), ..named("bob") }).await);
    house.join(&alice, "private").await.expect("a member");
    for (guest, name, is_allowed) in
        [(&alice, "private", true), (&bob, "private", false), (&alice, "team/a", false), (&bob, "team/a", true), (&alice, "public", false)]
    {
        let order = PublishAs { connection: guest.id, room: room(name), event: event("e", &json!(1)) };
        let answer = house.registry.send(order).await.expect("a registry");
        assert_eq!(answer.as_ref().err().map(|refusal| refusal.code), (!is_allowed).then_some(ErrorCode::Forbidden), "{name}");
    }
    assert_eq!(house.seen.borrow().published, [Target::from(room("private")), Target::from(room("team/a"))]);
}

#[actix::test]
async fn a_users_own_events_come_with_each_connection_and_end_with_the_last() {
    let house = house();
    let (first, second) = (house.connect(1, named("alice")).await, house.connect(2, named("alice")).await);
    assert_eq!((house.subscribed(), rooms_and_users(&house)), (1, (0, 1)));
    house.feed(user("alice")).deliver_to.try_send(deliver(publication(user("alice"), 1))).expect("a place");
    settle().await;
    assert_eq!((drain_data(&first.outbox), drain_data(&second.outbox)), (vec![json!(1)], vec![json!(1)]));
    end(&house, &first).await;
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (0, (0, 1)));
    end(&house, &second).await;
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (1, (0, 0)));
}

#[actix::test]
async fn a_connection_whose_user_was_refused_takes_no_other_with_it_when_it_ends() {
    let house = house();
    house.answer(Answering::No);
    let (refused, connect) = house.guest(1, named("alice"), Worker::current());
    assert!(house.registry.send(connect).await.expect("a registry").is_err());
    house.answer(Answering::Yes);
    let _second = house.connect(2, named("alice")).await;
    let unsubscribed = house.unsubscribed();
    end(&house, &refused).await;
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (unsubscribed, (0, 1)));
}

#[actix::test]
async fn the_end_of_a_connection_removes_all_that_it_was_in() {
    let house = house();
    let (guest, other) = (house.connect(1, named("alice")).await, house.connect(2, Identity::anonymous()).await);
    for name in ["a", "b", "c"] {
        house.join(&guest, name).await.expect("a member");
    }
    house.join(&other, "c").await.expect("a member");
    assert_eq!(rooms_and_users(&house), (3, 1));
    end(&house, &guest).await;
    pass(LONG_AFTER).await;
    assert_eq!((house.unsubscribed(), rooms_and_users(&house)), (3, (1, 0)));
    assert_eq!(code(house.join(&guest, "a").await), Some(ErrorCode::NotFound), "an ended connection joins nothing");
    drain_json(&guest.outbox);
    let feed = house.feed(room("c"));
    feed.deliver_to.try_send(deliver(publication(room("c"), 1))).expect("a place");
    settle().await;
    assert_eq!((drain_data(&guest.outbox), drain_data(&other.outbox)), (vec![], vec![json!(1)]));
}

#[actix::test]
async fn ten_thousand_rooms_come_and_go_and_nothing_stays() {
    let house = house();
    for number in 0..100 {
        let guest = house.connect(number, named(&format!("user{number}"))).await;
        for room in 0..100 {
            house.join(&guest, &format!("{number}/{room}")).await.expect("a member");
        }
        if number % 2 == 0 {
            for room in 0..100 {
                leave(&house, &guest, &format!("{number}/{room}")).await;
            }
        }
        end(&house, &guest).await;
        drain_json(&guest.outbox);
    }
    pass(LONG_AFTER).await;
    assert_eq!(rooms_and_users(&house), (0, 0));
    assert_eq!((house.subscribed(), house.unsubscribed()), (10_100, 10_100));
    assert_eq!(house.groups(), 0, "no group outlives its room");
}

#[actix::test]
async fn a_registry_that_panics_cuts_its_lifeline() {
    let mut watch = Watch::new();
    let house = House::with_lifeline(Config::default(), Some(watch.lifeline("registry")));
    let guest = house.connect(1, Identity::anonymous()).await;
    house.join(&guest, "r").await.expect("a member");
    // No list of places reaches to this worker.
    let impossible = Arc::new(Worker { index: usize::MAX, arbiter: Arbiter::current(), pulse: Worker::current().pulse.clone() });
    let (_, connect) = house.guest(2, named("alice"), impossible);
    assert!(house.registry.send(connect).await.is_err());
    assert_eq!(patiently(watch.cut()).await, "registry");
}

/// The group of the first room serves thousands, and its greeting comes last.
#[actix::test]
async fn the_last_id_that_is_shown_covers_all_rooms_whichever_group_is_the_slowest() {
    let house = House::new(config(
        r#"[[room]]
match = "kept-*"
history = { size = 10, ttl = "1m" }"#,
    ));
    for number in 2..50 * SLICE as u32 {
        let guest = house.connect(number, Identity::anonymous()).await;
        assert_eq!(house.join(&guest, "kept-slow").await, Ok(()));
    }
    let guest = house.connect(1, Identity::anonymous()).await;
    assert_eq!(house.join(&house.connect(0, Identity::anonymous()).await, "kept-fast").await, Ok(()));
    let encoding = Encoding::SocketIo { revision: Revision::V5, carrier: Carrier::WebSocket, namespace_length: 0, shows_ids: true };
    house.feed(room("kept-slow")).deliver_to.try_send(deliver(publication(room("kept-slow"), 1))).expect("a place");
    let ask = |name| actix::spawn(house.registry.send(Join { encoding, ..joining(&guest, name) }));
    for answer in [ask("kept-slow"), ask("kept-fast")] {
        assert_eq!(patiently(answer).await.expect("a task").expect("a registry"), Ok(()));
    }
    let said = String::from_utf8_lossy(&drain(&guest.outbox)).into_owned();
    let id = said.rsplit('"').nth(1).expect("an id");
    let shown = KEY.read(id).expect("an id of ours");
    assert!(["kept-slow", "kept-fast"].iter().all(|name| shown.position_in(KEY.room(&room(name))).is_some()), "{said}");
}
