//! Nothing is undocumented: every field of the types stands in config.toml with its default, and in the reference.

use std::{collections::BTreeSet, fs, path::PathBuf};

use callboard::config::{Config, ConfigError, Mistake};
use toml::{Table, Value};

use super::{good, read};

fn project_file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_shipped_file_is_the_built_in_defaults() {
    assert_eq!(good(&project_file("config.toml"), &[]), Config::default());
}

/// No key of ours, nor near one.
const UNKNOWN: &str = "zzzzzzzzzzzz";

/// Every key of the types, from the section on (`auth.jwt.secret`), as the types themselves tell them: an unknown key is answered with
/// the known ones. So no field that is added later can be forgotten here.
fn keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let sections = known_beside(&format!("{UNKNOWN} = 1")).unwrap();
    for section in sections.iter().map(|name| name.trim_matches(['[', ']'])) {
        let header = if matches!(section, "source" | "room") { format!("[[{section}]]") } else { format!("[{section}]") };
        probe(&header, section, "", &mut keys);
    }
    keys
}

fn probe(header: &str, path: &str, prefix: &str, keys: &mut BTreeSet<String>) {
    match known_beside(&format!("{header}\n{prefix}{UNKNOWN} = 1")) {
        Some(known) => known.iter().for_each(|key| probe(header, &format!("{path}.{key}"), &format!("{prefix}{key}."), keys)),
        // It takes no table, so it is a value.
        None => assert!(keys.insert(path.to_owned())),
    }
}

fn known_beside(text: &str) -> Option<Vec<String>> {
    match read(text, &[]) {
        Err(ConfigError::Mistake(mistake)) => match *mistake {
            Mistake::UnknownKey { known, .. } | Mistake::UnknownSection { known, .. } => Some(known),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn the_keys_are_found_at_every_depth() {
    let keys = keys();
    for key in ["server.bind", "server.tls.cert", "auth.jwt.secret", "auth.forward.url", "source.control", "room.match", "room.history.ttl"]
    {
        assert!(keys.contains(key), "{key} is not among {keys:?}");
    }
}

fn collect(table: &Table, above: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Table(table) => collect(table, &path, keys),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                items.iter().filter_map(Value::as_table).for_each(|table| collect(table, &path, keys));
            }
            _ => {
                keys.insert(path);
            }
        }
    }
}

#[test]
fn every_key_stands_in_the_shipped_file() {
    // Optional keys are commented out there. Uncommented, the text need not be valid as a whole: each line speaks for itself.
    let mut section = String::new();
    let mut written = BTreeSet::new();
    for line in project_file("config.toml").lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned();
        } else if let Ok(table) = toml::from_str::<Table>(line) {
            let mut keys = BTreeSet::new();
            collect(&table, &section, &mut keys);
            written.extend(keys);
        }
    }
    let missing: Vec<_> = keys().into_iter().filter(|key| !written.contains(key)).collect();
    assert!(missing.is_empty(), "not in config.toml: {missing:?}");
}

#[test]
fn every_key_stands_in_the_reference_with_its_default() {
    let reference = project_file("docs/operations/configuration.md");
    let mut defaults = BTreeSet::new();
    let built_in: Table = toml::from_str(&Config::default().to_toml()).unwrap();
    for section in ["server", "broker", "mailbox", "http", "socketio", "auth", "api"] {
        for (key, value) in built_in[section].as_table().unwrap() {
            defaults.insert((format!("{section}.{key}"), value.to_string()));
        }
    }
    for key in keys() {
        let row = format!("| `{key}` | ");
        let found = reference.lines().find(|line| line.starts_with(&row));
        let line = found.unwrap_or_else(|| panic!("{key} is not in the reference"));
        if let Some((_, default)) = defaults.iter().find(|(name, _)| *name == key) {
            assert!(line.starts_with(&format!("{row}`{default}` | ")), "the default of {key} is {default}, and the reference says: {line}");
        }
    }
    let known = keys();
    for line in reference.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = line.split('`').next().unwrap_or_default();
        // Environment variables stand in capitals, and are no keys.
        assert!(known.contains(key) || key.starts_with(char::is_uppercase), "the reference has a key that is none: {key}");
    }
}
