//! Tokens, good and forged. Each case names the harm that it prevents.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use callboard::{
    auth::{AuthError, Identity, KeyError, MintError, Verifier, mint},
    config::{Config, Jwt},
    protocol::{RoomPattern, UserName},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The time at which everything here happens.
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");
const P256: &str = include_str!("keys/p256.pem");
const P256_PUBLIC: &str = include_str!("keys/p256.pub.pem");
const P384_PUBLIC: &str = include_str!("keys/p384.pub.pem");
const OTHER_P256: &str = include_str!("keys/other-p256.pem");
const ED25519: &str = include_str!("keys/ed25519.pem");
const ED25519_PUBLIC: &str = include_str!("keys/ed25519.pub.pem");

fn config(keys: &str) -> Jwt {
    let text = format!("[auth.jwt]\n{keys}");
    Config::read(Some((Path::new("config.toml"), &text)), std::iter::empty()).unwrap().auth.jwt.unwrap()
}

fn with_secret(more: &str) -> Verifier {
    Verifier::from_config(&config(&format!("secret = '{SECRET}'\n{more}"))).unwrap().unwrap()
}

/// For a verifier that is given its key as text: the name of the file does not matter.
fn with_key(more: &str) -> Jwt {
    config(&format!("public_key = 'unused.pem'\n{more}"))
}

fn signed(claims: &Value) -> String {
    signed_with(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

fn signed_with(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

fn named(algorithm: Algorithm, kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }
}

fn alice() -> Value {
    json!({ "sub": "alice", "exp": NOW + 60 })
}

/// Alice's claims with some replaced; null takes one out.
fn alice_with(change: &Value) -> Value {
    let mut claims = alice();
    for (claim, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(claim),
            _ => claims.as_object_mut().unwrap().insert(claim.clone(), value.clone()),
        };
    }
    claims
}

fn user(found: &Result<Identity, AuthError>) -> &str {
    match found {
        Ok(identity) => identity.user.as_ref().map_or("nobody", UserName::as_str),
        Err(error) => panic!("refused: {error}"),
    }
}

fn invalid(reason: &'static str) -> Result<Identity, AuthError> {
    Err(AuthError::Invalid(reason))
}

#[test]
fn a_good_token_names_its_user_and_what_it_grants() {
    let claims = json!({ "sub": "alice", "exp": NOW + 60, "nbf": NOW, "iat": NOW, "join": ["chat/*", "news"], "publish": [], "x": {} });
    let identity = with_secret("").verify_at(&signed(&claims), NOW).unwrap();
    assert_eq!(
        identity,
        Identity {
            user: Some("alice".parse().unwrap()),
            join: Some(vec!["chat/*".parse().unwrap(), "news".parse().unwrap()]),
            publish: Some(vec![]),
            expires_at: Some(NOW + 60),
            ..Identity::default()
        }
    );
}

#[test]
fn who_comes_within_the_leeway_is_not_cut_at_once() {
    let token = signed(&json!({ "sub": "alice", "exp": NOW }));
    for (now, end) in [(NOW - 1, NOW), (NOW, NOW + 30), (NOW + 29, NOW + 30)] {
        assert_eq!(with_secret("").verify_at(&token, now).unwrap().expires_at, Some(end), "{now}");
    }
}

#[test]
fn claims_are_checked_one_by_one() {
    let verifier = with_secret("");
    for (change, expected) in [
        (json!({ "exp": null }), Err("exp is missing")),
        (json!({ "exp": "tomorrow" }), Err("exp is no time")),
        (json!({ "exp": true }), Err("exp is no time")),
        (json!({ "exp": (NOW + 60) as f64 + 0.5 }), Ok(())),
        (json!({ "exp": 1e300 }), Ok(())),
        (json!({ "nbf": "now" }), Err("nbf is no time")),
        (json!({ "nbf": NOW - 1 }), Ok(())),
        (json!({ "sub": null }), Err("sub is missing")),
        (json!({ "sub": 7 }), Err("sub is no text")),
        (json!({ "sub": ["alice"] }), Err("sub is no text")),
        (json!({ "sub": "" }), Err("sub is no user name")),
        (json!({ "sub": "a\nb" }), Err("sub is no user name")),
        (json!({ "sub": "x".repeat(201) }), Err("sub is no user name")),
        (json!({ "join": "chat/*" }), Err("join is no list of room patterns")),
        (json!({ "join": [7] }), Err("join is no list of room patterns")),
        (json!({ "join": [""] }), Err("join is no list of room patterns")),
        (json!({ "publish": { "a": 1 } }), Err("publish is no list of room patterns")),
        (json!({ "publish": ["x".repeat(201)] }), Err("publish is no list of room patterns")),
        (json!({ "aud": "someone" }), Err("it names an audience, and auth.jwt.audience is not set")),
        (json!({ "iss": "someone" }), Ok(())),
    ] {
        let found = verifier.verify_at(&signed(&alice_with(&change)), NOW);
        assert_eq!(found.map(|_| ()), expected.map_err(AuthError::Invalid), "{change}");
    }
}

#[test]
fn time_is_checked_with_the_leeway_and_no_further() {
    for (leeway, change, expected) in [
        ("30s", json!({ "exp": NOW }), Ok(())),
        ("30s", json!({ "exp": NOW - 29 }), Ok(())),
        ("30s", json!({ "exp": NOW - 30 }), Err(AuthError::Expired)),
        ("30s", json!({ "exp": 0 }), Err(AuthError::Expired)),
        ("30s", json!({ "exp": -5 }), Err(AuthError::Expired)),
        ("0s", json!({ "exp": NOW + 1 }), Ok(())),
        ("0s", json!({ "exp": NOW }), Err(AuthError::Expired)),
        ("30s", json!({ "nbf": NOW + 30 }), Ok(())),
        ("30s", json!({ "nbf": NOW + 31 }), Err(AuthError::NotYetValid)),
        ("0s", json!({ "nbf": NOW + 1 }), Err(AuthError::NotYetValid)),
        ("1h", json!({ "exp": NOW - 3599 }), Ok(())),
    ] {
        let verifier = with_secret(&format!("leeway = '{leeway}'"));
        let found = verifier.verify_at(&signed(&alice_with(&change)), NOW);
        assert_eq!(found.map(|_| ()), expected, "{leeway} {change}");
    }
}

#[test]
fn issuer_and_audience_must_be_ours_and_present() {
    let verifier = with_secret("issuer = 'https://us'\naudience = 'hub'");
    for (change, expected) in [
        (json!({ "iss": "https://us", "aud": "hub" }), Ok(())),
        (json!({ "iss": "https://us", "aud": ["other", "hub"] }), Ok(())),
        (json!({ "aud": "hub" }), Err("iss is missing")),
        (json!({ "iss": "https://them", "aud": "hub" }), Err("iss is another issuer")),
        (json!({ "iss": ["https://us"], "aud": "hub" }), Err("iss is another issuer")),
        (json!({ "iss": "https://us" }), Err("aud is missing")),
        (json!({ "iss": "https://us", "aud": "hubs" }), Err("aud is another audience")),
        (json!({ "iss": "https://us", "aud": [] }), Err("aud is another audience")),
        (json!({ "iss": "https://us", "aud": 7 }), Err("aud is another audience")),
    ] {
        let found = verifier.verify_at(&signed(&alice_with(&change)), NOW);
        assert_eq!(found.map(|_| ()), expected.map_err(AuthError::Invalid), "{change}");
    }
}

/// A token out of parts, signed by nobody.
fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn a_forged_token_is_refused() {
    let verifier = with_secret("");
    let good = signed(&alice());
    let parts: Vec<&str> = good.split('.').collect();
    let bob = BASE64_URL_SAFE_NO_PAD.encode(json!({ "sub": "bob", "exp": NOW + 60 }).to_string());
    let (unreadable, unsigned) = ("it is not readable, or its algorithm not supported", "its signature does not fit");
    for (token, expected) in [
        (forged(&json!({ "alg": "none" }), &alice(), ""), unreadable),
        (forged(&json!({ "alg": "None", "typ": "JWT" }), &alice(), parts[2]), unreadable),
        (forged(&json!({ "alg": "HS1" }), &alice(), parts[2]), unreadable),
        (forged(&json!({ "typ": "JWT" }), &alice(), parts[2]), unreadable),
        (forged(&json!({ "alg": "HS256" }), &alice(), ""), unsigned),
        (forged(&json!({ "alg": "HS256" }), &alice(), "AAAA"), unsigned),
        (format!("{}.{bob}.{}", parts[0], parts[2]), unsigned),
        (format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]), unsigned),
        (format!("{}.{}", parts[0], parts[1]), unreadable),
        (format!("{good}.x"), unreadable),
        (String::new(), unreadable),
        ("..".into(), unreadable),
        ("not a token".into(), unreadable),
        (signed_with(&Header::new(Algorithm::HS256), &alice(), &EncodingKey::from_secret(b"another secret")), unsigned),
        (
            signed_with(&Header::new(Algorithm::HS512), &alice(), &EncodingKey::from_secret(SECRET.as_bytes())),
            "its algorithm is not accepted",
        ),
        (signed(&json!(["alice"])), "its claims are no JSON object"),
        (signed(&alice_with(&json!({ "x": "y".repeat(8192) }))), "it is too long"),
    ] {
        assert_eq!(verifier.verify_at(&token, NOW), invalid(expected), "{token}");
    }
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    let token = signed_with(&header, &alice(), &EncodingKey::from_secret(SECRET.as_bytes()));
    assert_eq!(with_secret("").verify_at(&token, NOW), invalid("it demands an extension that is not supported"));
}

#[test]
fn a_secret_signs_with_every_hash_that_is_accepted() {
    let verifier = with_secret("algorithms = ['HS384', 'HS512']");
    let sign = |algorithm| signed_with(&Header::new(algorithm), &alice(), &EncodingKey::from_secret(SECRET.as_bytes()));
    assert_eq!(user(&verifier.verify_at(&sign(Algorithm::HS384), NOW)), "alice");
    assert_eq!(user(&verifier.verify_at(&sign(Algorithm::HS512), NOW)), "alice");
    assert_eq!(verifier.verify_at(&sign(Algorithm::HS256), NOW), invalid("its algorithm is not accepted"));
}

#[test]
fn each_kind_of_public_key_verifies_its_own_algorithm() {
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let ec = EncodingKey::from_ec_pem(P256.as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    let tokens = [(Algorithm::RS256, &rsa), (Algorithm::ES256, &ec), (Algorithm::EdDSA, &ed)]
        .map(|(algorithm, key)| signed_with(&Header::new(algorithm), &alice(), key));
    for (own, public) in [RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC].into_iter().enumerate() {
        let verifier = Verifier::from_public_key(public, &with_key("")).unwrap();
        for (index, token) in tokens.iter().enumerate() {
            let found = verifier.verify_at(token, NOW);
            if index == own {
                assert_eq!(user(&found), "alice");
            } else {
                assert_eq!(found, invalid("its algorithm is not accepted"));
            }
        }
    }
    let pss = signed_with(&Header::new(Algorithm::PS256), &alice(), &rsa);
    let verifier = Verifier::from_public_key(RSA_PUBLIC, &with_key("")).unwrap();
    assert_eq!(verifier.verify_at(&pss, NOW), invalid("its algorithm is not accepted"));
    let other = EncodingKey::from_ec_pem(OTHER_P256.as_bytes()).unwrap();
    let verifier = Verifier::from_public_key(P256_PUBLIC, &with_key("")).unwrap();
    let forged = signed_with(&Header::new(Algorithm::ES256), &alice(), &other);
    assert_eq!(verifier.verify_at(&forged, NOW), invalid("its signature does not fit"));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let forged = signed_with(&Header::new(Algorithm::HS256), &alice(), &EncodingKey::from_secret(RSA_PUBLIC.as_bytes()));
    let verifier = Verifier::from_public_key(RSA_PUBLIC, &with_key("")).unwrap();
    assert_eq!(verifier.verify_at(&forged, NOW), invalid("its algorithm is not accepted"));
}

/// A JWKS document of the public halves of these.
fn jwks(keys: &[(&str, Algorithm, &str)]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(pem, algorithm, kid)| {
            let key = match algorithm {
                Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
                Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
                _ => EncodingKey::from_ed_pem(pem.as_bytes()),
            };
            let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key.unwrap(), *algorithm).unwrap();
            let mut value = serde_json::to_value(jwk).unwrap();
            if !kid.is_empty() {
                value["kid"] = json!(kid);
            }
            value
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

#[test]
fn a_key_of_several_is_chosen_by_its_name() {
    let document = jwks(&[(P256, Algorithm::ES256, "old"), (OTHER_P256, Algorithm::ES256, "new"), (RSA, Algorithm::RS256, "rsa")]);
    let verifier = Verifier::from_jwks(&document, &config("jwks = 'unused'")).unwrap();
    let (old, new) = (EncodingKey::from_ec_pem(P256.as_bytes()).unwrap(), EncodingKey::from_ec_pem(OTHER_P256.as_bytes()).unwrap());
    let sign = |header: &Header, key| verifier.verify_at(&signed_with(header, &alice(), key), NOW);
    assert_eq!(user(&sign(&named(Algorithm::ES256, "old"), &old)), "alice");
    assert_eq!(user(&sign(&named(Algorithm::ES256, "new"), &new)), "alice");
    assert_eq!(sign(&named(Algorithm::ES256, "old"), &new), invalid("its signature does not fit"));
    assert_eq!(sign(&named(Algorithm::ES256, "gone"), &old), Err(AuthError::UnknownKey));
    assert_eq!(sign(&Header::new(Algorithm::ES256), &old), invalid("it names none of several keys"));
    let public = EncodingKey::from_secret(RSA_PUBLIC.as_bytes());
    assert_eq!(sign(&named(Algorithm::HS256, "rsa"), &public), invalid("its algorithm is not accepted"));
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    assert_eq!(user(&sign(&Header::new(Algorithm::RS256), &rsa)), "alice", "without a name where only one key fits");
}

#[test]
fn a_document_is_narrowed_by_what_is_accepted_and_by_what_a_key_is_for() {
    let document = jwks(&[(ED25519, Algorithm::EdDSA, "ed"), (RSA, Algorithm::RS256, "rsa")]);
    let narrowed = Verifier::from_jwks(&document, &config("jwks = 'unused'\nalgorithms = ['EdDSA']")).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    assert_eq!(narrowed.verify_at(&signed_with(&named(Algorithm::RS256, "rsa"), &alice(), &rsa), NOW), Err(AuthError::UnknownKey));
    let ed = EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap();
    assert_eq!(user(&narrowed.verify_at(&signed_with(&named(Algorithm::EdDSA, "ed"), &alice(), &ed), NOW)), "alice");

    let mut for_encryption: Value = serde_json::from_str(&jwks(&[(RSA, Algorithm::RS256, "rsa")])).unwrap();
    for_encryption["keys"][0]["use"] = json!("enc");
    let error = Verifier::from_jwks(&for_encryption.to_string(), &config("jwks = 'unused'")).unwrap_err();
    assert!(matches!(error, KeyError::NoneFits(_)), "{error}");
}

#[test]
fn a_key_that_cannot_verify_is_refused_at_start() {
    let key = |pem: &str, more: &str| Verifier::from_public_key(pem, &with_key(more)).unwrap_err();
    assert!(matches!(key(RSA, ""), KeyError::PrivateKey));
    assert!(matches!(key(P384_PUBLIC, ""), KeyError::NotPem));
    assert!(matches!(key("", ""), KeyError::NotPem));
    assert!(matches!(key(RSA_PUBLIC, "algorithms = ['ES256']"), KeyError::NoneFits(_)));
    let document = |text: &str| Verifier::from_jwks(text, &config("jwks = 'unused'")).unwrap_err();
    assert!(matches!(document("{}"), KeyError::NotJwks(_)));
    assert!(matches!(document(r#"{"keys":[]}"#), KeyError::NoneFits(_)));
    assert!(matches!(document(&json!({ "keys": vec![json!({ "kty": "oct", "k": "QQ" }); 101] }).to_string()), KeyError::TooMany(101)));
    let missing = Verifier::from_config(&config("public_key = '/nonexistent/key.pem'")).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /nonexistent/key.pem: "), "{missing}");
    assert!(Verifier::from_config(&config("jwks = 'https://example.org/jwks.json'")).unwrap().is_none());
}

#[test]
fn what_is_minted_is_accepted_and_asks_for_what_is_configured() {
    for more in ["", "issuer = 'us'\naudience = 'hub'\nalgorithms = ['HS512']"] {
        let jwt = config(&format!("secret = '{SECRET}'\n{more}"));
        let join = [RoomPattern::parse("chat/*").unwrap()];
        let token = mint(&"alice".parse().unwrap(), &join, &[], Duration::from_secs(3600), &jwt).unwrap();
        let identity = Verifier::from_config(&jwt).unwrap().unwrap().verify(&token).unwrap();
        assert_eq!((identity.user.unwrap().as_str(), identity.join.as_deref(), identity.publish), ("alice", Some(&join[..]), None));
    }
    let public = mint(&"alice".parse().unwrap(), &[], &[], Duration::from_secs(1), &with_key(""));
    assert!(matches!(public, Err(MintError::NoSecret)));
    let many: Vec<RoomPattern> = (0..100).map(|i| RoomPattern::parse(&format!("{i:0>150}")).unwrap()).collect();
    let long = mint(&"alice".parse().unwrap(), &many, &[], Duration::from_secs(1), &config(&format!("secret = '{SECRET}'")));
    assert!(matches!(long, Err(MintError::TooLong(_))));
}

#[test]
fn nothing_that_is_printed_holds_the_secret() {
    let shown = format!("{:?} {:?}", with_secret(""), config(&format!("secret = '{SECRET}'")));
    assert!(!shown.contains(SECRET), "{shown}");
}
