//! Socket.IO 0.9: `/socket.io/1/`, the handshake, three transports and the page's last word.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{Method, header},
    web::{Bytes, Data, Path, Payload},
};

use super::{
    super::{
        door::{Door, Started},
        error::ApiError,
        origin::{self, Page},
        query::Query,
        websocket::handshake as web_socket_handshake,
    },
    admit,
    engine::{Failed, no_randomness},
    new_wire,
    poll::{Polled, Waiting, deliver, read_post},
    readable,
    upgrade::{Mover, Parting, Phase},
};
use crate::{
    actors::{
        messages::{Listen, Post},
        sessions::{PollStart, Session},
    },
    protocol::{
        CloseReason, ErrorCode, engineio::Carrier, jsonp, socketio::Revision, socketio_legacy, socketio_wire::Manner, websocket,
        wire::WireName,
    },
};

const TEXT: &str = "text/plain; charset=UTF-8";
/// The parameters of clients that are answered with a script: the index of their callback.
const HANDSHAKE_CALLBACK: &str = "jsonp";
const POLL_CALLBACK: &str = "i";
/// A poll that has nothing to say ends after so long, as the reference server has it.
const POLL_TURN: Duration = Duration::from_secs(20);

pub async fn handshake(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let (query, page) = match look(&request, &door) {
        Ok(looked) => looked,
        Err(response) => return *response,
    };
    let callback = index(&query, HANDSHAKE_CALLBACK);
    match open_session(&request, &query, &page, &door).await.inspect_err(|error| door.note_refusal(WireName::SocketIo, error)) {
        Ok(body) => said(&page, callback, body),
        // A script can't read a status.
        Err(error) => match callback {
            Some(callback) => readable(&page, jsonp::CONTENT_TYPE, jsonp::legacy_error(callback, &error.message)),
            None => failed(&page, error),
        },
    }
}

/// The origin's check and the preflight, which come before all else.
fn look(request: &HttpRequest, door: &Door) -> Result<(Query, Page), Box<HttpResponse>> {
    let query = Query::of(request);
    let is_script = [HANDSHAKE_CALLBACK, POLL_CALLBACK].into_iter().any(|name| query.first(name).is_some());
    let check = if is_script { origin::check_script } else { origin::check };
    let page = check(request, &door.config().http.allowed_origins)
        .inspect_err(|error| door.note_refusal(WireName::SocketIo, error))
        .map_err(|error| Box::new(error.error_response()))?;
    if *request.method() == Method::OPTIONS {
        return Err(Box::new(page.preflight(request, "GET, POST, OPTIONS")));
    }
    Ok((query, page))
}

fn failed(page: &Page, error: ApiError) -> HttpResponse {
    // To this client a 403 is final, and anything else a fault of the line.
    let code = if error.code == ErrorCode::Unauthorized { ErrorCode::Forbidden } else { error.code };
    let mut response = ApiError { code, ..error }.error_response();
    page.allow_in(response.headers_mut());
    response
}

fn index(query: &Query, name: &str) -> Option<u32> {
    query.first(name).and_then(|index| index.parse().ok())
}

#[expect(clippy::disallowed_methods, reason = "once per connection")]
async fn open_session(request: &HttpRequest, query: &Query, page: &Page, door: &Door) -> Result<String, ApiError> {
    let (identity, mut parts) = admit(request, query, page, door).await?;
    if let Some(refusal) = parts.refusal {
        return Err(refusal.into());
    }
    let place = door.sessions.reserve().map_err(no_randomness)?;
    let sid = place.id().to_owned();
    parts.place = Some(place);
    let started = door.start_with(request, new_wire(door, Revision::V1, Carrier::Polling, Manner::Hub), identity, Some(Box::new(parts)))?;
    started.open(Vec::new(), None).await?;
    let Started { connection, outbox, .. } = started;
    connection.do_send(Listen);
    // Polls come more often than heartbeats where the interval is long.
    let config = door.config();
    let options = &config.socketio;
    let silence = options.ping_interval.max(POLL_TURN) + options.ping_timeout;
    door.sessions.insert(&sid, Session::new(Revision::V1, connection, outbox.release(), silence));
    let seconds = Duration::from_secs(silence.as_secs().max(1) + u64::from(silence.subsec_nanos() > 0));
    Ok(socketio_legacy::handshake(&sid, seconds, seconds))
}

/// A text, or the script that brings it.
fn said(page: &Page, callback: Option<u32>, text: String) -> HttpResponse {
    match callback {
        Some(callback) => readable(page, jsonp::CONTENT_TYPE, jsonp::legacy(callback, &text)),
        None => readable(page, TEXT, text),
    }
}

pub async fn transport(request: HttpRequest, payload: Payload, path: Path<(String, String)>, door: Data<Door>) -> HttpResponse {
    let (query, page) = match look(&request, &door) {
        Ok(looked) => looked,
        Err(response) => return *response,
    };
    let (transport, sid) = path.into_inner();
    let session = door.sessions.find(&sid).filter(|session| session.revision == Revision::V1);
    if query.first("disconnect").is_some() {
        if let Some(session) = session {
            disconnect(&session).await;
        }
        return readable(&page, TEXT, "");
    }
    let callback = index(&query, POLL_CALLBACK).filter(|_| transport == "jsonp-polling");
    match (&*transport, session) {
        ("websocket", session) => take_web_socket(&request, payload, session),
        ("xhr-polling" | "jsonp-polling", None) => said(&page, callback, socketio_legacy::RECONNECT.to_owned()),
        ("xhr-polling" | "jsonp-polling", Some(session)) if *request.method() == Method::POST => {
            match take_post(payload, &session, transport == "jsonp-polling", &door).await {
                Ok(()) => posted(&page),
                Err(Failed::Hub(error)) => failed(&page, error),
                Err(_) => said(&page, callback, socketio_legacy::RECONNECT.to_owned()),
            }
        }
        ("xhr-polling" | "jsonp-polling", Some(session)) => said(&page, callback, poll(session).await),
        (other, _) => failed(&page, ApiError::new(ErrorCode::NotFound, format!("transport {other:?} is not served"))),
    }
}

/// The page goes: its goodbye comes by a request of its own.
async fn disconnect(session: &Session) {
    deliver(session, Post { body: Bytes::from_static(b"0::"), is_octets: false }).await;
    if !session.is_polled() {
        session.outbox.end();
    }
}

async fn poll(session: Arc<Session>) -> String {
    let PollStart::Wait { number, .. } = session.begin_poll() else { return socketio_legacy::RECONNECT.to_owned() };
    match Waiting::new(session, number, false).polled(Some(POLL_TURN)).await {
        Polled::Units(units) => String::from_utf8_lossy(&socketio_legacy::body(&units)).into_owned(),
        Polled::Nothing => socketio_legacy::NOOP.to_owned(),
        Polled::Over => socketio_legacy::RECONNECT.to_owned(),
    }
}

async fn take_post(payload: Payload, session: &Arc<Session>, is_form: bool, door: &Door) -> Result<(), Failed> {
    let mut body = read_post(payload, session, door.config().socketio.max_payload).await?;
    let malformed = || ApiError::new(ErrorCode::BadRequest, "the form's field d is no payload");
    if is_form {
        body = jsonp::posted_legacy(&body).ok_or_else(malformed)?.into();
    }
    match deliver(session, Post { body, is_octets: false }).await {
        true => Ok(()),
        false => Err(ApiError::new(ErrorCode::BadRequest, "a packet is not of this protocol").into()),
    }
}

fn posted(page: &Page) -> HttpResponse {
    let mut response = readable(page, TEXT, socketio_legacy::POSTED);
    // A form's answer is loaded into a hidden frame.
    response.headers_mut().insert(header::X_XSS_PROTECTION, header::HeaderValue::from_static("0"));
    response
}

fn take_web_socket(request: &HttpRequest, payload: Payload, session: Option<Arc<Session>>) -> HttpResponse {
    let mut handshake = match web_socket_handshake(request) {
        Ok(handshake) => handshake,
        Err(error) => return error.error_response(),
    };
    match session.filter(|session| session.begin_upgrade()) {
        Some(session) => handshake.body(Mover::new(request, payload, session, Phase::Head)).map_into_boxed_body(),
        None => {
            let close = websocket::close(CloseReason::Gone.code(), "");
            let parting = [websocket::text(socketio_legacy::RECONNECT), close].concat();
            handshake.body(Parting(Some(parting.into()))).map_into_boxed_body()
        }
    }
}
