//! What the application's answer to forward auth means. Pure: an answer in, a verdict out.

use std::sync::Arc;

use actix_web::http::{StatusCode, header::HeaderMap};
use serde::Deserialize;

use super::client::Answer;
use crate::{
    auth::Identity,
    protocol::{RoomPattern, UserName},
};

/// Who the client is, in the application's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Granted(Arc<Identity>),
    Unauthorized,
    Forbidden,
    /// No answer, or none that can be understood.
    Unavailable,
}

#[derive(Deserialize)]
struct Body {
    user: Option<Name>,
    join: Option<Vec<String>>,
    publish: Option<Vec<String>>,
    expires_at: Option<f64>,
}

/// Many applications know their users by number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
}

/// 200 or 204 lets in, 401 and 403 do not, anything else is no answer; the error says why.
pub fn read(answer: &Answer) -> Result<Verdict, String> {
    match answer.status {
        StatusCode::OK | StatusCode::NO_CONTENT => {}
        StatusCode::UNAUTHORIZED => return Ok(Verdict::Unauthorized),
        StatusCode::FORBIDDEN => return Ok(Verdict::Forbidden),
        status if status.is_redirection() => return Err(format!("status {status}: answer 401 where a page would lead to the login")),
        // Django's word for a Host that is not in ALLOWED_HOSTS.
        StatusCode::BAD_REQUEST => return Err("status 400: does the application know the host of auth.forward.url as its own?".to_owned()),
        status => return Err(format!("status {status}")),
    }
    let body = answer.body.trim_ascii();
    let identity = if body.starts_with(b"{") { read_body(body) } else { read_headers(&answer.headers, body.is_empty()) };
    identity.map(|identity| Verdict::Granted(Arc::new(identity)))
}

fn read_body(body: &[u8]) -> Result<Identity, String> {
    let Body { user, join, publish, expires_at } = serde_json::from_slice(body).map_err(|error| format!("its JSON: {error}"))?;
    let user = user.map(|name| match name {
        Name::Text(text) => text,
        Name::Number(number) => number.to_string(),
    });
    Ok(Identity {
        user: user.as_deref().map(user_name).transpose()?,
        join: join.map(|list| patterns(list.iter().map(String::as_str))).transpose()?,
        publish: publish.map(|list| patterns(list.iter().map(String::as_str))).transpose()?,
        // `as` saturates: what lies before 1970 is 0, and has ended.
        expires_at: expires_at.map(|seconds| seconds as u64),
        ..Identity::default()
    })
}

/// A page of HTML is no identity, whatever its status: then one of the headers must be there.
fn read_headers(headers: &HeaderMap, is_empty: bool) -> Result<Identity, String> {
    let text = |name: &str| {
        let value = headers.get(name)?;
        Some(std::str::from_utf8(value.as_bytes()).map_err(|_| format!("its header {name} is no UTF-8")))
    };
    let (user, rooms) = (text("x-user").transpose()?, text("x-rooms").transpose()?);
    if user.is_none() && rooms.is_none() && !is_empty {
        return Err("neither JSON nor X-User nor X-Rooms".into());
    }
    let rooms = rooms.map(|rooms| patterns(rooms.split(',').map(str::trim).filter(|room| !room.is_empty()))).transpose()?;
    Ok(Identity { user: user.filter(|user| !user.is_empty()).map(user_name).transpose()?, join: rooms, ..Identity::default() })
}

fn user_name(text: &str) -> Result<UserName, String> {
    UserName::parse(text).map_err(|error| format!("the user {error}"))
}

fn patterns<'a>(list: impl Iterator<Item = &'a str>) -> Result<Vec<RoomPattern>, String> {
    list.map(|text| RoomPattern::parse(text).map_err(|error| format!("a room pattern {error}"))).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use bytes::Bytes;

    use super::*;

    fn verdict(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> Result<Verdict, String> {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")));
        read(&Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: headers.collect(),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    fn granted(user: Option<&str>, join: Option<&[&str]>, publish: Option<&[&str]>, expires_at: Option<u64>) -> Result<Verdict, String> {
        let list = |list: &[&str]| list.iter().map(|text| text.parse().expect("a pattern")).collect();
        let user = user.map(|name| name.parse().expect("a name"));
        Ok(Verdict::Granted(Arc::new(Identity {
            user,
            join: join.map(list),
            publish: publish.map(list),
            expires_at,
            ..Identity::default()
        })))
    }

    #[test]
    fn what_lets_in() {
        for (status, headers, body, expected) in [
            (204, &[][..], "", granted(None, None, None, None)),
            (200, &[("x-user", "alice")], "", granted(Some("alice"), None, None, None)),
            (200, &[("x-user", "alice"), ("x-rooms", "a, b/*,")], "OK", granted(Some("alice"), Some(&["a", "b/*"]), None, None)),
            (200, &[("x-user", "")], "", granted(None, None, None, None)),
            (200, &[], r#"{"user":"alice"}"#, granted(Some("alice"), None, None, None)),
            (200, &[], r#" {"user":7,"join":[],"x":1}"#, granted(Some("7"), Some(&[]), None, None)),
            (
                200,
                &[("x-user", "ignored")],
                r#"{"user":null,"join":["a"],"publish":["b"],"expires_at":12.5}"#,
                granted(None, Some(&["a"]), Some(&["b"]), Some(12)),
            ),
            (200, &[], r#"{"expires_at":-1}"#, granted(None, None, None, Some(0))),
        ] {
            assert_eq!(verdict(status, headers, body), expected, "{status} {headers:?} {body}");
        }
    }

    #[test]
    fn what_does_not() {
        assert_eq!(verdict(401, &[("x-user", "alice")], r#"{"user":"alice"}"#), Ok(Verdict::Unauthorized));
        assert_eq!(verdict(403, &[], ""), Ok(Verdict::Forbidden));
        for (status, headers, body) in [
            (500, &[][..], ""),
            (400, &[], ""),
            (302, &[], ""),
            (201, &[("x-user", "alice")], ""),
            (404, &[], ""),
            (200, &[], "<html>please log in</html>"),
            (200, &[], r#"{"user":"#),
            (200, &[], r#"{"user":["a"]}"#),
            (200, &[], r#"{"user":""}"#),
            (200, &[], r#"{"join":[""]}"#),
        ] {
            let found = verdict(status, headers, body);
            assert!(found.is_err(), "{status} {headers:?} {body}: {found:?}");
        }
    }
}
