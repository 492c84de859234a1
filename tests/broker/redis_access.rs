//! Ways into Redis: what the hub opens there, what it says, and what it tells an operator whose Redis says no.

use std::{collections::BTreeSet, fs, process::Command};

use callboard::{
    actors::messages::BrokerError,
    broker::redis::{AddressError, Connector, Seeds},
    config::{BrokerUrl, Secret},
};
use futures_util::future;

use crate::support::{Bus, Fixture, Listener, Redis, Setup, event, eventually, free_port, logged, room, user};

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/redis.md");

/// A bus that is up and hears itself.
async fn assert_works(url: &str, setup: Setup) -> Bus {
    let bus = Bus::on_url(url, setup);
    bus.wait_until_up().await;
    let mut listener = Listener::with(room("r"), 0, 1, 16);
    listener.subscribe(&bus).await.unwrap();
    assert_eq!(bus.send(&[room("r")], event("e", "x")).await.map(|published| published.delivered), Ok(1));
    listener.next().await;
    bus
}

#[actix::test]
async fn a_thousand_rooms_take_two_connections() {
    let mut bus = Fixture::Redis.start(Setup::default()).await;
    let listeners = future::join_all((0..1_000).map(|number| bus.join(room(&format!("r{number}"))))).await;
    let clients = async |redis: &Redis, kind: &str| redis.ask::<String>(&["CLIENT", "LIST", "TYPE", kind]).await.lines().count();
    assert_eq!(clients(bus.redis(), "pubsub").await, 1);
    assert_eq!(clients(bus.redis(), "normal").await, 3, "the hub's, the publisher's, and the one that asks");
    for listener in &listeners {
        bus.leave(listener).await;
    }
    let redis = bus.redis();
    eventually("all channels but the clock are unsubscribed", async || {
        redis.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await == ["callboard:clock"]
    })
    .await;
}

#[actix::test]
async fn a_socket_file_and_a_database_number_are_taken_from_the_address() {
    let redis = Redis::start(&[]).await;
    let _bus = assert_works(&format!("redis+unix://{}?db=3", redis.socket()), Setup::default()).await;
    let clients: String = redis.ask(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.lines().filter(|line| line.contains(" db=3 ")).count(), 2, "{clients}");
    let _other = assert_works(&format!("{}/5", redis.url()), Setup::default()).await;
    let clients: String = redis.ask(&["CLIENT", "LIST"]).await;
    assert_eq!(clients.lines().filter(|line| line.contains(" db=5 ")).count(), 2, "{clients}");
}

#[actix::test]
async fn a_wrong_password_is_named_and_tried_again() {
    let redis = Redis::start(&[]).await;
    let _: () = redis.ask(&["ACL", "SETUSER", "hub", "on", ">right", "+@all", "&*", "~*"]).await;
    let bus = Bus::on_url(&format!("redis://hub:wrong@127.0.0.1:{}", redis.port), Setup::default());
    eventually("it is logged", async || !logged("check the user and password of broker.url").is_empty()).await;
    assert!(!bus.readiness.is_ready());
    assert_eq!(logged("wrong"), [""; 0], "no password stands in the log");
    let _: () = redis.ask(&["ACL", "SETUSER", "hub", ">wrong"]).await;
    bus.wait_until_up().await;
}

#[actix::test]
async fn a_missing_password_is_named() {
    let redis = Redis::start(&[]).await;
    let _: () = redis.ask(&["ACL", "SETUSER", "default", "resetpass", ">secret"]).await;
    let bus = Bus::on_url(&redis.url(), Setup::default());
    eventually("it is logged", async || !logged("check the user and password of broker.url").is_empty()).await;
    assert!(!bus.readiness.is_ready());
    assert_works(&format!("redis://:secret@127.0.0.1:{}", redis.port), Setup::default()).await;
}

/// The words of the manual's first block that begins with `ACL SETUSER`.
fn recipe() -> Vec<String> {
    let manual = fs::read_to_string(MANUAL).unwrap();
    let line = manual.lines().find(|line| line.starts_with("ACL SETUSER")).expect("the manual has the recipe");
    line.split_whitespace().map(str::to_owned).collect()
}

async fn with_recipe(change: &[&str]) -> (Redis, String) {
    let redis = Redis::start(&[]).await;
    let mut words = recipe();
    let password = words.iter().find_map(|word| word.strip_prefix('>')).expect("the recipe sets a password").to_owned();
    words.extend(change.iter().map(|word| (*word).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _: () = redis.ask(&words).await;
    let url = format!("redis://{}:{password}@127.0.0.1:{}", words[2], redis.port);
    (redis, url)
}

#[actix::test]
async fn the_manuals_acl_recipe_is_enough_and_no_more() {
    let (redis, url) = with_recipe(&[]).await;
    let bus = assert_works(&url, Setup::default()).await;
    for target in [user("alice"), room("sse")] {
        bus.join(target).await;
    }
    assert_eq!(logged("refuses"), [""; 0]);
    let (user, password) = url.strip_prefix("redis://").unwrap().split_once('@').unwrap().0.split_once(':').unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("AUTH").arg(user).arg(password).query_async::<()>(&mut connection).await.unwrap();
    for words in [&["SET", "k", "v"][..], &["GET", "k"], &["PUBLISH", "elsewhere", "x"], &["CONFIG", "GET", "*"], &["FLUSHALL"]] {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let error = command.query_async::<()>(&mut connection).await.unwrap_err();
        assert_eq!(error.code(), Some("NOPERM"), "{words:?}");
    }
}

#[actix::test]
async fn an_acl_for_the_native_channels_alone_serves_the_rooms() {
    let (redis, url) = with_recipe(&["resetchannels", "&callboard:*"]).await;
    let bus = assert_works(&url, Setup::default()).await;
    future::join_all((0..50).map(|number| bus.join(room(&format!("r{number}"))))).await;
    assert_eq!(logged("Redis refuses").len(), 1, "once a minute");
    assert!(logged("Redis refuses")[0].contains("docs/operations/redis.md"));

    // The refused channels must not keep anybody waiting after a reconnect either.
    let _: u64 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("it is up again", async || bus.metric("callboard_broker_reconnects_total") == 1).await;
    Listener::with(room("r0"), 1, 0, 16).subscribe(&bus).await.unwrap();
    assert_eq!(bus.send(&[room("r0")], event("e", "x")).await.map(|published| published.delivered), Ok(0));
}

#[actix::test]
async fn a_room_of_which_no_channel_is_allowed_is_refused_until_it_is() {
    let (redis, url) = with_recipe(&["resetchannels", "&callboard:clock"]).await;
    let bus = Bus::on_url(&url, Setup::default());
    bus.wait_until_up().await;
    let listener = Listener::new(room("r"));
    let Err(BrokerError::Refused(error)) = listener.subscribe(&bus).await else { panic!("it was granted") };
    assert!(error.contains("no permissions"), "{error}");
    let Err(BrokerError::Refused(error)) = bus.send(&[room("r")], event("e", "x")).await else { panic!("it was sent") };
    assert!(error.contains("no permissions"), "{error}");

    let name = recipe()[2].clone();
    let _: () = redis.ask(&["ACL", "SETUSER", &name, "&callboard:*"]).await;
    assert_eq!(listener.subscribe(&bus).await, Ok(()), "the next one who asks is let in");
}

#[actix::test]
async fn an_acl_without_the_clock_is_refused_with_advice() {
    for change in [&["-eval"][..], &["-publish"], &["resetchannels", "&callboard:room:*"]] {
        let (_redis, url) = with_recipe(change).await;
        let before = logged("lacks a right").len();
        let bus = Bus::on_url(&url, Setup::default());
        eventually("it is logged", async || logged("lacks a right").len() > before).await;
        assert!(!bus.readiness.is_ready(), "{change:?}");
    }
}

#[actix::test]
async fn an_acl_without_one_standing_source_leaves_the_others_served() {
    use callboard::protocol::dialect::Dialect;
    let (_redis, url) = with_recipe(&[]).await;
    let mut setup = Setup::default();
    setup.sources.push(crate::support::source("socket.io#*", Dialect::SocketioEmitter, None));
    let _bus = assert_works(&url, setup).await;
    assert!(logged("Redis refuses")[0].contains("socket.io#*"));
}

/// The manual lists what the hub runs; Redis counts what it ran.
#[actix::test]
async fn redis_is_asked_for_nothing_that_the_manual_does_not_list() {
    let (redis, url) = with_recipe(&[]).await;
    let _: () = redis.ask(&["CONFIG", "RESETSTAT"]).await;
    let bus = assert_works(&url.replace(&redis.port.to_string(), &format!("{}/1", redis.port)), Setup::default()).await;
    let listener = bus.join(room("left")).await;
    bus.leave(&listener).await;
    let stats = async || {
        let text: String = redis.ask(&["INFO", "commandstats"]).await;
        let names = text.lines().filter_map(|line| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_uppercase()));
        names.collect::<BTreeSet<String>>()
    };
    eventually("the room is unsubscribed", async || stats().await.contains("UNSUBSCRIBE")).await;
    let manual = fs::read_to_string(MANUAL).unwrap();
    let ours: BTreeSet<_> = stats().await.into_iter().filter(|name| !["INFO", "CONFIG|RESETSTAT"].contains(&&**name)).collect();
    for name in &ours {
        assert!(manual.contains(&format!("| `{}`", name.replace('|', " "))), "the manual does not list {name}; Redis ran {ours:?}");
    }
    assert!(ours.contains("EVAL") && ours.contains("SELECT"), "{ours:?}");
}

#[actix::test]
async fn a_certificate_of_ones_own_is_trusted_when_named_and_only_then() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut redis = Redis::prepare(&[]);
    let file = |name: &str| redis.scratch.path().join(name).display().to_string();
    let (authority_key, authority) = (file("authority.key"), file("authority.pem"));
    let (key, certificate) = (file("server.key"), file("server.pem"));
    let make = |key: &str, out: &str, more: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
        openssl.args(["-keyout", key, "-out", out]).args(more);
        let made = openssl.output().expect("openssl is installed; ./scripts/test says what the tests need");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make(&authority_key, &authority, &["-subj", "/CN=authority"]);
    let signed = ["-CA", &authority, "-CAkey", &authority_key, "-subj", "/CN=redis"];
    let names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    make(&key, &certificate, &[&signed[..], &names].concat());
    let tls_port = free_port();
    redis.add_options(&["--tls-port", &tls_port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key]);
    redis.restart().await;

    let url = format!("rediss://127.0.0.1:{tls_port}");
    let stranger = Bus::on_url(&url, Setup::default());
    eventually("it is logged", async || !logged("Redis: ").is_empty()).await;
    assert!(!stranger.is_up());
    let tls_root = Some(fs::read(&authority).unwrap());
    let _bus = assert_works(&url, Setup { tls_root, ..Setup::default() }).await;
    assert!(!stranger.is_up());
}

#[test]
fn an_address_that_can_not_work_is_an_error_at_once() {
    let connector = |url: &str, root: Option<&[u8]>| Connector::new(BrokerUrl::parse(url).unwrap(), root.map(<[u8]>::to_vec)).err();
    let cluster = connector("redis-cluster://u:hunter2@127.0.0.1:1,127.0.0.1:2", None);
    assert!(matches!(cluster, Some(AddressError::Cluster(_))));
    assert!(!cluster.unwrap().to_string().contains("hunter2"));
    let seeds = |address: &str| Seeds::new(vec![Secret::new(address)], None).err();
    assert!(seeds("redis://u:p@127.0.0.1:1").is_none());
    assert!(matches!(seeds("redis://u:p@127.0.0.1:port"), Some(AddressError::Unusable { .. })));
    assert!(matches!(connector("memory:", None), Some(AddressError::Embedded(_))));
    assert!(BrokerUrl::parse("redis://127.0.0.1:port").is_none(), "the configuration finds that itself");
    assert!(matches!(connector("redis://127.0.0.1:1?protocol=7", None), Some(AddressError::Unusable { .. })));
    assert!(matches!(connector("rediss://127.0.0.1:1", Some(b"no certificate")), Some(AddressError::NoCertificate)));
    assert!(connector("redis://127.0.0.1:1", None).is_none());
}

/// Nobody's events are anybody else's: a name is taken as it is.
#[actix::test]
async fn names_with_the_marks_of_patterns_are_plain_names() {
    let mut bus = Fixture::Redis.start(Setup::default()).await;
    let mut starred = bus.join(room("a*")).await;
    let mut plain = bus.join(room("ab")).await;
    let redis = bus.redis().connect().await;
    for name in ["ab", "a*"] {
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("callboard:room:{name}")).arg(format!(r#"{{"event":"{name}"}}"#));
        assert_eq!(command.query_async::<u64>(&mut redis.clone()).await.unwrap(), 1);
    }
    assert_eq!(starred.next_event().await.0, "a*");
    assert_eq!(plain.next_event().await.0, "ab");
    bus.settle().await;
    assert!(starred.so_far().is_empty() && plain.so_far().is_empty());
}
