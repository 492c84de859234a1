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
pub mod lent;
pub mod ops;
pub mod origin;
pub mod query;
pub mod socketio;
pub mod sse;
pub mod takeover;
pub mod verdict;
pub mod websocket;

use actix_web::{
    HttpRequest, Responder, ResponseError, Route,
    http::{Method, header::Allow},
    web::{self, ServiceConfig},
};
use futures_util::future::ready;

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
                .default_service(wrong_method([Method::GET, Method::POST, Method::OPTIONS])),
        );
    }
    app.service(web::resource("/ws").route(web::get().to(websocket::connect)).default_service(wrong_method([Method::GET])));
    if door.conformance {
        app.service(web::resource("/echo").route(web::get().to(websocket::echo)));
    }
    socketio::routes(app, door);
    app.configure(api::routes);
    readable(app, "/healthz", || web::to(ops::healthz));
    readable(app, "/readyz", || web::to(ops::readyz));
    readable(app, "/metrics", || web::to(ops::metrics));
    readable(app, "/", || web::to(console::page));
    readable(app, "/static/{file}", || web::to(console::file));
    app.default_service(web::to(not_found));
}

/// What is there to be read. Load balancers like to ask by HEAD (RFC 9110 §9.3.2); the server leaves the body out.
fn readable(app: &mut ServiceConfig, path: &str, answer: fn() -> Route) {
    let resource = web::resource(path).route(answer().method(Method::GET)).route(answer().method(Method::HEAD));
    app.service(resource.default_service(wrong_method([Method::GET, Method::HEAD])));
}

/// The answer to any other method; it names those that are answered (RFC 9110 §15.5.6).
fn wrong_method(answered: impl Into<Vec<Method>>) -> Route {
    let allow = Allow(answered.into());
    web::to(move |request: HttpRequest| {
        let message = format!("{} does not answer {}", request.path(), request.method());
        ready(ApiError::new(ErrorCode::MethodNotAllowed, message).error_response().customize().insert_header(allow.clone()))
    })
}

async fn not_found(request: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::new(ErrorCode::NotFound, format!("there is nothing at {}", request.path())))
}
