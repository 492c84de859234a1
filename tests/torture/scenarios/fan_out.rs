//! The plain truth: everybody gets everything once, and every room has one order on all nodes.

use std::collections::HashMap;

use crate::{
    client::Plan,
    crowd::Crowd,
    fleet::{Fleet, Store, rooms},
    ledger::{Published, Room},
    load::{Door, Load, Publisher},
    trial::{Report, Trial},
};

const PUBLISHERS: u32 = 4;
/// The numbers of a publisher begin at its place times this.
const STRIDE: u32 = 1_000_000;

/// Four publishers, two of them over HTTP, publish to the same rooms. In the twin each node has a Redis of its own, and the
/// publishers tell all of them: nothing makes one order of it.
pub fn fan_out(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let (clients, room_count, events) = (trial.size(100, 1_000), trial.size(10, 50), trial.size(800, 2_000));
    let rate = trial.size(150, 60);
    let stores: Vec<Store> = (0..if trial.has_cure { 1 } else { 3 }).map(|_| Store::start()).collect();
    let urls: Vec<_> = (0..3).map(|node| stores[node % stores.len()].url()).collect();
    let fleet = Fleet::start(&rooms(100), &urls);
    let all: Vec<Room> = (0..room_count).map(Room).collect();
    let plans = (0..clients).map(|client| {
        let mut of_client: Vec<Room> = (0..=trial.dice.below(3)).map(|_| all[trial.dice.below(all.len())]).collect();
        of_client.sort_unstable();
        of_client.dedup();
        Plan::new(client, of_client)
    });
    let crowd = Crowd::gather(&fleet.board, plans);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let doors = match number {
                0 | 1 if trial.has_cure => vec![Door::Http(fleet.hub(number as usize).address)],
                _ => stores.iter().map(Store::door).collect(),
            };
            Load { count: events, base: number * STRIDE, ..Load::new(&doors, &all, rate) }.start()
        })
        .collect();
    let books: Vec<Published> = publishers.into_iter().map(Publisher::wait).collect();
    let due = settle(&crowd, &books);
    check(&mut report, &crowd, due);
    if trial.has_cure {
        let (delivered, dropped) = (fleet.metric("callboard_events_delivered_total"), fleet.metric("callboard_events_dropped_total"));
        report.claim(&format!("published times members is delivered, as counted: {delivered}"), delivered == due as u64);
        report.claim(&format!("nothing counts as dropped: {dropped}"), dropped == 0);
    }
    report
}

/// Waits for all. How many deliveries are due.
fn settle(crowd: &Crowd, books: &[Published]) -> usize {
    let in_room = |room: &Room| {
        books.iter().flat_map(|book| &book.0).filter(|(known, _)| known == room).map(|(_, numbers)| numbers.len()).sum::<usize>()
    };
    assert!(books.iter().flat_map(|book| &book.0).all(|(_, numbers)| numbers.iter().all(|was_taken| *was_taken)), "all were taken");
    let due = crowd.clients.iter().flat_map(|client| &client.plan.rooms).map(in_room).sum();
    crowd.settle_at(due);
    due
}

fn check(report: &mut Report, crowd: &Crowd, due: usize) {
    let mut orders: HashMap<Room, Vec<u32>> = HashMap::new();
    let (mut received, mut strangers, mut doubled) = (0, 0, 0);
    for client in &crowd.clients {
        let record = client.record.lock().expect("the record");
        for room in &client.plan.rooms {
            let numbers = record.numbers(*room);
            received += numbers.len();
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            doubled += sorted.windows(2).filter(|pair| pair[0] == pair[1]).count();
            strangers += usize::from(*orders.entry(*room).or_insert_with(|| numbers.clone()) != numbers);
        }
    }
    let backward = orders.values().map(|numbers| backward(numbers)).sum::<usize>();
    report.figure(format!(
        "{} clients, {} rooms, {due} due, {received} received, {doubled} doubled, {strangers} clients with another order than the first of their room",
        crowd.clients.len(),
        orders.len()
    ));
    report.claim("everybody received everything", received == due);
    report.claim("nobody received an event twice", doubled == 0);
    report.claim("each room has one order everywhere", strangers == 0);
    report.claim("each publisher's events keep their order", backward == 0);
}

/// How often a number is below one of the same publisher before it.
fn backward(numbers: &[u32]) -> usize {
    let mut last = HashMap::new();
    numbers.iter().filter(|number| last.insert(*number / STRIDE, **number).is_some_and(|before| before > **number)).count()
}
