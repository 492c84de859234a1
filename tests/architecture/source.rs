//! The files of the project, as the checks see them.

use std::{fs, path::Path};

use crate::imports::{self, Import};

pub struct Source {
    /// From the project's root.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Every Rust file below a folder; none if there is no such folder.
    pub fn all(folder: &str) -> Vec<Self> {
        let mut found = Vec::new();
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), folder, &mut found);
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// The module of the crate's root that it belongs to: `src/actors/room.rs` and `src/actors.rs` are of `actors`.
    pub fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many `super::` lead from it to the crate's root.
    pub fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { folders - 1 } else { folders }
    }

    pub fn imports(&self) -> Vec<Import> {
        imports::of(&self.text)
    }
}

fn collect(root: &Path, folder: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a name in UTF-8"));
        if entry.file_type().expect("a readable folder").is_dir() {
            collect(root, &path, found);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).expect("a readable file");
            found.push(Source { path, text });
        }
    }
}
