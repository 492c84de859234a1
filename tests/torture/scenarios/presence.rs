//! Who is there, and above all who is not.

use std::time::Duration;

use serde_json::Value;

use crate::{
    crowd::patiently,
    fleet::{Store, pause},
    proxy::Proxy,
    support::{
        hub::{Hub, Setup, binary},
        stopwatch::{Reading, Stopwatch},
        unique_path,
        websocket::Socket,
    },
    trial::{Report, Trial},
};

const CONFIG: &str =
    "[server]\ndrain = \"1s\"\n[auth.jwt]\nsecret = \"a secret of thirty-two characters\"\n[[room]]\nmatch = \"*\"\npresence = true\n";
/// What is promised of the members of a dead node, and of one that is cut off.
const GHOSTS_GONE: Duration = Duration::from_secs(15);
/// After a split, until all nodes list the same members.
const AGREED: Duration = Duration::from_secs(2);

fn member(hub: &Hub, user: &str) -> Socket {
    let config = unique_path("token.toml");
    std::fs::write(&config, CONFIG).expect("a file");
    let mut command = binary();
    command.arg("token").arg("--config").arg(&config).args(["--user", user]);
    let token = String::from_utf8(command.output().expect("a token").stdout).expect("UTF-8");
    let mut socket = Socket::open(hub.address, &format!("/ws?room=hall&token={}", token.trim()));
    socket.expect("welcome");
    socket.expect("joined");
    socket
}

fn members(hub: &Hub) -> Vec<String> {
    let answer = hub.get("/api/rooms/hall").json();
    let mut names: Vec<_> =
        answer["members"].as_array().into_iter().flatten().filter_map(|member| member["user"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// What its member is told, until somebody of this name has left.
fn notices_until_left(socket: &mut Socket, user: &str) -> Vec<Value> {
    let names = |notice: &Value| notice["left"].as_array().is_some_and(|users| users.iter().any(|known| known == user));
    let mut notices: Vec<Value> = Vec::new();
    while !notices.last().is_some_and(names) {
        notices.push(socket.next());
    }
    notices
}

/// A node is killed, another is cut off from Redis and heals, and all are restarted one by one; whoever is not there is not
/// listed. The twin looks before the time is over in which a node counts as alive: that is what a ghost looks like.
pub fn presence_converges(trial: &mut Trial) -> Report {
    let mut report = Report::default();
    let store = Store::start();
    let wire = Proxy::start(store.port);
    let node = |url: String| Setup::new(CONFIG).variable("REDIS_URL", &url).start();
    let (here, far, doomed) = (node(store.url()), node(wire.url()), node(store.url()));
    let mut alice = member(&here, "alice");
    let (mut bob, _carol) = (member(&far, "bob"), member(&doomed, "carol"));
    for hub in [&here, &far, &doomed] {
        patiently("all see all", || members(hub) == ["alice", "bob", "carol"]);
    }
    let processes = || [here.process.pid(), far.process.pid()].into_iter().chain(store.process());
    let watch = Stopwatch::start(processes());
    drop(doomed);
    wire.cut(true);
    if !trial.has_cure {
        pause(1_000);
        report.claim("there are no ghosts", members(&here) == ["alice"]);
        return report;
    }
    patiently("the dead and the far are gone", || members(&here) == ["alice"]);
    report.promise("ghosts are gone after kill -9 and netsplit", watch.read(), GHOSTS_GONE);
    notices_until_left(&mut alice, "carol");
    report.claim("who is cut off shows all as they were", members(&far) == ["alice", "bob", "carol"]);
    let watch = Stopwatch::start(processes());
    wire.cut(false);
    for hub in [&here, &far] {
        patiently("the split heals", || members(hub) == ["alice", "bob"]);
    }
    report.promise("all agree when the split has healed", watch.read(), AGREED);
    let told = notices_until_left(&mut bob, "carol");
    let is_false = |notice: &Value| notice["left"].as_array().is_some_and(|users| users.iter().any(|user| user != "carol"));
    report.claim(&format!("who is cut off takes nobody for dead who is not: {told:?}"), !told.iter().any(is_false));
    roll(&mut report, &store, here, far, trial.size(1, 5));
    report
}

/// Restarts one node after the other, in the way of an upgrade; the members move.
fn roll(report: &mut Report, store: &Store, here: Hub, far: Hub, rounds: usize) {
    let mut hubs = [here, far];
    let mut slowest = Reading::default();
    for round in 0..rounds * 2 {
        let fresh = Setup::new(CONFIG).variable("REDIS_URL", &store.url()).start();
        let _moved = member(&fresh, "dora");
        let mut old = std::mem::replace(&mut hubs[round % 2], fresh);
        old.terminate();
        report.claim("a drained node ends with 0", old.process.wait().code() == Some(0));
        let watch = Stopwatch::start(hubs.iter().map(|hub| hub.process.pid()));
        let expected: &[&str] = if round == 0 { &["bob", "dora"] } else { &["dora"] };
        for hub in &hubs {
            patiently("only those who are there are listed", || members(hub) == expected);
        }
        slowest = slowest.or_slower(watch.read());
    }
    report.figure(format!("{} nodes restarted", rounds * 2));
    report.promise("nobody haunts a rolling restart", slowest, GHOSTS_GONE);
}
