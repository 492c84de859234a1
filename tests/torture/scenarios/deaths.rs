//! Nodes die.

use crate::{
    client::Plan,
    crowd::Crowd,
    fleet::{Fleet, Store, pause, rooms},
    ledger::Room,
    load::Load,
    trial::{Report, Trial},
    wire::Wire,
};

/// A member of each room who stays with each node, so that all nodes record all rooms: what only one node heard may die with it,
/// which is told (docs/protocol/resume.md, limits).
fn residents(rooms: &[Room], nodes: usize) -> impl Iterator<Item = Plan> {
    let plan = |home, room| Plan { wire: Wire::Sse, home, roams: false, ..Plan::new(0, vec![room]) };
    let places = (0..nodes).flat_map(|home| rooms.iter().map(move |room| (home, *room)));
    places.map(|(home, room)| plan(home, room)).collect::<Vec<_>>().into_iter()
}

/// One of three nodes is killed, again and again; its clients go on elsewhere, where they missed nothing. In the twin they come
/// back without the ids that they saw.
pub fn node_killed(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let (clients, kills) = (trial.size(100, 500), trial.size(3, 10));
    let store = Store::start();
    let mut fleet = Fleet::start(&rooms(1_000), &[store.url(), store.url(), store.url()]);
    let all: Vec<Room> = (0..10).map(|room| Room(room * 2)).collect();
    let plan = |client| Plan { remembers: trial.has_cure, ..Plan::new(client, vec![all[trial.dice.below(all.len())]]) };
    let roaming: Vec<_> = (0..clients).map(plan).collect();
    let crowd = Crowd::gather(&fleet.board, roaming.into_iter().chain(residents(&all, 3)));
    let publisher = Load::new(&[store.door()], &all, 100).start();
    for kill in 0..kills {
        // Every room has been heard of, everywhere: who has no id yet has nothing to resume from.
        pause(500 + trial.dice.below(500) as u64);
        fleet.kill(kill % 3);
        pause(trial.dice.below(500) as u64);
        fleet.restart(kill % 3, &store.url());
        crowd.wait_until_all_listen();
    }
    pause(500);
    let published = publisher.stop();
    crowd.settle(&published);
    report.figure(format!("{kills} kills, {} returns", crowd.returns()));
    let tally = crowd.tally(&published, true);
    report.books(tally);
    report.claim("nothing is lost, told or not", tally.lost() == 0);
    report
}
