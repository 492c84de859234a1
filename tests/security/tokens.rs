//! Tokens, good and forged, by every way that can carry one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    socketio::{Client, Kind, Way},
    support::{Hub, SECRET, WITH_TOKENS, now, token, token_of},
};

fn signed_by(secret: &str, algorithm: Algorithm) -> String {
    let claims = json!({ "sub": "alice", "exp": now() + 600 });
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("it signs")
}

fn unsigned(header: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(&json!({ "sub": "alice", "exp": now() + 600 })))
}

/// Tokens with whether they are good.
fn vectors() -> Vec<(&'static str, String, bool)> {
    let good = token_of("alice");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let with = |change: Value| {
        let mut claims = json!({ "sub": "alice", "exp": now() + 600 });
        for (name, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => claims.as_object_mut().expect("an object").remove(name),
                value => claims.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
            };
        }
        token(&claims)
    };
    vec![
        ("good", good.clone(), true),
        ("more claims", with(json!({ "iat": now(), "nbf": now(), "x": [1] })), true),
        ("grants", with(json!({ "join": ["a*"], "publish": [] })), true),
        ("fractional exp", with(json!({ "exp": now() as f64 + 60.5 })), true),
        ("expired", with(json!({ "exp": now() - 1 })), false),
        ("expires now", with(json!({ "exp": now() })), false),
        ("long expired", with(json!({ "exp": 1 })), false),
        ("no exp", with(json!({ "exp": null })), false),
        ("exp in words", with(json!({ "exp": "never" })), false),
        ("negative exp", with(json!({ "exp": -1 })), false),
        ("not yet valid", with(json!({ "nbf": now() + 300 })), false),
        ("nbf in words", with(json!({ "nbf": "soon" })), false),
        ("no sub", with(json!({ "sub": null })), false),
        ("empty sub", with(json!({ "sub": "" })), false),
        ("numeric sub", with(json!({ "sub": 7 })), false),
        ("long sub", with(json!({ "sub": "x".repeat(201) })), false),
        ("control character in sub", with(json!({ "sub": "a\u{0}b" })), false),
        ("foreign audience", with(json!({ "aud": "another" })), false),
        ("foreign audiences", with(json!({ "aud": ["another", "third"] })), false),
        ("join is no list", with(json!({ "join": "*" })), false),
        ("join of numbers", with(json!({ "join": [1] })), false),
        ("publish of empty patterns", with(json!({ "publish": [""] })), false),
        ("huge", with(json!({ "x": "x".repeat(7000) })), false),
        ("another secret", signed_by("another-secret-of-at-least-32-bytes", Algorithm::HS256), false),
        ("empty secret", signed_by("", Algorithm::HS256), false),
        ("HS384 not accepted", signed_by(SECRET, Algorithm::HS384), false),
        ("HS512 not accepted", signed_by(SECRET, Algorithm::HS512), false),
        ("alg none", unsigned(&json!({ "alg": "none", "typ": "JWT" }), ""), false),
        ("alg None", unsigned(&json!({ "alg": "None" }), ""), false),
        ("alg none with a signature", unsigned(&json!({ "alg": "none" }), signature), false),
        ("alg missing", unsigned(&json!({ "typ": "JWT" }), signature), false),
        ("alg unknown", unsigned(&json!({ "alg": "HS1" }), signature), false),
        ("RS256 with a secret", unsigned(&json!({ "alg": "RS256" }), signature), false),
        ("crit", unsigned(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), signature), false),
        ("no signature", format!("{head}."), false),
        ("signature of another", format!("{}.{signature}", unsigned(&json!({ "alg": "HS256" }), "").trim_end_matches('.')), false),
        ("signature cut", good[..good.len() - 1].to_owned(), false),
        ("two parts", head.to_owned(), false),
        ("four parts", format!("{good}.x"), false),
        ("no token at all", "token".to_owned(), false),
        ("only dots", "..".to_owned(), false),
    ]
}

#[test]
fn a_token_is_judged_alike_however_it_comes() {
    // The request line and each header may have this much.
    let hub = Hub::start(WITH_TOKENS);
    let vectors = vectors();
    assert!(vectors.len() >= 40);
    for (name, token, is_good) in &vectors {
        let (bearer, cookie) = (format!("Bearer {token}"), format!("a=b; callboard_token={token}; c=d"));
        let subprotocol = format!("callboard, token.{token}");
        let query = form_urlencoded::byte_serialize(token.as_bytes()).collect::<String>();
        let ways = [
            ("SSE by header", hub.get("/sse", &[("Authorization", &bearer)]), 200),
            ("SSE by cookie", hub.get("/sse", &[("Cookie", &cookie)]), 200),
            ("SSE by query", hub.get(&format!("/sse?token={query}"), &[]), 200),
            ("WebSocket by header", hub.handshake("/ws", &[("Authorization", &bearer)]), 101),
            ("WebSocket by cookie", hub.handshake("/ws", &[("Cookie", &cookie)]), 101),
            ("WebSocket by subprotocol", hub.handshake("/ws", &[("Sec-WebSocket-Protocol", &subprotocol)]), 101),
            ("WebSocket by query", hub.handshake(&format!("/ws?token={query}"), &[]), 101),
        ];
        for (way, answer, welcome) in ways {
            assert_eq!(answer.status, if *is_good { welcome } else { 401 }, "{name}, {way}");
        }
    }
}

/// A bad token refuses the namespace, or the handshake of 0.9; the same token, whichever way it comes.
#[test]
fn a_token_is_judged_alike_on_every_socket_io() {
    let hub = Hub::start(WITH_TOKENS);
    for (name, token, is_good) in &vectors() {
        for kind in Kind::ALL {
            let ways = Way::ALL.into_iter().filter(|way| *way != Way::Auth || matches!(kind, Kind::Polling5 | Kind::WebSocket5));
            for way in ways {
                assert_eq!(Client::connect(&hub, kind, Some((way, token))).is_some(), *is_good, "{name}, {kind:?}, {way:?}");
            }
        }
    }
}

#[test]
fn an_identity_can_be_demanded() {
    let hub = Hub::start(&format!("[auth]\nanonymous = false\n{WITH_TOKENS}"));
    let answer = hub.get("/sse", &[]);
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(hub.handshake("/ws", &[]).status, 401);
    let mut socket = hub.socket(&format!("/ws?token={}", token_of("alice")));
    assert_eq!(socket.hear_type("welcome")["user"], "alice");
    let refusals = r#"callboard_refusals_total{wire="sse",reason="unauthorized"}"#;
    assert!(hub.metric(refusals) >= 1.0);
}

#[test]
fn an_api_key_is_needed_once_there_is_one_and_off_the_machine() {
    let keys = Hub::start("[api]\nkeys = ['first-key-of-the-api', 'second-key-of-the-api']");
    for (headers, expected) in [
        (&[][..], 401),
        (&[("X-API-Key", "second-key-of-the-api")], 200),
        (&[("Authorization", "Bearer first-key-of-the-api")], 200),
        (&[("X-API-Key", "second-key-of-the-ap")], 401),
        (&[("X-API-Key", "")], 401),
        (&[("Authorization", "Basic first-key-of-the-api")], 401),
    ] {
        assert_eq!(keys.get("/api/rooms", headers).status, expected, "{headers:?}");
    }
    let open = Hub::start("");
    assert_eq!(open.get("/api/rooms", &[]).status, 200);
    for forwarded in [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "127.0.0.1")] {
        assert_eq!(open.get("/api/rooms", &[forwarded]).status, 403, "{forwarded:?}");
    }
    // A page's own name that was made to lead here is same-origin to the browser.
    let page = [("Host", "evil.test:8080"), ("Origin", "http://evil.test:8080")];
    for headers in [&page[..], &page[..1]] {
        assert_eq!(open.get("/api/rooms", headers).status, 403, "{headers:?}");
        assert_eq!(keys.get("/api/rooms", &[headers, &[("X-API-Key", "second-key-of-the-api")]].concat()).status, 200);
    }
    assert_eq!(open.get("/api/rooms", &[("Host", "localhost:8080"), ("Origin", "http://localhost:8080")]).status, 200);
}
