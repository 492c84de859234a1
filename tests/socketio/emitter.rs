//! Backends that publish as they do beside Socket.IO's own servers: to whole namespaces, to all but some, and with orders.

use std::{ffi::OsStr, process::Command};

use serde_json::{Value, json};

use super::{
    shared::installed,
    support::{Hub, Socket},
};

const CONFIG: &str = r##"
[[source]]
channel = "socket.io#*"
dialect = "socket.io-emitter"
[[source]]
channel = "socketio"
dialect = "python-socketio"
control = true
"##;

/// A client in these rooms of a namespace, and its id.
fn client(hub: &Hub, namespace: &str, rooms: &[&str]) -> (Socket, String) {
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    let head = if namespace == "/" { String::new() } else { format!("{namespace},") };
    socket.send(&format!("40{head}"));
    let connected = socket.text();
    let named: Value = serde_json::from_str(&connected[connected.find('{').expect("JSON")..]).expect("JSON");
    for room in rooms {
        socket.send(&format!(r#"42{head}["subscribe","{room}"]"#));
        assert_eq!(socket.text(), format!(r#"42{head}["joined","{room}"]"#));
    }
    (socket, named["sid"].as_str().expect("an id").to_owned())
}

/// The names of the events that come, up to so many called `end`, in order.
fn heard(socket: &mut Socket, ends: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.iter().filter(|name| *name == "end").count() < ends {
        let text = socket.text();
        let packet: Value = text.find('[').and_then(|at| serde_json::from_str(&text[at..]).ok()).unwrap_or_else(|| json!([text]));
        names.push(packet[0].as_str().expect("a name").to_owned());
    }
    names
}

/// As above, from the namespace and a room: what comes of each is in order, and of both in any.
fn heard_apart(socket: &mut Socket, room: &[&str]) -> (Vec<String>, Vec<String>) {
    heard(socket, 2).into_iter().filter(|name| name != "end").partition(|name| !room.contains(&name.as_str()))
}

/// So many packets, in any order.
fn packets(socket: &mut Socket, number: usize) -> Vec<String> {
    let mut packets: Vec<String> = (0..number).map(|_| socket.text()).collect();
    packets.sort();
    packets
}

fn emit(port: u16, steps: &Value) {
    installed("CALLBOARD_TEST_NODE_MODULES");
    run("node", "emitter.cjs", port, steps);
}

fn publish(port: u16, steps: &Value) {
    run(installed("CALLBOARD_TEST_PYTHON"), "write_only.py", port, steps);
}

fn run(program: impl AsRef<OsStr>, script: &str, port: u16, steps: &Value) {
    let script = format!("{}/tests/socketio/publishers/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).args([script, port.to_string(), steps.to_string()]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_redis_emitter_reaches_a_namespace_and_leaves_out_whom_it_names() {
    let (hub, port) = Hub::configured(CONFIG);
    let (mut a, _) = client(&hub, "/", &["r1"]);
    let (mut b, b_sid) = client(&hub, "/", &["r1", "r3"]);
    let (mut chat, _) = client(&hub, "/chat", &[]);
    let mut native = hub.web_socket("/ws?room=r1").expect("a WebSocket");
    assert!(native.text().contains("welcome") && native.text().contains("joined"));
    let steps = json!([
        {"event": "all", "args": [{"a": 1}]},
        {"namespace": "/chat", "event": "chat"},
        {"except": ["r3"], "event": "not r3"},
        {"rooms": ["r1"], "except": ["r3"], "event": "r1 but r3"},
        {"except": [b_sid], "event": "not b"},
        {"rooms": ["r1", "r3"], "event": "both"},
        {"event": "end"},
        {"namespace": "/chat", "event": "end"},
        {"rooms": ["r1"], "event": "end"}
    ]);
    emit(port, &steps);
    let of_r1 = ["r1 but r3", "both"];
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(heard_apart(&mut a, &of_r1), (names(&["all", "not r3", "not b"]), names(&of_r1)));
    assert_eq!(heard_apart(&mut b, &of_r1), (names(&["all"]), names(&["both"])));
    assert_eq!(heard(&mut chat, 1), ["chat", "end"]);
    let names: Vec<Value> = (0..3).map(|_| serde_json::from_str::<Value>(&native.text()).expect("JSON")["event"].clone()).collect();
    assert_eq!(names, ["r1 but r3", "both", "end"], "a namespace is Socket.IO's");
}

#[test]
fn python_socketio_reaches_a_namespace_and_moves_its_clients() {
    let (hub, port) = Hub::configured(CONFIG);
    let (mut a, a_sid) = client(&hub, "/", &["r1"]);
    let (mut b, b_sid) = client(&hub, "/", &["r1"]);
    let (mut chat, chat_sid) = client(&hub, "/chat", &["lobby"]);
    let steps = json!([
        ["emit", ["all", 1], {"namespace": "/"}],
        ["emit", ["not b", "x"], {"namespace": "/", "skip_sid": b_sid}],
        ["emit", ["r1", "x"], {"namespace": "/", "room": "r1", "skip_sid": [b_sid]}],
        ["emit", ["chat", "x"], {"namespace": "/chat"}],
        ["enter_room", [a_sid, "/", "vip"], {}],
        ["enter_room", [chat_sid, "/chat", "vip"], {}],
        ["leave_room", [a_sid, "/", "r1"], {}],
        ["disconnect", [], {"sid": b_sid, "namespace": "/"}]
    ]);
    publish(port, &steps);
    let of_a = [r#"42["all",1]"#, r#"42["joined","vip"]"#, r#"42["left","r1"]"#, r#"42["not b","x"]"#, r#"42["r1","x"]"#];
    assert_eq!(packets(&mut a, 5), of_a);
    assert_eq!(packets(&mut b, 2), ["41", r#"42["all",1]"#]);
    assert_eq!(packets(&mut chat, 2), [r#"42/chat,["chat","x"]"#, r#"42/chat,["joined","vip"]"#]);
    publish(
        port,
        &json!([
            ["close_room", ["lobby", "/chat"], {}],
            ["emit", ["vip", 1], {"namespace": "/", "room": "vip"}],
            ["emit", ["after", 1], {"namespace": "/chat"}],
            ["emit", ["end", 1], {"namespace": "/", "room": "vip"}]
        ]),
    );
    assert_eq!(heard(&mut a, 1), ["vip", "end"]);
    assert_eq!(packets(&mut chat, 2), [r#"42/chat,["after",1]"#, r#"42/chat,["left","lobby"]"#]);
    b.send("40");
    assert!(b.text().starts_with(r#"40{"sid""#), "a client that was disconnected may connect again");
}

#[test]
fn a_client_that_leaves_its_namespace_hears_nothing_of_it() {
    let (hub, port) = Hub::configured(CONFIG);
    let (mut both, _) = client(&hub, "/", &[]);
    both.send("40/chat,");
    assert!(both.text().starts_with("40/chat,{"));
    let emit_both = json!([{"namespace": "/chat", "event": "chat"}, {"event": "end"}]);
    emit(port, &emit_both);
    assert_eq!(packets(&mut both, 2), [r#"42/chat,["chat"]"#, r#"42["end"]"#]);
    both.send("41/chat,");
    both.send(r#"421["subscribe","r"]"#);
    assert_eq!([both.text(), both.text()], [r#"42["joined","r"]"#, r#"431[{"ok":true}]"#]);
    emit(port, &emit_both);
    assert_eq!(heard(&mut both, 1), ["end"]);
}
