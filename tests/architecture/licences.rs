//! Every crate that ends up in the binary has a licence that deny.toml allows. cargo-deny does more, but takes longer to build
//! than Callboard.

use std::{fs, process::Command};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn allowed() -> Vec<String> {
    let text = fs::read_to_string(format!("{ROOT}/deny.toml")).expect("deny.toml");
    let deny: toml::Table = text.parse().expect("deny.toml is TOML");
    deny["licenses"]["allow"].clone().try_into().expect("a list of licences")
}

/// The packages that are compiled on this platform.
fn packages() -> Vec<Value> {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8(version.stdout).expect("a version in UTF-8");
    let platform = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", platform])
        .current_dir(ROOT)
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

/// Whether an SPDX expression (annex D of SPDX 2.3) can be met with what is allowed. AND binds more tightly than OR; the old
/// spelling of OR is a slash.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = expression.split_whitespace().collect();
    any(&mut tokens.into_iter().peekable(), allowed)
}

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<&'a str>>;

fn any(tokens: &mut Tokens<'_>, allowed: &[String]) -> bool {
    let mut is_met = all(tokens, allowed);
    while tokens.next_if_eq(&"OR").is_some() {
        is_met |= all(tokens, allowed);
    }
    is_met
}

fn all(tokens: &mut Tokens<'_>, allowed: &[String]) -> bool {
    let mut is_met = one(tokens, allowed);
    while tokens.next_if_eq(&"AND").is_some() {
        is_met &= one(tokens, allowed);
    }
    is_met
}

fn one(tokens: &mut Tokens<'_>, allowed: &[String]) -> bool {
    match tokens.next() {
        Some("(") => {
            let is_met = any(tokens, allowed);
            tokens.next();
            is_met
        }
        Some(licence) => allowed.contains(&licence.replace("+WITH+", " WITH ")),
        None => false,
    }
}

#[test]
fn every_dependency_may_be_given_away() {
    let allowed = allowed();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| is_met(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "Zlib".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT/GPL-3.0-only", true),
        ("GPL-3.0-only OR MIT AND Zlib", true),
        ("(GPL-3.0-only OR MIT) AND Zlib", true),
        ("MIT AND GPL-3.0-only", false),
        ("(MIT OR Zlib) AND (GPL-2.0-only OR AGPL-3.0-only)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), expected, "{expression}");
    }
}
