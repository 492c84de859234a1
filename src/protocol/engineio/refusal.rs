//! How a request that is no part of a session is answered: Engine.IO's own errors, with the status of HTTP.

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    UnknownTransport,
    UnknownSession,
    /// A handshake is a GET.
    BadHandshakeMethod,
    /// No upgrade where one is due, another transport than the session's, a body of the wrong type.
    BadRequest,
    Forbidden,
    /// No `EIO`, or one that is not served.
    UnsupportedVersion,
    /// A body over `socketio.max_payload`.
    TooLarge,
}

impl Refusal {
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::TooLarge => 413,
            _ => 400,
        }
    }

    /// The body, of type `application/json`; empty where Engine.IO has no number for it.
    pub const fn body(self) -> &'static str {
        match self {
            Self::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::UnknownSession => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::Forbidden => r#"{"code":4,"message":"Forbidden"}"#,
            Self::UnsupportedVersion => r#"{"code":5,"message":"Unsupported protocol version"}"#,
            Self::TooLarge => "",
        }
    }

    /// The body for a refused WebSocket handshake, of type `text/html`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedVersion => "Unsupported protocol version",
            Self::TooLarge => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_the_text_and_the_number_of_its_refusal() {
        let numbered = [
            Refusal::UnknownTransport,
            Refusal::UnknownSession,
            Refusal::BadHandshakeMethod,
            Refusal::BadRequest,
            Refusal::Forbidden,
            Refusal::UnsupportedVersion,
        ];
        for (code, refusal) in numbered.into_iter().enumerate() {
            assert_eq!(refusal.body(), format!(r#"{{"code":{code},"message":"{}"}}"#, refusal.text()));
        }
    }
}
