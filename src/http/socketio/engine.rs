//! Engine.IO 4 and 3: which request is what, and the handshakes of both transports.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{Method, StatusCode, header},
    web::{Data, Payload},
};

use super::{
    super::{
        door::{Door, Started},
        error::ApiError,
        origin::{self, Page},
        query::Query,
        takeover::Takeover,
        websocket::handshake,
    },
    admit, new_wire, poll, readable, serves, upgrade,
};
use crate::{
    actors::{messages::Listen, sessions::Session},
    protocol::{
        ErrorCode,
        engineio::{
            Carrier, Open, Refusal, Version,
            polling::{self, Form},
        },
        socketio::Revision,
        socketio_wire::Manner,
        wire::WireName,
    },
};

/// The parameter of a client that is answered with a script: the index of its callback.
const CALLBACK: &str = "j";

/// A request of Engine.IO that passed the first looks.
pub struct Asked {
    pub request: HttpRequest,
    pub query: Query,
    pub page: Page,
    pub version: Version,
    pub manner: Manner,
}

/// Why a request is answered with nothing but an error.
pub enum Failed {
    Engine(Refusal),
    Hub(ApiError),
    /// The WebSocket handshake itself.
    Handshake(actix_web::Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Engine(refusal)
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Hub(error)
    }
}

pub async fn answer(request: HttpRequest, payload: Payload, door: Data<Door>, manner: Manner) -> HttpResponse {
    let (is_upgrade, query) = (request.headers().contains_key(header::UPGRADE), Query::of(&request));
    let check = if query.first(CALLBACK).is_some() { origin::check_script } else { origin::check };
    let page = match check(&request, &door.config().http.allowed_origins) {
        Ok(page) => page,
        Err(error) => {
            door.note_refusal(WireName::SocketIo, &error);
            return refused(&Page::default(), Refusal::Forbidden, is_upgrade);
        }
    };
    if *request.method() == Method::OPTIONS {
        return page.preflight(&request, "GET, POST, OPTIONS");
    }
    match dispatch((request, query), payload, door, manner, page.clone()).await {
        Ok(response) => response,
        Err(Failed::Engine(refusal)) => refused(&page, refusal, is_upgrade),
        Err(Failed::Hub(error)) => {
            let mut response = error.error_response();
            page.allow_in(response.headers_mut());
            response
        }
        Err(Failed::Handshake(error)) => error.error_response(),
    }
}

async fn dispatch(
    (request, query): (HttpRequest, Query),
    payload: Payload,
    door: Data<Door>,
    manner: Manner,
    page: Page,
) -> Result<HttpResponse, Failed> {
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let is_web_socket = match query.first("transport") {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(Refusal::UnknownTransport.into()),
    };
    let version = query.first("EIO").and_then(Version::parse).ok_or(Refusal::UnsupportedVersion)?;
    if !serves(&door, Revision::of(version)) {
        return Err(Refusal::UnsupportedVersion.into());
    }
    let session = match query.first("sid") {
        Some(sid) => Some(door.sessions.find(sid).ok_or(Refusal::UnknownSession)?),
        None => None,
    };
    if is_web_socket != is_upgrade || session.as_ref().is_some_and(|session| session.revision != Revision::of(version)) {
        return Err(Refusal::BadRequest.into());
    }
    let asked = Asked { request, query, page, version, manner };
    let method = asked.request.method().clone();
    match (session, is_web_socket) {
        (Some(session), true) => upgrade::answer(&asked, payload, session),
        (Some(session), false) if method == Method::GET => poll::answer(&asked, session).await,
        (Some(session), false) if method == Method::POST => poll::take_post(&asked, payload, session, &door).await,
        (None, _) if method != Method::GET => Err(Refusal::BadHandshakeMethod.into()),
        (None, true) => open_web_socket(&asked, payload, &door).await.inspect_err(|failed| note_refusal(failed, &door)),
        (None, false) => open_polling(&asked, &door).await.inspect_err(|failed| note_refusal(failed, &door)),
        (Some(_), false) => Err(Refusal::BadRequest.into()),
    }
}

/// Counts a client that got no session.
fn note_refusal(failed: &Failed, door: &Door) {
    if let Failed::Hub(error) = failed {
        door.note_refusal(WireName::SocketIo, error);
    }
}

fn refused(page: &Page, refusal: Refusal, is_upgrade: bool) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = HttpResponse::build(status);
    page.allow(&mut response);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    match is_upgrade {
        true => response.content_type("text/html").body(refusal.text()),
        false => response.content_type("application/json").body(refusal.body()),
    }
}

/// Starts a session that polls. Its connection lives on this thread, wherever later polls arrive.
#[expect(clippy::disallowed_methods, reason = "once per connection")]
async fn open_polling(asked: &Asked, door: &Door) -> Result<HttpResponse, Failed> {
    let revision = Revision::of(asked.version);
    let (identity, mut parts) = admit(&asked.request, &asked.query, &asked.page, door).await?;
    let place = door.sessions.reserve().map_err(no_randomness)?;
    let sid = place.id().to_owned();
    parts.place = Some(place);
    let started =
        door.start_with(&asked.request, new_wire(door, revision, Carrier::Polling, asked.manner), identity, Some(Box::new(parts)))?;
    started.open(Vec::new(), None).await?;
    let Started { connection, outbox, .. } = started;
    connection.do_send(Listen);
    let options = &door.config().socketio;
    let patience = options.ping_interval + options.ping_timeout;
    let session = Session::new(revision, connection, outbox.release(), patience);
    door.sessions.insert(&sid, session.with_text(form_of(asked) == Form::Text));
    let unit = open_packet(&sid, &["websocket"], door).ready(asked.version, Carrier::Polling);
    // What else waits is the first poll's: clients of version 3 read the open packet alone.
    let form = match form_of(asked) {
        form @ Form::Jsonp(_) => form,
        _ => Form::Text,
    };
    let body = polling::body(asked.version, form, &[unit]);
    Ok(readable(&asked.page, body.content_type, body.bytes))
}

async fn open_web_socket(asked: &Asked, payload: Payload, door: &Door) -> Result<HttpResponse, Failed> {
    let mut handshake = handshake(&asked.request).map_err(Failed::Handshake)?;
    let (identity, parts) = admit(&asked.request, &asked.query, &asked.page, door).await?;
    let place = door.sessions.reserve().map_err(no_randomness)?;
    let wire = new_wire(door, Revision::of(asked.version), Carrier::WebSocket, asked.manner);
    let started = door.start_with(&asked.request, wire, identity, Some(Box::new(parts)))?;
    started.open(Vec::new(), None).await?;
    started.outbox.push_first(open_packet(place.id(), &[], door).ready(asked.version, Carrier::WebSocket));
    Ok(handshake.body(Takeover::new(&asked.request, started, Some(payload))).map_into_boxed_body())
}

fn open_packet<'a>(sid: &'a str, upgrades: &'a [&'a str], door: &Door) -> Open<'a> {
    let config = door.config();
    let options = &config.socketio;
    Open {
        sid,
        upgrades,
        ping_interval: milliseconds(options.ping_interval),
        ping_timeout: milliseconds(options.ping_timeout),
        max_payload: options.max_payload as u64,
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub fn no_randomness(error: getrandom::Error) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("no randomness for a session's id: {error}"))
}

/// What this client's poll can take.
pub fn form_of(asked: &Asked) -> Form {
    let callback = asked.query.first(CALLBACK).and_then(|index| index.parse().ok());
    match (callback, asked.version) {
        (Some(index), _) => Form::Jsonp(index),
        (None, Version::V3) if asked.query.first("b64").is_none() => Form::Octets,
        (None, _) => Form::Text,
    }
}

/// A session as a handler holds it.
pub type Found = Arc<Session>;
