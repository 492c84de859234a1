//! Real publishers, real clients: django-sse and the article's own code from a plain process and from a Celery worker; Chromium,
//! curl and the client packages of npm. Each event reaches each client once and in order, on one node and on three.

mod django;
mod publishers;
mod socketio;

#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, process::Command};

use publishers::Publishers;
use support::{
    eventually,
    hub::{Hub, Process, Setup},
    installed,
    redis::Redis,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
/// Four in Chromium, three of eventsource, fetch-event-source and curl.
const CLIENTS_PER_HUB: usize = 9;

fn node(script: &str, hubs: &[&Hub]) -> Process {
    installed("CALLBOARD_TEST_CHROMIUM");
    let mut command = Command::new("node");
    command.arg(format!("{FOLDER}/{script}")).env("NODE_PATH", installed("CALLBOARD_TEST_NODE_MODULES"));
    command.args(hubs.iter().map(|hub| format!("http://{}", hub.address)));
    Process::spawn(command)
}

/// What each client has heard so far, by its name.
fn heard(listeners: &Process) -> BTreeMap<String, Vec<(String, String)>> {
    let mut heard = BTreeMap::<_, Vec<_>>::new();
    for line in listeners.log().lines().filter(|line| line.starts_with('[')) {
        let Ok((client, name, data)) = serde_json::from_str::<(String, String, String)>(line) else { continue };
        heard.entry(client).or_default().push((name, data));
    }
    heard
}

/// Publishes in every way to the broker at `redis_port`; every client of every hub must hear all of it, once and in order.
fn check(hubs: &[&Hub], redis_port: u16, celery: &Redis) {
    let mut listeners = node("listen.mjs", hubs);
    eventually("every client is connected", || {
        assert!(listeners.is_running(), "the clients ended: {}", listeners.log());
        listeners.log().lines().any(|line| line == "ready").then_some(())
    });
    let publishers = Publishers::start(redis_port, celery);
    let expected = publishers.publish_in_every_way();
    let last = expected.last().expect("events").clone();
    let heard = eventually("every client hears the last event", || {
        assert!(listeners.is_running(), "the clients ended: {}", listeners.log());
        let heard = heard(&listeners);
        let is_done = heard.len() == hubs.len() * CLIENTS_PER_HUB && heard.values().all(|events| events.contains(&last));
        is_done.then_some(heard)
    });
    for (client, events) in heard {
        assert_eq!(events, expected, "{client}");
    }
}

#[test]
fn one_node_with_the_embedded_broker() {
    let celery = Redis::start();
    let hub = Hub::start("");
    check(&[&hub], hub.resp, &celery);
}

#[test]
fn one_node_on_redis() {
    let redis = Redis::start();
    let hub = Setup::new("").variable("REDIS_URL", &redis.url()).start();
    check(&[&hub], redis.port, &redis);
}

#[test]
fn three_nodes_of_several_workers_on_one_redis() {
    let redis = Redis::start();
    let start = || Setup::new("[server]\nworkers = 3").variable("REDIS_URL", &redis.url()).start();
    let hubs = [start(), start(), start()];
    check(&hubs.each_ref(), redis.port, &redis);
}

#[test]
fn the_console_connects_publishes_and_shows() {
    let hub = Hub::start("");
    let mut console = node("console.mjs", &[&hub]);
    let status = console.wait();
    assert!(status.success(), "{}", console.log());
}
