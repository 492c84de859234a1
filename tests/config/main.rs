//! Configuration as operators meet it: the shipped file, their mistakes, their environment, what `check` prints of it.

mod complete;
mod mistakes;

use std::path::Path;

use callboard::config::{Bind, BrokerUrl, Config, ConfigError, JoinRule, Overflow, PublishRule};
use callboard::protocol::RoomName;

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(Some((Path::new("config.toml"), text)), env)
}

fn good(text: &str, env: &[(&str, &str)]) -> Config {
    read(text, env).unwrap_or_else(|error| panic!("{text:?} with {env:?}: {error}"))
}

#[test]
fn without_a_file_the_defaults_are_built_in() {
    assert_eq!(Config::read(None, std::iter::empty()).unwrap(), Config::default());
    assert_eq!(good("", &[]), Config::default());
}

#[test]
fn a_named_file_must_exist() {
    let error = Config::load(Some(Path::new("/nonexistent/callboard.toml")), std::iter::empty()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/callboard.toml: "), "{error}");
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "[server]\nworkers = 1\nbind = ['127.0.0.1:1']\n[broker]\nurl = 'redis://file'\n[auth.jwt]\nsecret = 'from the file'";
    let config = good(
        file,
        &[
            ("CALLBOARD_SERVER__WORKERS", "2"),
            ("CALLBOARD_SERVER__BIND", r#"["127.0.0.1:9000", "unix:/run/c.sock"]"#),
            ("CALLBOARD_SERVER__DRAIN", "30s"),
            ("CALLBOARD_AUTH__JWT__SECRET", "12345678901234567890123456789012"),
            ("CALLBOARD_AUTH__JWT__ISSUER", "true"),
            ("CALLBOARD_BROKER__PREFIX", "hub"),
            ("CALLBOARD_MAILBOX__OVERFLOW", "drop-oldest"),
            ("CALLBOARD_ROOM", r#"[{ match = "vip/*", join = "granted" }]"#),
            ("REDIS_URL", "redis://environment"),
        ],
    );
    assert_eq!(config.server.workers, 2);
    assert_eq!(config.server.bind, [Bind::parse("127.0.0.1:9000").unwrap(), Bind::parse("unix:/run/c.sock").unwrap()]);
    assert_eq!(config.server.drain.as_secs(), 30);
    assert_eq!(config.broker.url, BrokerUrl::parse("redis://environment").unwrap());
    assert_eq!(config.mailbox.overflow, Overflow::DropOldest);
    assert_eq!(config.rooms[0].join, JoinRule::Granted);
    let jwt = config.auth.jwt.unwrap();
    assert_eq!(
        jwt.secret.unwrap().expose(),
        "12345678901234567890123456789012",
        "a text needs no quotes, also when it looks like a number"
    );
    assert_eq!(jwt.issuer.as_deref(), Some("true"));
}

#[test]
fn redis_url_wins_over_the_key_and_an_empty_one_is_none() {
    let env = [("CALLBOARD_BROKER__URL", "redis://key"), ("REDIS_URL", "redis://common")];
    assert_eq!(good("", &env).broker.url, BrokerUrl::parse("redis://common").unwrap());
    assert_eq!(good("", &[("REDIS_URL", "")]).broker.url, BrokerUrl::Memory);
}

#[test]
fn what_an_orchestrator_puts_into_the_environment_is_left_alone() {
    let env =
        [("CALLBOARD_PORT", "tcp://10.0.0.1:80"), ("CALLBOARD_SERVICE_HOST", "10.0.0.1"), ("CALLBOARD_PORT_80_TCP", "x"), ("PATH", "/bin")];
    assert_eq!(good("", &env), Config::default());
}

#[test]
fn lists_in_a_file_replace_the_defaults() {
    let config = good("[[source]]\nchannel = 'news'\ndialect = 'raw'\nroom = 'news'\n[[room]]\nmatch = 'a*'\npublish = 'members'", &[]);
    assert_eq!(config.sources.len(), 1);
    let rule = |name: &str| config.rule_for(&RoomName::parse(name).unwrap());
    assert_eq!(rule("apple").publish, PublishRule::Members);
    assert_eq!((rule("demo").publish, rule("demo").pattern.as_str()), (PublishRule::Nobody, "*"), "the default rule is added");
    assert_eq!(config.rooms.len(), 2);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let config = good("[[room]]\nmatch = 'a/b'\njoin = 'user'\n[[room]]\nmatch = 'a/*'\njoin = 'granted'\n[[room]]\nmatch = '*'", &[]);
    let join = |name: &str| config.rule_for(&RoomName::parse(name).unwrap()).join;
    assert_eq!([join("a/b"), join("a/c"), join("b")], [JoinRule::User, JoinRule::Granted, JoinRule::Anyone]);
    assert_eq!(config.rooms.len(), 3, "a last rule for every room needs no other");
}

#[test]
fn native_channels_follow_the_prefix() {
    let config = good("[broker]\nprefix = 'shop'", &[]);
    assert_eq!(config.sources[0].channel, "shop:room:{room}");
    assert_eq!(config.sources[1].channel, "shop:user:{user}");
}

#[test]
fn the_effective_configuration_masks_every_secret() {
    let config = good(
        "[broker]\nurl = 'rediss://app:hunter2@redis.example.org:6380/1'\nresp_password = 'hunter2'\n[auth.jwt]\nsecret = 'hunter2'\n[api]\nkeys = ['hunter2', 'hunter2']\n\
         [auth.forward]\nurl = 'http://app:hunter2@127.0.0.1/who'",
        &[],
    );
    let shown = config.to_toml();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains(r#"url = "rediss://app:***@redis.example.org:6380/1""#), "{shown}");
    assert!(shown.contains(r#"keys = ["***", "***"]"#) || shown.contains("    \"***\",\n"), "{shown}");
    assert!(shown.contains(r#"url = "http://app:***@127.0.0.1/who""#), "{shown}");
    let other = good("[auth.jwt]\njwks = 'https://app:hunter2@keys.example.org/jwks.json'", &[]);
    for config in [config, other] {
        assert!(!format!("{config:?}{}", config.to_toml()).contains("hunter2"), "{config:?}");
    }
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    assert_eq!(good(&Config::default().to_toml(), &[]), Config::default());
}
