//! Tokens: JSON Web Tokens (RFC 7519), signed, with `sub` and `exp`. Verified here, and minted here for the command line.
//!
//! The signature comes first and everything after it speaks of a token that one of our keys signed. Times and claims are checked
//! here and not by the library, whose defaults leave `nbf` and a missing `iss` unchecked, and whose clock cannot be handed in.

use std::{
    fmt, fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, crypto, decode_header, encode};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{
    AuthError, Identity,
    keys::{self, Key, KeyError},
};
use crate::{
    config::{Algorithm, JwksLocation, Jwt},
    protocol::{RoomPattern, UserName},
};

/// Longest token looked at. Cookies and request lines end at 4 to 8 KiB anyway.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// Verifies tokens against one set of keys. Cheap to ask, built once; a JWKS document fetched anew makes a new one.
pub struct Verifier {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: u64,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, issuer, audience, leeway } = self;
        f.debug_struct("Verifier").field("keys", keys).field("issuer", issuer).field("audience", audience).field("leeway", leeway).finish()
    }
}

impl Verifier {
    /// With the keys that the configuration holds or names as files; none when they stand behind an address, for
    /// [`Self::from_jwks`].
    pub fn from_config(jwt: &Jwt) -> Result<Option<Self>, KeyError> {
        match (&jwt.secret, &jwt.public_key, &jwt.jwks) {
            (Some(secret), _, _) => keys::from_secret(secret, &jwt.algorithms).map(|keys| Some(Self::new(keys, jwt))),
            (None, Some(path), _) => Self::from_public_key(&read(path)?, jwt).map(Some),
            (None, None, Some(JwksLocation::File(path))) => Self::from_jwks(&read(path)?, jwt).map(Some),
            (None, None, Some(JwksLocation::Url(_))) => Ok(None),
            (None, None, None) => Err(KeyError::NoKey),
        }
    }

    /// With one public key, from PEM text.
    pub fn from_public_key(pem: &str, jwt: &Jwt) -> Result<Self, KeyError> {
        Ok(Self::new(keys::from_pem(pem, &jwt.algorithms)?, jwt))
    }

    /// With the keys of a JWKS document's text (RFC 7517 §5).
    pub fn from_jwks(json: &str, jwt: &Jwt) -> Result<Self, KeyError> {
        Ok(Self::new(keys::from_jwks(json, &jwt.algorithms)?, jwt))
    }

    fn new(keys: Vec<Key>, jwt: &Jwt) -> Self {
        Self { keys, issuer: jwt.issuer.clone(), audience: jwt.audience.clone(), leeway: jwt.leeway.as_secs() }
    }

    /// Who the bearer of this token is.
    pub fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        self.verify_at(token, unix_now())
    }

    /// As [`Self::verify`] at a given time, in seconds since 1970.
    pub fn verify_at(&self, token: &str, now: u64) -> Result<Identity, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid("it is too long"));
        }
        let claims = self.signed_claims(token)?;
        self.check_issuer(&claims)?;
        self.check_audience(&claims)?;
        let expires_at = self.end_of(&claims, now)?;
        if time(&claims, "nbf", "nbf is no time")?.is_some_and(|begin| begin > now.saturating_add(self.leeway)) {
            return Err(AuthError::NotYetValid);
        }
        let user = match claims.get("sub") {
            None => return Err(AuthError::Invalid("sub is missing")),
            Some(Value::String(name)) => UserName::parse(name).map_err(|_| AuthError::Invalid("sub is no user name"))?,
            Some(_) => return Err(AuthError::Invalid("sub is no text")),
        };
        Ok(Identity {
            user: Some(user),
            join: patterns(&claims, "join", "join is no list of room patterns")?,
            publish: patterns(&claims, "publish", "publish is no list of room patterns")?,
            expires_at: Some(expires_at),
            ..Identity::default()
        })
    }

    /// When the grant ends. The leeway is for judging a token by another clock: who comes before `exp` may stay until `exp`, and
    /// who comes shortly after may stay as long as the leeway lasts, so that nobody is admitted and cut at once.
    fn end_of(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, AuthError> {
        let end = time(claims, "exp", "exp is no time")?.ok_or(AuthError::Invalid("exp is missing"))?;
        match end.saturating_add(self.leeway) {
            last if last <= now => Err(AuthError::Expired),
            last if end <= now => Ok(last),
            _ => Ok(end),
        }
    }

    fn signed_claims(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let header = decode_header(token).map_err(|_| AuthError::Invalid("it is not readable, or its algorithm not supported"))?;
        if header.crit.is_some() {
            // RFC 7515 §4.1.11: an extension that one does not know is a reason to refuse, and we know none.
            return Err(AuthError::Invalid("it demands an extension that is not supported"));
        }
        let key = self.key_for(&header)?;
        // The header was read from a text of three parts, so there are two dots.
        let (message, signature) = token.rsplit_once('.').unwrap_or_default();
        let (_, payload) = message.split_once('.').unwrap_or_default();
        if !crypto::verify(signature, message.as_bytes(), &key.verifies, header.alg).unwrap_or(false) {
            return Err(AuthError::Invalid("its signature does not fit"));
        }
        let claims = BASE64_URL_SAFE_NO_PAD.decode(payload).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        claims.ok_or(AuthError::Invalid("its claims are no JSON object"))
    }

    /// The one key for it. A token without `kid` is taken only where there is no choice.
    fn key_for(&self, header: &Header) -> Result<&Key, AuthError> {
        let by_kid = |key: &&Key| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid;
        let mut named = self.keys.iter().filter(by_kid).peekable();
        if named.peek().is_none() {
            return Err(AuthError::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.algorithms.contains(&header.alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(AuthError::Invalid("its algorithm is not accepted")),
            (Some(_), Some(_)) => Err(AuthError::Invalid("it names none of several keys")),
        }
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        match (&self.issuer, claims.get("iss")) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(AuthError::Invalid("iss is missing")),
            (Some(issuer), Some(Value::String(claimed))) if claimed == issuer => Ok(()),
            (Some(_), Some(_)) => Err(AuthError::Invalid("iss is another issuer")),
        }
    }

    /// RFC 7519 §4.1.3: who is not among the audience that a token names must refuse it, and who has no name is not.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let Some(claimed) = claims.get("aud") else {
            return if self.audience.is_none() { Ok(()) } else { Err(AuthError::Invalid("aud is missing")) };
        };
        let Some(audience) = self.audience.as_deref() else {
            return Err(AuthError::Invalid("it names an audience, and auth.jwt.audience is not set"));
        };
        let is_meant = match claimed {
            Value::String(name) => name == audience,
            Value::Array(names) => names.iter().any(|name| name.as_str() == Some(audience)),
            _ => false,
        };
        if is_meant { Ok(()) } else { Err(AuthError::Invalid("aud is another audience")) }
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    fs::read_to_string(path).map_err(|error| KeyError::Read { path: path.to_owned(), error })
}

/// The time that tokens are judged by, in seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, fractions allowed and cut off.
fn time(claims: &Map<String, Value>, claim: &str, problem: &'static str) -> Result<Option<u64>, AuthError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            // `as` saturates: before 1970 is 0, beyond 64 bits is the end of time.
            (None, Some(seconds)) => Ok(Some(seconds as u64)),
            (None, None) => Err(AuthError::Invalid(problem)),
        },
        Some(_) => Err(AuthError::Invalid(problem)),
    }
}

fn patterns(claims: &Map<String, Value>, claim: &str, problem: &'static str) -> Result<Option<Vec<RoomPattern>>, AuthError> {
    let parse = |value: &Value| value.as_str().and_then(|text| RoomPattern::parse(text).ok()).ok_or(AuthError::Invalid(problem));
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::Array(items)) => items.iter().map(parse).collect::<Result<_, _>>().map(Some),
        Some(_) => Err(AuthError::Invalid(problem)),
    }
}

/// Why no token was made.
#[derive(Debug, Error)]
pub enum MintError {
    #[error("auth.jwt.secret is not set: the hub signs only with a secret; sign with your private key where that is kept")]
    NoSecret,
    #[error("cannot sign: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("the token has {0} bytes, more than the {MAX_TOKEN_BYTES} that are accepted: give fewer patterns")]
    TooLong(usize),
}

/// Makes a token that a hub with this configuration accepts for `ttl`; `iss` and `aud` are what it asks for.
pub fn mint(user: &UserName, join: &[RoomPattern], publish: &[RoomPattern], ttl: Duration, jwt: &Jwt) -> Result<String, MintError> {
    let secret = jwt.secret.as_ref().ok_or(MintError::NoSecret)?;
    let now = unix_now();
    let mut claims = json!({ "sub": user, "iat": now, "exp": now.saturating_add(ttl.as_secs()) });
    for (claim, value) in [("iss", &jwt.issuer), ("aud", &jwt.audience)] {
        if let Some(value) = value {
            claims[claim] = json!(value);
        }
    }
    for (claim, patterns) in [("join", join), ("publish", publish)] {
        if !patterns.is_empty() {
            claims[claim] = json!(patterns);
        }
    }
    let algorithm = jwt.algorithms.first().copied().unwrap_or(Algorithm::HS256);
    let token = encode(&Header::new(keys::library_name(algorithm)), &claims, &EncodingKey::from_secret(secret.expose().as_bytes()))?;
    if token.len() > MAX_TOKEN_BYTES { Err(MintError::TooLong(token.len())) } else { Ok(token) }
}
