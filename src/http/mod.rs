//! The door: everything a browser, a publisher over HTTP or an operator can ask for. It moves bytes and refuses; what a client
//! is a member of, and what it is sent, is the actors'.

pub mod address;
pub mod api;
pub mod client;
pub mod console;
pub mod door;
pub mod error;
pub mod forward;
pub mod identity;
pub mod jwks;
pub mod ops;
pub mod origin;
pub mod query;
pub mod sse;
pub mod takeover;
pub mod verdict;
pub mod websocket;

use actix_web::{
    HttpRequest,
    http::Method,
    web::{self, ServiceConfig},
};

use self::error::ApiError;
use crate::protocol::ErrorCode;

/// Every URL of the hub.
pub fn routes(app: &mut ServiceConfig, door: &web::Data<door::Door>) {
    app.app_data(door.clone());
    for path in ["/sse", "/sse/"] {
        app.service(
            web::resource(path)
                .route(web::get().to(sse::stream))
                .route(web::post().to(sse::stream))
                .route(web::method(Method::OPTIONS).to(sse::preflight))
                .default_service(web::to(wrong_method)),
        );
    }
    app.service(web::resource("/ws").route(web::get().to(websocket::connect)).default_service(web::to(wrong_method)));
    if door.conformance {
        app.service(web::resource("/echo").route(web::get().to(websocket::echo)));
    }
    app.configure(api::routes);
    for (path, handler) in [("/healthz", web::get().to(ops::healthz)), ("/readyz", web::get().to(ops::readyz))] {
        app.service(web::resource(path).route(handler).default_service(web::to(wrong_method)));
    }
    app.service(web::resource("/metrics").route(web::get().to(ops::metrics)).default_service(web::to(wrong_method)));
    app.service(web::resource("/").route(web::get().to(console::page)).default_service(web::to(wrong_method)));
    app.service(web::resource("/static/{file}").route(web::get().to(console::file)).default_service(web::to(wrong_method)));
    app.default_service(web::to(not_found));
}

async fn wrong_method(request: HttpRequest) -> Result<&'static str, ApiError> {
    let message = format!("{} does not answer {}", request.path(), request.method());
    Err(ApiError::new(ErrorCode::MethodNotAllowed, message))
}

async fn not_found(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::new(ErrorCode::NotFound, format!("there is nothing at {}", request.path())))
}
