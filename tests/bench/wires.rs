//! The generator speaks to the hub on every wire, to rooms and to users, and finds nothing wrong.

use super::{bench_for, faults, support::hub::Hub};

const SECRET: &str = "a-secret-for-tests-of-32-bytes-or-more";

fn assert_right(hub: &Hub, arguments: &[&str]) {
    assert_right_for("0.5", hub, arguments);
}

fn assert_right_for(seconds: &str, hub: &Hub, arguments: &[&str]) {
    let (report, output) = bench_for(seconds, hub.address, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert_eq!(faults(&report), [0; 4], "{arguments:?}");
    assert!(report["traffic"]["delivered"].as_u64().expect("a count") > 0, "{arguments:?}: {report}");
}

#[test]
fn every_wire_delivers_to_rooms_and_users_at_a_rate_and_in_a_closed_loop() {
    let hub = Hub::start(&format!("[auth.jwt]\nsecret = \"{SECRET}\""));
    let resp = format!("redis://127.0.0.1:{}", hub.resp);
    for wire in ["sse", "ws", "socketio"] {
        let common = ["--wire", wire, "-n", "20", "--via", &resp];
        assert_right(&hub, &[&common[..], &["--rooms", "4", "--rate", "200"]].concat());
        assert_right(&hub, &[&common[..], &["--closed-loop", "--burst", "5"]].concat());
        assert_right(&hub, &[&common[..], &["--users", "20", "--jwt-secret", SECRET, "--rate", "200"]].concat());
    }
}

#[test]
fn publishes_go_over_http_too() {
    let hub = Hub::start("");
    let via = format!("http://{}/api/publish", hub.address);
    assert_right(&hub, &["-n", "5", "--rate", "50", "--via", &via]);
}

#[test]
fn subscribers_that_never_read_cost_the_others_nothing() {
    let hub = Hub::start("[mailbox]\nconnection = 16\noverflow = \"drop-oldest\"\n[server]\nsend_buffer = \"16KiB\"");
    let via = format!("redis://127.0.0.1:{}", hub.resp);
    // A burst fits a mailbox, and the next comes when all have read it: only who never reads can overflow.
    let load = ["-n", "5", "--never-readers", "3", "--size", "16384", "--closed-loop", "--burst", "10", "--via", &via];
    // How many bursts half a second has room for is the machine's affair.
    let overflows = ["0.5", "5", "50"].into_iter().any(|seconds| {
        assert_right_for(seconds, &hub, &load);
        hub.metric(r#"callboard_events_dropped_total{reason="drop_oldest"}"#) > 0.0
    });
    assert!(overflows);
}
