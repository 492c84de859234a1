//! The command line.

pub struct Options {
    /// Parts of names of scenarios; none runs all.
    pub only: Vec<String>,
    pub repeat: u32,
    pub seed: u64,
    pub is_long: bool,
    /// Scenarios at once: most of their time is waiting.
    pub jobs: usize,
    pub lists: bool,
}

const USAGE: &str = "cargo test --test torture -- [--only NAME]… [--repeat N] [--seed S] [--long] [--jobs N] [--list]";

impl Options {
    /// Flags of cargo's own test harness are taken without effect: `cargo test` gives all test programs the same.
    pub fn read(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self { only: Vec::new(), repeat: 1, seed: 1, is_long: false, jobs: 0, lists: false };
        let mut arguments = arguments.skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--only" => options.only.push(value()),
                "--repeat" => options.repeat = value().parse().expect("--repeat takes a number"),
                "--seed" => options.seed = value().parse().expect("--seed takes a number"),
                "--jobs" | "--test-threads" => options.jobs = value().parse().expect("--jobs takes a number"),
                "--long" => options.is_long = true,
                "--list" => options.lists = true,
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
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}
