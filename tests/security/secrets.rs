//! Whatever the log is asked to say, it says nothing that lets its reader in.

use serde_json::json;

use super::support::{Hub, SECRET, now, token};

#[test]
fn no_line_of_the_log_holds_a_secret() {
    let (api_key, room_secret) = ("an-api-key-nobody-may-see", "a-room-secret-nobody-may-see");
    // The application is not there: what is asked of it must not show in the failure either.
    let hub = Hub::start_with(
        &format!(
            "[auth]\nroom_secret = '{room_secret}'\n[auth.jwt]\nsecret = '{SECRET}'\n[auth.forward]\nurl = 'http://127.0.0.1:9/'\n\
             headers = ['cookie']\n[api]\nkeys = ['{api_key}']"
        ),
        &[("RUST_LOG", "trace")],
    );
    let good = token(&json!({ "sub": "alice", "exp": now() + 600 }));
    let bad = token(&json!({ "sub": "alice", "exp": 1 }));
    let (session, payload) = ("a-session-nobody-may-see", "a-payload-nobody-may-see");
    for token in [&good, &bad] {
        hub.get("/sse?room=r", &[("Authorization", &format!("Bearer {token}"))]);
        hub.get("/sse?room=r", &[("Cookie", &format!("callboard_token={token}"))]);
        hub.get(&format!("/sse?room=r&token={token}"), &[]);
        hub.handshake("/ws", &[("Sec-WebSocket-Protocol", &format!("callboard, token.{token}"))]);
    }
    hub.get("/sse", &[("Cookie", &format!("session={session}"))]);
    hub.get(&format!("/sse?signed=r~1~{room_secret}"), &[]);
    let mut socket = hub.socket(&format!("/ws?room=r&token={good}"));
    socket.hear_type("joined");
    socket.say(&json!({ "type": "token", "token": good, "ref": 1 }));
    socket.hear_type("ack");
    socket.say(&json!({ "type": "token", "token": bad, "ref": 1 }));
    socket.hear_type("error");
    let body = json!({ "room": "r", "data": payload }).to_string();
    assert_eq!(hub.send("POST", "/api/publish", &[("X-API-Key", api_key)], &body).status, 200);
    assert_eq!(hub.send("POST", "/api/publish", &[("Authorization", &format!("Bearer {api_key}"))], &body).status, 200);
    assert_eq!(hub.send("POST", "/api/publish", &[("X-API-Key", "a-wrong-key-nobody-may-see")], &body).status, 401);
    assert_eq!(socket.hear_type("event")["data"], payload);
    hub.reload(&format!("[auth.jwt]\nsecret = '{SECRET}'\nsecrets = 'x'"));
    hub.wait_for_line("the configuration stays as it was");

    let log = hub.log();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log is on");
    let signature = |token: &str| token.rsplit('.').next().expect("three parts").to_owned();
    let secrets = [SECRET, api_key, room_secret, session, payload, "a-wrong-key-nobody-may-see", &signature(&good), &signature(&bad)];
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log holds {secret:?}");
    }
}
