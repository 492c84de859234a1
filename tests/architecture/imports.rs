//! What a Rust file refers to: its `use` trees, spelled out, and the paths in its code. No parser, but enough for files that
//! rustfmt has formatted.

use crate::source::Source;

pub struct Import {
    pub line: usize,
    /// Such as `crate::actors::messages::Join`.
    pub path: String,
}

impl Import {
    /// The module of the crate's root that it reaches into, if it does.
    pub fn module_of_ours(&self, source: &Source) -> Option<String> {
        let mut segments = self.path.split("::").peekable();
        let mut depth = source.depth();
        match *segments.peek()? {
            "crate" | "callboard" => depth = 0,
            "super" => depth = depth.checked_sub(1)?,
            _ => return None,
        }
        segments.next();
        while segments.next_if_eq(&"super").is_some() {
            depth = depth.checked_sub(1)?;
        }
        (depth == 0).then(|| segments.next().map(str::to_owned)).flatten()
    }
}

/// Everything that the file imports or names by a path.
pub fn of(text: &str) -> Vec<Import> {
    let code = without_comments(text);
    let (mut imports, mut rest) = (Vec::new(), String::new());
    let mut tree: Option<(usize, String)> = None;
    for (number, line) in code.lines().enumerate() {
        let start = line.trim_start();
        let is_use = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|head| start.starts_with(head));
        if is_use && tree.is_none() {
            tree = Some((number + 1, String::new()));
        }
        let Some((first, text)) = &mut tree else {
            rest += line;
            rest.push('\n');
            continue;
        };
        rest.push('\n');
        text.push_str(start);
        if let Some(end) = text.find(';') {
            let body = text[..end].split_once("use ").map_or("", |(_, body)| body);
            expand("", body, *first, &mut imports);
            tree = None;
        }
    }
    let own: Vec<String> = imports.iter().filter_map(|import| import.path.split("::").last().map(str::to_owned)).collect();
    paths(&rest, &own, &mut imports);
    imports
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at])).fold(String::new(), |code, line| code + line + "\n")
}

/// `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expand(prefix: &str, tree: &str, line: usize, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        imports.push(Import { line, path: format!("{prefix}{name}") });
        return;
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&format!("{prefix}{head}"), &inner[start..at], line, imports);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths in code that no import of the file has introduced: `redis::cmd(…)`.
fn paths(code: &str, introduced: &[String], imports: &mut Vec<Import>) {
    let is_part = |character: char| character.is_alphanumeric() || character == '_' || character == ':';
    for (number, line) in code.lines().enumerate() {
        for path in line.split(|character| !is_part(character)).filter(|path| path.contains("::")) {
            let first = path.split("::").next().unwrap_or_default();
            if !first.is_empty() && !introduced.iter().any(|name| name == first) {
                imports.push(Import { line: number + 1, path: path.to_owned() });
            }
        }
    }
}

#[test]
fn use_trees_are_spelled_out() {
    let text =
        "// use nothing::here;\nuse crate::{\n    actors::{Room, messages::Join as J},\n    hub,\n};\nfn f() { redis::cmd(Room::new()) }\n";
    let found: Vec<(usize, String)> = of(text).into_iter().map(|import| (import.line, import.path)).collect();
    let expected = [(2, "crate::actors::Room"), (2, "crate::actors::messages::Join"), (2, "crate::hub"), (6, "redis::cmd")];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn super_is_followed_to_the_root() {
    let reach = |path: &str, import: &str| {
        let source = Source { path: path.into(), text: String::new() };
        Import { line: 1, path: import.into() }.module_of_ours(&source)
    };
    assert_eq!(reach("src/http/sse.rs", "super::door::Door"), None);
    assert_eq!(reach("src/http/mod.rs", "super::hub::serve").as_deref(), Some("hub"));
    assert_eq!(reach("src/http/sse.rs", "super::super::hub::serve").as_deref(), Some("hub"));
    assert_eq!(reach("src/http/sse.rs", "crate::hub::serve").as_deref(), Some("hub"));
    assert_eq!(reach("src/http/sse.rs", "std::fmt"), None);
}
