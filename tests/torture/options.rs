//! The command line: options of its own, and those of cargo's test harness, which `cargo test` gives to all test programs alike.

pub struct Options {
    /// Parts of names of runs; none runs all.
    pub only: Vec<String>,
    pub skipped: Vec<String>,
    pub repeat: u32,
    pub seed: u64,
    pub is_long: bool,
    /// Runs at once: most of their time is waiting.
    pub jobs: usize,
    pub lists: bool,
    /// `--exact`: names, not parts of them.
    is_exact: bool,
    /// `--ignored`: nothing here is.
    wants_none: bool,
}

const USAGE: &str = "cargo test --test torture -- [--only NAME]… [--skip NAME]… [--repeat N] [--seed S] [--long] [--jobs N] [--list]";

impl Options {
    pub fn read(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            only: Vec::new(),
            skipped: Vec::new(),
            repeat: 1,
            seed: 1,
            is_long: false,
            jobs: 0,
            lists: false,
            is_exact: false,
            wants_none: false,
        };
        let mut arguments = arguments.skip(1).flat_map(|argument| match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
            _ => vec![argument],
        });
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--only" => options.only.push(value()),
                "--skip" => options.skipped.push(value()),
                "--repeat" => options.repeat = value().parse().expect("--repeat takes a number"),
                "--seed" => options.seed = value().parse().expect("--seed takes a number"),
                "--jobs" | "--test-threads" => options.jobs = value().parse().expect("--jobs takes a number"),
                "--long" => options.is_long = true,
                "--list" => options.lists = true,
                "--exact" => options.is_exact = true,
                "--ignored" => options.wants_none = true,
                // Of no meaning here, but what follows them is no name.
                "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => drop(value()),
                name if !name.starts_with('-') => options.only.push(name.to_owned()),
                _ => {}
            }
        }
        if options.jobs == 0 {
            options.jobs = if options.is_long { 1 } else { 3 };
        }
        options
    }

    pub fn wants(&self, name: &str) -> bool {
        let is_meant = |part: &String| if self.is_exact { name == part } else { name.contains(part.as_str()) };
        !self.wants_none && (self.only.is_empty() || self.only.iter().any(is_meant)) && !self.skipped.iter().any(is_meant)
    }
}
