//! SIGTERM under polls: their clients are told, none is left waiting, and none is told to stay away.

use std::thread;

use super::{
    shared::eventually,
    support::{Answer, Hub, answer},
};

fn hub() -> Hub {
    Hub::start(&[("CALLBOARD_SERVER__DRAIN", "1s"), ("CALLBOARD_SOCKETIO__PING_INTERVAL", "1h")])
}

fn legacy_session(hub: &Hub) -> String {
    let sid = hub.get("/socket.io/1/").body.split(':').next().expect("an id").to_owned();
    let path = format!("/socket.io/1/xhr-polling/{sid}");
    assert_eq!(hub.get(&path).body, "1::");
    path
}

/// What polls that wait are answered with while the hub ends.
fn last_answers<const N: usize>(hub: &mut Hub, paths: [&str; N]) -> [Answer; N] {
    let waiting = paths.map(|path| {
        let poll = hub.ask("GET", path, "", b"");
        thread::spawn(move || answer(poll))
    });
    hub.node.terminate();
    let answers = waiting.map(|poll| poll.join().expect("an answer"));
    assert_eq!(hub.node.process.wait().code(), Some(0));
    answers
}

#[test]
fn a_poll_that_waits_is_answered_with_the_end_of_its_session() {
    let mut hub = hub();
    let new = hub.session();
    let old = format!("/socket.io/?EIO=3&transport=polling&sid={}", hub.open("EIO=3&transport=polling"));
    assert_eq!(hub.get(&old).body, "2:40");
    let legacy = legacy_session(&hub);
    let answers = last_answers(&mut hub, [&new, &old, &legacy]).map(|answer| (answer.status, answer.body));
    // "noop" and "reconnect": the next poll meets a node that does not know the session. Told "disconnect" a client would stay
    // away, and python-socketio's if it were told "close".
    assert_eq!(answers, [(200, "6".to_owned()), (200, "1:6".to_owned()), (200, "7:::1+0".to_owned())]);
}

#[test]
fn what_waited_for_a_client_is_told_before_the_end() {
    let mut hub = hub();
    let path = hub.session();
    hub.post(&path, r#"42["subscribe","demo"]"#);
    assert_eq!(hub.get(&path).body, r#"42["joined","demo"]"#);
    hub.publish(r#"{"room":"demo","event":"last","data":1}"#);
    hub.node.terminate();
    let mut told = Vec::new();
    while told.last().is_none_or(|packet| packet != "6") {
        let answer = hub.get(&path);
        assert_eq!(answer.status, 200, "{answer:?} after {told:?}");
        told.extend(answer.body.split('\u{1e}').map(str::to_owned));
    }
    assert_eq!(told, [r#"42["last",1]"#, "6"]);
    assert_eq!(hub.node.process.wait().code(), Some(0));
}

#[test]
fn a_draining_hub_opens_no_session() {
    let hub = Hub::start(&[("CALLBOARD_SERVER__DRAIN", "1h")]);
    // One goodbye each 50 ms at most: these keep it draining.
    let held: Vec<_> = (0..400).map(|_| hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket")).collect();
    hub.node.terminate();
    let path = "/socket.io/?EIO=4&transport=polling";
    let refused = eventually("the handshake is refused", || {
        let answer = hub.get(path);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after"), "{refused:?}");
    assert_eq!(hub.web_socket("/socket.io/?EIO=4&transport=websocket").err(), Some(503));
    assert_eq!(hub.get("/socket.io/1/").status, 503);
    drop(held);
}
