//! `/socket.io/`: the doors of Socket.IO. Handshakes, polls and upgrades of Engine.IO 4 and 3 are here and in the files beside;
//! the first protocol has its own. What packets mean is the protocol's, what a client is a member of the actors'.

mod engine;
mod legacy;
mod poll;
mod upgrade;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{self, Data, Payload, ServiceConfig},
};

use super::{
    door::Door,
    error::ApiError,
    identity::{identify, identify_by_query},
    origin::Page,
    query::Query,
};
use crate::{
    actors::{messages::Refusal, session::SessionParts},
    auth::Identity,
    config::SocketIo,
    protocol::{
        ErrorCode,
        engineio::Carrier,
        socketio::Revision,
        socketio_session::Limits,
        socketio_wire::{Manner, SocketIoWire},
        wire::Wire,
    },
};

/// What the suites of Engine.IO and Socket.IO are written for.
pub fn conformance_config() -> SocketIo {
    SocketIo {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        connect_timeout: Duration::from_secs(1),
        ..SocketIo::default()
    }
}

pub fn routes(app: &mut ServiceConfig, door: &Data<Door>) {
    if door.config().socketio.protocols.is_empty() {
        return;
    }
    app.service(web::resource("/socket.io/").route(web::to(engine_of_hub)));
    if door.conformance {
        app.service(web::resource("/engine.io/").route(web::to(engine_echo)));
    }
    if serves(door, Revision::V1) {
        app.service(web::resource(["/socket.io/1", "/socket.io/1/"]).route(web::to(legacy::handshake)));
        // A page that unloads asks for `/socket.io/1//{sid}/?disconnect=1`.
        app.service(web::resource("/socket.io/1/{transport}/{sid}").route(web::to(legacy::transport)));
        app.service(web::resource("/socket.io/1/{transport:[^/]*}/{sid}/").route(web::to(legacy::transport)));
    }
}

async fn engine_of_hub(request: HttpRequest, payload: Payload, door: Data<Door>) -> HttpResponse {
    let manner = if door.conformance { Manner::SocketEcho } else { Manner::Hub };
    engine::answer(request, payload, door, manner).await
}

async fn engine_echo(request: HttpRequest, payload: Payload, door: Data<Door>) -> HttpResponse {
    engine::answer(request, payload, door, Manner::EngineEcho).await
}

fn serves(door: &Door, revision: Revision) -> bool {
    let number = match revision {
        Revision::V1 => 1,
        Revision::V4 => 4,
        Revision::V5 => 5,
    };
    door.config().socketio.protocols.contains(&number)
}

fn new_wire(door: &Door, revision: Revision, carrier: Carrier, manner: Manner) -> Wire {
    let config = door.config();
    let max_payload = config.socketio.max_payload;
    let limits = Limits { attachment_bytes: max_payload, rooms: config.http.max_rooms_per_connection };
    Wire::SocketIo(Box::new(SocketIoWire::new(revision, carrier, limits, max_payload, manner)))
}

/// Who the handshake proves. Nobody yet is no refusal of the handshake: protocol 5 brings its token with the namespace, and
/// all protocols can tell a page why its namespace is refused. Only what is no matter of identity ends here.
async fn admit(request: &HttpRequest, query: &Query, page: &Page, door: &Door) -> Result<(Arc<Identity>, SessionParts), ApiError> {
    let identified = match page.is_unknown {
        true => identify_by_query(request, query, door).await,
        false => identify(request, query, door).await,
    };
    match identified {
        Ok(identity) => Ok((identity, SessionParts::default())),
        Err(ApiError { code: code @ (ErrorCode::Unauthorized | ErrorCode::Forbidden), message }) => {
            let refusal = Some(Refusal::new(code, message));
            Ok((Arc::clone(&door.anonymous), SessionParts { refusal, ..SessionParts::default() }))
        }
        Err(error) => Err(error),
    }
}

/// An answer that no cache keeps and the page may read.
fn readable(page: &Page, content_type: &'static str, body: impl Into<web::Bytes>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    page.allow(&mut response);
    response.content_type(content_type).insert_header((header::CACHE_CONTROL, "no-store")).body(body.into())
}
