//! `/sse`: a stream of Server-Sent Events. POST is answered too, because the article's polyfill replaces EventSource in every
//! browser and sends its last id in a form body.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};

use super::{
    api::read_body,
    door::Door,
    error::ApiError,
    identity::identify,
    origin::{self, Page},
    query::Query,
    takeover::Takeover,
};
use crate::protocol::{
    sse,
    wire::{Wire, WireName},
};

/// What a polyfill's form may be long: one id.
const MAX_FORM_BYTES: usize = 8192;

pub async fn stream(request: HttpRequest, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    // Read to its end even where nothing in it is used: the socket passes to the connection.
    let form = read_body(payload, MAX_FORM_BYTES).await?;
    let page = origin::check(&request, &door.config().http.allowed_origins).inspect_err(|error| door.note_refusal(WireName::Sse, error))?;
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let since = sse::last_event_id(header, request.query_string(), std::str::from_utf8(&form).ok()).map(String::into_boxed_str);
    if since.as_deref() == Some(sse::DISMISSED_ID) {
        // This is the return of a stream that the server side ended. Its last event said so, with an id that the client now
        // shows: no node has to remember it, and a page that is loaded anew starts without it.
        // The one status that keeps an EventSource from coming back (WHATWG HTML §9.2.3).
        let mut response = HttpResponse::NoContent();
        page.allow(&mut response);
        return Ok(response.finish());
    }
    open(&request, &door, &page, since).await.or_else(|error| {
        door.note_refusal(WireName::Sse, &error);
        // The page may read why.
        let mut response = actix_web::ResponseError::error_response(&error);
        page.allow_in(response.headers_mut());
        Ok(response)
    })
}

async fn open(request: &HttpRequest, door: &Door, page: &Page, since: Option<Box<str>>) -> Result<HttpResponse, ApiError> {
    let query = Query::of(request);
    let identity = identify(request, &query, door).await?;
    let config = door.config();
    let rooms = query.rooms(&config.http.default_rooms, config.http.max_rooms_per_connection)?;
    let started = door.start(request, Wire::Sse, identity)?;
    // The head tells the client that it is listening, so it waits for the broker.
    started.open(rooms, since).await?;
    let mut response = HttpResponse::Ok();
    page.allow(&mut response);
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store, no-transform"))
        // nginx would hold events back until its buffer is full.
        .insert_header(("X-Accel-Buffering", "no"));
    started.outbox.push_first(sse::head(config.http.sse_retry));
    if query.first("padding") == Some("true") {
        started.outbox.push_first(sse::padding());
    }
    let body = Takeover::new(request, started, None);
    let takes_socket = body.takes_socket();
    if takes_socket {
        response.force_close();
    }
    let mut response = response.body(body);
    // Without chunks the stream ends with the connection (RFC 9112 §6.3), and its bytes are the events alone.
    response.head_mut().no_chunking(takes_socket);
    Ok(response.map_into_boxed_body())
}

pub async fn preflight(request: HttpRequest, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let page = origin::check(&request, &door.config().http.allowed_origins)?;
    Ok(page.preflight(&request, "GET, POST, OPTIONS"))
}
