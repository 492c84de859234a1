//! Two hubs on three primaries with a replica each.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::support::{
    PATIENCE,
    cluster::{Cluster, cli},
    eventually,
    hub::{Hub, Setup},
    sse::{Block, Stream},
};

const ROOMS: &str = r#"
[[room]]
match = "kept*"
history = { size = 10000, ttl = "5m" }
[[room]]
match = "*"
"#;

fn node(cluster: &Cluster) -> Hub {
    Setup::new(ROOMS).variable("REDIS_URL", &cluster.url()).variable("RUST_LOG", "callboard=debug").start()
}

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

fn open(hub: &Hub, room: &str) -> Stream {
    Stream::open(hub.address, &format!("/sse?room={room}"))
}

#[test]
fn events_come_once_and_in_one_order_through_every_shard_however_they_are_published() {
    let cluster = Cluster::start();
    let hubs = [node(&cluster), node(&cluster)];
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
            .map(|stream| {
                let mut blocks = Vec::new();
                while blocks.last().is_none_or(|block: &Block| block.data != r#""end""#) {
                    blocks.push(stream.next().expect("an event"));
                }
                blocks
            })
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

/// Publishes numbers over HTTP until it is over and one more was taken; says which were.
fn publish_until(hub: &Hub, room: &str, is_over: &AtomicBool) -> Vec<u32> {
    let mut taken = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        assert!(Instant::now() < deadline, "nothing is taken any more");
        let was_over = is_over.load(Ordering::Acquire);
        if hub.post("/api/publish", &format!(r#"{{"room":"{room}","data":{number}}}"#)).status == 200 {
            taken.push(number);
            if was_over {
                break;
            }
        }
    }
    taken
}

/// What came on a stream up to an event with this number, and how many gaps were told.
fn read_until(stream: &mut Stream, last: u32) -> (Vec<Block>, usize) {
    let (mut events, mut gaps) = (Vec::new(), 0);
    loop {
        let block = stream.next().expect("an event");
        if block.event == "callboard:gap" {
            gaps += 1;
            continue;
        }
        events.push(block);
        if number(&events[events.len() - 1]) == Some(last) {
            return (events, gaps);
        }
    }
}

fn number(block: &Block) -> Option<u32> {
    block.data.parse().ok()
}

fn assert_in_order(what: &str, events: &[Block]) {
    let numbers: Vec<_> = events.iter().filter_map(number).collect();
    let back = numbers.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(back, None, "{what}: out of order or doubled");
}

fn assert_holds(what: &str, events: &[Block], taken: &[u32]) {
    let came: HashSet<_> = events.iter().filter_map(number).collect();
    let missing: Vec<_> = taken.iter().filter(|number| !came.contains(number)).collect();
    assert!(missing.is_empty(), "{what}: of {} taken are missing {missing:?}", taken.len());
}

/// Numbers go to a room with history and one without, while something happens to their shard, the second. In the first, what was
/// taken comes to those who listen on either hub, once and in order, and is replayed; in the second, those hear of a gap.
fn check_under_load(happens: impl FnOnce(&mut Cluster, [&str; 2])) {
    let mut cluster = Cluster::start();
    let hubs = [node(&cluster), node(&cluster)];
    let (kept, plain) = (rooms(&cluster, "kept").remove(1), rooms(&cluster, "plain").remove(1));
    let mut kept_streams = [open(&hubs[0], &kept), open(&hubs[1], &kept)];
    let mut plain_streams = [open(&hubs[0], &plain), open(&hubs[1], &plain)];
    hubs[0].publish(&format!(r#"{{"room":"{kept}","data":"first"}}"#));
    let first = kept_streams.each_mut().map(|stream| stream.next().expect("an event"));
    assert_eq!(first[0], first[1]);
    let is_over = AtomicBool::new(false);
    let (taken, plain_taken) = std::thread::scope(|scope| {
        let loads = [&kept, &plain].map(|room| scope.spawn(|| publish_until(&hubs[0], room, &is_over)));
        happens(&mut cluster, [&kept, &plain]);
        let since = Instant::now();
        for hub in &hubs {
            eventually("the hub is ready again", || (hub.get("/readyz").status == 200).then_some(()));
        }
        println!("ready again {:?} after the cluster", since.elapsed());
        is_over.store(true, Ordering::Release);
        let [taken, plain_taken] = loads.map(|load| load.join().expect("the load"));
        (taken, plain_taken)
    });
    let last = |taken: &[u32]| *taken.last().expect("the last one");
    let seen = kept_streams.each_mut().map(|stream| read_until(stream, last(&taken)));
    for (events, gaps) in &seen {
        println!("{} taken, {} came, {gaps} gaps", taken.len(), events.len());
        assert_in_order("live", events);
        assert_holds("live", events, &taken);
    }
    let ids = |events: &[Block]| events.iter().map(|event| (event.data.clone(), event.id.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&seen[0].0), ids(&seen[1].0), "under the same ids on both");
    let from = first[0].id.as_deref().expect("an id");
    let mut resumed = Stream::request(hubs[1].address, "GET", &format!("/sse?room={kept}"), &[("Last-Event-ID", from)], b"");
    let (replayed, _) = read_until(&mut resumed, last(&taken));
    assert_in_order("replayed", &replayed);
    assert_holds("replayed", &replayed, &taken);
    for stream in &mut plain_streams {
        let (events, gaps) = read_until(stream, last(&plain_taken));
        assert_in_order("without history", &events);
        assert_eq!(gaps, 1, "who may have missed something is told, once");
    }
}

#[test]
fn a_killed_primary_loses_nothing_that_was_taken_into_a_room_with_history() {
    check_under_load(|cluster, _| {
        cluster.kill(1);
        eventually("the replica takes over", || cli(cluster.ports[4], &["ROLE"]).starts_with("master").then_some(()));
    });
}

#[test]
fn a_primary_that_hands_over_loses_and_doubles_nothing() {
    check_under_load(|cluster, _| cluster.fail_over(1));
}

#[test]
fn a_slot_that_moves_takes_its_rooms_along() {
    check_under_load(|cluster, rooms| {
        for room in rooms {
            cluster.migrate(cluster.slot(&format!("callboard:room:{room}")), 1, 2);
        }
    });
}
