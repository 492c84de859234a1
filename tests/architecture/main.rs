//! The house keeps its shape: imports go one way, few files know a framework, none grows too long, each says what it is for,
//! and what we link may be given away.

mod imports;
mod licences;
mod source;

use source::Source;

/// From the bottom up. A module imports from its own row only where that is said below.
const LAYERS: [&[&str]; 7] =
    [&["protocol"], &["auth", "config", "metrics", "lifeline"], &["actors"], &["broker", "http"], &["hub"], &["cli", "bench"], &["main"]];
/// The second row's modules build on each other; the broker and the door never see each other.
const ROW_OF_FRIENDS: usize = 1;

/// Who may know a crate; a folder ends in a slash.
const KNOWN_BY: [(&str, &[&str]); 5] = [
    ("actix", &["src/actors/", "src/broker/", "src/http/", "src/hub/"]),
    ("actix_web", &["src/http/", "src/hub/", "src/cli/mod.rs"]),
    ("actix_web_actors", &["src/http/websocket.rs"]),
    ("redis", &["src/broker/redis.rs", "src/broker/redis/", "src/cli/publish.rs", "src/cli/bench/", "src/bench/"]),
    ("tokio", &["src/actors/", "src/broker/", "src/http/", "src/hub/", "src/cli/", "src/bench/", "src/lifeline.rs"]),
];

const LONGEST_FILE: usize = 500;

fn fail_with(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn imports_go_down() {
    let mut faults = Vec::new();
    for source in Source::all("src") {
        let module = source.module().to_owned();
        if module == "lib" {
            continue;
        }
        let Some(own) = layer(&module) else {
            faults.push(format!("{}: the module {module} has no layer", source.path));
            continue;
        };
        for import in source.imports() {
            let Some(used) = import.module_of_ours(&source) else { continue };
            let is_fine = match layer(&used) {
                Some(layer) if layer == own => used == module || own == ROW_OF_FRIENDS || own > 4,
                Some(layer) => layer < own,
                None => true, // a macro or an item of the crate's root
            };
            if !is_fine {
                faults.push(format!("{}:{}: {module} may not import {used}: {}", source.path, import.line, import.path));
            }
        }
    }
    fail_with(&faults);
}

#[test]
fn few_files_know_a_framework() {
    let mut faults = Vec::new();
    for source in Source::all("src") {
        for import in source.imports() {
            let root = import.path.split("::").next().unwrap_or_default();
            let Some((name, knowers)) = KNOWN_BY.iter().find(|(name, _)| *name == root) else { continue };
            if !knowers.iter().any(|knower| source.path == *knower || (knower.ends_with('/') && source.path.starts_with(knower))) {
                faults.push(format!("{}:{}: only {} may know {name}", source.path, import.line, knowers.join(", ")));
            }
        }
    }
    fail_with(&faults);
}

#[test]
fn no_file_is_too_long_and_each_says_what_it_is_for() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches", "examples"].into_iter().flat_map(Source::all) {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            faults.push(format!("{}:{LONGEST_FILE}: the file goes on to line {lines}", source.path));
        }
        if !source.text.starts_with("//! ") {
            faults.push(format!("{}:1: the file opens without //!", source.path));
        }
    }
    fail_with(&faults);
}
