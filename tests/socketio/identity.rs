//! Who a Socket.IO client is: tokens in `auth`, in queries and headers, and what is refused.

use super::{
    shared::{eventually, hub::binary},
    support::{Hub, Socket, answer},
};

const SECRET: (&str, &str) = ("CALLBOARD_AUTH__JWT__SECRET", "0123456789abcdef0123456789abcdef");

fn token(user: &str) -> String {
    let output = binary().env(SECRET.0, SECRET.1).args(["token", "--user", user]).output().expect("callboard token");
    String::from_utf8(output.stdout).expect("a token").trim().to_owned()
}

#[test]
fn a_users_own_events_reach_the_root_namespace_of_whoever_shows_a_token() {
    let hub = Hub::start(&[SECRET]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    socket.send(&format!(r#"40{{"token":"{}"}}"#, token("alice")));
    assert!(socket.text().starts_with(r#"40{"sid""#));
    let old = hub.web_socket(&format!("/socket.io/?EIO=3&transport=websocket&token={}", token("alice")));
    let mut old = old.expect("a WebSocket");
    assert!(old.text().starts_with('0'));
    assert_eq!(old.text(), "40");
    hub.publish(r#"{"user":"alice","event":"hello","data":1}"#);
    assert_eq!(socket.text(), r#"42["hello",1]"#);
    assert_eq!(old.text(), r#"42["hello",1]"#);
}

#[test]
fn a_users_own_events_go_with_the_root_namespace_and_come_back_as_it_is_connected_then() {
    let hub = Hub::start(&[SECRET, ("CALLBOARD_BROKER__LINGER", "0s")]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    let alice = token("alice");
    let connect = |socket: &mut Socket, packet: &str| {
        socket.send(packet);
        let answer = socket.text();
        assert!(answer.starts_with(&packet[..packet.find('{').expect("an auth")]), "{answer}");
    };
    connect(&mut socket, &format!(r#"40{{"token":"{alice}"}}"#));
    // A newer token, of the same user, on a namespace that says nothing of the root's.
    connect(&mut socket, &format!(r#"40/chat,{{"token":"{}"}}"#, token("alice")));
    hub.publish(r#"{"user":"alice","event":"hello","data":1}"#);
    assert_eq!(socket.text(), r#"42["hello",1]"#);
    socket.send("41");
    eventually("nobody listens to the user", || (hub.metric("callboard_users") == "0").then_some(()));
    connect(&mut socket, &format!(r#"40{{"token":"{alice}","since":""}}"#));
    hub.publish(r#"{"user":"alice","event":"hello","data":2}"#);
    assert_eq!(socket.text(), r#"42["hello",2,null]"#);
    // At once: what was spelled for the connection before must not be kept for this one.
    socket.send("41");
    connect(&mut socket, &format!(r#"40{{"token":"{alice}"}}"#));
    hub.publish(r#"{"user":"alice","event":"hello","data":3}"#);
    assert_eq!(socket.text(), r#"42["hello",3]"#);
}

#[test]
fn a_bad_token_is_a_connect_error_even_where_anyone_may_connect() {
    let hub = Hub::start(&[SECRET]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    socket.send(r#"40{"token":"forged"}"#);
    let refused = socket.text();
    assert!(refused.starts_with(r#"44{"#) && refused.contains(r#""message":"unauthorized""#), "{refused}");
    socket.send("40");
    assert!(socket.text().starts_with(r#"40{"sid""#), "without a token it is anybody");
    socket.send(&format!(r#"40/a,{{"token":"{}"}}"#, token("alice")));
    assert!(socket.text().starts_with("40/a,{"));
    socket.send(&format!(r#"40/b,{{"token":"{}"}}"#, token("bob")));
    assert!(socket.text().starts_with("44/b,{"), "a connection is one user's");
}

#[test]
fn where_nobody_is_anonymous_a_namespace_wants_a_token() {
    let hub = Hub::start(&[SECRET, ("CALLBOARD_AUTH__ANONYMOUS", "false")]);
    let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    socket.send("40");
    assert!(socket.text().contains(r#""message":"unauthorized""#));
    socket.send(&format!(r#"40{{"token":"{}"}}"#, token("alice")));
    assert!(socket.text().starts_with(r#"40{"sid""#));
    let mut old = hub.web_socket("/socket.io/?EIO=3&transport=websocket").expect("a WebSocket");
    assert!(old.text().starts_with('0'));
    assert!(old.text().starts_with("44{"));
    assert_eq!(hub.get("/socket.io/1/").status, 403);
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    assert_eq!(answer(hub.ask("GET", "/socket.io/1/", &bearer, b"")).status, 200);
}

#[test]
fn a_session_whose_namespace_is_refused_unasked_is_closed_and_another_is_not() {
    let hub = Hub::start(&[SECRET, ("CALLBOARD_AUTH__ANONYMOUS", "false"), ("CALLBOARD_SOCKETIO__CONNECT_TIMEOUT", "1s")]);
    let path = format!("/socket.io/?EIO=3&transport=websocket&token={}", token("alice"));
    let mut welcome = hub.web_socket(&path).expect("a WebSocket");
    assert!(welcome.text().starts_with('0'));
    assert_eq!(welcome.text(), "40");
    let mut refused = hub.web_socket("/socket.io/?EIO=3&transport=websocket").expect("a WebSocket");
    assert!(refused.text().starts_with('0'));
    assert!(refused.text().starts_with("44"));
    assert_eq!(refused.close_code(), 1001);
    let path = format!("/socket.io/?EIO=3&transport=polling&sid={}", hub.open("EIO=3&transport=polling"));
    assert!(hub.get(&path).body.contains(":44"));
    assert_eq!(hub.get(&path).body, "1:6");
    assert_eq!(hub.get(&path).status, 400);
    welcome.send("2");
    assert_eq!(welcome.text(), "3");
}

#[test]
fn the_application_puts_a_user_into_a_room_and_takes_it_out() {
    let hub = Hub::start(&[SECRET]);
    let mut socket = hub.web_socket(&format!("/socket.io/?EIO=3&transport=websocket&token={}", token("alice"))).expect("a WebSocket");
    assert!(socket.text().starts_with('0'));
    assert_eq!(socket.text(), "40");
    let order = |path| assert_eq!(hub.post(path, r#"{"user":"alice","room":"vip"}"#).status, 200);
    order("/api/join");
    assert_eq!(socket.text(), r#"42["joined","vip"]"#);
    hub.publish(r#"{"room":"vip","event":"n","data":1}"#);
    assert_eq!(socket.text(), r#"42["n",1]"#);
    order("/api/leave");
    assert_eq!(socket.text(), r#"42["left","vip"]"#);
}

#[test]
fn a_user_who_shows_a_token_in_auth_counts_among_its_connections_and_the_refused_are_counted() {
    let hub = Hub::start(&[SECRET, ("CALLBOARD_SERVER__MAX_CONNECTIONS_PER_USER", "1")]);
    let connect = |user: &str| {
        let mut socket = hub.web_socket("/socket.io/?EIO=4&transport=websocket").expect("a WebSocket");
        assert!(socket.text().starts_with('0'));
        socket.send(&format!(r#"40{{"token":"{}"}}"#, token(user)));
        let answer = socket.text();
        (socket, answer)
    };
    let (mut first, answer) = connect("alice");
    assert!(answer.starts_with(r#"40{"sid""#), "{answer}");
    first.send(&format!(r#"40/chat,{{"token":"{}"}}"#, token("alice")));
    assert!(first.text().starts_with("40/chat,{"), "it is the same connection");
    let (mut second, answer) = connect("alice");
    assert!(answer.starts_with("44{") && answer.contains(r#""message":"too_many_connections""#), "{answer}");
    assert!(connect("bob").1.starts_with(r#"40{"sid""#));
    assert_eq!(hub.metric(r#"callboard_refusals_total{wire="socketio",reason="too_many_connections"}"#), "1");
    drop(first);
    // The hub hears of the end in its own time.
    loop {
        second.send(&format!(r#"40{{"token":"{}"}}"#, token("alice")));
        if second.text().starts_with("40") {
            break;
        }
    }
    assert_eq!(answer_of_a_stranger(&hub), 403);
    assert_eq!(hub.metric(r#"callboard_refusals_total{wire="socketio",reason="forbidden"}"#), "1");
}

fn answer_of_a_stranger(hub: &Hub) -> u16 {
    answer(hub.ask("GET", "/socket.io/?EIO=4&transport=polling", "Origin: https://evil.test\r\n", b"")).status
}
