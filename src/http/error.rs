//! Errors of the door: one JSON shape, with the status that fits.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;

use crate::{actors::messages::Refusal, auth::AuthError, protocol::ErrorCode};

/// Seconds after which a client that was turned away for lack of room may try again; spread, so that a herd disperses.
const RETRY_AFTER: std::ops::RangeInclusive<u32> = 1..=5;

/// What a client is told when it gets nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: ErrorCode,
    message: &'a str,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "code": self.code, "message": self.message } })
    }
}

/// The status of an error code.
pub const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest | ErrorCode::RoomNameInvalid | ErrorCode::UserNameInvalid | ErrorCode::EventNameInvalid => {
            StatusCode::BAD_REQUEST
        }
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::TooManyRooms => StatusCode::FORBIDDEN,
        ErrorCode::NotFound | ErrorCode::NotJoined => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited | ErrorCode::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::BrokerUnavailable | ErrorCode::AuthUnavailable | ErrorCode::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::TimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if matches!(self.status_code(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let spread = RETRY_AFTER.end() - RETRY_AFTER.start() + 1;
            let seconds = RETRY_AFTER.start() + getrandom::u32().unwrap_or(0) % spread;
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.code == ErrorCode::Unauthorized {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(Body { error: Inner { code: self.code, message: &self.message } })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, message: refusal.message }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::NoKeys => ErrorCode::AuthUnavailable,
            // Like any room that one may not join.
            AuthError::NoRoomSecret | AuthError::SignedRoom(_) => ErrorCode::Forbidden,
            _ => ErrorCode::Unauthorized,
        };
        Self::new(code, error.to_string())
    }
}
