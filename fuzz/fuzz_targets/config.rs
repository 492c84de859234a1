//! A configuration is taken or refused with a mistake, and what is taken can be printed and read again.
#![no_main]

use std::path::Path;

use callboard::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()) {
        let _ = config.to_toml();
    }
});
