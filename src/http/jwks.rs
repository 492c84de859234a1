//! Reads the JWKS document, from its address or file: at start, on SIGHUP, and when a token names a key that is not known. The
//! rest of the time the keys stay as they are, also when reading fails.

use std::{sync::Arc, time::Duration};

use actix_web::http::StatusCode;

use super::client;
use crate::{auth::Keyring, config::JwksLocation};

const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts while there are no keys at all.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Runs as long as the process, on one thread.
pub async fn keep(keyring: Arc<Keyring>) {
    let mut retry = FIRST_RETRY;
    loop {
        let read = match keyring.jwks() {
            None => {
                keyring.wanted().await;
                continue;
            }
            Some(JwksLocation::File(_)) => keyring.reread().map_err(|error| error.to_string()),
            Some(JwksLocation::Url(url)) => fetch(url.expose(), &keyring).await.map_err(|error| format!("{url}: {error}")),
        };
        match read {
            Ok(()) => retry = FIRST_RETRY,
            Err(error) => log::warn!("auth.jwt.jwks: {error}"),
        }
        keyring.note_fetch();
        if keyring.has_keys() {
            keyring.wanted().await;
        } else {
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }
}

async fn fetch(url: &str, keyring: &Keyring) -> Result<(), String> {
    let answer = client::get(url, &[], PATIENCE).await.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status));
    }
    let text = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
    keyring.take_document(text).map_err(|error| error.to_string())
}
