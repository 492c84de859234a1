//! The official suites of github.com/socketio/socket.io, unchanged but for the address of the server. They are not ours to keep
//! here: ./scripts/test fetches the repository where it can be reached and names it in `CALLBOARD_TEST_SOCKETIO`. Elsewhere
//! the same rules are held by `conformance.rs` alone.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use super::shared::{hub::Setup, installed, unique_dir};

/// The suite of Engine.IO 3 begins to wait for the open packet only after the event of the open socket, and misses one that came
/// in the same segment as the handshake's answer. A case that is really broken fails each time.
const RETRIES: &str = "10";

/// The suite's folder in the repository, and how many of its cases pass.
fn check(suite: &str, cases: usize) {
    let Some(repository) = std::env::var_os("CALLBOARD_TEST_SOCKETIO") else {
        return eprintln!("skipped: CALLBOARD_TEST_SOCKETIO is not set, github.com/socketio/socket.io was not reached");
    };
    let (folder, own) = (Path::new(&repository).join("docs").join(suite), unique_dir("suite"));
    let hub = Setup::new("").argument("--conformance").start();
    let text = fs::read_to_string(folder.join("test-suite.js")).expect("the suite");
    assert!(text.contains("http://localhost:3000"), "the suite says where its server is");
    fs::write(own.join("test-suite.mjs"), text.replace("http://localhost:3000", &format!("http://{}", hub.address))).expect("a copy");
    fs::copy(folder.join("node-imports.js"), own.join("node-imports.js")).expect("a copy");
    fs::write(own.join("package.json"), r#"{"type":"module"}"#).expect("a copy");
    symlink(installed("CALLBOARD_TEST_NODE_MODULES"), own.join("node_modules")).expect("a link");
    let mocha = own.join("node_modules/mocha/bin/mocha");
    let output =
        Command::new("node").arg(mocha).args(["test-suite.mjs", "--exit", "--retries", RETRIES]).current_dir(&own).output().expect("node");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains(&format!("{cases} passing")), "{report}");
}

#[test]
fn engine_io_3_passes_its_suite() {
    check("engine.io-protocol/v3-test-suite", 23);
}

#[test]
fn engine_io_4_passes_its_suite() {
    check("engine.io-protocol/v4-test-suite", 25);
}

#[test]
fn socket_io_5_passes_its_suite() {
    check("socket.io-protocol/v5-test-suite", 32);
}
