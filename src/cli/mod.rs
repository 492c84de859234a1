//! The commands of the binary: `serve` (the default), `check`, `publish`, `token`, `bench`. Each is a function that returns what `main` turns
//! into an exit code.

pub mod bench;
pub mod check;
pub mod publish;
pub mod token;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::{
    auth::{KeyError, MintError},
    config::{Config, ConfigError},
    hub::{self, HubError},
};

/// Push hub: what is published to Redis reaches every browser in the room.
#[derive(Debug, Parser)]
#[command(name = "callboard", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// What to do; `serve` where nothing is said.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the hub (the default)
    Serve(Serve),
    /// Validate the configuration and print what is in effect, secrets masked
    Check(check::Check),
    /// Publish one event to a room or a user
    Publish(publish::Publish),
    /// Make a token that the hub accepts
    Token(token::Token),
    /// Measure a hub: loss, doubles, order, latency, and its CPU and memory
    Bench(bench::BenchArgs),
}

/// `callboard serve`
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Serve what the public protocol test suites ask for besides
    #[arg(long, hide = true)]
    pub conformance: bool,
}

/// `--config`, which every command takes.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// Configuration file [default: ./config.toml where it exists]
    #[arg(long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// The file, or the default one, with the environment over it.
    pub fn load(&self) -> Result<Config, CliError> {
        Ok(self.read()?)
    }

    fn read(&self) -> Result<Config, ConfigError> {
        // A variable that is not UTF-8 is no key of ours, nor a value that we could take.
        let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Config::load(self.path.as_deref(), env)
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("auth.jwt: {0}")]
    Key(#[from] KeyError),
    #[error("cannot make a token: {0}")]
    Mint(#[from] MintError),
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl CliError {
    fn file(path: &Path, error: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }

    /// 1: it failed while running; 2: the configuration is wrong.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Key(_) | Self::Mint(_) | Self::File { .. } => 2,
            Self::Hub(error) if error.is_configuration() => 2,
            Self::Publish(_) | Self::Output(_) | Self::Bench(_) | Self::Hub(_) => 1,
        }
    }
}

/// Does what was asked.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.into_command() {
        Command::Serve(Serve { config, conformance }) => {
            let loaded = config.load()?;
            Ok(hub::serve(loaded, Box::new(move || config.read()), conformance)?)
        }
        Command::Check(arguments) => check::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Bench(arguments) => Ok(actix_web::rt::System::new().block_on(bench::run(arguments))?),
    }
}

/// Prints a result. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), CliError> {
    use std::io::{ErrorKind, Write};

    let mut output = std::io::stdout().lock();
    match writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"callboard").chain(arguments)).map(Cli::into_command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        for arguments in [&["--config", "a.toml"][..], &["serve", "--config", "a.toml"]] {
            let Ok(Command::Serve(serve)) = parse(arguments) else { panic!("{arguments:?} does not serve") };
            assert_eq!(serve.config.path.as_deref(), Some(Path::new("a.toml")));
            assert!(!serve.conformance);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for arguments in [
            &["publish", "1"][..],
            &["publish", "--room", "r", "--user", "u", "1"],
            &["publish", "--room", "", "1"],
            &["publish", "--room", "r"],
            &["token"],
            &["token", "--user", "u", "--ttl", "1 fortnight"],
            &["token", "--user", "u", "--join", ""],
            &["--config", "a.toml", "check"],
            &["sing"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert!(parse(&["publish", "--room", "r", "--event", "e", r#"{"a":1}"#]).is_ok());
        assert!(parse(&["token", "--user", "u", "--join", "a*", "--join", "b", "--publish", "a", "--ttl", "5m"]).is_ok());
    }
}
