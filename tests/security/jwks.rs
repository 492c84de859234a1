//! Keys in a JWKS document, at an address or in a file, and their rotation.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::{
    forward::{Application, response},
    process::unique_path,
    support::{Hub, SECRET, eventually, now, token_of},
};

/// A document with these keys, all of one secret: which one a token names decides.
fn document(kids: &[&str]) -> String {
    let key = BASE64_URL_SAFE_NO_PAD.encode(SECRET);
    let keys: Vec<_> = kids.iter().map(|kid| json!({ "kty": "oct", "alg": "HS256", "kid": kid, "k": key })).collect();
    json!({ "keys": keys }).to_string()
}

fn token_by(kid: &str) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::default() };
    encode(&header, &json!({ "sub": "alice", "exp": now() + 600 }), &EncodingKey::from_secret(SECRET.as_bytes())).expect("it signs")
}

fn status(hub: &Hub, token: &str) -> u16 {
    hub.get(&format!("/sse?token={token}"), &[]).status
}

#[test]
fn keys_are_fetched_at_start_and_not_for_every_unknown_kid() {
    let issuer = Application::start(|_| response("200 OK", "", &document(&["one"])));
    let hub = Hub::start(&format!("[auth.jwt]\njwks = 'http://{}/jwks.json'", issuer.address()));
    eventually("the keys are here", || (status(&hub, &token_of("alice")) == 200).then_some(()));
    for _ in 0..10 {
        assert_eq!(status(&hub, &token_by("two")), 401);
    }
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn an_issuer_that_is_not_there_yet_is_waited_for() {
    static IS_THERE: AtomicBool = AtomicBool::new(false);
    let issuer = Application::start(|_| match IS_THERE.load(Ordering::SeqCst) {
        true => response("200 OK", "", &document(&["one"])),
        false => response("502 Bad Gateway", "", ""),
    });
    let hub = Hub::start(&format!("[auth.jwt]\njwks = 'http://{}/'", issuer.address()));
    let answer = hub.get(&format!("/sse?token={}", token_by("one")), &[]);
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "whether the token is good cannot be told");
    assert_eq!(hub.get("/sse", &[]).status, 200, "who shows none needs no key");
    IS_THERE.store(true, Ordering::SeqCst);
    eventually("the keys are here", || (status(&hub, &token_by("one")) == 200).then_some(()));
}

#[test]
fn a_key_at_an_address_is_rotated_by_sighup() {
    static IS_ROTATED: AtomicBool = AtomicBool::new(false);
    let issuer = Application::start(|_| match IS_ROTATED.load(Ordering::SeqCst) {
        false => response("200 OK", "", &document(&["one"])),
        true => response("200 OK", "", &document(&["two"])),
    });
    let config = format!("[auth.jwt]\njwks = 'http://{}/'", issuer.address());
    let hub = Hub::start(&config);
    eventually("the keys are here", || (status(&hub, &token_by("one")) == 200).then_some(()));
    let mut stream = hub.get(&format!("/sse?room=r&token={}", token_by("one")), &[]);
    IS_ROTATED.store(true, Ordering::SeqCst);
    hub.reload(&config);
    eventually("the new key is here", || (status(&hub, &token_by("two")) == 200).then_some(()));
    assert_eq!(status(&hub, &token_by("one")), 401);
    hub.publish("r", &json!("who is connected stays"));
    assert!(stream.hears("who is connected stays"));
}

#[test]
fn a_key_in_a_file_is_rotated_by_sighup_and_a_broken_file_changes_nothing() {
    let path = unique_path("jwks.json");
    let config = format!("[auth.jwt]\njwks = '{}'", path.display());
    let put = |hub: &Hub, text: &str| {
        fs::write(&path, text).expect("a file");
        hub.reload(&config);
    };
    fs::write(&path, document(&["one"])).expect("a file");
    let hub = Hub::start(&config);
    let (one, two) = (token_by("one"), token_by("two"));
    assert_eq!((status(&hub, &one), status(&hub, &two)), (200, 401));
    put(&hub, &document(&["one", "two"]));
    eventually("both are taken", || ((status(&hub, &one), status(&hub, &two)) == (200, 200)).then_some(()));
    put(&hub, "{");
    hub.wait_for_line("the configuration stays as it was");
    assert_eq!((status(&hub, &one), status(&hub, &two)), (200, 200));
    put(&hub, &document(&["two"]));
    eventually("the old one is not", || ((status(&hub, &one), status(&hub, &two)) == (401, 200)).then_some(()));
}
