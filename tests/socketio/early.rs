//! Clients that do not wait for answers, and in which order they are answered.

use super::support::Hub;

const FAST: (&str, &str) = ("CALLBOARD_HTTP__CLIENT_RATE", "1000/s");

#[test]
fn a_post_that_connects_subscribes_and_publishes_is_done_in_order() {
    let hub = Hub::start(&[FAST]);
    // Somebody is there already, as in any room that is in use. Who is the first may miss what it publishes before `joined`.
    let mut other = hub.connected();
    other.send(r#"42["subscribe","demo"]"#);
    assert_eq!(other.text(), r#"42["joined","demo"]"#);
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", hub.open("EIO=4&transport=polling"));
    let packets = ["40", r#"421["subscribe","demo"]"#, r#"422["n","demo",1]"#, r#"423["n","demo",2]"#];
    assert_eq!(hub.post(&path, packets.join("\u{1e}")).body, "ok");
    let mut told: Vec<String> = Vec::new();
    while ["433", "432", "431"].iter().any(|ack| !told.iter().any(|packet| packet.starts_with(ack))) {
        told.extend(hub.get(&path).body.split('\u{1e}').map(str::to_owned));
    }
    assert!(told[0].starts_with(r#"40{"sid""#), "{told:?}");
    let place = |packet: &str| told.iter().position(|known| known == packet).expect(packet);
    assert!(place(r#"42["joined","demo"]"#) < place(r#"431[{"ok":true}]"#), "{told:?}");
    assert_eq!([other.text(), other.text()], [r#"42["n",1]"#, r#"42["n",2]"#]);
}

#[test]
fn one_segment_of_frames_connects_and_speaks_on_several_namespaces() {
    let hub = Hub::start(&[FAST]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    for packet in ["40", r#"421["subscribe","demo"]"#, "40/chat,", r#"42/chat,2["subscribe","lobby"]"#, "41/chat,"] {
        socket.0.write(packet.into()).expect("a buffer");
    }
    socket.0.flush().expect("the hub reads");
    assert!(socket.text().starts_with('0'));
    let mut told: Vec<String> = (0..4).map(|_| socket.text()).collect();
    told.iter_mut().filter(|packet| packet.starts_with("40")).for_each(|packet| packet.truncate(packet.find('{').unwrap_or(0)));
    told.sort();
    assert_eq!(told, ["40", "40/chat,", r#"42["joined","demo"]"#, r#"431[{"ok":true}]"#]);
}

#[test]
fn a_client_of_protocol_4_speaks_before_it_is_told_that_it_is_connected() {
    let hub = Hub::start(&[FAST]);
    let path = format!("/socket.io/?EIO=3&transport=polling&sid={}", hub.open("EIO=3&transport=polling"));
    let packets = [r#"421["subscribe","demo-x"]"#, "40/chat,", r#"42/chat,["subscribe","a"]"#];
    let body: String = packets.map(|packet| format!("{}:{packet}", packet.len())).concat();
    assert_eq!(hub.post(&path, body).body, "ok");
    let mut told = String::new();
    while !(told.contains(r#"["joined","demo-x"]"#) && told.contains(r#"42/chat,["joined","a"]"#)) {
        told += &hub.get(&path).body;
    }
}

#[test]
fn joined_comes_before_the_answer_and_left_too() {
    let hub = Hub::start(&[FAST]);
    let mut socket = hub.connected();
    for n in 0..100 {
        let room = if n % 2 == 0 { "plain" } else { "demo" };
        socket.send(&format!(r#"42{n}["subscribe","{room}"]"#));
        assert_eq!([socket.text(), socket.text()], [format!(r#"42["joined","{room}"]"#), format!(r#"43{n}[{{"ok":true}}]"#)]);
        socket.send(&format!(r#"42{n}["unsubscribe","{room}"]"#));
        assert_eq!([socket.text(), socket.text()], [format!(r#"42["left","{room}"]"#), format!(r#"43{n}[{{"ok":true}}]"#)]);
    }
}
