//! Starting: what goes wrong is said, with the exit code that fits; a Redis that is away is no reason not to serve.

use std::fs;

use crate::support::{
    eventually, free_port,
    hub::{Hub, Process, Setup, binary},
    publisher::Publisher,
    redis::Redis,
    sse::Stream,
    unique_path,
};

/// Runs a command that must end by itself: its exit code and all it said.
fn run(arguments: &[&str], config: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let path = unique_path("start.toml");
    fs::write(&path, config).expect("a file for the configuration");
    let mut command = binary();
    command.args(arguments).arg("--config").arg(&path).envs(variables.iter().copied());
    let mut process = Process::spawn(command);
    let code = process.wait().code();
    (code, process.log().replace(path.to_str().expect("a path in UTF-8"), "config.toml"))
}

#[test]
fn a_port_that_is_taken_is_named() {
    let hub = Hub::start("");
    let taken = hub.address.to_string();
    let (code, log) = run(&["serve"], &format!("[server]\nbind = [\"{taken}\"]\n[broker]\nresp = \"\""), &[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("cannot listen on {taken}: Address already in use")), "{log}");
    let resp = format!("127.0.0.1:{}", hub.resp);
    let (code, log) = run(&["serve"], &format!("[server]\nbind = [\"127.0.0.1:0\"]\n[broker]\nresp = \"{resp}\""), &[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&resp) && log.contains("Address already in use"), "{log}");
}

#[test]
fn a_mistake_in_the_configuration_names_file_line_and_key() {
    for (config, expected) in [
        ("[server]\nworker = 2\n", &["config.toml:2", "worker", "workers"][..]),
        ("[server]\n\ndrain = \"fast\"\n", &["config.toml:3", "drain", "fast"]),
        ("[mailbox]\nconnection = 0\n", &["config.toml:2", "[mailbox] connection", "expected 1 to"]),
        ("[servre]\nworkers = 2\n", &["config.toml:1", "servre", "server"]),
        ("[[source]]\nchannel = \"a\"\ndialect = \"djangosse\"\nroom = \"a\"\n", &["config.toml:3", "djangosse", "django-sse"]),
    ] {
        for command in ["serve", "check"] {
            let (code, log) = run(&[command], config, &[]);
            assert_eq!(code, Some(2), "{command} {config}: {log}");
            assert!(expected.iter().all(|word| log.contains(word)), "{command} {config}: {log} lacks one of {expected:?}");
        }
    }
    let (code, log) = run(&["check"], "", &[("CALLBOARD_SERVER__WORKERS", "many")]);
    assert!(code == Some(2) && log.contains("CALLBOARD_SERVER__WORKERS"), "{log}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let mut command = binary();
    command.args(["serve", "--config", "nowhere.toml"]);
    let mut process = Process::spawn(command);
    assert_eq!(process.wait().code(), Some(2));
    assert!(process.log().contains("nowhere.toml"), "{}", process.log());
}

#[test]
fn check_prints_what_is_in_effect_without_secrets() {
    let (code, log) = run(&["check"], "[api]\nkeys = [\"a-key-to-hide-0123\"]\n", &[("CALLBOARD_SERVER__WORKERS", "3")]);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("workers = 3") && !log.contains("a-key-to-hide"), "{log}");
}

#[test]
fn a_redis_that_is_away_at_start_is_waited_for() {
    let port = free_port();
    let hub = Setup::new("").variable("REDIS_URL", &format!("redis://127.0.0.1:{port}")).start_unready();
    assert_eq!(hub.get("/healthz").status, 200);
    let unready = hub.get("/readyz");
    assert_eq!((unready.status, unready.json()["broker"].as_str()), (503, Some("down")));
    let refused = hub.post("/api/publish", r#"{"room":"a","data":1}"#);
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "broker_unavailable"));
    // Joined means listening, but nobody is kept at the door for more than two seconds.
    let mut stream = Stream::open(hub.address, "/sse?room=a");
    let redis = Redis::start_at(port, &[]);
    eventually("the hub is ready", || (hub.get("/readyz").status == 200).then_some(()));
    let gap = stream.next().expect("an event");
    assert_eq!(gap.event, "callboard:gap");
    assert!(gap.data.contains(r#""rooms":["a"]"#) && gap.data.contains("broker_lost"), "{gap:?}");
    Publisher::connect(redis.port).publish("callboard:room:a", r#"{"data":1}"#);
    assert_eq!(stream.take(1)[0].1, "1");
}

#[test]
fn a_wrong_password_and_a_missing_right_are_said() {
    let redis = Redis::start_at(free_port(), &["--requirepass", "right"]);
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port);
    let hub = Setup::new("").variable("REDIS_URL", &wrong).start_unready();
    hub.process.wait_for_line("check the user and password");
    assert!(!hub.process.log().contains("wrong@"), "the log holds no password: {}", hub.process.log());
    let mut admin = Publisher::connect(redis.port);
    admin.command(&["AUTH", "right"]);
    admin.command(&["ACL", "SETUSER", "limited", "on", ">pass", "+@all", "~*", "resetchannels"]);
    let limited = format!("redis://limited:pass@127.0.0.1:{}", redis.port);
    let hub = Setup::new("").variable("REDIS_URL", &limited).start_unready();
    hub.process.wait_for_line("ACL");
    assert_eq!(hub.get("/readyz").status, 503);
}
