//! Coming back to a room with history: held until it is known what was missed, and told what can't be replayed.

use std::time::Duration;

use callboard::{
    actors::messages::{BridgeRestored, Join, Leave, Refusal, Replayed},
    auth::Identity,
    protocol::{ErrorCode, GapReason, Reply},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::support::{Guest, House, config, drain_json, frame, joined, joining, pass, room, settle};

const GAP: Replayed = Replayed { missed: Vec::new(), after: None, is_ahead: false, from: None, gap: Some(GapReason::HistoryTrimmed) };

/// Its replays are answered by [`answer`].
fn house() -> House {
    let house = House::new(config("[[room]]\nmatch = '*'\nhistory = { size = 10, ttl = '1m' }\n"));
    house.seen.borrow_mut().holds_replays = true;
    house
}

/// A client joins that has seen something.
async fn come_back(house: &House, guest: &Guest, name: &str) -> JoinHandle<Result<(), Refusal>> {
    let join = Join { since: Some("an-id".into()), ..joining(guest, name) };
    let answer = actix::spawn(house.registry.send(join));
    settle().await;
    actix::spawn(async move { answer.await.expect("a task").expect("a registry") })
}

/// The earliest question that was not answered yet.
async fn answer(house: &House, replayed: Replayed) {
    let asked = house.seen.borrow_mut().replays.remove(0);
    asked.send(replayed).expect("somebody who waits");
    settle().await;
}

fn types(guest: &Guest) -> Vec<String> {
    drain_json(&guest.outbox).iter().map(|said| said["type"].as_str().expect("a type").to_owned()).collect()
}

/// The rooms of each notice.
fn missed(guest: &Guest) -> Vec<Vec<String>> {
    let told = guest.told();
    let gaps = told.iter().filter_map(|reply| match reply {
        Reply::Gap { rooms, reason: GapReason::HistoryTrimmed, .. } => Some(rooms.iter().map(ToString::to_string).collect()),
        _ => None,
    });
    gaps.collect()
}

#[actix::test]
async fn who_leaves_and_comes_again_gets_what_the_last_entry_missed() {
    tokio::time::pause();
    for is_gapped in [false, true] {
        let house = house();
        let guest = house.connect(1, Identity::anonymous()).await;
        let first = come_back(&house, &guest, "r").await;
        let farewell = Some(frame(&json!({"type": "left", "room": "r"}).to_string()));
        assert_eq!(house.registry.send(Leave { connection: guest.id, room: room("r"), farewell }).await, Ok(true));
        let second = come_back(&house, &guest, "r").await;
        let first_replay = if is_gapped { GAP } else { Replayed::default() };
        answer(&house, first_replay).await;
        pass(Duration::from_millis(50)).await;
        let refusal = first.await.expect("a task").expect_err("it was left before it was joined");
        assert_eq!(refusal.code, ErrorCode::NotJoined);
        assert_eq!(types(&guest), ["left"]);
        assert!(!second.is_finished(), "it waits for its own replay");
        answer(&house, Replayed::default()).await;
        assert_eq!(second.await.expect("a task"), Ok(()));
        assert_eq!((drain_json(&guest.outbox), guest.told().len()), (vec![joined("r")], 0));
    }
}

#[actix::test]
async fn who_comes_back_is_greeted_before_it_is_told_what_is_missing_also_when_others_are_being_told() {
    tokio::time::pause();
    let house = house();
    let (other, guest) = (house.connect(1, Identity::anonymous()).await, house.connect(2, Identity::anonymous()).await);
    let others = come_back(&house, &other, "other").await;
    answer(&house, Replayed::default()).await;
    assert_eq!(others.await.expect("a task"), Ok(()));
    let _back = come_back(&house, &guest, "r").await;
    house.registry.try_send(BridgeRestored { targets: vec![room("other").into()] }).expect("a place");
    // The notice to the other is due in between.
    pass(Duration::from_millis(90)).await;
    answer(&house, GAP).await;
    pass(Duration::from_millis(15)).await;
    assert_eq!(other.told().len(), 1);
    assert_eq!((types(&guest), guest.told().len()), (Vec::new(), 0), "one after the other");
    pass(Duration::from_millis(10)).await;
    assert_eq!(types(&guest), ["joined"]);
    let told = guest.told();
    assert!(matches!(&told[..], [Reply::Gap { reason: GapReason::HistoryTrimmed, .. }]), "{told:?}");
}

/// Answers come as fast as the machine is; what they say is told together, but not after the slowest of all.
#[actix::test]
async fn who_comes_back_to_several_rooms_is_told_of_their_gaps_together() {
    tokio::time::pause();
    let house = house();
    let guest = house.connect(1, Identity::anonymous()).await;
    let mut joins = Vec::new();
    for name in ["a", "b", "c"] {
        joins.push(come_back(&house, &guest, name).await);
    }
    answer(&house, GAP).await;
    pass(Duration::from_millis(300)).await;
    assert_eq!(missed(&guest), Vec::<Vec<String>>::new());
    answer(&house, GAP).await;
    pass(Duration::from_millis(600)).await;
    assert_eq!(missed(&guest), Vec::<Vec<String>>::new());
    pass(Duration::from_millis(600)).await;
    assert_eq!(missed(&guest), [["a", "b"]], "a second is over");
    answer(&house, GAP).await;
    pass(Duration::from_millis(100)).await;
    assert_eq!(missed(&guest), [["c"]]);
    for join in joins {
        assert_eq!(join.await.expect("a task"), Ok(()));
    }
}
