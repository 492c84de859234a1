//! Redis goes away and comes back.

use std::collections::HashSet;

use crate::{
    client::Plan,
    crowd::Crowd,
    fleet::{Fleet, Store, pause, rooms},
    ledger::{Published, Room},
    load::{Load, Publisher},
    trial::{Report, Trial},
};

/// Three nodes, a crowd over rooms with and without history, and a publisher of 100 events a second.
struct Stage {
    store: Store,
    fleet: Fleet,
    crowd: Crowd,
    publisher: Publisher,
}

impl Stage {
    fn set(trial: &mut Trial) -> Self {
        let store = Store::start();
        let fleet = Fleet::start(&rooms(1_000), &[store.url(), store.url(), store.url()]);
        let all: Vec<Room> = (0..10).map(Room).collect();
        let clients = trial.size(100, 500);
        let plan = |client| Plan::new(client, vec![all[trial.dice.below(all.len())]]);
        let crowd = Crowd::gather(&fleet.board, (0..clients).map(plan));
        let publisher = Load::new(&[store.door()], &all, 100).start();
        Self { store, fleet, crowd, publisher }
    }

    /// Nothing may be missing of which nobody was told; the twin's clients do not heed what they are told.
    fn check(self, trial: &Trial, report: &mut Report) {
        let published = self.publisher.stop();
        self.crowd.settle(&published);
        report.figure(format!("{} published", published.taken()));
        report.books(self.crowd.tally(&published, trial.has_cure));
        if trial.has_cure {
            report.claim("no connection ended", self.crowd.returns() == 0);
            let behind = behind(&self.crowd, &published);
            report.claim("everybody in a room with history has what anybody there has", behind == 0);
        }
    }
}

/// Events of rooms with history that one client has and another, in the same room, has not.
fn behind(crowd: &Crowd, published: &Published) -> usize {
    let mut missing = 0;
    for (room, _) in published.0.iter().filter(|(room, _)| room.keeps()) {
        let members = crowd.clients.iter().filter(|client| client.plan.rooms.contains(room));
        let seen: Vec<HashSet<u32>> =
            members.map(|client| client.record.lock().expect("the record").numbers(*room).into_iter().collect()).collect();
        let any: HashSet<u32> = seen.iter().flatten().copied().collect();
        let of_room: usize = seen.iter().map(|numbers| any.len() - numbers.len()).sum();
        if of_room > 0 {
            let clients = crowd.clients.iter().filter(|client| client.plan.rooms.contains(room));
            clients.for_each(|client| {
                eprintln!(
                    "{:?} at node {} in {}:\n{}",
                    client.plan.wire,
                    client.plan.home % 3,
                    room.name(),
                    client.record.lock().expect("the record").story(*room)
                )
            });
        }
        missing += of_room;
    }
    missing
}

pub fn redis_killed(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let mut stage = Stage::set(trial);
    let kills = trial.size(3, 20);
    for _ in 0..kills {
        pause(500 + trial.dice.below(500) as u64);
        stage.store.kill();
        pause(trial.dice.below(1_000) as u64);
        stage.store.restart();
        stage.fleet.wait_until_ready();
    }
    pause(1_000);
    report.figure(format!("{kills} kills"));
    stage.check(trial, &mut report);
    report
}

pub fn redis_stopped(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let stage = Stage::set(trial);
    pause(500);
    stage.store.signal("STOP");
    let noticed = stage.fleet.wait_until_unready();
    pause(trial.size(7_000, 30_000) - noticed.as_millis().min(6_000) as u64);
    stage.store.signal("CONT");
    stage.fleet.wait_until_ready();
    pause(1_000);
    report.figure(format!("noticed after {:.1} s", noticed.as_secs_f64()));
    stage.check(trial, &mut report);
    report
}
