//! examples/django with a real browser session: its logged-in user is known by a token, and by forward auth.

use std::{fs, process::Command};

use super::{
    FOLDER,
    support::{
        eventually, free_port,
        hub::{Process, Setup},
        installed, unique_path,
    },
};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/django");

fn manage(database: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("CALLBOARD_TEST_PYTHON"));
    command.arg("-B").arg(format!("{PROJECT}/manage.py")).args(arguments);
    command.env("DJANGO_DATABASE", database).env("DJANGO_SUPERUSER_PASSWORD", "a-password");
    command
}

/// With the project's own configuration of the hub, on ports of this test.
fn check(configuration: &str) {
    let port = free_port();
    let text = fs::read_to_string(format!("{PROJECT}/{configuration}")).expect("the example's configuration");
    assert!(text.contains("localhost:8000"));
    let hub = Setup::new(&text.replace("localhost:8000", &format!("localhost:{port}"))).start();
    let hub_url = format!("http://localhost:{}", hub.address.port());

    let database = unique_path("django.sqlite3");
    for arguments in [&["migrate", "-v0"][..], &["createsuperuser", "--noinput", "--username=alice", "--email=alice@example.org", "-v0"]] {
        let done = manage(&database, arguments).output().expect("python");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let address = format!("localhost:{port}");
    let mut serve = manage(&database, &["runserver", "--noreload", &address]);
    serve.env("CALLBOARD_URL", &hub_url).env("PYTHONUNBUFFERED", "1");
    let django = Process::spawn(serve);
    django.wait_for_line("Quit the server");

    let mut node = Command::new("node");
    node.arg(format!("{FOLDER}/django.mjs")).arg(format!("http://{address}")).arg(&hub_url);
    node.env("NODE_PATH", installed("CALLBOARD_TEST_NODE_MODULES"));
    let mut browser = Process::spawn(node);
    let status = eventually("the browser is done", || (!browser.is_running()).then(|| browser.wait()));
    assert!(status.success() && browser.log().contains("the user was known while logged in"));
}

#[test]
fn djangos_user_is_known_by_a_token_of_the_standard_library() {
    check("token.toml");
}

#[test]
fn djangos_user_is_known_by_its_session() {
    check("forward.toml");
}
