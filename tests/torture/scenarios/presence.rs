//! Who is there, and above all who is not.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    crowd::patiently,
    fleet::{Store, pause},
    proxy::Proxy,
    support::{
        hub::{Hub, Setup, binary},
        unique_path,
        websocket::Socket,
    },
    trial::{Report, Trial},
};

const CONFIG: &str =
    "[server]\ndrain = \"1s\"\n[auth.jwt]\nsecret = \"a secret of thirty-two characters\"\n[[room]]\nmatch = \"*\"\npresence = true\n";
/// The promise is 15 s; the rest is for a machine with other things to do.
const GHOSTS_GONE: Duration = Duration::from_secs(20);

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

fn notices(socket: &mut Socket, kind: &str, user: &str) -> usize {
    socket.set_read_timeout(Duration::from_secs(20));
    loop {
        let message: Value = socket.next();
        let named = message[kind].as_array().is_some_and(|users| users.iter().any(|known| known == user));
        if named {
            return 1;
        }
    }
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
    let (_bob, _carol) = (member(&far, "bob"), member(&doomed, "carol"));
    for hub in [&here, &far, &doomed] {
        patiently("all see all", || members(hub) == ["alice", "bob", "carol"]);
    }
    drop(doomed);
    wire.cut(true);
    let began = Instant::now();
    if !trial.has_cure {
        pause(1_000);
        report.claim("there are no ghosts", members(&here) == ["alice"]);
        return report;
    }
    patiently("the dead and the far are gone", || members(&here) == ["alice"]);
    let gone = began.elapsed();
    report.figure(format!("gone {:.1} s after kill -9 and netsplit", gone.as_secs_f64()));
    report.claim("ghosts are gone in time", gone < GHOSTS_GONE);
    notices(&mut alice, "left", "carol");
    wire.cut(false);
    let began = Instant::now();
    for hub in [&here, &far] {
        patiently("the split heals", || members(hub) == ["alice", "bob"]);
    }
    report.figure(format!("agreed {:.1} s after the split healed", began.elapsed().as_secs_f64()));
    roll(&mut report, &store, here, far, trial.size(1, 5));
    report
}

/// Restarts one node after the other, in the way of an upgrade; the members move.
fn roll(report: &mut Report, store: &Store, here: Hub, far: Hub, rounds: usize) {
    let mut hubs = [here, far];
    for round in 0..rounds * 2 {
        let fresh = Setup::new(CONFIG).variable("REDIS_URL", &store.url()).start();
        let _moved = member(&fresh, "dora");
        let mut old = std::mem::replace(&mut hubs[round % 2], fresh);
        old.terminate();
        report.claim("a drained node ends with 0", old.process.wait().code() == Some(0));
        let began = Instant::now();
        let expected: &[&str] = if round == 0 { &["bob", "dora"] } else { &["dora"] };
        for hub in &hubs {
            patiently("only those who are there are listed", || members(hub) == expected);
        }
        report.claim("nobody haunts a rolling restart", began.elapsed() < GHOSTS_GONE);
    }
    report.figure(format!("{} nodes restarted", rounds * 2));
}
