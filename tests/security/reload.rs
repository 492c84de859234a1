//! SIGHUP: what changes, what stays, and that a mistake changes nothing.

use serde_json::json;

use super::support::{Hub, SECRET, WITH_TOKENS, eventually, token_of};

const OTHER: &str = "[auth.jwt]\nsecret = 'another-secret-of-at-least-32-bytes'\nleeway = '0s'\n";
const READ_AGAIN: &str = "the configuration was read again";

fn reread(hub: &Hub, config: &str) {
    let before = hub.log().matches(READ_AGAIN).count();
    hub.reload(config);
    eventually(READ_AGAIN, || (hub.log().matches(READ_AGAIN).count() > before).then_some(()));
}

#[test]
fn keys_origins_rules_and_limits_change_and_nobody_is_dropped() {
    let hub = Hub::start(WITH_TOKENS);
    let token = token_of("alice");
    let path = format!("/sse?room=r&token={token}");
    let mut stream = hub.get(&path, &[]);
    let mut socket = hub.socket(&format!("/ws?room=r&token={token}"));
    socket.hear_type("joined");
    assert_eq!(stream.status, 200);

    reread(&hub, OTHER);
    assert_eq!(hub.get(&path, &[]).status, 401, "the key");
    reread(&hub, &format!("{WITH_TOKENS}[http]\nallowed_origins = ['https://app.test']\n"));
    assert_eq!(hub.get(&path, &[]).status, 200, "the key is back");
    assert_eq!(hub.get("/sse", &[("Origin", "https://app.test")]).status, 200, "the origin");
    reread(&hub, "[[room]]\nmatch = '*'\njoin = 'user'\n");
    assert_eq!(hub.get("/sse?room=r", &[]).status, 403, "the rule");
    socket.say(&json!({ "type": "publish", "room": "r", "event": "e", "data": 1, "ref": 1 }));
    assert_eq!(socket.hear_type("error")["code"], "forbidden");
    reread(&hub, "[[room]]\nmatch = '*'\npublish = 'members'\n");
    socket.say(&json!({ "type": "publish", "room": "r", "event": "e", "data": "to all", "ref": 1 }));
    assert_eq!(socket.hear_type("event")["data"], "to all");
    assert!(stream.hears("to all"));
    reread(&hub, "[server]\nmax_connections = 1\n");
    assert_eq!(hub.get("/sse", &[]).status, 503, "the limit");
    reread(&hub, "[api]\nkeys = ['a-key-of-sixteen-bytes']\n");
    assert_eq!(hub.get("/api/rooms", &[]).status, 401, "the API's keys");
    assert_eq!(hub.get("/api/rooms", &[("X-API-Key", "a-key-of-sixteen-bytes")]).status, 200);
}

#[test]
fn a_mistake_changes_nothing_and_is_named() {
    let hub = Hub::start(WITH_TOKENS);
    let path = format!("/sse?token={}", token_of("alice"));
    for (mistake, named) in [
        ("[http]\nallowed_origin = []", "allowed_origin"),
        ("[auth.jwt]\npublic_key = '/no/such/file.pem'", "/no/such/file.pem"),
        ("[[source]]\nchannel = 'c'\ndialect = 'klingon'\nroom = 'r'", "klingon"),
        ("this is no TOML", "expected"),
    ] {
        hub.reload(mistake);
        let line = eventually("the refusal", || {
            let log = hub.log();
            let line = log.lines().rfind(|line| line.contains("the configuration stays as it was"))?;
            line.contains(named).then(|| line.to_owned())
        });
        assert!(!line.contains(SECRET));
        assert_eq!(hub.get(&path, &[]).status, 200, "{mistake}");
    }
}

#[test]
fn what_needs_a_start_is_named_and_waits() {
    let hub = Hub::start("");
    reread(&hub, "[mailbox]\nconnection = 7\n[broker]\nlinger = '1s'\n");
    hub.wait_for_line("changes of broker, mailbox wait for the next start");
}
