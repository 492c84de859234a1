//! Rules of rooms on every wire: who may join, who may publish, and that a refusal tells nothing of the room.

use serde_json::json;

use super::{
    socketio::{Client, Kind, Way},
    support::{Hub, WITH_TOKENS, now, sign, token},
};

const ROOMS: &str = "
[[room]]
match = 'open/*'
publish = 'members'
[[room]]
match = 'users/*'
join = 'user'
publish = 'user'
[[room]]
match = 'team/*'
join = 'granted'
publish = 'granted'
[[room]]
match = 'quiet/*'
join = 'anyone'
publish = 'nobody'
[[room]]
match = '*'
join = 'user'
publish = 'granted'
";

/// Patterns that a token lets its bearer join, and publish to.
type Grants = (&'static [&'static str], &'static [&'static str]);

const NOBODY: Option<Grants> = None;
const ALICE: Option<Grants> = Some((&[], &[]));
const TEAM_7: Option<Grants> = Some((&["team/7"], &["team/7"]));
const TEAMS: Option<Grants> = Some((&["team/*"], &[]));
const WRITER: Option<Grants> = Some((&[], &["team/*", "other"]));
const ALL: Option<Grants> = Some((&["*"], &["*"]));

/// Whose token grants what, the room, and whether it may join, and publish after it tried to.
#[rustfmt::skip]
const CASES: [(Option<Grants>, &str, bool, bool); 40] = [
    (NOBODY, "open/1", true, true), (ALICE, "open/1", true, true), (TEAM_7, "open/1", true, true), (ALL, "open/1", true, true),
    (NOBODY, "open/", true, true), (NOBODY, "open", false, false), (ALICE, "open", true, false), (ALL, "open", true, true),
    (NOBODY, "users/1", false, false), (ALICE, "users/1", true, true), (TEAM_7, "users/1", true, true), (WRITER, "users/1", true, true),
    (NOBODY, "team/7", false, false), (ALICE, "team/7", false, false), (TEAM_7, "team/7", true, true), (TEAMS, "team/7", true, false),
    (WRITER, "team/7", false, true), (ALL, "team/7", true, true), (TEAM_7, "team/8", false, false), (TEAMS, "team/8", true, false),
    (WRITER, "team/8", false, true), (TEAM_7, "team/77", false, false), (TEAM_7, "team/", false, false), (TEAMS, "team/", true, false),
    (TEAM_7, "Team/7", true, false), (TEAM_7, "team/7/x", false, false), (TEAMS, "team/7/x", true, false), (TEAM_7, "xteam/7", true, false),
    (NOBODY, "quiet/1", true, false), (ALICE, "quiet/1", true, false), (ALL, "quiet/1", true, false), (WRITER, "quiet/1", true, false),
    (NOBODY, "other", false, false), (ALICE, "other", true, false), (WRITER, "other", true, true), (ALL, "other", true, true),
    (NOBODY, "chat/lobby", false, false), (ALL, "chat/lobby", true, true), (TEAMS, "chat/lobby", true, false), (ALL, "grün 7", true, true),
];

fn token_with((join, publish): Grants) -> String {
    token(&json!({ "sub": "alice", "exp": now() + 600, "join": join, "publish": publish }))
}

#[test]
fn every_socket_io_goes_by_the_rules() {
    let hub = Hub::start(&format!("{WITH_TOKENS}{ROOMS}"));
    for (grants, room, may_join, may_publish) in CASES {
        let token = grants.map(token_with);
        for kind in Kind::ALL {
            let mut client = Client::connect(&hub, kind, token.as_ref().map(|token| (Way::Query, token.as_str()))).expect("a good token");
            for (what, arguments, is_allowed) in [("subscribe", json!([room]), may_join), ("e", json!([room, 1]), may_publish)] {
                let answer = client.call(what, &arguments);
                assert_eq!(answer["ok"] == true, is_allowed, "{kind:?}: {what} {grants:?} {room}: {answer}");
                if !is_allowed {
                    assert_eq!(answer["error"]["code"], "forbidden", "{kind:?}: {what} {room}");
                }
            }
        }
    }
}

#[test]
fn every_wire_goes_by_the_rules() {
    let hub = Hub::start(&format!("{WITH_TOKENS}{ROOMS}"));
    for (grants, room, may_join, may_publish) in CASES {
        let token = grants.map(token_with);
        let bearer = token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        let encoded: String = form_urlencoded::byte_serialize(room.as_bytes()).collect();
        let answer = hub.get(&format!("/sse?room={encoded}"), &headers);
        assert_eq!(answer.status, if may_join { 200 } else { 403 }, "SSE: {grants:?} {room}");
        let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
        let mut socket = hub.socket(&format!("/ws?room={token}"));
        socket.hear_type("welcome");
        socket.say(&json!({ "type": "join", "room": room, "ref": 1 }));
        let joined = socket.hear().expect("an answer");
        assert_eq!(joined["type"], if may_join { "joined" } else { "error" }, "WebSocket: {grants:?} {room}: {joined}");
        socket.say(&json!({ "type": "publish", "room": room, "event": "e", "data": 1, "ref": 2 }));
        let answer = loop {
            let answer = socket.hear().expect("an answer");
            if answer["type"] != "event" {
                break answer;
            }
        };
        assert_eq!(answer["type"], if may_publish { "ack" } else { "error" }, "publish: {grants:?} {room}: {answer}");
    }
}

#[test]
fn a_refusal_is_the_same_whether_the_room_exists_or_not() {
    let hub = Hub::start(&format!("{WITH_TOKENS}{ROOMS}"));
    let member = token(&json!({ "sub": "bob", "exp": now() + 600, "join": ["team/*"] }));
    let _member = hub.get("/sse?room=team/1", &[("Authorization", &format!("Bearer {member}"))]);
    let [existing, missing] = ["/sse?room=team/1", "/sse?room=team/2"].map(|path| hub.get(path, &[]).text());
    assert_eq!(existing, missing);
    assert!(existing.contains("team/*"), "{existing}");
}

#[test]
fn a_signed_name_lets_its_bearer_into_that_room_alone() {
    let hub = Hub::start(&format!("{WITH_TOKENS}{ROOMS}"));
    let good = sign("team/7", now() + 600);
    let mut stream = hub.get(&format!("/sse?signed={good}"), &[]);
    assert_eq!(stream.status, 200);
    hub.publish("team/7", &json!("for the bearer"));
    assert!(stream.hears("for the bearer"));
    let mut socket = hub.socket(&format!("/ws?signed={good}"));
    assert_eq!(socket.hear_type("joined")["room"], "team/7");
    socket.say(&json!({ "type": "join", "room": "team/8", "ref": 1 }));
    assert_eq!(socket.hear_type("error")["code"], "forbidden");
    for (bad, why) in [
        (sign("team/7", now() - 1), "expired"),
        (good.replace("team/7", "team/8"), "signature"),
        (sign("team/*", now() + 600), "star"),
        ("team/7".to_owned(), "NAME~EXPIRY~SIGNATURE"),
    ] {
        let answer = hub.get(&format!("/sse?signed={bad}"), &[]);
        assert_eq!(answer.status, 403, "{bad}");
        let text = answer.text();
        assert!(text.contains(why), "{text}");
    }
}
