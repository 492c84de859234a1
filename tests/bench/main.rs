//! `callboard bench` from outside: where a hub is right it finds no fault, and where a server is wrong it finds just that.

mod faults;
mod server;
mod wires;

#[path = "../support/mod.rs"]
mod support;

use std::process::Output;

use serde_json::Value;

/// Runs a short measurement and gives its report, with how the program ended.
fn bench(server: std::net::SocketAddr, arguments: &[&str]) -> (Value, Output) {
    bench_for("0.5", server, arguments)
}

/// As `bench`, but for so many seconds.
fn bench_for(seconds: &str, server: std::net::SocketAddr, arguments: &[&str]) -> (Value, Output) {
    let mut command = support::hub::binary();
    command.arg("bench").arg(format!("http://{server}")).args(["--json", "--seconds", seconds, "--warm-up-seconds", "0.1"]).args(arguments);
    let output = command.output().expect("the program starts");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output)
}

fn faults(report: &Value) -> [u64; 4] {
    ["lost", "doubled", "out_of_order", "misrouted"].map(|kind| report["faults"][kind].as_u64().expect("a count"))
}
