//! Presence, as plain states in a time that is handed in: who is told of whom, when, and that no ghost stays.

mod splits;

use std::time::Duration;

use bytes::Bytes;
use callboard::{
    actors::presence::{Decided, HEARTBEAT, HOLD, Presence, SILENCE},
    protocol::{
        Reply, RoomName, UserName,
        gossip::{Announcement, GossipError, MAX_BYTES, Share, Word},
    },
};
use tokio::time::Instant;

use super::support::{room, user};

/// What is promised of a dead node's members.
const FIFTEEN_SECONDS: Duration = Duration::from_secs(15);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Nodes on a bus that loses nothing between those who are connected.
struct Nodes {
    nodes: Vec<Node>,
    now: Instant,
}

struct Node {
    presence: Presence,
    is_connected: bool,
    is_alive: bool,
    /// What its members were told: `+alice` or `-alice`, with the room in front unless it is `r`.
    told: Vec<String>,
    /// How many announcements it made.
    announced: usize,
}

impl Nodes {
    fn new(count: u32) -> Self {
        let node = |number| Node { presence: Presence::new(number), is_connected: true, is_alive: true, told: Vec::new(), announced: 0 };
        let mut nodes = Self { nodes: (0..count).map(node).collect(), now: Instant::now() };
        (0..nodes.nodes.len()).for_each(|index| nodes.connect(index));
        nodes
    }

    fn connect(&mut self, index: usize) {
        self.nodes[index].is_connected = true;
        self.nodes[index].presence.restored(self.now);
    }

    /// It cannot hear, nor be heard, and knows it.
    fn cut_off(&mut self, index: usize) {
        self.nodes[index].is_connected = false;
        self.nodes[index].presence.cut_off();
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index].is_alive = false;
    }

    fn enter(&mut self, index: usize, name: &str) {
        self.nodes[index].presence.enter(&room("r"), named(name).as_ref(), self.now);
    }

    fn exit(&mut self, index: usize, name: &str) {
        self.nodes[index].presence.exit(&room("r"), named(name).as_ref(), self.now);
    }

    /// Lets time go by, from one thing that is due to the next.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let living = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_alive);
            let next = living.filter_map(|index| Some((self.nodes[index].presence.due()?, index))).min();
            let Some((due, index)) = next.filter(|(due, _)| *due <= end) else { break };
            self.now = self.now.max(due);
            let Decided { announcements, notices } = self.nodes[index].presence.act(self.now);
            notices.into_iter().for_each(|(room, notice)| self.nodes[index].note(&room, notice));
            self.nodes[index].announced += announcements.len();
            if self.nodes[index].is_connected {
                announcements.into_iter().for_each(|payload| self.publish(&payload));
            }
        }
        self.now = end;
    }

    fn publish(&mut self, payload: &Bytes) {
        for node in self.nodes.iter_mut().filter(|node| node.is_alive && node.is_connected) {
            node.presence.hear(Announcement::decode(payload).expect("an announcement"), self.now);
        }
    }

    /// What was told since it was last asked.
    fn told(&mut self, index: usize) -> Vec<String> {
        std::mem::take(&mut self.nodes[index].told)
    }

    /// Users with their connections, and anonymous ones, as each node knows them; all agree.
    fn members(&self) -> (Vec<(String, usize)>, usize) {
        let mut known = self.nodes.iter().filter(|node| node.is_alive).map(|node| node.presence.members(&room("r")));
        let members = known.next().expect("a node");
        assert!(known.all(|others| others == members));
        (members.users.into_iter().map(|(user, count)| (user.to_string(), count)).collect(), members.anonymous)
    }
}

impl Node {
    fn note(&mut self, room: &RoomName, notice: Reply) {
        let Reply::Presence { room: named, joined, left } = notice else { panic!("{notice:?}") };
        assert_eq!(named, *room);
        assert!(joined.len() + left.len() > 0, "an empty notice");
        let place = if room.as_str() == "r" { String::new() } else { format!("{room}:") };
        self.told.extend(joined.iter().map(|user| format!("{place}+{user}")));
        self.told.extend(left.iter().map(|user| format!("{place}-{user}")));
    }
}

/// `?` is nobody in particular.
fn named(name: &str) -> Option<UserName> {
    (name != "?").then(|| user(name))
}

fn soon() -> Duration {
    Duration::from_millis(200)
}

#[test]
fn who_joins_is_told_at_once_on_every_node_and_who_leaves_after_two_seconds() {
    let mut nodes = Nodes::new(3);
    nodes.enter(0, "alice");
    nodes.pass(soon());
    for index in 0..3 {
        assert_eq!(nodes.told(index), ["+alice"]);
    }
    assert_eq!(nodes.members(), (vec![("alice".into(), 1)], 0));
    nodes.exit(0, "alice");
    nodes.pass(HOLD - MILLISECOND);
    assert_eq!(nodes.members(), (vec![], 0), "the list does not wait");
    assert_eq!((nodes.told(0), nodes.told(2)), (vec![], vec![]));
    nodes.pass(soon());
    for index in 0..3 {
        assert_eq!(nodes.told(index), ["-alice"]);
    }
}

#[test]
fn a_second_tab_is_no_join_wherever_it_is_and_its_end_no_leave() {
    for elsewhere in [0, 1] {
        let mut nodes = Nodes::new(2);
        nodes.enter(0, "alice");
        nodes.enter(elsewhere, "alice");
        nodes.pass(soon());
        assert_eq!(nodes.members(), (vec![("alice".into(), 2)], 0));
        nodes.exit(0, "alice");
        nodes.pass(2 * HOLD);
        assert_eq!((nodes.told(0), nodes.told(1)), (vec!["+alice".to_owned()], vec!["+alice".to_owned()]));
        assert_eq!(nodes.members(), (vec![("alice".into(), 1)], 0));
    }
}

#[test]
fn a_tab_that_changes_within_two_seconds_neither_leaves_nor_joins() {
    for elsewhere in [0, 1] {
        let mut nodes = Nodes::new(2);
        let mut at = 0;
        nodes.enter(at, "alice");
        nodes.pass(soon());
        for _ in 0..5 {
            nodes.exit(at, "alice");
            nodes.pass(HOLD - soon());
            at = elsewhere - at.min(elsewhere);
            nodes.enter(at, "alice");
            nodes.pass(soon());
        }
        nodes.pass(10 * HOLD);
        assert_eq!((nodes.told(0), nodes.told(1)), (vec!["+alice".to_owned()], vec!["+alice".to_owned()]));
        nodes.exit(at, "alice");
        nodes.pass(HOLD + soon());
        assert_eq!((nodes.told(0), nodes.told(1)), (vec!["-alice".to_owned()], vec!["-alice".to_owned()]));
    }
}

#[test]
fn who_returns_and_leaves_again_is_held_for_the_whole_time_anew() {
    let mut nodes = Nodes::new(1);
    nodes.enter(0, "alice");
    nodes.exit(0, "alice");
    nodes.pass(HOLD - soon());
    nodes.enter(0, "alice");
    nodes.exit(0, "alice");
    nodes.pass(HOLD - MILLISECOND);
    assert_eq!(nodes.told(0), ["+alice"]);
    nodes.pass(soon());
    assert_eq!(nodes.told(0), ["-alice"]);
}

#[test]
fn nobody_in_particular_is_counted_and_never_named() {
    let mut nodes = Nodes::new(2);
    for (index, name) in [(0, "?"), (0, "?"), (1, "?"), (1, "bob")] {
        nodes.enter(index, name);
    }
    nodes.pass(soon());
    assert_eq!(nodes.members(), (vec![("bob".into(), 1)], 3));
    nodes.exit(0, "?");
    nodes.pass(soon());
    assert_eq!(nodes.members(), (vec![("bob".into(), 1)], 2));
    assert_eq!(nodes.told(0), ["+bob"]);
}

#[test]
fn a_node_that_comes_later_hears_of_all_at_once() {
    let mut nodes = Nodes::new(3);
    nodes.nodes[2].is_connected = false;
    nodes.enter(0, "alice");
    nodes.enter(1, "bob");
    nodes.pass(soon());
    assert_eq!(nodes.told(2), Vec::<String>::new());
    nodes.connect(2);
    nodes.pass(soon());
    assert_eq!(nodes.members(), (vec![("alice".into(), 1), ("bob".into(), 1)], 0));
    assert_eq!(nodes.told(0), ["+alice", "+bob"], "nobody is told twice");
}

#[test]
fn the_members_of_a_killed_node_are_gone_within_fifteen_seconds() {
    let mut nodes = Nodes::new(3);
    nodes.enter(0, "alice");
    nodes.enter(0, "bob");
    nodes.enter(1, "bob");
    // Killed at any time between two heartbeats.
    for wait in [soon(), HEARTBEAT, HEARTBEAT - MILLISECOND] {
        nodes.pass(wait);
    }
    nodes.kill(0);
    nodes.pass(SILENCE - HEARTBEAT - soon());
    assert_eq!((nodes.told(1), nodes.told(2)), (vec!["+alice".into(), "+bob".into()], vec!["+alice".to_owned(), "+bob".into()]));
    nodes.pass(FIFTEEN_SECONDS + HEARTBEAT - SILENCE);
    assert_eq!((nodes.told(1), nodes.told(2)), (vec!["-alice".to_owned()], vec!["-alice".to_owned()]));
    assert_eq!(nodes.members(), (vec![("bob".into(), 1)], 0));
}

#[test]
fn a_node_that_says_goodbye_is_not_waited_for_but_held_like_who_leaves() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.enter(0, "bob");
    nodes.pass(soon());
    nodes.told(1);
    let goodbye = nodes.nodes[0].presence.say_goodbye().expect("a goodbye");
    nodes.publish(&goodbye);
    assert_eq!(nodes.nodes[0].presence.say_goodbye(), None, "once");
    nodes.kill(0);
    nodes.pass(Duration::from_secs(1));
    nodes.enter(1, "alice");
    nodes.pass(2 * HOLD);
    assert_eq!(nodes.told(1), ["-bob"], "alice came back elsewhere");
}

#[test]
fn a_node_that_has_said_goodbye_says_no_more() {
    let mut nodes = Nodes::new(1);
    nodes.enter(0, "alice");
    nodes.enter(0, "bob");
    nodes.pass(soon());
    nodes.nodes[0].presence.say_goodbye();
    let announced = nodes.nodes[0].announced;
    nodes.exit(0, "alice");
    nodes.pass(10 * HEARTBEAT);
    assert_eq!(nodes.nodes[0].announced, announced);
}

#[test]
fn a_lost_change_is_mended_by_the_next_heartbeat() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.enter(0, "bob");
    nodes.pass(soon());
    nodes.nodes[1].is_connected = false;
    nodes.exit(0, "alice");
    nodes.enter(0, "carol");
    nodes.pass(soon());
    nodes.nodes[1].is_connected = true;
    nodes.pass(HEARTBEAT);
    assert_eq!(nodes.members(), (vec![("bob".into(), 1), ("carol".into(), 1)], 0));
}

/// The heartbeat of a node with so many users, in parts.
fn big_heartbeat(users: usize) -> Vec<Bytes> {
    let mut presence = Presence::new(7);
    let now = Instant::now();
    (0..users).for_each(|number| presence.enter(&room("r"), Some(&user(&format!("{number}{}", "\\".repeat(190)))), now));
    presence.act(now + HEARTBEAT).announcements
}

#[test]
fn however_many_members_there_are_each_announcement_is_small() {
    let parts = big_heartbeat(1000);
    assert!(parts.len() > 10);
    for part in &parts {
        assert!(part.len() <= MAX_BYTES, "{} bytes", part.len());
        assert!(Announcement::decode(part).is_ok());
    }
    let mut presence = Presence::new(1);
    let now = Instant::now();
    for part in parts.iter().chain(&parts) {
        presence.hear(Announcement::decode(part).expect("an announcement"), now);
    }
    assert_eq!(presence.members(&room("r")).users.len(), 1000);
    let Decided { notices, .. } = presence.act(now + soon());
    assert_eq!(notices.len(), 4, "so many users are told in several notices");
}

#[test]
fn a_heartbeat_with_a_part_missing_makes_nobody_leave() {
    let parts = big_heartbeat(200);
    let now = Instant::now();
    for missing in 0..parts.len() {
        let mut presence = Presence::new(1);
        parts.iter().for_each(|part| presence.hear(Announcement::decode(part).expect("an announcement"), now));
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| *index != missing) {
            let mut again = Announcement::decode(part).expect("an announcement");
            again.sequence += parts.len() as u64;
            presence.hear(again, now);
            assert_eq!(presence.members(&room("r")).users.len(), 200, "without {missing}, after {index}");
        }
    }
}

fn change(node: u32, sequence: u64, name: &str, connections: u32) -> Announcement {
    let share = Share { room: room("r"), users: vec![(user(name), connections)], anonymous: 0 };
    Announcement { node, sequence, word: Word::Change { rooms: vec![share] } }
}

#[test]
fn what_comes_twice_or_late_changes_nothing() {
    let mut presence = Presence::new(1);
    let now = Instant::now();
    for (sequence, connections) in [(1, 1), (2, 0), (1, 1), (2, 5)] {
        presence.hear(change(2, sequence, "alice", connections), now);
    }
    assert_eq!(presence.members(&room("r")).users, []);
}

#[test]
fn numbers_from_nowhere_are_no_panic() {
    let now = Instant::now();
    let mut presence = Presence::new(1);
    let share = || Share { room: room("r"), users: vec![(user("u"), u32::MAX)], anonymous: u32::MAX };
    for (sequence, part, parts) in [(5, 3, 2), (6, 0, 0), (u64::MAX - 1, 0, u32::MAX), (u64::MAX, 1, u32::MAX)] {
        for node in [2, 3] {
            presence.hear(Announcement { node, sequence, word: Word::Heartbeat { part, parts, rooms: vec![share()] } }, now);
        }
    }
    assert_eq!(presence.members(&room("r")).anonymous, 2 * u32::MAX as usize);
}

#[test]
fn more_nodes_than_there_can_be_are_not_believed() {
    let mut presence = Presence::new(0);
    let now = Instant::now();
    (1..=1025).for_each(|node| presence.hear(change(node, 1, &format!("user{node}"), 1), now));
    assert_eq!(presence.members(&room("r")).users.len(), 1024);
}

#[test]
fn where_nobody_is_nothing_is_said_and_nothing_is_due() {
    let mut nodes = Nodes::new(2);
    nodes.pass(soon());
    assert_eq!(nodes.nodes[0].announced, 1, "the question at the start");
    nodes.enter(0, "alice");
    nodes.pass(soon());
    nodes.exit(0, "alice");
    nodes.pass(SILENCE + HEARTBEAT);
    let announced = nodes.nodes[0].announced;
    nodes.pass(Duration::from_secs(3600));
    assert_eq!(nodes.nodes[0].announced, announced);
    assert_eq!((nodes.nodes[0].presence.due(), nodes.nodes[1].presence.due()), (None, None));
}

#[test]
fn a_burst_is_one_announcement_and_one_notice() {
    let mut nodes = Nodes::new(2);
    nodes.pass(soon());
    let announced = nodes.nodes[0].announced;
    for number in 0..200 {
        nodes.enter(0, &format!("user{number}"));
    }
    nodes.pass(soon());
    assert_eq!((nodes.nodes[0].announced - announced, nodes.told(0).len(), nodes.told(1).len()), (1, 200, 200));
}

#[test]
fn announcements_are_spelled_as_other_nodes_read_them() {
    let mut presence = Presence::new(7);
    let now = Instant::now();
    presence.restored(now);
    presence.enter(&room("r"), Some(&user("alice")), now);
    presence.enter(&room("r"), None, now);
    let spelled: Vec<String> =
        presence.act(now + soon()).announcements.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert_eq!(
        spelled,
        [
            r#"{"node":7,"sequence":1,"type":"sync"}"#,
            r#"{"node":7,"sequence":2,"type":"change","rooms":[{"room":"r","users":[["alice",1]],"anonymous":1}]}"#,
        ]
    );
    let spelled = presence.act(now + HEARTBEAT).announcements;
    assert_eq!(
        String::from_utf8_lossy(&spelled[0]),
        r#"{"node":7,"sequence":3,"type":"heartbeat","part":0,"parts":1,"rooms":[{"room":"r","users":[["alice",1]],"anonymous":1}]}"#
    );
}

#[test]
fn a_payload_that_is_no_announcement_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"node":7,"sequence":1,"type":"shout"}"#,
        r#"{"node":7,"sequence":-1,"type":"sync"}"#,
        r#"{"node":7,"sequence":1,"type":"change","rooms":[{"room":"","users":[],"anonymous":0}]}"#,
        r#"{"node":7,"sequence":1,"type":"change","rooms":[{"room":"r","users":[["a\nb",1]],"anonymous":0}]}"#,
    ] {
        assert!(matches!(Announcement::decode(text.as_bytes()), Err(GossipError::Malformed(_))), "{text}");
    }
    assert!(matches!(Announcement::decode(&vec![b' '; MAX_BYTES + 1]), Err(GossipError::TooLarge { .. })));
    assert!(Announcement::decode(br#"{"node":7,"sequence":1,"type":"sync","since":"a later release"}"#).is_ok());
}
