//! What an operator reads when a key or a value is wrong: one line that says where, what, and what instead.

use super::{good, read};

fn check(text: &str, env: &[(&str, &str)], expected: &str) {
    match read(text, env) {
        Ok(_) => panic!("{text:?} with {env:?} is accepted"),
        Err(error) => assert_eq!(error.to_string(), expected, "{text:?}"),
    }
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    for (text, expected) in [
        ("\n[server]\n\nbinds = []", r#"config.toml:4: [server] unknown key "binds"; did you mean "bind"?"#),
        ("[server]\nworker = 1", r#"config.toml:2: [server] unknown key "worker"; did you mean "workers"?"#),
        ("[http]\norigins = []", r#"config.toml:2: [http] unknown key "origins"; did you mean "allowed_origins"?"#),
        ("[api]\nzebra = 1", r#"config.toml:2: [api] unknown key "zebra"; known are keys"#),
        ("[serve]\nbind = []", "config.toml:1: unknown section [serve]; did you mean [server]?"),
        ("rooms = []", "config.toml:1: unknown section [rooms]; did you mean [room]?"),
        (
            "[[room]]\nmatch = 'a'\n[[room]]\nmatch = 'b'\njion = 'user'",
            r#"config.toml:5: [[room]] unknown key "jion"; did you mean "join"?"#,
        ),
        (
            "[[room]]\nmatch = 'a'\nhistory = { sise = 1 }",
            r#"config.toml:3: [[room]] unknown key "history.sise"; did you mean "history.size"?"#,
        ),
        ("[auth]\n[auth.jwt]\nsecrte = 'x'", r#"config.toml:3: [auth] unknown key "jwt.secrte"; did you mean "jwt.secret"?"#),
        ("mailbox.conection = 1", r#"config.toml:1: [mailbox] unknown key "conection"; did you mean "connection"?"#),
    ] {
        check(text, &[], expected);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_repeated_with_what_is_expected() {
    for (text, expected) in [
        ("[server]\nworkers = 'many'", "config.toml:2: [server] workers = 'many': expected a whole number, not negative"),
        ("[server]\nworkers = -1", "config.toml:2: [server] workers = -1: expected a whole number, not negative"),
        ("[server]\nworkers = 1.5", "config.toml:2: [server] workers = 1.5: expected a whole number, not negative"),
        ("[server]\nbind = '127.0.0.1:80'", "config.toml:2: [server] bind = '127.0.0.1:80': expected a list such as [\"…\"]"),
        (
            "[server]\nbind = [\n  '127.0.0.1:80',\n  'nonsense',\n]",
            "config.toml:4: [server] bind = 'nonsense': expected \"HOST:PORT\" or \"unix:/path\"",
        ),
        ("[server]\ndrain = 10", "config.toml:2: [server] drain = 10: expected a duration such as \"500ms\", \"10s\" or \"1h\""),
        ("[server]\nsend_buffer = \"64\"", "config.toml:2: [server] send_buffer = \"64\": expected a size such as \"64KiB\" or \"1MB\""),
        (
            "[server]\ntrusted_proxies = ['10.0.0.0/33']",
            "config.toml:2: [server] trusted_proxies = '10.0.0.0/33': expected a network such as \"10.0.0.0/8\" or \"::1\"",
        ),
        (
            "[mailbox]\noverflow = 'drop'",
            "config.toml:2: [mailbox] overflow = 'drop': expected one of \"disconnect\", \"drop-oldest\", \"drop-newest\", \"keep-latest\"",
        ),
        (
            "[http]\nclient_rate = '0/s'",
            "config.toml:2: [http] client_rate = '0/s': expected a rate of at least one a second, such as \"50/s\"",
        ),
        (
            "[http]\nallowed_origins = ['example.org']",
            "config.toml:2: [http] allowed_origins = 'example.org': expected \"same-origin\", \"*\" or an origin without a path, such as \"https://example.org\"",
        ),
        ("[http]\ndefault_rooms = ['']", "config.toml:2: [http] default_rooms = ['']: room \"\" is empty"),
        ("[socketio]\nrecovery = 'yes'", "config.toml:2: [socketio] recovery = 'yes': expected true or false"),
        (
            "[auth.jwt]\nsecret = 'x'\nalgorithms = ['none']",
            "config.toml:3: [auth] jwt.algorithms = 'none': expected one of \"HS256\", \"HS384\", \"HS512\", \"RS256\", \"ES256\", \"EdDSA\"",
        ),
        ("[[room]]\njoin = 'user'", "config.toml:1: [[room]] key \"match\" is missing"),
        ("[[room]]\nmatch = ''", "config.toml:2: [[room]] match = '': expected a room pattern of 1 to 200 bytes, such as \"chat/*\""),
        ("[[source]]\nchannel = 'a'", "config.toml:1: [[source]] key \"dialect\" is missing"),
        ("[server]\ntls = { cert = 'a' }", "config.toml:2: [server] key \"tls.key\" is missing"),
        ("server = 1", "config.toml:1: [server] expected a table"),
    ] {
        check(text, &[], expected);
    }
}

#[test]
fn what_the_types_allow_and_the_hub_cannot_do_is_refused() {
    for (text, expected) in [
        ("[mailbox]\nconnection = 0", "config.toml:2: [mailbox] connection = 0: expected 1 to 16777216"),
        ("[mailbox]\nregistry = 16777217", "config.toml:2: [mailbox] registry = 16777217: expected 1 to 16777216"),
        ("[http]\nmax_frame = '17MiB'", "config.toml:2: [http] max_frame = \"17MiB\": expected 128B to 16MiB"),
        ("[http]\nsse_keepalive = '0s'", "config.toml:2: [http] sse_keepalive = \"0s\": expected 1s to 1h"),
        ("[server]\nbind = []", "config.toml:2: [server] bind = []: expected at least one address to listen at"),
        ("[socketio]\nprotocols = [5, 3]", "config.toml:2: [socketio] protocols = 3: expected 5, 4 or 1"),
        ("[broker]\nprefix = 'a b'", "config.toml:2: [broker] prefix = \"a b\": expected 1 to 64 letters, digits, or any of - _ . : /"),
        (
            "[broker]\nresp = '0.0.0.0:6380'",
            "config.toml:2: [broker] resp = \"0.0.0.0:6380\": whoever reaches it may push to every browser: set broker.resp_password, or stay on loopback",
        ),
        (
            "[broker]\nurl = 'redis://h'\ntls_ca = 'ca.pem'",
            "config.toml:3: [broker] tls_ca = \"ca.pem\": has no effect: broker.url is not a TLS address such as rediss://",
        ),
        ("[auth]\njwt = {}", "config.toml:2: [auth] jwt = { … }: expected exactly one of secret, public_key and jwks"),
        ("[auth.jwt]\nsecret = 'x'\njwks = 'y'", "config.toml:1: [auth] jwt = { … }: expected exactly one of secret, public_key and jwks"),
        (
            "[auth.jwt]\nsecret = 'x'\nalgorithms = ['HS256', 'RS256']",
            "config.toml:3: [auth] jwt.algorithms = \"RS256\": a secret signs with HS256, HS384 or HS512",
        ),
        (
            "[auth.jwt]\npublic_key = 'k.pem'\nalgorithms = ['HS256']",
            "config.toml:3: [auth] jwt.algorithms = \"HS256\": a public key verifies RS256, ES256 or EdDSA",
        ),
        (
            "[[room]]\nmatch = 'a'\n[[room]]\nmatch = 'b'\nhistory = { size = 5 }",
            "config.toml:5: [[room]] history.ttl = \"0s\": expected 1s to 30d",
        ),
        (
            "[[source]]\nchannel = '{room}/{user}'\ndialect = 'raw'",
            "config.toml:2: [[source]] channel = \"{room}/{user}\": expected a channel name with at most one {room} or {user}",
        ),
        ("[[source]]\nchannel = 'a'\ndialect = 'raw'\nroom = \"\"", "config.toml:4: [[source]] room = \"\": expected a room name"),
    ] {
        check(text, &[], expected);
    }
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (name, value, expected) in [
        ("CALLBOARD_SERVER__BINDS", "x", r#"CALLBOARD_SERVER__BINDS: [server] unknown key "binds"; did you mean "bind"?"#),
        ("CALLBOARD_SERVR__BIND", "x", "CALLBOARD_SERVR__BIND: unknown section [servr]; did you mean [server]?"),
        ("CALLBOARD_SERVER__WORKERS", "many", "CALLBOARD_SERVER__WORKERS: [server] workers = many: expected a whole number, not negative"),
        ("CALLBOARD_SERVER__BIND", "127.0.0.1:80", "CALLBOARD_SERVER__BIND: [server] bind = 127.0.0.1:80: expected a list such as [\"…\"]"),
        ("CALLBOARD_MAILBOX__ROOM", "0", "CALLBOARD_MAILBOX__ROOM: [mailbox] room = 0: expected 1 to 16777216"),
        ("CALLBOARD_SERVER__BIND__X", "1", "CALLBOARD_SERVER__BIND__X: [server] bind = {}: expected a list such as [\"…\"]"),
    ] {
        check("", &[(name, value)], expected);
    }
}

#[test]
fn no_message_repeats_a_secret() {
    for (text, env) in [
        ("[broker]\nurl = 'rediss//app:hunter2@h'", &[][..]),
        ("[broker]\nresp_password = ['hunter2']", &[]),
        ("[auth.jwt]\nsecret = { a = 'hunter2' }", &[]),
        ("[api]\nkeys = 'hunter2'", &[]),
        ("[api]\nkeys = [['hunter2']]", &[]),
        ("", &[("REDIS_URL", "hunter2")]),
    ] {
        let error = read(text, env).expect_err(text);
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    check("[server]\nworkers = 1\nworkers = 2", &[], "config.toml:3: duplicate key");
    let error = read("[server]\nworkers = ", &[]).unwrap_err().to_string();
    assert!(error.starts_with("config.toml:2: "), "{error}");
}

#[test]
fn the_largest_values_that_are_allowed_are_allowed() {
    good(
        "[mailbox]\nbridge = 16777216\nconnection = 1\n[http]\nmax_frame = '16MiB'\nsse_keepalive = '1s'\n[broker]\nresp = '0.0.0.0:1'\nresp_password = 'x'",
        &[],
    );
}
