//! Two hubs on three primaries with a replica each.

use std::collections::HashSet;

use crate::{
    load::{check_under_load, node, node_trusting, open},
    support::{
        cluster::{AUTHORITY, Cluster, cli},
        eventually,
        sse::{Block, Stream},
    },
};

/// A room of each primary, in their order.
fn rooms(cluster: &Cluster, kind: &str) -> Vec<String> {
    let room = |number: usize| format!("{kind}{number}");
    (0..3).map(|home| room(cluster.name_at(home, |number| format!("callboard:room:{}", room(number))))).collect()
}

fn data(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|block| block.data.as_str()).collect()
}

fn read(stream: &mut Stream, count: usize) -> Vec<Block> {
    (0..count).map(|_| stream.next().expect("an event")).collect()
}

#[test]
fn events_come_once_and_in_one_order_through_every_shard_however_they_are_published() {
    let cluster = Cluster::start();
    let hubs = [node(&cluster.url()), node(&cluster.url())];
    for room in rooms(&cluster, "kept").iter().chain(&rooms(&cluster, "plain")) {
        let channel = format!("callboard:room:{room}");
        let mut streams: Vec<_> = hubs.iter().map(|hub| open(hub, room)).collect();
        let home = cluster.home(&channel);
        // In every way there is, from every node, at the same time.
        std::thread::scope(|scope| {
            for node in 0..3 {
                let (mut publisher, channel) = (cluster.publisher(node), &channel);
                scope.spawn(move || (0..20).for_each(|n| publisher.publish(channel, &format!(r#"{{"data":"plain {node} {n}"}}"#))));
            }
            let (mut publisher, channel) = (cluster.publisher(home), &channel);
            scope.spawn(move || {
                for n in 0..20 {
                    assert_eq!(publisher.command(&["SPUBLISH", channel, &format!(r#"{{"data":"sharded {n}"}}"#)]), ":2");
                }
            });
            for (number, hub) in hubs.iter().enumerate() {
                scope.spawn(move || (0..20).for_each(|n| hub.publish(&format!(r#"{{"room":"{room}","data":"http {number} {n}"}}"#))));
            }
            let mut publisher = cluster.publisher((home + 1) % 3);
            scope.spawn(move || {
                let payload = |n| format!(r#"{{"name":"message","args":["{room}","gevent {n}"]}}"#);
                (0..20).for_each(|n| publisher.publish(&format!("socketio_{room}"), &payload(n)));
            });
        });
        hubs[0].publish(&format!(r#"{{"room":"{room}","data":"end"}}"#));
        let seen: Vec<Vec<Block>> = streams
            .iter_mut()
            // The last of them may come from another node of the cluster, which takes its own time.
            .map(|stream| read(stream, 141))
            .collect();
        assert_eq!(seen[0], seen[1], "in the same order, under the same ids");
        let once: HashSet<_> = data(&seen[0]).into_iter().collect();
        assert_eq!((once.len(), seen[0].len()), (141, 141), "each came, and came once: {:?}", data(&seen[0]));
        if room.starts_with("kept") {
            let last = seen[0][69].id.as_deref().expect("an id");
            let mut resumed = Stream::request(hubs[1].address, "GET", &format!("/sse?room={room}"), &[("Last-Event-ID", last)], b"");
            assert_eq!(read(&mut resumed, 71), seen[0][70..], "another node goes on where this one was left");
        }
    }
}

/// What a cluster does under load, in its second shard.
fn check(happens: impl FnOnce(&mut Cluster, [&str; 2])) {
    let mut cluster = Cluster::start();
    let hubs = [node(&cluster.url()), node(&cluster.url())];
    let rooms = [rooms(&cluster, "kept").remove(1), rooms(&cluster, "plain").remove(1)];
    let rooms = rooms.each_ref().map(String::as_str);
    check_under_load(&hubs, rooms, || happens(&mut cluster, rooms));
}

#[test]
fn a_killed_primary_loses_nothing_that_was_taken_into_a_room_with_history() {
    check(|cluster, _| {
        cluster.kill(1);
        eventually("the replica takes over", || cli(cluster.ports[4], &["ROLE"]).starts_with("master").then_some(()));
    });
}

#[test]
fn a_primary_that_hands_over_loses_and_doubles_nothing() {
    check(|cluster, _| cluster.fail_over(1));
}

#[test]
fn a_slot_that_moves_takes_its_rooms_along() {
    check(|cluster, rooms| {
        for room in rooms {
            cluster.migrate(cluster.slot(&format!("callboard:room:{room}")), 1, 2);
        }
    });
}

/// All that a hub does on a cluster, over TLS and with the rights that the manual names and no others: it listens and publishes
/// on every shard, keeps and replays, follows a hand-over and a slot that moves.
#[test]
fn a_cluster_over_tls_is_served_by_the_user_of_the_manual() {
    let cluster = Cluster::start_secured();
    let hubs = [(); 2].map(|()| node_trusting(&cluster.url(), AUTHORITY));
    for (home, room) in rooms(&cluster, "kept").iter().enumerate() {
        let mut streams = hubs.each_ref().map(|hub| open(hub, room));
        let channel = format!("callboard:room:{room}");
        cluster.publisher((home + 1) % 3).publish(&channel, r#"{"data":"plain"}"#);
        let first = streams.each_mut().map(|stream| stream.next().expect("an event"));
        assert_eq!(cluster.publisher(home).command(&["SPUBLISH", &channel, r#"{"data":"sharded"}"#]), ":2");
        hubs[0].publish(&format!(r#"{{"room":"{room}","data":"http"}}"#));
        let rest = streams.each_mut().map(|stream| read(stream, 2));
        assert_eq!((&first[0], &rest[0]), (&first[1], &rest[1]));
        assert_eq!(data(&rest[0]), [r#""sharded""#, r#""http""#]);
        let last = first[0].id.as_deref().expect("an id");
        let mut resumed = Stream::request(hubs[1].address, "GET", &format!("/sse?room={room}"), &[("Last-Event-ID", last)], b"");
        assert_eq!(read(&mut resumed, 2), rest[0]);
        let kept = || hubs[0].get(&format!("/api/rooms/{room}")).json()["history"]["length"] == 3;
        eventually("it is kept", || kept().then_some(()));
    }
    let [kept, plain] = [rooms(&cluster, "kept").remove(1), rooms(&cluster, "plain").remove(1)];
    check_under_load(&hubs, [&kept, &plain], || cluster.fail_over(1));
    let moving = [rooms(&cluster, "kept").remove(2), rooms(&cluster, "plain").remove(2)];
    check_under_load(&hubs, moving.each_ref().map(String::as_str), || {
        for room in &moving {
            cluster.migrate(cluster.slot(&format!("callboard:room:{room}")), 2, 0);
        }
    });
    for hub in &hubs {
        assert!(!hub.process.log().contains("Redis refuses"), "{}", hub.process.log());
        assert_eq!(hub.metric(r#"callboard_history_writes_total{outcome="failed"}"#), 0.0);
    }
}
