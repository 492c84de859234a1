//! The keys of the moment. Tokens are verified against what is here; the keys change when the configuration is read again, or
//! when a JWKS document is read anew. Who fetches is `http`'s.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{AuthError, Identity, KeyError, Verifier};
use crate::config::{JwksLocation, Jwt};

/// A JWKS document is not read again for an unknown `kid` within this time: anybody can make one up.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// How long a token with an unknown `kid` waits for the document.
const PATIENCE: Duration = Duration::from_secs(6);

/// One per process, shared by the door and every connection.
pub struct Keyring {
    keys: ArcSwap<Keys>,
    /// Held by whoever changes the keys, so that a document does not bring a former configuration back.
    changing: Mutex<()>,
    /// When the last fetch ended, well or not.
    last_fetch: Mutex<Option<Instant>>,
    /// Someone wants a fetch; the fetcher waits for it.
    wanted: Notify,
    /// Fetches that have ended; those who wait for one watch it.
    fetches: watch::Sender<u64>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("verifier", &self.keys.load().verifier).finish_non_exhaustive()
    }
}

struct Keys {
    jwt: Option<Jwt>,
    /// None: tokens are not read, or the document with the keys has not been fetched yet.
    verifier: Option<Verifier>,
}

impl Keyring {
    /// The keys that the configuration holds or names as files. Without `jwt` no token is read.
    pub fn new(jwt: Option<&Jwt>) -> Result<Self, KeyError> {
        Ok(Self {
            keys: ArcSwap::from_pointee(Keys::read(jwt)?),
            changing: Mutex::default(),
            last_fetch: Mutex::default(),
            wanted: Notify::new(),
            fetches: watch::Sender::new(0),
        })
    }

    /// Takes another configuration's keys; a mistake in it leaves the old ones. A document that is already here stays until
    /// its address, which is asked now, has answered again.
    pub fn replace(&self, jwt: Option<&Jwt>) -> Result<(), KeyError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = self.keys.load().jwt.as_ref() == jwt && matches!(self.jwks(), Some(JwksLocation::Url(_)));
        if !stays {
            self.keys.store(Arc::new(Keys::read(jwt)?));
        }
        self.wanted.notify_one();
        Ok(())
    }

    /// Where the JWKS document is, if the keys are in one.
    pub fn jwks(&self) -> Option<JwksLocation> {
        self.keys.load().jwks().cloned()
    }

    /// Takes what the document's file holds now. One that cannot be read leaves the keys that are here.
    pub fn reread(&self) -> Result<(), KeyError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let jwt = self.keys.load().jwt.clone();
        self.keys.store(Arc::new(Keys::read(jwt.as_ref())?));
        Ok(())
    }

    /// Takes the keys of a document that was fetched. One that cannot be read leaves those that are here.
    pub fn take_document(&self, json: &str) -> Result<(), KeyError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load_full();
        let Some(jwt) = &keys.jwt else { return Ok(()) };
        self.keys.store(Arc::new(Keys { jwt: Some(jwt.clone()), verifier: Some(Verifier::from_jwks(json, jwt)?) }));
        Ok(())
    }

    /// Whether keys are here that a fetch was needed for.
    pub fn has_keys(&self) -> bool {
        self.keys.load().verifier.is_some()
    }

    /// A fetch has ended: whoever waited for it looks again.
    pub fn note_fetch(&self) {
        *self.last_fetch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.fetches.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns when a fetch is wanted.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Who the bearer of this token is. An unknown `kid` has the JWKS document read anew, at most once a minute.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let mut fetches = self.fetches.subscribe();
        match self.verify_now(token) {
            Err(AuthError::UnknownKey) if self.may_fetch() => {
                self.wanted.notify_one();
                // A time-out is answered as an unknown key below.
                let _ = timeout(PATIENCE, fetches.changed()).await;
                self.verify_now(token)
            }
            known => known,
        }
    }

    fn verify_now(&self, token: &str) -> Result<Identity, AuthError> {
        let keys = self.keys.load();
        match (&keys.verifier, &keys.jwt) {
            (Some(verifier), _) => verifier.verify(token),
            (None, Some(_)) => Err(AuthError::NoKeys),
            (None, None) => Err(AuthError::NoTokens),
        }
    }

    fn may_fetch(&self) -> bool {
        let last = *self.last_fetch.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.load().jwks().is_some() && last.is_none_or(|last| last.elapsed() >= REFRESH_PAUSE)
    }
}

impl Keys {
    fn read(jwt: Option<&Jwt>) -> Result<Self, KeyError> {
        Ok(Self { verifier: jwt.map(Verifier::from_config).transpose()?.flatten(), jwt: jwt.cloned() })
    }

    fn jwks(&self) -> Option<&JwksLocation> {
        self.jwt.as_ref()?.jwks.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::{auth::unix_now, config::Config};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn document(kid: &str) -> String {
        json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": kid, "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY" }] }).to_string()
    }

    fn token(kid: &str) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &json!({ "sub": "alice", "exp": unix_now() + 60 }), &EncodingKey::from_secret(SECRET)).expect("it signs")
    }

    fn keyring() -> Keyring {
        let text = "[auth.jwt]\njwks = 'http://keys.test/'";
        let config = Config::read(Some((Path::new("config.toml"), text)), std::iter::empty()).expect(text);
        Keyring::new(config.auth.jwt.as_ref()).expect("no file is needed")
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_has_the_document_fetched_once_a_minute() {
        let keyring = keyring();
        assert_eq!(keyring.verify(&token("one")).await, Err(AuthError::NoKeys));
        keyring.take_document(&document("one")).expect("a document");
        keyring.note_fetch();
        assert!(keyring.verify(&token("one")).await.is_ok());
        // Just fetched: a made-up kid costs nothing.
        assert_eq!(keyring.verify(&token("two")).await, Err(AuthError::UnknownKey));
        assert!(timeout(Duration::from_secs(1), keyring.wanted()).await.is_err(), "nothing was asked for");
        tokio::time::advance(REFRESH_PAUSE).await;
        let second = token("two");
        let fetch = async {
            keyring.wanted().await;
            keyring.take_document(&document("two")).expect("a document");
            keyring.note_fetch();
        };
        let (verified, ()) = tokio::join!(keyring.verify(&second), fetch);
        assert!(verified.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_has_the_file_read_again() {
        let path = std::env::temp_dir().join(format!("callboard-keyring-{}.json", std::process::id()));
        std::fs::write(&path, document("one")).expect("a file");
        let text = format!("[auth.jwt]\njwks = '{}'", path.display());
        let config = Config::read(Some((Path::new("config.toml"), &text)), std::iter::empty()).expect("a configuration");
        let keyring = Keyring::new(config.auth.jwt.as_ref()).expect("the file is there");
        std::fs::write(&path, document("two")).expect("a file");
        let read = async {
            keyring.wanted().await;
            keyring.reread().expect("a document");
            keyring.note_fetch();
        };
        let second = token("two");
        let (verified, ()) = tokio::join!(keyring.verify(&second), read);
        assert!(verified.is_ok());
        std::fs::remove_file(&path).expect("it is there");
        assert!(keyring.reread().is_err() && keyring.verify(&second).await.is_ok(), "a file that is gone leaves the keys");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_fails_leaves_the_keys() {
        let keyring = keyring();
        keyring.take_document(&document("one")).expect("a document");
        assert!(keyring.take_document("<html>").is_err());
        keyring.note_fetch();
        assert!(keyring.verify(&token("one")).await.is_ok());
    }
}
