//! The binary: reads the command line, and turns what comes of it into an exit code.

use std::process::ExitCode;

use callboard::cli::{self, Cli};
use clap::Parser;
use log::LevelFilter;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        // It calls every takeover of a socket an error.
        .filter_module("actix_http::h1::dispatcher", LevelFilter::Off)
        .format_timestamp_millis()
        .init();
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callboard: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
