//! Each fault of a server is found, counted exactly, and makes the program fail.

use super::{
    bench, faults,
    server::{Fault, Server},
};

const SUBSCRIBERS: u64 = 3;

fn check(fault: Fault, expected: [u64; 4]) {
    let server = Server::start(fault);
    let via = format!("redis://127.0.0.1:{}", server.resp);
    let (report, output) = bench(server.http, &["-n", "3", "--rate", "100", "--patience-seconds", "5", "--via", &via]);
    assert_eq!(faults(&report), expected, "{fault:?}: {report}");
    let is_right = expected == [0; 4];
    assert_eq!(output.status.success(), is_right, "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).contains("wrong or missing"), !is_right, "{output:?}");
    assert!(report["latency_us"]["p99"].as_f64().expect("a percentile") > 0.0);
}

#[test]
fn a_server_without_a_fault_has_none() {
    check(Fault::None, [0; 4]);
}

#[test]
fn an_event_that_nobody_got_is_lost_for_each() {
    check(Fault::Loss, [SUBSCRIBERS, 0, 0, 0]);
}

#[test]
fn an_event_that_came_twice_is_a_double_for_each() {
    check(Fault::Double, [0, SUBSCRIBERS, 0, 0]);
}

#[test]
fn an_event_that_a_later_one_overtook_is_out_of_order_for_each_and_not_lost() {
    check(Fault::Disorder, [0, 0, SUBSCRIBERS, 0]);
}

#[test]
fn events_of_a_room_that_was_not_asked_for_are_misrouted() {
    let server = Server::start(Fault::None);
    let via = format!("redis://127.0.0.1:{}", server.resp);
    let (report, output) = bench(server.http, &["-n", "3", "--rooms", "3", "--rate", "100", "--via", &via]);
    let [lost, doubled, out_of_order, misrouted] = faults(&report);
    assert_eq!([lost, doubled, out_of_order], [0; 3], "{report}");
    assert!(misrouted > 0 && !output.status.success(), "{report}");
}

#[test]
fn a_loss_that_is_allowed_is_counted_but_no_failure() {
    let server = Server::start(Fault::Loss);
    let via = format!("redis://127.0.0.1:{}", server.resp);
    let (report, output) = bench(server.http, &["-n", "3", "--rate", "100", "--patience-seconds", "5", "--allow-loss", "--via", &via]);
    assert_eq!(faults(&report), [SUBSCRIBERS, 0, 0, 0]);
    assert!(output.status.success(), "{output:?}");
}
