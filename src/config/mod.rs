//! Configuration: one typed value, made of built-in defaults, a TOML file and the environment, checked as a whole.
//!
//! [`sections`] and [`rules`] hold every field with its default; `tree` and `typed` read what was written and remember where;
//! `limits` says what must hold beyond the types. Nothing else in the process reads the environment or a configuration file.

mod address;
mod broker_url;
mod error;
mod limits;
mod rules;
mod sections;
mod source;
mod tree;
mod typed;
mod units;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use address::{AllowedOrigin, Bind, HttpUrl, JwksLocation};
pub use broker_url::{BrokerUrl, Sentinel};
pub use error::{ConfigError, Mistake};
pub use rules::{History, JoinRule, Overflow, PublishRule, RoomRule};
pub use sections::{Algorithm, Api, Auth, Broker, Forward, Http, Jwt, Mailbox, Server, SocketIo, Tls};
pub use source::{SourceConfig, SourceData};
pub use tree::Place;
pub use units::{Rate, Secret, format_duration, format_size, parse_duration, parse_size};

use crate::protocol::{RoomName, dialect::Dialect};
use tree::{Kind, Node};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "config.toml";
/// Environment variables that begin so and have two underscores further on are configuration: `CALLBOARD_SERVER__BIND`.
const ENVIRONMENT_PREFIX: &str = "CALLBOARD_";

/// Everything that an operator can choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub broker: Broker,
    pub mailbox: Mailbox,
    pub http: Http,
    pub socketio: SocketIo,
    pub auth: Auth,
    pub api: Api,
    /// In order; the first whose channel matches decides. Without any in the file, the native channels, django-sse's and
    /// gevent-socketio's.
    #[serde(rename = "source")]
    pub sources: Vec<SourceConfig>,
    /// In order; the first that matches decides. The last one matches every room.
    #[serde(rename = "room")]
    pub rooms: Vec<RoomRule>,
}

impl Default for Config {
    fn default() -> Self {
        let broker = Broker::default();
        Self {
            sources: source::default_sources(&broker.prefix),
            rooms: rules::default_rules(),
            server: Server::default(),
            broker,
            mailbox: Mailbox::default(),
            http: Http::default(),
            socketio: SocketIo::default(),
            auth: Auth::default(),
            api: Api::default(),
        }
    }
}

impl Config {
    /// Reads `path`, or `./config.toml` where that exists, or no file; then lets the environment override.
    pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let found = match path {
            Some(path) => Some((path.to_owned(), read_file(path)?)),
            None => match fs::read_to_string(DEFAULT_FILE) {
                Ok(text) => Some((PathBuf::from(DEFAULT_FILE), text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(ConfigError::Read { path: DEFAULT_FILE.into(), error }),
            },
        };
        Self::read(found.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), env)
    }

    /// As [`Self::load`], from a file's name and text. Touches no disk.
    pub fn read(file: Option<(&Path, &str)>, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut tree = match file {
            Some((path, text)) => Node::from_file(path, text)?,
            None => Node::empty_table(Place::Environment("environment".into())),
        };
        override_from(&mut tree, env);
        let mut config: Self = typed::read(&tree)?;
        if tree.get("source").is_none() {
            config.sources = source::default_sources(&config.broker.prefix);
        }
        rules::complete(&mut config.rooms);
        limits::check(&config).map_err(|problem| blame(&tree, problem))?;
        Ok(config)
    }

    /// What holds in this room: the first rule that matches.
    pub fn rule_for(&self, room: &RoomName) -> &RoomRule {
        rules::rule_for(&self.rooms, room)
    }

    /// Whether a source has publishers who emit to all of a namespace, or to all but the members of some rooms.
    pub fn hears_namespaces(&self) -> bool {
        let mut dialects = self.sources.iter().filter_map(|source| source.dialect.parse::<Dialect>().ok());
        dialects.any(Dialect::addresses_namespaces)
    }

    /// The effective configuration as TOML, with every secret masked.
    pub fn to_toml(&self) -> String {
        match toml::to_string(self) {
            Ok(text) => text,
            // Tables of texts, numbers and lists of them: all of TOML's types, and keys that are texts.
            Err(error) => unreachable!("a configuration is always TOML: {error}"),
        }
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })
}

/// `REDIS_URL` and `CALLBOARD_<SECTION>__<KEY>…`, and the two lists `CALLBOARD_SOURCE` and `CALLBOARD_ROOM`. Others with the prefix
/// are left alone: Kubernetes gives every container `CALLBOARD_PORT` and its like when a service is called callboard.
fn override_from(tree: &mut Node, env: impl Iterator<Item = (String, String)>) {
    let mut variables: Vec<(String, String)> = env.collect();
    // The whole before its parts, and the same result whatever order the environment has.
    variables.sort();
    for (name, value) in variables {
        let path = match name.strip_prefix(ENVIRONMENT_PREFIX) {
            _ if name == "REDIS_URL" && !value.is_empty() => "broker__url".to_owned(),
            Some(key) if key.contains("__") || matches!(key, "SOURCE" | "ROOM") => key.to_lowercase(),
            _ => continue,
        };
        let path: Vec<&str> = path.split("__").collect();
        tree.set(&path, Node::from_environment(&name, &value));
    }
}

/// Finds where the key that breaks a rule was written.
fn blame(tree: &Node, problem: limits::Problem) -> Mistake {
    let mut found = Some(tree);
    let mut place = None;
    let mut is_list = false;
    let mut keys: Vec<&str> = Vec::new();
    for step in &problem.path {
        let number = step.parse::<usize>().ok();
        found = found.and_then(|node| match (&node.kind, number) {
            (Kind::List(items), Some(index)) => items.get(index),
            _ => node.get(step),
        });
        // A key that was left out is blamed on the table that lacks it.
        place = found.map(|node| node.place.clone()).or(place);
        is_list |= number.is_some();
        keys.extend(number.is_none().then_some(step.as_str()));
    }
    let name = keys.first().copied().unwrap_or_default();
    let section = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
    let key = keys.get(1..).unwrap_or_default().join(".");
    Mistake::BadValue { place, section, key, value: problem.value, expected: problem.expected }
}
