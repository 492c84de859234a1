//! The real clients, each doing what a page does: npm's socket.io-client as `sioc4`, `sioc3`, `sioc2` and `sioc0`, and
//! python-socketio's.

use std::process::Command;

use super::{
    shared::{
        eventually, free_port,
        hub::{self, Process, Setup},
        installed,
    },
    support::Hub,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio/clients");

/// Node or Python with one of the scripts beside this file.
pub fn client(package: &str, script: &str, url: &str, transports: &str) -> Command {
    let mut command = match package {
        "python" => Command::new(installed("CALLBOARD_TEST_PYTHON")),
        _ => Command::new("node"),
    };
    match package {
        "python" => command.arg(format!("{FOLDER}/{script}.py")),
        package => command.arg(format!("{FOLDER}/{script}.cjs")).arg(package),
    };
    command.args([url, transports]).env("CALLBOARD_TEST_NODE_MODULES", installed("CALLBOARD_TEST_NODE_MODULES"));
    command
}

pub fn succeeds(mut command: Command) {
    let output = command.output().expect("the client runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn act_as_page(package: &str, transports: &[&str]) {
    let hub = Hub::start(&[("CALLBOARD_SOCKETIO__MAX_PAYLOAD", "4MB"), ("CALLBOARD_HTTP__CLIENT_RATE", "500/s")]);
    for transport in transports {
        succeeds(client(package, "page", &hub.url(), transport));
    }
}

#[test]
fn socket_io_client_4_8_is_served_over_every_transport() {
    act_as_page("sioc4", &["websocket", "polling", "polling,websocket"]);
}

#[test]
fn socket_io_client_3_1_is_served_over_every_transport() {
    act_as_page("sioc3", &["websocket", "polling", "polling,websocket"]);
}

#[test]
fn socket_io_client_2_5_is_served_over_every_transport() {
    act_as_page("sioc2", &["websocket", "polling", "polling,websocket"]);
}

#[test]
fn socket_io_client_0_9_is_served_over_every_transport_that_runs_under_node() {
    act_as_page("sioc0", &["websocket", "xhr-polling"]);
}

#[test]
fn python_socketios_client_is_served_over_every_transport() {
    act_as_page("python", &["websocket", "polling", "polling,websocket"]);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_while_a_client_upgrades() {
    let hub = Hub::start(&[("CALLBOARD_HTTP__CLIENT_RATE", "1000/s")]);
    for package in ["sioc4", "sioc3", "sioc2"] {
        succeeds(client(package, "upgrade", &hub.url(), "polling,websocket"));
    }
}

/// A hub where the last one was, which a client finds by the same address.
fn start_at(port: u16) -> hub::Hub {
    let bind = format!(r#"["127.0.0.1:{port}"]"#);
    Setup::new("[server]\ndrain = \"1s\"").variable("CALLBOARD_SERVER__BIND", &bind).start()
}

/// Ends the hub by this signal and starts it again: every client comes back, joins and hears.
fn return_after(signal: &str) {
    let port = free_port();
    let mut hub = start_at(port);
    let polling = ["websocket", "polling", "polling,websocket"];
    let clients = [("sioc4", &polling[..]), ("sioc3", &polling), ("sioc2", &polling), ("python", &polling)];
    let legacy = ("sioc0", &["websocket", "xhr-polling"][..]);
    let mut clients: Vec<(String, Process)> = clients
        .into_iter()
        .chain([legacy])
        .flat_map(|(package, transports)| transports.iter().map(move |transport| (package, transport)))
        .map(|(package, transport)| {
            let command = client(package, "return", &format!("http://127.0.0.1:{port}"), transport);
            (format!("{package} over {transport}"), Process::spawn(command))
        })
        .collect();
    for round in 1..=2 {
        for (name, client) in &mut clients {
            eventually(&format!("{name} joins, {round}"), || (client.log().matches("joined").count() == round).then_some(()));
            assert!(client.is_running(), "{name}: {}", client.log());
        }
        hub.publish(&format!(r#"{{"room":"demo-return","event":"back","data":{round}}}"#));
        for (name, client) in &clients {
            eventually(&format!("{name} hears, {round}"), || client.log().contains(&format!("heard {round}")).then_some(()));
        }
        if round == 1 {
            hub.process.signal(signal);
            hub.process.wait();
            hub = start_at(port);
        }
    }
}

#[test]
fn every_client_comes_back_to_a_hub_that_was_killed() {
    return_after("KILL");
}

#[test]
fn every_client_comes_back_after_a_drain() {
    return_after("TERM");
}
