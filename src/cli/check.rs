//! `callboard check`: is this configuration right, what is in effect, and what will hurt later although it is right.

use std::fs;

use clap::Args;

use super::{CliError, ConfigFile, print};
use crate::{
    auth::Verifier,
    config::{AllowedOrigin, Config, format_size},
    hub,
};

/// What an event that waits for one connection costs there: a handle. Its bytes are shared by all who wait for it.
const QUEUE_SLOT_BYTES: usize = 64;
/// Descriptors that are not connections: listeners, Redis, epoll, log, and what a worker opens.
const OTHER_FILES: u64 = 128;
/// RFC 7518 §3.2: as many bytes as the hash has.
const LEAST_SECRET_BYTES: usize = 32;

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFile,
}

/// What this machine gives a process; none where it cannot be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Bytes of memory, of the machine or of the control group.
    pub memory: Option<u64>,
    /// File descriptors.
    pub open_files: Option<u64>,
}

impl Machine {
    /// Reads it from the kernel's files. Elsewhere than on Linux there are none.
    pub fn this_one() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let total = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal:")).map(|kib| kib * 1024);
        let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
        Self {
            memory: total.into_iter().chain(group).min(),
            open_files: read("/proc/self/limits").and_then(|text| field(&text, "Max open files")),
        }
    }
}

/// The number that follows a label at the start of a line.
fn field(text: &str, label: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(label))?.split_whitespace().next()?.parse().ok()
}

/// Prints the effective configuration, with warnings apart on standard error.
pub fn run(arguments: &Check) -> Result<(), CliError> {
    let config = arguments.config.load()?;
    check_files(&config)?;
    hub::sources(&config)?;
    for warning in warnings(&config, Machine::this_one()) {
        eprintln!("warning: {warning}");
    }
    print(&config.to_toml())
}

/// Opens what the configuration names, as the hub will at start.
fn check_files(config: &Config) -> Result<(), CliError> {
    if let Some(jwt) = &config.auth.jwt {
        Verifier::from_config(jwt)?;
    }
    let tls = config.server.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    for path in tls.chain(&config.broker.tls_ca) {
        fs::File::open(path).map_err(|error| CliError::file(path, error))?;
    }
    Ok(())
}

/// What is allowed and yet unwise.
pub fn warnings(config: &Config, machine: Machine) -> Vec<String> {
    [
        cookies_for_every_site(config),
        short_secret(config),
        short_api_key(config),
        nobody_can_connect(config),
        queues_beyond_memory(config, machine),
        too_few_files(config, machine),
        native_channels_unheard(config),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cookies_for_every_site(config: &Config) -> Option<String> {
    let sends = |headers: &[String]| headers.iter().any(|name| name.eq_ignore_ascii_case("cookie"));
    let by_token = config.auth.jwt.as_ref().is_some_and(|jwt| !jwt.cookie.is_empty());
    let by_asking = config.auth.forward.as_ref().is_some_and(|forward| sends(&forward.headers));
    let is_open = config.http.allowed_origins.contains(&AllowedOrigin::Any);
    (is_open && (by_token || by_asking)).then(|| {
        "http.allowed_origins has \"*\" while cookies identify users: any site that they visit can read their events; name the origins, or \
         turn cookies off (auth.jwt.cookie = \"\", auth.forward.headers without \"cookie\")"
            .to_owned()
    })
}

fn short_secret(config: &Config) -> Option<String> {
    let auth = &config.auth;
    let secrets =
        [("auth.jwt.secret", auth.jwt.as_ref().and_then(|jwt| jwt.secret.as_ref())), ("auth.room_secret", auth.room_secret.as_ref())];
    let lengths = secrets.into_iter().filter_map(|(key, secret)| Some((key, secret?.expose().len())));
    let (key, length) = lengths.filter(|(_, length)| *length < LEAST_SECRET_BYTES).min_by_key(|(_, length)| *length)?;
    Some(format!("{key} has {length} bytes, fewer than {LEAST_SECRET_BYTES}: who has one token can guess it offline"))
}

fn short_api_key(config: &Config) -> Option<String> {
    let shortest = config.api.keys.iter().map(|key| key.expose().len()).min()?;
    (shortest < 16).then(|| format!("a key in api.keys has {shortest} bytes, fewer than 16: it can be guessed"))
}

fn nobody_can_connect(config: &Config) -> Option<String> {
    let auth = &config.auth;
    (!auth.anonymous && auth.jwt.is_none() && auth.forward.is_none())
        .then(|| "auth.anonymous is false and neither auth.jwt nor auth.forward is set: nobody can connect".to_owned())
}

fn queues_beyond_memory(config: &Config, machine: Machine) -> Option<String> {
    let (queue, connections) = (config.mailbox.connection, config.server.max_connections);
    let needed = queue.saturating_mul(connections).saturating_mul(QUEUE_SLOT_BYTES);
    let memory = usize::try_from(machine.memory?).unwrap_or(usize::MAX);
    (needed > memory).then(|| {
        let (needed, memory) = (in_gib(needed), in_gib(memory));
        format!(
            "mailbox.connection = {queue} times server.max_connections = {connections} may take {needed} before any event's own bytes, \
             and there are {memory}: lower one of them"
        )
    })
}

fn in_gib(bytes: usize) -> String {
    match bytes >> 20 {
        0..1024 => format_size(bytes >> 20 << 20),
        mib => format!("{:.1}GiB", mib as f64 / 1024.0),
    }
}

fn too_few_files(config: &Config, machine: Machine) -> Option<String> {
    let (connections, limit) = (config.server.max_connections, machine.open_files?);
    (limit < connections as u64 + OTHER_FILES).then(|| {
        format!(
            "server.max_connections = {connections}, but this process may open {limit} files: raise the limit (LimitNOFILE=, ulimit -n)"
        )
    })
}

fn native_channels_unheard(config: &Config) -> Option<String> {
    let channel = format!("{}:room:{{room}}", config.broker.prefix);
    let is_native = |channel: &str| channel.ends_with(":room:{room}");
    let other = config.sources.iter().find(|source| source.dialect == "callboard" && is_native(&source.channel))?;
    (config.sources.iter().all(|source| source.channel != channel)).then(|| {
        let (heard, prefix) = (&other.channel, &config.broker.prefix);
        format!("broker.prefix = \"{prefix}\", but the source listens to \"{heard}\": nothing hears \"{channel}\"")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn warned(text: &str, machine: Machine) -> Vec<String> {
        let config = Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()).expect(text);
        warnings(&config, machine)
    }

    #[test]
    fn the_defaults_raise_no_warning_on_a_machine_for_them() {
        let machine = Machine { memory: Some(4 << 30), open_files: Some(1 << 20) };
        assert_eq!(warned("", machine), Vec::<String>::new());
        assert_eq!(warned("", Machine::default()), Vec::<String>::new());
    }

    #[test]
    fn each_unwise_choice_is_named() {
        let strong = "0123456789abcdef0123456789abcdef";
        for (text, named) in [
            ("[auth.jwt]\nsecret = 'short'", "auth.jwt.secret has 5 bytes"),
            ("[auth]\nroom_secret = 'a-text-of-one-byte-less-than-32'", "auth.room_secret has 31 bytes"),
            ("[api]\nkeys = ['k']", "api.keys has 1 bytes"),
            ("[auth]\nanonymous = false", "nobody can connect"),
            (
                "[broker]\nprefix = 'other'\n[[source]]\nchannel = 'callboard:room:{room}'\ndialect = 'callboard'",
                "nothing hears \"other:room:{room}\"",
            ),
            (&format!("[http]\nallowed_origins = ['*']\n[auth.jwt]\nsecret = '{strong}'"), "cookies identify users"),
            ("[http]\nallowed_origins = ['*']\n[auth.forward]\nurl = 'http://a/'", "cookies identify users"),
        ] {
            let found = warned(text, Machine::default());
            assert!(found.len() == 1 && found[0].contains(named), "{text}: {found:?}");
        }
        assert!(
            warned(&format!("[http]\nallowed_origins = ['*']\n[auth.jwt]\nsecret = '{strong}'\ncookie = ''"), Machine::default())
                .is_empty()
        );
    }

    #[test]
    fn limits_are_weighed_against_the_machine() {
        let small = Machine { memory: Some(1 << 30), open_files: Some(1024) };
        let found = warned("", small);
        assert!(found[0].contains("may take 1.5GiB") && found[0].contains("there are 1.0GiB"), "{found:?}");
        assert!(found[1].contains("may open 1024 files"), "{found:?}");
        assert!(warned("[server]\nmax_connections = 800", small).is_empty());
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(field("MemTotal:       16384 kB\n", "MemTotal:"), Some(16_384));
        assert_eq!(field("Limit Soft\nMax open files            1024    4096    files\n", "Max open files"), Some(1024));
        assert_eq!(field("Max open files            unlimited  unlimited  files\n", "Max open files"), None);
    }
}
