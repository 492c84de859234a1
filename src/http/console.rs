//! `/` and `/static/`: the console page and the browser client, embedded in the binary.

use actix_web::{HttpRequest, HttpResponse, http::header, web::Path};

use super::error::ApiError;
use crate::protocol::ErrorCode;

/// The page loads nothing from elsewhere, and no script or style that stands in it.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $content_type:literal),* $(,)?) => {
        [$(Asset { name: $name, content_type: $content_type, bytes: include_bytes!(concat!("../../static/", $name)) }),*]
    };
}

static ASSETS: [Asset; 8] = assets! {
    "index.html": "text/html; charset=utf-8",
    "console.css": "text/css; charset=utf-8",
    "callboard.svg": "image/svg+xml",
    "console.js": "text/javascript; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "recipes.js": "text/javascript; charset=utf-8",
    "callboard.js": "text/javascript; charset=utf-8",
};

pub async fn page() -> Result<HttpResponse, ApiError> {
    serve("index.html")
}

pub async fn file(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, ApiError> {
    serve(&name).map_err(|_| ApiError::new(ErrorCode::NotFound, format!("there is nothing at {}", request.path())))
}

fn serve(name: &str) -> Result<HttpResponse, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "no such file"))?;
    Ok(HttpResponse::Ok()
        .content_type(asset.content_type)
        // The files change with the binary only, but under the same names.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(asset.bytes))
}
