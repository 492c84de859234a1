//! Who asks: where a request carries its token. What a token proves is `auth`'s.

use std::sync::Arc;

use actix_web::{HttpRequest, http::header};

use super::{
    door::Door,
    error::ApiError,
    query::{Query, SIGNED_ROOM},
};
use crate::{
    auth::{AuthError, Identity, SignedRooms, signed_room, unix_now},
    config::Auth,
};

/// The name that a WebSocket client offers beside its token, and that the hub selects.
pub const SUBPROTOCOL: &str = "callboard";
const TOKEN_SUBPROTOCOL: &str = "token.";

/// The identity that the request proves: by a token, else in the words of the application, else nobody's where nobody may
/// connect. A token that is present and invalid is refused even there: its bearer believes to be somebody.
///
/// An address that comes too often is refused first.
pub async fn identify(request: &HttpRequest, query: &Query, door: &Door) -> Result<Arc<Identity>, ApiError> {
    door.check_rate(request)?;
    identify_by(Some(request), query, door).await
}

/// As [`identify`] where whoever made a browser send this is not known: of its headers none proves anything, only the query.
pub async fn identify_by_query(request: &HttpRequest, query: &Query, door: &Door) -> Result<Arc<Identity>, ApiError> {
    door.check_rate(request)?;
    identify_by(None, query, door).await
}

async fn identify_by(with_headers: Option<&HttpRequest>, query: &Query, door: &Door) -> Result<Arc<Identity>, ApiError> {
    let config = door.config();
    let proven = prove(with_headers, query, door, &config.auth).await?;
    let signed = SignedRooms::read(query.all(SIGNED_ROOM), signed_room::secret(&config.auth), unix_now())?;
    match signed {
        None => Ok(proven),
        Some(signed) => Ok(Arc::new(Identity { signed: Some(Arc::new(signed)), ..Identity::clone(&proven) })),
    }
}

async fn prove(with_headers: Option<&HttpRequest>, query: &Query, door: &Door, auth: &Auth) -> Result<Arc<Identity>, ApiError> {
    let forward = door.forward();
    if (auth.jwt.is_some() || forward.is_none())
        && let Some(token) = token(with_headers, query, auth)
    {
        return Ok(Arc::new(door.keyring.verify(&token).await?));
    }
    match forward.and_then(|forward| Some((forward.credentials(with_headers?)?, forward))) {
        Some((credentials, forward)) => {
            let identity = forward.identify(credentials).await?;
            if identity.is_anonymous() && !auth.anonymous { Err(AuthError::Missing.into()) } else { Ok(identity) }
        }
        None if auth.anonymous => Ok(Arc::clone(&door.anonymous)),
        None => Err(AuthError::Missing.into()),
    }
}

fn token(with_headers: Option<&HttpRequest>, query: &Query, auth: &Auth) -> Option<String> {
    let cookie = auth.jwt.as_ref().map(|jwt| jwt.cookie.as_str()).filter(|name| !name.is_empty());
    let in_headers = |request| {
        let in_cookie = || cookie.and_then(|name| cookie_value(request, name));
        bearer(request).or_else(in_cookie).or_else(|| subprotocol_token(request))
    };
    with_headers.and_then(in_headers).or_else(|| query.first("token").map(str::to_owned))
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
