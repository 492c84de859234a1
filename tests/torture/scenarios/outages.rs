//! Redis goes away and comes back.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, Plan},
    crowd::{Crowd, patiently},
    fleet::{Fleet, Store, pause, rooms},
    guarded::Guarded,
    ledger::{Published, Room},
    load::{Load, Publisher},
    support::stopwatch::{Reading, Stopwatch},
    trial::{Report, Trial},
    wire::Wire,
};

/// What the contract says of an outage.
const NOTICED: Duration = Duration::from_secs(5);
const SUBSCRIBED_ANEW: Duration = Duration::from_secs(1);
const TOLD: Duration = Duration::from_secs(2);
/// How long a notice is waited for.
const NOTICE_PATIENCE: Duration = Duration::from_secs(30);

/// Three nodes, a crowd over rooms with and without history, and a publisher of 100 events a second.
struct Stage {
    store: Store,
    fleet: Fleet,
    crowd: Crowd,
    publisher: Publisher,
}

impl Stage {
    fn set(trial: &mut Trial) -> Self {
        let store = Store::start_lasting();
        let fleet = Fleet::start(&rooms(1_000), &[store.url(), store.url(), store.url()]);
        let all: Vec<Room> = (0..10).map(Room).collect();
        let clients = trial.size(100, 500);
        let plan = |client| Plan::new(client, vec![all[trial.dice.below(all.len())]]);
        let crowd = Crowd::gather(&fleet.board, (0..clients).map(plan));
        // What it asks of a Redis that is stopped, it asks anew.
        let publisher = Load { patience: Duration::from_secs(2), ..Load::new(&[store.door()], &all, 100) }.start();
        Self { store, fleet, crowd, publisher }
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        self.fleet.processes().chain(self.store.process())
    }

    /// Nothing may be missing of which nobody was told; the twin's clients do not heed what they are told.
    fn check(self, trial: &Trial, report: &mut Report) {
        let published = self.publisher.stop();
        self.crowd.settle(&published);
        report.figure(format!("{} published", published.taken()));
        report.whole_books(self.crowd.tally(&published, trial.has_cure));
        if trial.has_cure {
            report.claim("no connection ended", self.crowd.returns() == 0);
            report.figure(format!(
                "{} events of rooms with history reached some and not all, who were told",
                behind(&self.crowd, &published)
            ));
        }
    }
}

/// An outage, from its beginning on.
struct Outage {
    began: Instant,
    /// How often each node had subscribed anew.
    before: Vec<u64>,
}

/// How long the slowest node, and the slowest notice after it, took after an outage.
#[derive(Default)]
struct Recovery {
    subscribed: Reading,
    told: Reading,
    /// Clients that never were.
    untold: usize,
}

impl Outage {
    fn begin(fleet: &Fleet) -> Self {
        Self { before: fleet.reconnects(), began: Instant::now() }
    }

    /// Waits until all nodes have subscribed anew and everybody is told, once. `watch` was started when Redis came back.
    fn end(self, fleet: &Fleet, crowd: &Crowd, watch: &Stopwatch) -> Recovery {
        let is_back = || fleet.reconnects().iter().zip(&self.before).all(|(now, before)| now > before);
        patiently("all nodes have subscribed anew", || is_back() && fleet.is_ready());
        let subscribed = watch.read();
        let untold = || crowd.notices_since(self.began).into_iter().filter(|notices| *notices == 0).count();
        let began = Instant::now();
        while untold() > 0 && began.elapsed() < NOTICE_PATIENCE {
            pause(20);
        }
        Recovery { subscribed, told: watch.read().since(subscribed), untold: untold() }
    }
}

impl Recovery {
    /// The slowest of several.
    fn or_slower(self, other: Self) -> Self {
        Self {
            subscribed: self.subscribed.or_slower(other.subscribed),
            told: self.told.or_slower(other.told),
            untold: self.untold.max(other.untold),
        }
    }

    fn judge(&self, trial: &Trial, report: &mut Report) {
        if trial.has_cure {
            report.promise("all nodes have subscribed anew", self.subscribed, SUBSCRIBED_ANEW);
            self.judge_notices(report);
        }
    }

    fn judge_notices(&self, report: &mut Report) {
        report.promise("everybody is told", self.told, TOLD);
        report.claim(&format!("nobody is left untold, not {} clients", self.untold), self.untold == 0);
    }
}

/// One notice for each client and outage.
fn check_notices(crowd: &Crowd, began: Instant, outages: usize, report: &mut Report) {
    let most = crowd.notices_since(began).into_iter().max().unwrap_or(0);
    report.claim(&format!("nobody is told of {outages} outages {most} times"), most <= outages);
}

/// Events of rooms with history that one client has and another, in the same room, has not.
fn behind(crowd: &Crowd, published: &Published) -> usize {
    let mut missing = 0;
    for (room, _) in published.0.iter().filter(|(room, _)| room.keeps()) {
        let members = crowd.clients.iter().filter(|client| client.plan.rooms.contains(room));
        let seen: Vec<HashSet<u32>> =
            members.map(|client| client.record.lock().expect("the record").numbers(*room).into_iter().collect()).collect();
        let any: HashSet<u32> = seen.iter().flatten().copied().collect();
        missing += seen.iter().map(|numbers| any.len() - numbers.len()).sum::<usize>();
    }
    missing
}

pub fn redis_killed(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let mut stage = Stage::set(trial);
    let (kills, began) = (trial.size(3, 20), Instant::now());
    let mut slowest = Recovery::default();
    for _ in 0..kills {
        pause(500 + trial.dice.below(500) as u64);
        let outage = Outage::begin(&stage.fleet);
        stage.store.kill();
        pause(trial.dice.below(1_000) as u64);
        stage.store.restart();
        let watch = Stopwatch::start(stage.processes());
        slowest = slowest.or_slower(outage.end(&stage.fleet, &stage.crowd, &watch));
    }
    pause(500);
    report.figure(format!("{kills} kills"));
    slowest.judge(trial, &mut report);
    check_notices(&stage.crowd, began, kills, &mut report);
    stage.check(trial, &mut report);
    report
}

pub fn redis_stopped(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let stage = Stage::set(trial);
    let began = Instant::now();
    pause(500);
    let outage = Outage::begin(&stage.fleet);
    stage.store.signal("STOP");
    let noticed = stage.fleet.wait_until_unready();
    while outage.began.elapsed() < Duration::from_secs(trial.size(7, 30)) {
        pause(20);
    }
    let watch = Stopwatch::start(stage.processes());
    stage.store.signal("CONT");
    let recovery = outage.end(&stage.fleet, &stage.crowd, &watch);
    pause(500);
    if trial.has_cure {
        report.promise("it is noticed", noticed, NOTICED);
    }
    recovery.judge(trial, &mut report);
    check_notices(&stage.crowd, began, 1, &mut report);
    stage.check(trial, &mut report);
    report
}

/// Redis drops the nodes because they read too slowly for its limit: in one step it publishes more than it may hold for them.
pub fn output_buffer_killed(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let mut stage = Stage::set(trial);
    stage.store.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 64kb 1"]);
    let floods = trial.size(2, 20);
    let room = Room(11);
    let members: Vec<_> = (0..6).map(|client| Client::new(Plan { wire: Wire::Sse, ..Plan::new(client, vec![room]) })).collect();
    stage.crowd.add(members.into_iter());
    stage.crowd.wait_until_all_listen();
    const EVENTS: u32 = 4_000;
    let (began, mut slowest) = (Instant::now(), Recovery::default());
    for flood in 0..floods {
        let outage = Outage::begin(&stage.fleet);
        stage.store.command(&["EVAL", FLOOD, "1", &room.name(), &room.0.to_string(), &(flood * EVENTS).to_string(), &EVENTS.to_string()]);
        let watch = Stopwatch::start(stage.processes());
        slowest = slowest.or_slower(outage.end(&stage.fleet, &stage.crowd, &watch));
        pause(500);
    }
    slowest.judge(trial, &mut report);
    check_notices(&stage.crowd, began, floods as usize, &mut report);
    let mut published = stage.publisher.stop();
    stage.crowd.settle(&published);
    report.whole_books(stage.crowd.tally(&published, trial.has_cure));
    // Of the floods the end may be missing like the rest.
    published.0.push((room, vec![true; (floods * EVENTS) as usize]));
    stage.crowd.settle(&published);
    report.figure(format!("{floods} floods, {} published", published.taken()));
    let tally = stage.crowd.tally(&published, trial.has_cure);
    report.books(tally);
    report.claim("no connection ended", !trial.has_cure || stage.crowd.returns() == 0);
    // The limit must have been passed, or nothing was tried.
    assert!(tally.told + tally.silent > 0, "Redis dropped nothing");
    report
}

/// One script is one step: Redis can send nothing while it runs.
const FLOOD: &str = "for i = 1, ARGV[3] do redis.call('PUBLISH', 'callboard:room:' .. KEYS[1], \
    '{\"event\":\"e\",\"data\":\"~' .. ARGV[1] .. ':' .. (ARGV[2] + i) .. '~' .. string.rep('x', 1000) .. '\"}') end";

/// The primary is killed, Sentinel makes its replica the primary, and the old one comes back as replica.
pub fn sentinel_failover(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let failovers = trial.size(1, 5);
    let mut guarded = Guarded::start();
    let urls = vec![guarded.url(); 2];
    let fleet = Fleet::start(&rooms(1_000), &urls);
    let all: Vec<Room> = (0..10).map(Room).collect();
    let clients = trial.size(50, 300);
    let crowd = Crowd::gather(&fleet.board, (0..clients).map(|client| Plan::new(client, vec![all[client % all.len()]])));
    let mut published = Published::default();
    let (began, mut slowest) = (Instant::now(), Recovery::default());
    for failover in 0..failovers {
        let base = failover * 100_000;
        let publisher = Load { base, ..Load::new(&[guarded.primary().door()], &all, 100) }.start();
        pause(500);
        let outage = Outage::begin(&fleet);
        guarded.kill_primary();
        published.extend(publisher.stop(), base);
        patiently("Sentinel names another primary", || guarded.finds_new_primary());
        // Events at the new primary that nobody may have heard yet.
        let base = base + 50_000;
        let publisher = Load { base, ..Load::new(&[guarded.primary().door()], &all, 100) }.start();
        let watch = Stopwatch::start(fleet.processes());
        slowest = slowest.or_slower(outage.end(&fleet, &crowd, &watch));
        pause(500);
        published.extend(publisher.stop(), base);
        guarded.restart_replica();
    }
    crowd.settle(&published);
    report.figure(format!("{failovers} failovers, {} published", published.taken()));
    // Sentinel tells of the new primary a second after it has made it so: when, is no promise of ours.
    if trial.has_cure {
        slowest.judge_notices(&mut report);
    }
    check_notices(&crowd, began, failovers as usize, &mut report);
    report.whole_books(crowd.tally(&published, trial.has_cure));
    report.claim("no connection ended", !trial.has_cure || crowd.returns() == 0);
    report
}
