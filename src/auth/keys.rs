//! The keys that verify tokens: from a secret, a PEM file or a JWKS document. Each key is bound to the algorithms of its own
//! family, so that no token can have a public key taken for a secret (RFC 8725 §3.1).

use std::{fmt, io, path::PathBuf};

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use thiserror::Error;

use crate::config::{Algorithm, Secret};

/// Most keys of one JWKS document; issuers publish two or three.
const MAX_KEYS: usize = 100;
/// An uncompressed point on P-256 (SEC 1 §2.3.3): a longer one is another curve's.
const P256_POINT_BYTES: usize = 65;

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("auth.jwt names no key")]
    NoKey,
    #[error("the key is a private one: whoever can read it can sign; give the hub its public half")]
    PrivateKey,
    #[error("no PEM public key of RSA, of P-256 or of Ed25519")]
    NotPem,
    #[error("no JWKS document: {0}")]
    NotJwks(serde_json::Error),
    #[error("more than {MAX_KEYS} keys in one JWKS document: {0}")]
    TooMany(usize),
    #[error("no key fits the algorithms {0:?}")]
    NoneFits(Vec<Algorithm>),
}

/// One key that verifies.
pub(super) struct Key {
    /// None fits any `kid`: a secret or a PEM file stands alone.
    pub kid: Option<String>,
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    pub verifies: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

pub(super) const fn library_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// Those of `possible` that are also `accepted`; an empty list accepts all.
fn narrow(possible: &[Algorithm], accepted: &[Algorithm]) -> Vec<jsonwebtoken::Algorithm> {
    possible.iter().filter(|algorithm| accepted.is_empty() || accepted.contains(algorithm)).map(|a| library_name(*a)).collect()
}

fn fitting(keys: Vec<Key>, accepted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
    let keys: Vec<Key> = keys.into_iter().filter(|key| !key.algorithms.is_empty()).collect();
    if keys.is_empty() { Err(KeyError::NoneFits(accepted.to_vec())) } else { Ok(keys) }
}

pub(super) fn from_secret(secret: &Secret, accepted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
    let accepted = if accepted.is_empty() { &[Algorithm::HS256] } else { accepted };
    let algorithms = narrow(&[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512], accepted);
    fitting(vec![Key { kid: None, algorithms, verifies: DecodingKey::from_secret(secret.expose().as_bytes()) }], accepted)
}

pub(super) fn from_pem(pem: &str, accepted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyError::PrivateKey);
    }
    let bytes = pem.as_bytes();
    let is_p256 = |key: &DecodingKey| key.try_get_as_bytes().is_ok_and(|point| point.len() == P256_POINT_BYTES);
    let (algorithm, verifies) = DecodingKey::from_rsa_pem(bytes)
        .map(|key| (Algorithm::RS256, key))
        .or_else(|_| DecodingKey::from_ed_pem(bytes).map(|key| (Algorithm::EdDSA, key)))
        .ok()
        .or_else(|| DecodingKey::from_ec_pem(bytes).ok().filter(is_p256).map(|key| (Algorithm::ES256, key)))
        .ok_or(KeyError::NotPem)?;
    fitting(vec![Key { kid: None, algorithms: narrow(&[algorithm], accepted), verifies }], accepted)
}

/// Keys of kinds that the hub does not verify with are passed over: issuers mix them.
pub(super) fn from_jwks(json: &str, accepted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
    let document: JwkSet = serde_json::from_str(json).map_err(KeyError::NotJwks)?;
    if document.keys.len() > MAX_KEYS {
        return Err(KeyError::TooMany(document.keys.len()));
    }
    fitting(document.keys.iter().filter_map(|jwk| from_jwk(jwk, accepted)).collect(), accepted)
}

fn from_jwk(jwk: &Jwk, accepted: &[Algorithm]) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let family: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        _ => return None,
    };
    let named = jwk.common.key_algorithm;
    let possible: Vec<Algorithm> = family.iter().copied().filter(|a| named.is_none_or(|named| named == key_algorithm(*a))).collect();
    let verifies = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { kid: jwk.common.key_id.clone(), algorithms: narrow(&possible, accepted), verifies })
}

const fn key_algorithm(algorithm: Algorithm) -> KeyAlgorithm {
    match algorithm {
        Algorithm::HS256 => KeyAlgorithm::HS256,
        Algorithm::HS384 => KeyAlgorithm::HS384,
        Algorithm::HS512 => KeyAlgorithm::HS512,
        Algorithm::RS256 => KeyAlgorithm::RS256,
        Algorithm::ES256 => KeyAlgorithm::ES256,
        Algorithm::EdDSA => KeyAlgorithm::EdDSA,
    }
}
