//! The RESP listener under the real client packages: redis-py 4 to 8, ioredis, node-redis 4 and 5, redis-cli. Each script
//! publishes the same way and checks its own replies; here stands what must have arrived.

use std::{path::PathBuf, process::Stdio};

use callboard::broker::resp::Options;
use tokio::process::Command;

use crate::resp::{Broker, run};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/resp_clients");

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{name} is not set: ./scripts/test installs the client packages and sets it"))
}

/// Runs the client against a broker, with and without a password. It gets host, port and password (may be empty) as arguments.
fn check(client: impl Fn() -> Command) {
    for password in ["", "s3cret"] {
        run(async {
            let broker = Broker::start(Options { password: Some(password.to_owned()), ..Options::default() }).await;
            let port = broker.addr.port().to_string();
            let mut command = client();
            command.args(["127.0.0.1", &port, password]).stdin(Stdio::null()).kill_on_drop(true);
            let output = command.output().await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
            let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
            let expected = ["one", "é\r\n\0", "piped 0", "piped 1", "piped 2", "queued 0", "queued 1", "queued 2"];
            let published = broker.sink.published.borrow();
            let payloads: Vec<_> = published.iter().map(|(_, payload)| String::from_utf8_lossy(payload)).collect();
            assert!(published.iter().all(|(channel, _)| channel == "room"), "{published:?}");
            assert!(!payloads.is_empty() && payloads.chunks(expected.len()).all(|run| run == expected), "{payloads:?}");
        });
    }
}

fn redis_py(version: &str) {
    check(|| {
        let target = variable("CALLBOARD_TEST_PY_TARGETS").join(format!("redis-{version}"));
        let mut command = Command::new(variable("CALLBOARD_TEST_PYTHON"));
        command.arg(format!("{SCRIPTS}/publish.py")).env("PYTHONPATH", target).env("EXPECTED_MAJOR", version);
        command
    });
}

fn node(package: &str) {
    check(|| {
        let mut command = Command::new("node");
        command.arg(format!("{SCRIPTS}/publish.mjs")).arg(package).env("NODE_PATH", variable("CALLBOARD_TEST_NODE_MODULES"));
        command
    });
}

#[test]
fn redis_py_4_publishes() {
    redis_py("4");
}

#[test]
fn redis_py_5_publishes() {
    redis_py("5");
}

#[test]
fn redis_py_6_publishes() {
    redis_py("6");
}

#[test]
fn redis_py_8_publishes() {
    redis_py("8");
}

#[test]
fn ioredis_publishes() {
    node("ioredis");
}

#[test]
fn node_redis_4_publishes() {
    node("redis4");
}

#[test]
fn node_redis_5_publishes() {
    node("redis5");
}

#[test]
fn redis_cli_publishes() {
    check(|| {
        let mut command = Command::new("sh");
        command.arg(format!("{SCRIPTS}/publish.sh"));
        command
    });
}

#[test]
fn the_rust_redis_crate_publishes() {
    for protocol in ["resp2", "resp3"] {
        run(async {
            let broker = Broker::start(Options { password: Some("s3cret".into()), ..Options::default() }).await;
            let url = format!("redis://:s3cret@{}/2?protocol={protocol}", broker.addr);
            let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
            let one: u64 = redis::cmd("PUBLISH").arg("room").arg("one").query_async(&mut connection).await.unwrap();
            let more: Vec<u64> = redis::pipe()
                .atomic()
                .cmd("PUBLISH")
                .arg("room")
                .arg("2")
                .cmd("PUBLISH")
                .arg("room")
                .arg("3")
                .query_async(&mut connection)
                .await
                .unwrap();
            assert_eq!((one, more), (1, vec![2, 3]));
            let refused = redis::cmd("GET").arg("key").query_async::<String>(&mut connection).await.unwrap_err();
            assert!(refused.to_string().contains("not Redis"), "{refused}");
        });
    }
}
