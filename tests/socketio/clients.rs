//! The real clients, each doing what a page does: npm's socket.io-client as `sioc4`, `sioc3`, `sioc2` and `sioc0`, and
//! python-socketio's.

use std::process::Command;

use super::{shared::installed, support::Hub};

fn hub() -> Hub {
    Hub::start(&[("CALLBOARD_SOCKETIO__MAX_PAYLOAD", "4MB"), ("CALLBOARD_HTTP__CLIENT_RATE", "500/s")])
}

fn act_as_page(package: &str, transports: &[&str]) {
    installed("CALLBOARD_TEST_NODE_MODULES");
    let hub = hub();
    for transport in transports {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio/clients/page.cjs");
        let output = Command::new("node").args([page, package, &hub.url(), transport]).output().expect("node runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
    let python = installed("CALLBOARD_TEST_PYTHON");
    let hub = hub();
    for transports in ["websocket", "polling", "polling,websocket"] {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio/clients/page.py");
        let output = Command::new(&python).args([page, &hub.url(), transports]).output().expect("python runs");
        assert!(output.status.success(), "{transports}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
