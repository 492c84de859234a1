//! `callboard token`: a token for trying things out, and for applications that would rather call a command than sign.

use std::time::Duration;

use clap::Args;

use super::{CliError, ConfigFile, print};
use crate::{
    auth::{MintError, mint},
    config::parse_duration,
    protocol::{RoomPattern, UserName},
};

#[derive(Debug, Args)]
pub struct Token {
    /// Whom it names
    #[arg(long)]
    user: UserName,
    /// Rooms it may join where the rule says "granted"; * is any run of characters; repeatable
    #[arg(long, value_name = "PATTERN")]
    join: Vec<RoomPattern>,
    /// Rooms it may publish to where the rule says "granted"; repeatable
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<RoomPattern>,
    /// How long it holds
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    #[command(flatten)]
    config: ConfigFile,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).filter(|ttl| *ttl >= Duration::from_secs(1)).ok_or("expected a duration such as \"10m\" or \"1h\"")
}

/// Prints the token, and nothing else.
pub fn run(arguments: &Token) -> Result<(), CliError> {
    let config = arguments.config.load()?;
    let jwt = config.auth.jwt.ok_or(MintError::NoSecret)?;
    print(&mint(&arguments.user, &arguments.join, &arguments.publish, arguments.ttl, &jwt)?)
}
