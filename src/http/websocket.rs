//! `/ws`: the native WebSocket. The only file that knows actix-web-actors, which does the handshake (RFC 6455 §4.2); frames
//! are ours, because its codec buffers a whole frame before it looks at the size.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::header::{self, HeaderValue},
    web::{Data, Payload},
};
use actix_web_actors::ws::{self, HandshakeError};

use super::{
    door::{Door, Started},
    error::ApiError,
    identity::{SUBPROTOCOL, identify},
    origin,
    query::Query,
    takeover::Takeover,
};
use crate::{
    actors::messages::Wish,
    protocol::{
        Command, ErrorCode, Reference,
        wire::{Wire, WireName},
    },
};

/// Autobahn's cases send messages of up to 16 MiB.
const ECHO_LIMIT: usize = 16 << 20;

/// Turns of this thread that `joined` is waited for, so that it leaves with the head and `welcome` in one write: where the rooms are
/// listened to already it is there by then, also while hundreds connect. Others are told when it comes.
const TURNS: usize = 8;

pub async fn connect(request: HttpRequest, payload: Payload, door: Data<Door>) -> Result<HttpResponse, actix_web::Error> {
    enter(&request, payload, &door).await.inspect_err(|error| {
        if let Some(error) = error.as_error::<ApiError>() {
            door.note_refusal(WireName::WebSocket, error);
        }
    })
}

async fn enter(request: &HttpRequest, payload: Payload, door: &Door) -> Result<HttpResponse, actix_web::Error> {
    let config = door.config();
    origin::check(request, &config.http.allowed_origins)?;
    let query = Query::of(request);
    let mut handshake = handshake(request)?;
    let identity = identify(request, &query, door).await?;
    let rooms = query.rooms(&config.http.default_rooms, config.http.max_rooms_per_connection)?;
    let started = door.start(request, Wire::web_socket(config.http.max_frame), identity)?;
    started.open(Vec::new(), None).await?;
    let greeting = 1 + rooms.len();
    for room in rooms {
        wish(&started, Command::Join { room, since: None, reference: Reference::default() });
    }
    for _ in 0..TURNS {
        if started.outbox.waiting() >= greeting {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(answer(request, &mut handshake, started, payload))
}

/// Returns what it gets: for conformance suites.
pub async fn echo(request: HttpRequest, payload: Payload, door: Data<Door>) -> Result<HttpResponse, actix_web::Error> {
    let mut handshake = handshake(&request)?;
    let started = door.start(&request, Wire::echo(ECHO_LIMIT), door.anonymous.clone())?;
    Ok(answer(&request, &mut handshake, started, payload))
}

pub(super) fn handshake(request: &HttpRequest) -> Result<actix_web::HttpResponseBuilder, actix_web::Error> {
    ws::handshake_with_protocols(request, &[SUBPROTOCOL]).map_err(|error| match error {
        // With the version that it could try instead (RFC 6455 §4.4).
        HandshakeError::UnsupportedVersion => {
            let mut response = error.error_response();
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            actix_web::error::InternalError::from_response(error, response).into()
        }
        other => ApiError::new(ErrorCode::BadRequest, format!("no WebSocket handshake: {other}")).into(),
    })
}

#[expect(clippy::disallowed_methods, reason = "at most http.max_rooms_per_connection of them, before the client can speak")]
fn wish(started: &Started, command: Command) {
    started.connection.do_send(Wish(command));
}

fn answer(request: &HttpRequest, handshake: &mut actix_web::HttpResponseBuilder, started: Started, payload: Payload) -> HttpResponse {
    handshake.body(Takeover::new(request, started, Some(payload))).map_into_boxed_body()
}
