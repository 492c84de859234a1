//! Nothing that was not signed lets anybody in.
#![no_main]

use std::{path::Path, sync::LazyLock};

use callboard::{
    auth::signed_room,
    config::{Auth, Config},
};
use libfuzzer_sys::fuzz_target;

static AUTH: LazyLock<Auth> = LazyLock::new(|| {
    let text = "[auth]\nroom_secret = '0123456789abcdef0123456789abcdef'";
    Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()).expect("a configuration").auth
});

/// The example of the documentation, signed with the same secret: what the fuzzer starts from.
const SIGNED: &str = "invoice/42~2000000000~WKNTXYpdSQEuX3lLcTiE8xICFstFqXdmGcuhQUivy8U";

fuzz_target!(|text: &str| {
    let is_good = signed_room::verify(text, signed_room::secret(&AUTH), 0).is_ok();
    assert_eq!(is_good, text == SIGNED, "{text:?}");
});
