//! `callboard check` says what is allowed and yet unwise, and is no obstacle.

use std::{fs, process::Command};

use super::process::{hub::binary, unique_path};

const STRONG: &str = "[auth.jwt]\nsecret = '0123456789abcdef0123456789abcdef'\n";

/// The warnings of a process that may open so many files.
fn warnings(config: &str, open_files: u32) -> Vec<String> {
    let path = unique_path("check.toml");
    fs::write(&path, config).expect("a file for the configuration");
    let hub = binary();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {open_files} && exec \"$0\" check --config \"$1\""));
    command.arg(hub.get_program()).arg(&path).env_remove("REDIS_URL");
    let output = command.output().expect("sh");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("[server]"), "{out}{err}");
    assert!(!out.contains("0123456789abcdef") && !err.contains("0123456789abcdef"), "secrets are masked");
    err.lines().filter_map(|line| line.strip_prefix("warning: ")).map(str::to_owned).collect()
}

#[test]
fn each_unwise_choice_is_warned_of_and_no_wise_one() {
    let few = "[server]\nmax_connections = 10\n";
    for (config, open_files, named) in [
        (format!("{few}{STRONG}"), 256, None),
        (format!("{few}{STRONG}[http]\nallowed_origins = ['*']\n"), 256, Some("any site that they visit can read their events")),
        (format!("{few}[auth.forward]\nurl = 'http://127.0.0.1/'\n[http]\nallowed_origins = ['*']\n"), 256, Some("cookies identify users")),
        (
            format!("{few}[auth.jwt]\nsecret = 'a-text-of-one-byte-less-than-32'\n"),
            256,
            Some("auth.jwt.secret has 31 bytes, fewer than 32"),
        ),
        (format!("{few}[auth]\nroom_secret = 'short'\n"), 256, Some("auth.room_secret has 5 bytes")),
        (format!("{STRONG}[server]\nmax_connections = 1000\n"), 256, Some("this process may open 256 files")),
        (format!("{STRONG}[server]\nmax_connections = 800\n[mailbox]\nconnection = 16777216\n"), 1024, Some("lower one of them")),
    ] {
        let found = warnings(&config, open_files);
        assert_eq!(found.len(), usize::from(named.is_some()), "{config}: {found:?}");
        assert!(found.iter().zip(named).all(|(warning, named)| warning.contains(named)), "{config}: {found:?}");
    }
}
