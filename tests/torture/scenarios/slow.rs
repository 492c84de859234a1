//! Who cannot keep up.

use crate::{
    client::Plan,
    crowd::Crowd,
    fleet::{Fleet, Store, pause, rooms},
    ledger::{Published, Room},
    load::Load,
    trial::{Report, Trial},
    wire::Wire,
};

/// A tenth of the crowd never reads. It is cut off, and the others never notice; and the counters add up to the last event. In
/// the twin as much may wait for a client as likes, and for as long.
pub fn never_readers(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let clients: usize = trial.size(100, 1_000);
    let store = Store::start();
    let waits = if trial.has_cure { "" } else { "[server]\ntcp_user_timeout = \"1h\"\n[mailbox]\nconnection = 1000000\n" };
    let fleet = Fleet::start(&format!("{waits}{}", rooms(10)), &[store.url()]);
    let room = Room(1);
    let plan = |client: usize| {
        let is_deaf = client.is_multiple_of(10);
        let wire = if is_deaf { Wire::Sse } else { Wire::of(client) };
        Plan { wire, reads: !is_deaf, ..Plan::new(client, vec![room]) }
    };
    let crowd = Crowd::gather(&fleet.board, (0..clients).map(plan));
    let published = Load { count: 800, padding: 2_000, ..Load::new(&[store.door()], &[room], trial.size(150, 25)) }.start().wait();
    crowd.settle(&published);
    report.books(crowd.tally(&published, true));
    report.claim("no reader was taken for slow", crowd.returns() == 0);
    let open = || fleet.metric(r#"callboard_connections{wire="sse"}"#) as usize;
    let deaf = clients / 10;
    let readers = crowd.clients.iter().filter(|client| client.plan.reads && client.plan.wire == Wire::Sse).count();
    let began = std::time::Instant::now();
    while trial.has_cure && open() > readers && began.elapsed() < crate::crowd::PATIENCE {
        pause(100);
    }
    report.figure(format!("{} of {deaf} never-readers were cut off", (readers + deaf).saturating_sub(open())));
    report.claim("every never-reader is cut off", open() == readers);
    if trial.has_cure {
        reconcile(&mut report, &fleet, &published, clients);
    }
    report
}

/// published × members = delivered + dropped. Who was cut off was no member of what came later.
fn reconcile(report: &mut Report, fleet: &Fleet, published: &Published, clients: usize) {
    let text = fleet.hub(0).get("/metrics").text();
    let sum = |name: &str| {
        text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
            as u64
    };
    let (delivered, dropped) = (sum("callboard_events_delivered_total"), sum("callboard_events_dropped_total"));
    let (most, readers) = ((published.taken() * clients) as u64, (published.taken() * clients * 9 / 10) as u64);
    report.figure(format!("{delivered} delivered, {dropped} dropped"));
    report.claim(
        "delivered and dropped are no more than published times members, and no less than the readers' part",
        (readers..=most).contains(&(delivered + dropped)) && delivered >= readers,
    );
}

/// A publisher as fast as Redis lets it. What a node cannot route is announced, to the last event. The twin takes no notice.
pub fn publisher_flood(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let events = trial.size(20_000, 500_000);
    let store = Store::start();
    // The twin's must overflow, however fast the machine.
    let bound = if trial.has_cure { "" } else { "[mailbox]\nbridge = 16\nroom = 16\n" };
    let fleet = Fleet::start(&format!("{bound}{}", rooms(100)), &[store.url(), store.url()]);
    let all: Vec<Room> = (0..4).map(Room).collect();
    let crowd = Crowd::gather(&fleet.board, (0..20).map(|client| Plan::new(client, vec![all[client % all.len()]])));
    let began = std::time::Instant::now();
    let published = Load { count: events, ..Load::new(&[store.door()], &all, trial.size(0, 50_000)) }.start().wait();
    report.figure(format!("{:.0} events/s published", published.taken() as f64 / began.elapsed().as_secs_f64()));
    crowd.settle(&published);
    report.books(crowd.tally(&published, trial.has_cure));
    report.claim("the nodes are ready", fleet.is_ready());
    report
}
