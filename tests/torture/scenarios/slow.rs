//! Who cannot keep up.

use crate::{
    client::Plan,
    crowd::Crowd,
    fleet::{Fleet, Store, pause, rooms, sum},
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
    let published = publish_at_readers_pace(&crowd, &store, room);
    report.whole_books(crowd.tally(&published, true));
    report.claim("no reader was taken for slow", crowd.returns() == 0);
    let open = || fleet.hub(0).metric(r#"callboard_connections{wire="sse"}"#) as usize;
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

/// No faster than the slowest of those who read: never does more wait for one than the hub lets wait (256), however slow the
/// machine makes it.
fn publish_at_readers_pace(crowd: &Crowd, store: &Store, room: Room) -> Published {
    const AT_ONCE: u32 = 100;
    let mut published = Published::default();
    for base in (0..800).step_by(AT_ONCE as usize) {
        let load = Load { count: AT_ONCE as usize, padding: 2_000, base, ..Load::new(&[store.door()], &[room], 0) };
        published.extend(load.start().wait(), base);
        crowd.settle(&published);
    }
    published
}

/// published × members = delivered + dropped. Who was cut off was no member of what came later.
fn reconcile(report: &mut Report, fleet: &Fleet, published: &Published, clients: usize) {
    let (delivered, dropped) = (fleet.metric("callboard_events_delivered_total"), fleet.metric("callboard_events_dropped_total"));
    let (most, readers) = ((published.taken() * clients) as u64, (published.taken() * clients * 9 / 10) as u64);
    report.figure(format!("{delivered} delivered, {dropped} dropped"));
    report.claim(
        "delivered and dropped are no more than published times members, and no less than the readers' part",
        (readers..=most).contains(&(delivered + dropped)) && delivered >= readers,
    );
}

/// A publisher as fast as Redis lets it. What a node cannot route is announced and counted, to the last event. The twin takes no
/// notice. The quick tier's mailboxes are so small that they overflow, however fast the machine.
pub fn publisher_flood(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let events = trial.size(20_000, 500_000);
    let store = Store::start();
    let bound = trial.size("[mailbox]\nbridge = 16\nroom = 16\n", "");
    let fleet = Fleet::start(&format!("{bound}{}", rooms(100)), &[store.url(), store.url()]);
    let all: Vec<Room> = (0..4).map(Room).collect();
    let plan = |client: usize| Plan { roams: false, ..Plan::new(client, vec![all[client % all.len()]]) };
    let mut crowd = Crowd::gather(&fleet.board, (0..20).map(plan));
    crowd.waiting = trial.size(16 + 16 + 256, crowd.waiting);
    let began = std::time::Instant::now();
    let published = Load { count: events, ..Load::new(&[store.door()], &all, trial.size(0, 50_000)) }.start().wait();
    report.figure(format!("{:.0} events/s published", published.taken() as f64 / began.elapsed().as_secs_f64()));
    crowd.settle(&published);
    report.books(crowd.tally(&published, trial.has_cure));
    fleet.wait_until_ready();
    if trial.has_cure {
        (0..fleet.hubs.len()).for_each(|node| reconcile_node(&mut report, &crowd, &fleet, node, &published));
    }
    report
}

/// published × members = delivered + dropped, to the last event, at a node where nobody was cut off.
fn reconcile_node(report: &mut Report, crowd: &Crowd, fleet: &Fleet, node: usize, published: &Published) {
    let members: Vec<_> = crowd.clients.iter().filter(|client| client.plan.home % fleet.hubs.len() == node).collect();
    if members.iter().any(|client| client.returns() > 0) {
        return;
    }
    let of_room = |room: &Room| members.iter().filter(|client| client.plan.rooms.contains(room)).count();
    let due: usize = published.0.iter().map(|(room, numbers)| of_room(room) * numbers.len()).sum();
    let metrics = fleet.hub(node).get("/metrics").text();
    let (delivered, dropped) = (sum(&metrics, "callboard_events_delivered_total"), sum(&metrics, "callboard_events_dropped_total"));
    let what = format!("at node {node} published times members, {due}, is {delivered} delivered and {dropped} dropped");
    report.figure(&what);
    report.claim(&what, delivered + dropped == due as u64);
}
