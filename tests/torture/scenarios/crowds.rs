//! Everybody at once.

use crate::{
    client::Plan,
    crowd::{Crowd, PATIENCE, RUDE, patiently},
    fleet::{Fleet, Store, pause, rooms},
    ledger::Room,
    load::Load,
    trial::{Report, Trial},
    wire::Wire,
};
use std::time::Instant;

/// A node with all clients dies, events go on for a second, and then all come back to the other node at the same moment and ask
/// for what they missed. In the twin nobody asks.
pub fn recovery_storm(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let clients = trial.size(100, 500);
    let store = Store::start();
    let mut fleet = Fleet::start(&rooms(1_000), &[store.url(), store.url()]);
    let all: Vec<Room> = (0..10).map(|room| Room(room * 2)).collect();
    let mut plans: Vec<Plan> = (0..clients)
        .map(|client| Plan {
            home: 0,
            remembers: trial.has_cure,
            pause: 1_000..1_100,
            ..Plan::new(client, vec![all[trial.dice.below(all.len())]])
        })
        .collect();
    // The other node has members in all rooms, and so has recorded them.
    plans.extend(all.iter().map(|room| Plan { wire: Wire::Sse, home: 1, ..Plan::new(0, vec![*room]) }));
    let crowd = Crowd::invite(&fleet.board, plans, RUDE);
    crowd.wait_until_all_listen();
    let publisher = Load::new(&[store.door()], &all, 200).start();
    crowd.wait_until_all_can_resume();
    pause(500);
    let began = Instant::now();
    fleet.kill(0);
    patiently("the clients notice", || crowd.bereft() >= clients);
    crowd.wait_until_all_listen();
    let took = began.elapsed();
    pause(500);
    let published = publisher.stop();
    crowd.settle(&published);
    report.figure(format!("{clients} clients back {:.1} s after the kill, of which they wait one", took.as_secs_f64()));
    let tally = crowd.tally(&published, true);
    report.whole_books(tally);
    report.claim("nothing is lost, told or not", tally.lost() == 0);
    report
}

/// A node with all clients dies and all go to the other one at once, without any politeness. In the twin that one has room for
/// half of them.
pub fn reconnect_herd(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let clients: usize = trial.size(300, 5_000);
    let store = Store::start();
    let most = if trial.has_cure { 100_000 } else { clients / 2 };
    let mut fleet = Fleet::start(&rooms(1_000), &[store.url()]);
    let config = format!("[server]\nmax_connections = {most}\n{}", rooms(1_000));
    let refuge = Fleet::start(&config, &[store.url()]);
    fleet.board.write().expect("the board").push(refuge.hub(0).address);
    let all: Vec<Room> = (0..10).map(Room).collect();
    let plans = (0..clients).map(|client| Plan { home: 0, roams: true, pause: 0..100, ..Plan::new(client, vec![all[client % all.len()]]) });
    let crowd = Crowd::invite(&fleet.board, plans, RUDE);
    crowd.wait_until_all_listen();
    let began = Instant::now();
    fleet.kill(0);
    patiently("the clients notice", || crowd.bereft() >= clients);
    let patience = if trial.has_cure { PATIENCE } else { PATIENCE / 20 };
    while crowd.listening() < clients && began.elapsed() < patience {
        pause(20);
    }
    report.figure(format!("{} of {clients} clients back after {:.1} s", crowd.listening(), began.elapsed().as_secs_f64()));
    report.claim("everybody is back", crowd.listening() == clients);
    if trial.has_cure {
        let published = Load { count: 500, ..Load::new(&[store.door()], &all, 200) }.start().wait();
        crowd.settle(&published);
        let tally = crowd.tally(&published, true);
        report.whole_books(tally);
        report.claim("nothing is lost, told or not", tally.lost() == 0);
    }
    report
}
