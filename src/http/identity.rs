//! Who asks: where a request carries its token. What a token proves is `auth`'s.

use std::sync::Arc;

use actix_web::{HttpRequest, http::header};

use super::{door::Door, error::ApiError, query::Query};
use crate::{
    auth::{AuthError, Identity},
    protocol::ErrorCode,
};

/// The name that a WebSocket client offers beside its token, and that the hub selects.
pub const SUBPROTOCOL: &str = "callboard";
const TOKEN_SUBPROTOCOL: &str = "token.";

/// The identity that the request proves. A token that is present and invalid is refused even where anyone may connect: its
/// bearer believes to be somebody.
pub fn identify(request: &HttpRequest, query: &Query, door: &Door) -> Result<Arc<Identity>, ApiError> {
    let cookie = door.config.auth.jwt.as_ref().map(|jwt| jwt.cookie.as_str()).filter(|name| !name.is_empty());
    let token = bearer(request)
        .or_else(|| cookie.and_then(|name| cookie_value(request, name)))
        .or_else(|| subprotocol_token(request))
        .or_else(|| query.first("token").map(str::to_owned));
    match (token, &door.verifier) {
        (Some(token), Some(verifier)) => Ok(Arc::new(verifier.verify(&token)?)),
        (Some(_), None) => Err(ApiError::new(ErrorCode::Unauthorized, "this hub reads no tokens: set auth.jwt, or send none")),
        (None, _) if door.config.auth.anonymous => Ok(Arc::clone(&door.anonymous)),
        (None, _) => Err(AuthError::Missing.into()),
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// A browser can send no header with a WebSocket, but a list of subprotocols: `callboard, token.<JWT>`.
fn subprotocol_token(request: &HttpRequest) -> Option<String> {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    let mut names = offered.flat_map(|value| value.split(',').map(str::trim));
    names.find_map(|name| name.strip_prefix(TOKEN_SUBPROTOCOL)).map(str::to_owned)
}

/// A cookie's value (RFC 6265 §4.2.1). A token holds no character that would be encoded in one.
fn cookie_value(request: &HttpRequest, name: &str) -> Option<String> {
    let headers = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"').to_owned())
}
