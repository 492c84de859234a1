//! Nodes that cannot hear one another for a while: all of them, or one, or some and one dies meanwhile.

use std::time::Duration;

use callboard::{
    actors::presence::{HEARTBEAT, HOLD, Presence, SILENCE},
    protocol::gossip::{Announcement, Word},
};
use tokio::time::Instant;

use super::{MILLISECOND, Nodes, soon};

#[test]
fn two_sides_of_a_split_lose_each_other_and_converge_when_it_is_over() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.enter(1, "bob");
    nodes.enter(1, "?");
    nodes.pass(soon());
    (0..2).for_each(|index| _ = nodes.told(index));
    (0..2).for_each(|index| nodes.nodes[index].is_connected = false);
    nodes.pass(SILENCE + soon());
    assert_eq!((nodes.told(0), nodes.told(1)), (vec!["-bob".to_owned()], vec!["-alice".to_owned()]));
    nodes.exit(1, "bob");
    nodes.enter(1, "carol");
    nodes.pass(2 * HOLD);
    (0..2).for_each(|index| _ = nodes.told(index));
    (0..2).for_each(|index| nodes.connect(index));
    nodes.pass(soon());
    assert_eq!((nodes.told(0), nodes.told(1)), (vec!["+carol".to_owned()], vec!["+alice".to_owned()]));
    assert_eq!(nodes.members(), (vec![("alice".into(), 1), ("carol".into(), 1)], 1));
}

/// The broker itself is away: each node is deaf, and nobody has left.
#[test]
fn an_outage_of_the_broker_is_no_leave_however_long_and_leaves_no_ghost() {
    let mut nodes = Nodes::new(3);
    ["alice", "bob", "carol"].into_iter().enumerate().for_each(|(index, name)| nodes.enter(index, name));
    nodes.enter(1, "dave");
    nodes.pass(soon());
    nodes.nodes.iter_mut().for_each(|node| (node.is_connected, _) = (false, node.presence.cut_off()));
    nodes.told(0);
    nodes.pass(Duration::from_secs(60));
    assert_eq!(nodes.members().0.len(), 4, "all are still shown");
    nodes.exit(1, "dave");
    nodes.kill(2);
    nodes.pass(Duration::from_secs(60));
    assert_eq!(nodes.told(0), [""; 0]);
    (0..2).for_each(|index| nodes.connect(index));
    nodes.pass(Duration::from_secs(3));
    assert_eq!(nodes.told(0), ["-dave"], "who left meanwhile has left");
    nodes.pass(SILENCE);
    assert_eq!(nodes.told(0), ["-carol"], "whose node died meanwhile is gone, and nobody else");
    assert_eq!(nodes.members().0, [("alice".to_owned(), 1), ("bob".to_owned(), 1)]);
}

/// Nodes that could hear all the time know who died meanwhile; who could not need not wait for the dead.
#[test]
fn after_a_split_all_agree_at_once_also_on_a_node_that_died_meanwhile() {
    let mut nodes = Nodes::new(3);
    ["alice", "bob", "carol"].into_iter().enumerate().for_each(|(index, name)| nodes.enter(index, name));
    nodes.pass(soon());
    nodes.cut_off(1);
    nodes.kill(2);
    (0..2).for_each(|index| _ = nodes.told(index));
    nodes.pass(SILENCE + HEARTBEAT);
    assert_eq!((nodes.told(0), nodes.told(1)), (vec!["-bob".to_owned(), "-carol".into()], vec![]));
    nodes.connect(1);
    nodes.pass(soon());
    assert_eq!(nodes.members(), (vec![("alice".into(), 1), ("bob".into(), 1)], 0));
    nodes.pass(HOLD);
    assert_eq!((nodes.told(0), nodes.told(1)), (vec!["+bob".to_owned()], vec!["-carol".to_owned()]));
}

/// It knows nobody yet, and would make dead whoever is slow to come back.
#[test]
fn who_has_not_listened_for_long_enough_does_not_say_whom_it_has_heard() {
    let mut presence = Presence::new(1);
    let start = Instant::now();
    presence.restored(start);
    let mut answers_after = |sequence, time| {
        presence.hear(Announcement { node: 2, sequence, word: Word::Sync }, start + time);
        let decided = presence.act(start + time + soon());
        decided.announcements.iter().any(|bytes| matches!(Announcement::decode(bytes), Ok(Announcement { word: Word::Heard { .. }, .. })))
    };
    assert!(!answers_after(1, SILENCE - soon() - MILLISECOND));
    assert!(answers_after(2, SILENCE));
}

#[test]
fn who_is_heard_again_is_not_dead_whatever_others_have_heard() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.pass(soon());
    nodes.cut_off(1);
    nodes.pass(SILENCE);
    nodes.connect(1);
    nodes.pass(soon());
    let presence = &mut nodes.nodes[1].presence;
    presence.hear(Announcement { node: 7, sequence: 1, word: Word::Heard { nodes: vec![] } }, nodes.now);
    assert_eq!(nodes.members(), (vec![("alice".into(), 1)], 0));
}

#[test]
fn a_split_shorter_than_the_silence_is_no_leave_and_what_was_missed_is_mended() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.enter(0, "bob");
    nodes.pass(soon());
    nodes.nodes[1].is_connected = false;
    nodes.exit(0, "bob");
    nodes.enter(0, "carol");
    nodes.pass(HEARTBEAT);
    nodes.connect(1);
    nodes.pass(soon());
    assert_eq!(nodes.members(), (vec![("alice".into(), 1), ("carol".into(), 1)], 0));
    nodes.pass(HOLD);
    assert_eq!(nodes.told(1), ["+alice", "+bob", "+carol", "-bob"]);
}

#[test]
fn a_process_that_was_stopped_does_not_take_the_others_for_dead() {
    let mut nodes = Nodes::new(2);
    nodes.enter(0, "alice");
    nodes.pass(soon());
    nodes.told(1);
    // Node 1 does nothing for a minute, and then acts before it has read what has come meanwhile.
    nodes.nodes[1].is_alive = false;
    nodes.pass(Duration::from_secs(60));
    nodes.nodes[1].is_alive = true;
    nodes.pass(2 * HEARTBEAT);
    assert_eq!(nodes.told(1), Vec::<String>::new());
    assert_eq!(nodes.members(), (vec![("alice".into(), 1)], 0));
}
