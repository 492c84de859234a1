//! What a configuration must hold beyond its types: ranges, and keys that depend on each other. Each rule names the key it blames.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    Config, Jwt,
    units::{format_duration, format_size},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: usize = 1 << 20;
/// Beyond, an actor's queue would be memory's problem, not a bound.
const LONGEST_QUEUE: usize = 16 * MIB;

/// A rule that does not hold. `path` is where the key stands, from the section on; a list's item is its number.
#[derive(Debug)]
pub(super) struct Problem {
    pub path: Vec<String>,
    pub value: String,
    pub expected: String,
}

impl Problem {
    fn new(path: &str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self { path: path.split('.').map(str::to_owned).collect(), value: value.to_string(), expected: expected.into() }
    }
}

/// The first rule that does not hold.
pub(super) fn check(config: &Config) -> Result<(), Problem> {
    check_queues(config)?;
    check_durations(config)?;
    check_sizes(config)?;
    check_server(config)?;
    check_broker(config)?;
    check_socketio(config)?;
    check_auth(config)?;
    check_sources(config)?;
    check_rooms(config)
}

fn check_queues(config: &Config) -> Result<(), Problem> {
    let mailbox = &config.mailbox;
    for (key, value) in [
        ("connection", mailbox.connection),
        ("room", mailbox.room),
        ("user", mailbox.user),
        ("registry", mailbox.registry),
        ("bridge", mailbox.bridge),
    ] {
        within_count(&format!("mailbox.{key}"), value, 1..=LONGEST_QUEUE)?;
    }
    within_count("server.max_connections", config.server.max_connections, 1..=100_000_000)?;
    within_count("server.workers", config.server.workers, 0..=1024)?;
    within_count("http.max_rooms_per_connection", config.http.max_rooms_per_connection, 1..=100_000)
}

fn check_durations(config: &Config) -> Result<(), Problem> {
    let (server, http, socketio) = (&config.server, &config.http, &config.socketio);
    for (path, value, range) in [
        ("server.drain", server.drain, Duration::ZERO..=HOUR),
        ("server.tcp_user_timeout", server.tcp_user_timeout, Duration::ZERO..=HOUR),
        ("broker.linger", config.broker.linger, Duration::ZERO..=DAY),
        ("http.sse_keepalive", http.sse_keepalive, SECOND..=HOUR),
        ("http.sse_retry", http.sse_retry, MILLISECOND..=HOUR),
        ("http.ws_ping", http.ws_ping, SECOND..=HOUR),
        ("socketio.ping_interval", socketio.ping_interval, SECOND..=HOUR),
        ("socketio.ping_timeout", socketio.ping_timeout, SECOND..=HOUR),
        ("socketio.connect_timeout", socketio.connect_timeout, SECOND..=HOUR),
    ] {
        within_duration(path, value, range)?;
    }
    if let Some(jwt) = &config.auth.jwt {
        within_duration("auth.jwt.leeway", jwt.leeway, Duration::ZERO..=HOUR)?;
    }
    if let Some(forward) = &config.auth.forward {
        within_duration("auth.forward.timeout", forward.timeout, MILLISECOND..=Duration::from_secs(60))?;
        within_duration("auth.forward.cache", forward.cache, Duration::ZERO..=HOUR)?;
        within_duration("auth.forward.recheck", forward.recheck, Duration::ZERO..=24 * HOUR)?;
    }
    Ok(())
}

fn check_sizes(config: &Config) -> Result<(), Problem> {
    within_size("server.send_buffer", config.server.send_buffer, 4 << 10..=64 * MIB)?;
    within_size("http.max_frame", config.http.max_frame, 128..=16 * MIB)?;
    within_size("http.max_body", config.http.max_body, 1 << 10..=64 * MIB)?;
    within_size("socketio.max_payload", config.socketio.max_payload, 1 << 10..=16 * MIB)
}

fn check_server(config: &Config) -> Result<(), Problem> {
    if config.server.bind.is_empty() {
        return Err(Problem::new("server.bind", "[]", "expected at least one address to listen at"));
    }
    Ok(())
}

fn check_broker(config: &Config) -> Result<(), Problem> {
    let broker = &config.broker;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if broker.prefix.is_empty() || broker.prefix.len() > 64 || !broker.prefix.chars().all(fits) {
        let expected = "expected 1 to 64 letters, digits, or any of - _ . : /";
        return Err(Problem::new("broker.prefix", format!("{:?}", broker.prefix), expected));
    }
    if let Some(resp) = &broker.resp
        && !resp.is_loopback()
        && broker.resp_password.is_none()
    {
        let expected = "whoever reaches it may push to every browser: set broker.resp_password, or stay on loopback";
        return Err(Problem::new("broker.resp", quoted(resp), expected));
    }
    if let Some(file) = &broker.tls_ca
        && !broker.url.is_tls()
    {
        return Err(Problem::new("broker.tls_ca", format!("{file:?}"), "has no effect: broker.url is not a TLS address such as rediss://"));
    }
    Ok(())
}

fn check_socketio(config: &Config) -> Result<(), Problem> {
    match config.socketio.protocols.iter().find(|revision| !matches!(revision, 1 | 4 | 5)) {
        Some(revision) => Err(Problem::new("socketio.protocols", revision, "expected 5, 4 or 1")),
        None => Ok(()),
    }
}

fn check_auth(config: &Config) -> Result<(), Problem> {
    config.auth.jwt.as_ref().map_or(Ok(()), check_jwt)?;
    let Some(forward) = &config.auth.forward else { return Ok(()) };
    let is_header = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match forward.headers.iter().find(|name| !is_header(name)) {
        Some(name) => Err(Problem::new("auth.forward.headers", format!("{name:?}"), "expected the name of a header")),
        None => Ok(()),
    }
}

fn check_jwt(jwt: &Jwt) -> Result<(), Problem> {
    let keys = [jwt.secret.is_some(), jwt.public_key.is_some(), jwt.jwks.is_some()];
    if keys.iter().filter(|is_set| **is_set).count() != 1 {
        return Err(Problem::new("auth.jwt", "{ … }", "expected exactly one of secret, public_key and jwks"));
    }
    let is_wrong = |algorithm: &&super::Algorithm| match (&jwt.secret, &jwt.public_key) {
        (Some(_), _) => !algorithm.is_shared_secret(),
        (None, Some(_)) => algorithm.is_shared_secret(),
        (None, None) => false,
    };
    if let Some(algorithm) = jwt.algorithms.iter().find(is_wrong) {
        let expected = match jwt.secret {
            Some(_) => "a secret signs with HS256, HS384 or HS512",
            None => "a public key verifies RS256, ES256 or EdDSA",
        };
        return Err(Problem::new("auth.jwt.algorithms", format!("\"{algorithm:?}\""), expected));
    }
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if !jwt.cookie.bytes().all(is_token) {
        return Err(Problem::new("auth.jwt.cookie", format!("{:?}", jwt.cookie), "expected the name of a cookie, or \"\" for none"));
    }
    Ok(())
}

fn check_sources(config: &Config) -> Result<(), Problem> {
    for (index, source) in config.sources.iter().enumerate() {
        if let Some((key, expected)) = source.problem() {
            let value = match key {
                "channel" => &*source.channel,
                "dialect" => &*source.dialect,
                _ => source.room.as_deref().unwrap_or_default(),
            };
            return Err(Problem::new(&format!("source.{index}.{key}"), format!("{value:?}"), expected));
        }
    }
    Ok(())
}

fn check_rooms(config: &Config) -> Result<(), Problem> {
    for (index, rule) in config.rooms.iter().enumerate() {
        let history = rule.history;
        within_count(&format!("room.{index}.history.size"), history.size, 0..=100_000)?;
        let shortest = if history.is_kept() { SECOND } else { Duration::ZERO };
        within_duration(&format!("room.{index}.history.ttl"), history.ttl, shortest..=30 * DAY)?;
    }
    Ok(())
}

fn within_count(path: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), Problem> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Problem::new(path, value, format!("expected {} to {}", range.start(), range.end()))),
    }
}

fn within_size(path: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), Problem> {
    let (least, most) = (format_size(*range.start()), format_size(*range.end()));
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Problem::new(path, quoted(format_size(value)), format!("expected {least} to {most}"))),
    }
}

fn within_duration(path: &str, value: Duration, range: RangeInclusive<Duration>) -> Result<(), Problem> {
    let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Problem::new(path, quoted(format_duration(value)), format!("expected {least} to {most}"))),
    }
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}
