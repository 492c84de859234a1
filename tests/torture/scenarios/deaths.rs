//! Nodes die.

use std::{ops::Range, time::Instant};

use crate::{
    client::Plan,
    crowd::{Crowd, patiently},
    fleet::{Fleet, Store, pause, rooms},
    ledger::{Entry, Room},
    load::Load,
    trial::{Report, Trial},
    wire::Wire,
};

/// A member of each room who stays with each node, so that all nodes record all rooms: what only one node heard may die with it,
/// which is told (docs/protocol/resume.md, limits).
fn residents(rooms: &[Room], nodes: Range<usize>) -> impl Iterator<Item = Plan> {
    let plan = |home, room| Plan { wire: Wire::Sse, home, roams: false, ..Plan::new(0, vec![room]) };
    let places = nodes.flat_map(|home| rooms.iter().map(move |room| (home, *room)));
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
    let crowd = Crowd::gather(&fleet.board, roaming.into_iter().chain(residents(&all, 0..3)));
    let publisher = Load::new(&[store.door()], &all, 100).start();
    crowd.wait_until_all_can_resume();
    for kill in 0..kills {
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
    report.whole_books(tally);
    report.claim("nothing is lost, told or not", tally.lost() == 0);
    report
}

/// A node ends as an upgrade ends it: everybody is told, spread over the drain, and goes on at the other node where it missed
/// nothing. The twin's node is killed.
pub fn drain(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let clients: usize = trial.size(200, 2_000);
    let store = Store::start();
    let config = format!("[server]\ndrain = \"{}s\"\n{}", trial.size(3, 10), rooms(5_000));
    let mut fleet = Fleet::start(&config, &[store.url(), store.url()]);
    let all: Vec<Room> = (0..10).map(|room| Room(room * 2)).collect();
    let plans = (0..clients).map(|client| Plan { home: 0, ..Plan::new(client, vec![all[client % all.len()]]) });
    let crowd = Crowd::gather(&fleet.board, plans.chain(residents(&all, 1..2)));
    let publisher = Load::new(&[store.door()], &all, 100).start();
    crowd.wait_until_all_can_resume();
    pause(500);
    let began = Instant::now();
    if trial.has_cure {
        fleet.hub(0).terminate();
        let mut hub = fleet.hubs[0].take().expect("the node");
        patiently("the node ends", || !hub.process.is_running());
        report.claim("the node ends with 0", hub.process.wait().code() == Some(0));
    } else {
        fleet.kill(0);
    }
    report.figure(format!("ended after {:.1} s", began.elapsed().as_secs_f64()));
    patiently("all are gone from there", || crowd.returns() >= clients);
    crowd.wait_until_all_listen();
    pause(500);
    let published = publisher.stop();
    crowd.settle(&published);
    let (told, first, last) = goodbyes(&crowd, clients);
    report.figure(format!("{told} of {clients} told, within {:.1} s", last.saturating_duration_since(first).as_secs_f64()));
    report.claim("everybody is told to go", told == clients);
    report.claim("goodbyes are spread", !trial.has_cure || last.saturating_duration_since(first).as_secs_f64() > 1.0);
    let tally = crowd.tally(&published, true);
    report.whole_books(tally);
    report.claim("nothing is lost, told or not", tally.lost() == 0);
    report
}

/// How many were told, and when the first and the last.
fn goodbyes(crowd: &Crowd, clients: usize) -> (usize, Instant, Instant) {
    let ends = crowd.clients.iter().take(clients).filter_map(|client| {
        let record = client.record.lock().expect("the record");
        let first = record.0.iter().find_map(|(_, entry)| match entry {
            Entry::Ended(why) => Some(why.clone()),
            _ => None,
        });
        let told = record.0.iter().find_map(|(at, entry)| match entry {
            Entry::Ended(why) if ["draining", "1012", "disconnect", "closed", "400"].contains(&why.as_str()) => Some(*at),
            _ => None,
        });
        if told.is_none() {
            eprintln!("{:?} was not told: {first:?}", client.plan.wire);
        }
        told
    });
    let ends: Vec<Instant> = ends.collect();
    let now = Instant::now();
    (ends.len(), ends.iter().min().copied().unwrap_or(now), ends.iter().max().copied().unwrap_or(now))
}
