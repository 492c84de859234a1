//! Clients that are cut off and come back: by the id that they show in `auth`, and by Socket.IO's own recovery.

use std::process::Command;

use super::{
    shared::installed,
    support::{Hub, Socket},
};

const RECOVERY: (&str, &str) = ("CALLBOARD_SOCKETIO__RECOVERY", "true");

fn act_as_page(manner: &str, settings: &[(&str, &str)]) {
    installed("CALLBOARD_TEST_NODE_MODULES");
    let hub = Hub::start(settings);
    for transport in ["websocket", "polling", "polling,websocket"] {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio/clients/recovery.cjs");
        let output = Command::new("node").args([page, manner, &hub.url(), transport]).output().expect("node runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn socket_io_client_recovers_what_the_history_holds_and_is_told_where_it_holds_not_all() {
    act_as_page("recovered", &[RECOVERY, ("CALLBOARD_HTTP__CLIENT_RATE", "500/s")]);
}

#[test]
fn socket_io_client_shows_its_last_id_and_gets_what_it_missed() {
    act_as_page("since", &[("CALLBOARD_HTTP__CLIENT_RATE", "500/s")]);
}

fn engine(hub: &Hub) -> Socket {
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    socket
}

/// The answer to a connect packet.
fn connect(socket: &mut Socket, auth: &str) -> serde_json::Value {
    socket.send(&format!("40{auth}"));
    let answer = socket.text();
    serde_json::from_str(answer.strip_prefix("40").unwrap_or_else(|| panic!("{answer}"))).expect("JSON")
}

/// The arguments of the event that comes, its name first.
fn event(socket: &mut Socket) -> Vec<serde_json::Value> {
    let text = socket.text();
    serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("{text}"))).expect("JSON")
}

#[test]
fn a_page_that_comes_back_before_the_hub_knows_that_it_was_gone_recovers_too() {
    let hub = Hub::start(&[RECOVERY]);
    let mut old = engine(&hub);
    let pid = connect(&mut old, "")["pid"].as_str().expect("a name to recover by").to_owned();
    old.send(r#"42["subscribe","demo"]"#);
    let offset = event(&mut old)[2].as_str().expect("where it stands").to_owned();
    hub.publish(r#"{"room":"demo","event":"n","data":1}"#);
    let mut new = engine(&hub);
    let auth = serde_json::json!({ "pid": pid, "offset": offset }).to_string();
    assert_eq!(connect(&mut new, &auth)["pid"], *pid);
    assert_eq!(event(&mut new)[..2], [serde_json::json!("n"), serde_json::json!(1)]);
    hub.publish(r#"{"room":"demo","event":"n","data":2}"#);
    assert_eq!(event(&mut new)[1], 2);
    assert_eq!(event(&mut old)[1], 1);
    assert!(old.0.read().is_err(), "the old line is cut");
    let mut thief = engine(&hub);
    assert_ne!(connect(&mut thief, r#"{"pid":"unknown","offset":""}"#)["pid"], *pid);
}

#[test]
fn a_name_recovers_nothing_in_another_namespace_or_with_a_forged_offset() {
    let hub = Hub::start(&[RECOVERY]);
    for (namespace, offset) in [("/chat,", None), ("", Some("forged"))] {
        let mut old = engine(&hub);
        let pid = connect(&mut old, "")["pid"].as_str().expect("a name").to_owned();
        old.send(r#"42["subscribe","demo"]"#);
        let true_offset = event(&mut old)[2].as_str().expect("where it stands").to_owned();
        drop(old);
        let auth = serde_json::json!({ "pid": pid, "offset": offset.unwrap_or(&true_offset) });
        let mut new = engine(&hub);
        new.send(&format!("40{namespace}{auth}"));
        let answer = new.text();
        assert!(answer.contains(r#""pid":""#) && !answer.contains(&pid), "{answer}");
    }
}

/// A page subscribes room by room, and its line may break in between: what it then shows must not have forgotten the others.
#[test]
fn who_is_cut_off_before_it_is_in_all_its_rooms_again_keeps_its_place_in_each() {
    let hub = Hub::start(&[]);
    let mut page = engine(&hub);
    connect(&mut page, r#"{"since":null}"#);
    page.send(r#"42["subscribe","demo-a","demo-b"]"#);
    (0..2).for_each(|_| _ = event(&mut page));
    hub.publish(r#"{"room":"demo-b","event":"n","data":1}"#);
    let mut since = event(&mut page)[2].clone();
    drop(page);
    for number in 2..=4 {
        hub.publish(&format!(r#"{{"room":"demo-b","event":"n","data":{number}}}"#));
        let mut page = engine(&hub);
        connect(&mut page, &serde_json::json!({ "since": since }).to_string());
        page.send(r#"42["subscribe","demo-a"]"#);
        since = event(&mut page)[2].clone();
    }
    let mut page = engine(&hub);
    connect(&mut page, &serde_json::json!({ "since": since }).to_string());
    page.send(r#"42["subscribe","demo-a","demo-b"]"#);
    let said: Vec<_> = (0..5).map(|_| event(&mut page)).collect();
    let missed: Vec<_> = said.iter().filter(|event| event[0] == "n").map(|event| event[1].clone()).collect();
    assert_eq!(missed, [2, 3, 4], "{said:?}");
}

#[test]
fn nobody_finds_an_argument_more_who_did_not_ask_for_it() {
    let hub = Hub::start(&[]);
    let mut plain = hub.connected();
    plain.send(r#"42["subscribe","demo"]"#);
    assert_eq!(plain.text(), r#"42["joined","demo"]"#);
    let mut asking = engine(&hub);
    assert!(connect(&mut asking, r#"{"since":null}"#).get("pid").is_none());
    asking.send(r#"42["subscribe","demo","plain"]"#);
    let joined = [event(&mut asking), event(&mut asking)];
    let [demo, other] = if joined[0][1] == "demo" { joined } else { [joined[1].clone(), joined[0].clone()] };
    assert!(demo[2].is_string() && other[2].is_null(), "{demo:?} {other:?}");
    hub.publish(r#"{"room":"demo","event":"n","data":"x"}"#);
    hub.publish(r#"{"room":"plain","event":"n","data":"y"}"#);
    assert_eq!(plain.text(), r#"42["n","x"]"#);
    let numbered = event(&mut asking);
    assert!(numbered[1] == "x" && numbered[2].is_string() && numbered[2] != demo[2], "{numbered:?}");
    assert_eq!(event(&mut asking)[1..], [serde_json::json!("y"), serde_json::Value::Null]);
    let old = hub.web_socket("/socket.io/?EIO=3&transport=websocket");
    let mut old = old.expect("a WebSocket");
    assert!(old.text().starts_with('0') && old.text() == "40");
    old.send(r#"42["subscribe","demo"]"#);
    assert_eq!(old.text(), r#"42["joined","demo"]"#);
}
