//! Whatever the log is asked to say, it says nothing that lets its reader in.

use serde_json::json;

use super::{
    forward::{Application, response},
    process::{free_port, redis::Redis},
    socketio::{Client, Kind, Way},
    support::{Hub, SECRET, eventually, now, token},
    tls,
};

/// Fails where a line of the log holds one of these.
fn check(log: &str, secrets: &[&str]) {
    assert!(log.contains("TRACE"), "the log is on");
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log holds {secret:?}");
    }
}

/// What alone makes a token one.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().expect("three parts")
}

#[test]
fn no_line_of_the_log_holds_a_secret() {
    let (api_key, room_secret) = ("an-api-key-nobody-may-see", "a-room-secret-nobody-may-see");
    let application = "a-password-nobody-may-see";
    // The application is not there: what is asked of it must not show in the failure either.
    let hub = Hub::start_with(
        &format!(
            "[auth]\nroom_secret = '{room_secret}'\n[auth.jwt]\nsecret = '{SECRET}'\n[auth.forward]\nurl = 'http://app:{application}@127.0.0.1:9/'\n\
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

    for kind in Kind::ALL {
        let ways = Way::ALL.into_iter().filter(|way| *way != Way::Auth || matches!(kind, Kind::Polling5 | Kind::WebSocket5));
        for way in ways {
            assert!(Client::connect(&hub, kind, Some((way, &bad))).is_none());
            let mut client = Client::connect(&hub, kind, Some((way, &good))).expect("a good token");
            assert_eq!(client.call("callboard:token", &json!([good]))["ok"], true);
            assert!(client.call("callboard:token", &json!([bad]))["error"].is_object());
        }
    }
    let secrets =
        [SECRET, api_key, room_secret, application, session, payload, "a-wrong-key-nobody-may-see", signature(&good), signature(&bad)];
    check(&hub.log(), &secrets);
}

/// rustls, HTTP/2, the client of forward auth and that of Redis have logs of their own.
#[actix_web::test]
async fn no_library_logs_a_secret_either() {
    let password = "a-password-of-redis-nobody-may-see";
    let redis = Redis::start_at(free_port(), &["--requirepass", password]);
    let (api_key, header, session) = ("an-api-key-nobody-may-see", "a-header-nobody-may-see", "a-session-nobody-may-see");
    let application = Application::start(|_| response("200 OK", "", r#"{"user":"alice"}"#));
    let more = format!(
        "[auth.jwt]\nsecret = '{SECRET}'\n[auth.forward]\nurl = 'http://{}/'\nheaders = ['cookie', 'x-session']\n[api]\nkeys = ['{api_key}']",
        application.address()
    );
    let url = format!("redis://:{password}@127.0.0.1:{}", redis.port);
    let hub = Hub::start_with(&tls::config(&more), &[("RUST_LOG", "trace"), ("REDIS_URL", &url)]);
    let token = token(&json!({ "sub": "alice", "exp": now() + 600 }));
    let (bearer, cookie) = (format!("Bearer {token}"), format!("session={session}; callboard_token={token}"));
    let key = format!("Bearer {api_key}");
    for protocols in [&[b"h2".as_slice()], &[b"http/1.1".as_slice()]] {
        let connector = awc::Connector::new().rustls_0_23(tls::trusting(protocols));
        let client = awc::Client::builder().connector(connector).disable_timeout().finish();
        for (path, name, value) in [
            ("/sse", "authorization", &bearer),
            ("/sse", "cookie", &cookie),
            ("/sse", "cookie", &format!("session={session}")),
            ("/sse", "x-session", &header.to_owned()),
            (&format!("/sse?token={token}"), "accept", &"*/*".to_owned()),
            (&format!("/socket.io/?EIO=4&transport=polling&token={token}"), "accept", &"*/*".to_owned()),
            ("/api/rooms", "authorization", &key),
            ("/api/rooms", "x-api-key", &api_key.to_owned()),
        ] {
            let url = format!("https://localhost:{}{path}", hub.address.port());
            let answer = client.get(url).insert_header((name, value.as_str())).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 200, "{path} {name}");
        }
    }
    assert!(application.asked() >= 2, "the application was asked for the session and the header");
    eventually("Redis was logged in to", || hub.log().contains("redis").then_some(()));
    check(&hub.log(), &[SECRET, password, api_key, header, session, signature(&token)]);
}
