//! Which pages may talk to the hub: the Origin check, and the CORS answers that follow from it (WHATWG Fetch §3.2).
//!
//! A WebSocket is open to every page unless the server looks at Origin, so all doors look, alike. A request without Origin is
//! no page of another site, unless it is answered with a script: any page may load one, with its visitor's cookies.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{self, HeaderValue},
};

use super::{address, error::ApiError};
use crate::{config::AllowedOrigin, protocol::ErrorCode};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// A page that may.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// It is echoed.
    origin: Option<HeaderValue>,
    /// Nothing tells which page loads this script: what a browser sends by itself is then no proof of anything.
    pub is_unknown: bool,
}

/// Refuses a page that is not allowed.
pub fn check(request: &HttpRequest, allowed: &[AllowedOrigin]) -> Result<Page, ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(Page::default()) };
    let text = origin.to_str().unwrap_or_default();
    // Node's WebSockets of 2012, which only Socket.IO 0.9 uses, leave the scheme out. No browser does.
    let spelled =
        (request.path().starts_with("/socket.io/1/") && !text.contains("://") && text != "null").then(|| format!("http://{text}"));
    let text = spelled.as_deref().unwrap_or(text);
    if is_allowed(text, address::host(request), allowed) {
        Ok(Page { origin: Some(origin.clone()), is_unknown: false })
    } else {
        Err(not_allowed())
    }
}

/// As [`check`] for a request that is answered with a script (JSONP). A browser sends no Origin with it, but a Referer unless
/// the page forbids it, and to secure addresses Sec-Fetch-Site.
pub fn check_script(request: &HttpRequest, allowed: &[AllowedOrigin]) -> Result<Page, ApiError> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return check(request, allowed);
    }
    let (page, host) = (Page::default(), address::host(request));
    let referer = headers.get(header::REFERER).filter(|referer| !referer.is_empty());
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let is_fine = match (referer, site) {
        (Some(referer), _) => is_allowed(referer.to_str().map_or("", origin_of), host, allowed),
        (None, Some(b"same-origin")) => ["https", "http"].iter().any(|scheme| is_allowed(&format!("{scheme}://{host}"), host, allowed)),
        // Whoever types an address, browsers of before 2023 and clients that are none.
        (None, Some(b"none") | None) => return Ok(Page { is_unknown: true, ..page }),
        (None, Some(_)) => false,
    };
    if is_fine { Ok(page) } else { Err(not_allowed()) }
}

fn not_allowed() -> ApiError {
    ApiError::new(ErrorCode::Forbidden, "pages of this origin may not connect: see http.allowed_origins")
}

/// Scheme, host and port of a page's address, as its Origin would have them; of anything else, nothing.
fn origin_of(address: &str) -> &str {
    let Some((scheme, rest)) = address.split_once("://") else { return "" };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    &address[..scheme.len() + "://".len() + authority]
}

/// `null` is what sandboxed and local pages send, so it is nobody's and never allowed.
pub fn is_allowed(origin: &str, host: &str, allowed: &[AllowedOrigin]) -> bool {
    origin != "null"
        && allowed.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Exact(exact) => origin.eq_ignore_ascii_case(exact),
            AllowedOrigin::SameOrigin => is_same_origin(origin, host),
        })
}

/// The scheme is not compared: behind a proxy that ends TLS the hub does not know its own.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return false,
    };
    let without_port = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    !host.is_empty() && without_port(authority) == without_port(host)
}

impl Page {
    /// Adds what lets the page's script read the answer. `*` is never said: it is refused with credentials.
    pub fn allow(&self, response: &mut HttpResponseBuilder) {
        response.insert_header((header::VARY, "Origin"));
        if let Some(origin) = &self.origin {
            response.insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
            response.insert_header((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"));
        }
    }

    /// The same for a response that is already made.
    pub fn allow_in(&self, headers: &mut header::HeaderMap) {
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The answer to a preflight: whatever headers are asked for, since none of them means anything dangerous here.
    pub fn preflight(&self, request: &HttpRequest, methods: &'static str) -> HttpResponse {
        let mut response = HttpResponse::NoContent();
        self.allow(&mut response);
        response.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods));
        response.insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"));
        if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
        }
        response.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_whole() {
        let same = [AllowedOrigin::SameOrigin];
        let exact = [AllowedOrigin::Exact("https://app.example.org".into())];
        for (origin, host, allowed, expected) in [
            ("http://localhost:8080", "localhost:8080", &same[..], true),
            ("https://example.org", "example.org", &same, true),
            ("https://example.org", "example.org:443", &same, true),
            ("https://EXAMPLE.org", "example.org", &same, true),
            ("http://example.org:8080", "example.org", &same, false),
            ("http://example.org.evil.test", "example.org", &same, false),
            ("http://evil.test", "example.org", &same, false),
            ("null", "null", &same, false),
            ("file://", "", &same, false),
            ("localhost:8080", "localhost:8080", &same, false),
            ("evil.test:8080", "localhost:8080", &same, false),
            ("null", "example.org", &[AllowedOrigin::Any], false),
            ("https://anything.test", "example.org", &[AllowedOrigin::Any], true),
            ("https://app.example.org", "hub.example.org", &exact, true),
            ("http://app.example.org", "hub.example.org", &exact, false),
            ("https://app.example.org.evil.test", "hub.example.org", &exact, false),
            ("https://app.example.org:8443", "hub.example.org", &exact, false),
        ] {
            assert_eq!(is_allowed(origin, host, allowed), expected, "{origin} at {host} under {allowed:?}");
        }
    }
}
