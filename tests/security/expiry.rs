//! What ends, and what is renewed before it does.

use std::time::Duration;

use serde_json::json;

use super::{
    process::stopwatch::Stopwatch,
    socketio::{Client, Kind, Way},
    support::{Hub, WITH_TOKENS, eventually, now, sign, token, token_of},
};

/// Of a grant that is to end, in seconds: enough for its holders to come in before, on a slow machine too.
const LIFE: u64 = 6;
/// When it has ended, by a promise of two seconds and a clock that counts whole ones.
const ENDED: Duration = Duration::from_secs(LIFE + 2 + 1);

fn short_token(user: &str) -> String {
    token(&json!({ "sub": user, "exp": now() + LIFE }))
}

#[test]
fn a_connection_ends_with_its_grant() {
    let hub = Hub::start(WITH_TOKENS);
    let (watch, short) = (Stopwatch::start([hub.process.pid()]), short_token("alice"));
    let mut socket = hub.socket(&format!("/ws?token={short}"));
    let mut stream = hub.get(&format!("/sse?token={short}"), &[]);
    socket.hear_type("joined");
    assert_eq!(socket.hear(), Err((1008, "expired".to_owned())));
    assert!(!stream.hears("an end, and nothing else"));
    let took = watch.read();
    assert!(took.is_within(ENDED), "{took}");
    assert_eq!(hub.get(&format!("/sse?token={short}"), &[]).status, 401);
    let expired = r#"callboard_closes_total{wire="websocket",reason="expired"}"#;
    eventually("it is counted", || (hub.metric(expired) == 1.0).then_some(()));
}

#[test]
fn a_token_renews_the_grant_in_place_with_what_it_grants() {
    let rooms = "[[room]]\nmatch = 'team/*'\njoin = 'granted'";
    let hub = Hub::start(&format!("{WITH_TOKENS}{rooms}"));
    let mut renewed = hub.socket(&format!("/ws?room=&token={}", short_token("alice")));
    let mut forgotten = hub.socket(&format!("/ws?room=&token={}", short_token("bob")));
    let more = token(&json!({ "sub": "alice", "exp": now() + 600, "join": ["team/*"] }));
    renewed.say(&json!({ "type": "join", "room": "team/7", "ref": 0 }));
    assert_eq!(renewed.hear_type("error")["code"], "forbidden");
    renewed.say(&json!({ "type": "token", "token": more, "ref": 1 }));
    assert_eq!(renewed.hear_type("ack")["ref"], 1);
    // Its grant has ended, and so would the other's have.
    while forgotten.hear().is_ok() {}
    renewed.say(&json!({ "type": "join", "room": "team/7", "ref": 2 }));
    assert_eq!(renewed.hear_type("joined")["room"], "team/7");
}

#[test]
fn a_token_neither_takes_a_signed_room_away_nor_prolongs_it() {
    let hub = Hub::start(&format!("{WITH_TOKENS}[[room]]\nmatch = 'invoice/*'\njoin = 'granted'"));
    let watch = Stopwatch::start([hub.process.pid()]);
    let (signed, alice) = (sign("invoice/7", now() + LIFE), token_of("alice"));
    let mut socket = hub.socket(&format!("/ws?token={alice}&signed={signed}"));
    socket.hear_type("joined");
    socket.say(&json!({ "type": "token", "token": token(&json!({ "sub": "alice", "exp": now() + 900 })), "ref": 1 }));
    assert_eq!(socket.hear_type("ack")["ref"], 1);
    for (kind, answer) in [("leave", "left"), ("join", "joined")] {
        socket.say(&json!({ "type": kind, "room": "invoice/7" }));
        assert_eq!(socket.hear().expect("it is open")["type"], answer);
    }
    let mut session = hub.socket(&format!("/socket.io/?EIO=4&transport=websocket&signed={signed}")).0;
    let mut hear = |packet: String| {
        session.send(packet.into()).expect("it is open");
        session.read().expect("an answer").into_text().expect("a text").to_string()
    };
    assert!(hear(format!(r#"40{{"token":"{alice}"}}"#)).starts_with("0{"));
    assert!(hear(r#"42["subscribe","invoice/7"]"#.to_owned()).starts_with("40{"));
    assert_eq!(session.read().expect("a packet").into_text().expect("a text").as_str(), r#"42["joined","invoice/7"]"#);
    assert_eq!(socket.hear(), Err((1008, "expired".to_owned())));
    assert_eq!(session.read().expect("a packet").into_text().expect("a text").as_str(), "41");
    let took = watch.read();
    assert!(took.is_within(ENDED), "{took}");
}

#[test]
fn a_socket_io_session_ends_with_its_grant_unless_a_token_renews_it() {
    let hub = Hub::start(&format!("{WITH_TOKENS}[[room]]\nmatch = 'team/*'\njoin = 'granted'"));
    let watch = Stopwatch::start([hub.process.pid()]);
    let short = short_token("alice");
    let connect = |kind| Client::connect(&hub, kind, Some((Way::Query, short.as_str()))).expect("a good token");
    let mut renewed: Vec<Client<'_>> = Kind::ALL.into_iter().map(connect).collect();
    let forgotten: Vec<Client<'_>> = Kind::ALL.into_iter().map(connect).collect();
    let more = token(&json!({ "sub": "alice", "exp": now() + 600, "join": ["team/*"] }));
    for client in &mut renewed {
        for (bad, code) in [(json!(["forged"]), "unauthorized"), (json!([token_of("mallory")]), "forbidden"), (json!([7]), "bad_request")] {
            assert_eq!(client.call("callboard:token", &bad)["error"]["code"], code, "{bad}");
        }
        assert_eq!(client.call("subscribe", &json!(["team/7"]))["error"]["code"], "forbidden");
        assert_eq!(client.call("callboard:token", &json!([more])), json!({ "ok": true }));
    }
    for client in forgotten {
        let (kind, goodbye) = client.end();
        assert!(goodbye.starts_with("41") || goodbye.starts_with("0::"), "{kind:?} is told to stay away: {goodbye}");
    }
    let took = watch.read();
    assert!(took.is_within(ENDED), "{took}");
    for client in &mut renewed {
        assert_eq!(client.call("subscribe", &json!(["team/7"])), json!({ "ok": true }));
    }
}

#[test]
fn a_bad_token_renews_nothing_and_closes_nothing() {
    let hub = Hub::start(WITH_TOKENS);
    let mut socket = hub.socket(&format!("/ws?room=&token={}", token_of("alice")));
    for (bad, code) in [
        ("no token".to_owned(), "unauthorized"),
        (token(&json!({ "sub": "alice", "exp": now() - 1 })), "unauthorized"),
        (token_of("mallory"), "forbidden"),
    ] {
        socket.say(&json!({ "type": "token", "token": bad, "ref": 1 }));
        assert_eq!(socket.hear_type("error")["code"], code, "{bad}");
    }
    socket.say(&json!({ "type": "ping", "ref": 2 }));
    assert_eq!(socket.hear_type("pong")["ref"], 2);
}

#[test]
fn a_stream_that_the_server_side_ended_is_told_to_stay_away() {
    let hub = Hub::start(WITH_TOKENS);
    let alice = format!("Bearer {}", token_of("alice"));
    let headers = [("Authorization", alice.as_str())];
    let mut stream = hub.get("/sse", &headers);
    assert_eq!(stream.status, 200);
    assert_eq!(hub.send("POST", "/api/disconnect", &[], r#"{"user":"alice"}"#).text(), r#"{"connections":1}"#);
    assert!(stream.hears("id: callboard:disconnected") && stream.hears("event: callboard:disconnected"));
    assert!(!stream.hears("anything more than its data"));
    // An EventSource returns with its last id; a page that is loaded anew has none.
    let returning = [headers[0], ("Last-Event-ID", "callboard:disconnected")];
    assert_eq!(hub.get("/sse", &returning).status, 204);
    assert_eq!(hub.get("/sse?lastEventId=callboard:disconnected", &headers).status, 204);
    assert_eq!(hub.send("POST", "/sse", &headers, "Last-Event-ID=callboard%3Adisconnected").status, 204);
    assert_eq!(hub.get("/sse", &headers).status, 200);
    let mut socket = hub.socket(&format!("/ws?token={}", token_of("bob")));
    socket.hear_type("joined");
    hub.send("POST", "/api/disconnect", &[], r#"{"user":"bob"}"#);
    assert_eq!(socket.hear(), Err((1000, "disconnected".to_owned())));
}
