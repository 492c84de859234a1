//! `/api`: publishing, and what an application's servers may ask and order.

use std::time::Duration;

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    http::{Method, header},
    web::{self, Bytes, Data, Path, Payload, ServiceConfig},
};
use bytes::BytesMut;
use futures_util::{
    StreamExt,
    future::{LocalBoxFuture, join_all},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;
use tokio::time::{Instant, timeout_at};

use super::{
    door::Door,
    error::ApiError,
    identity::bearer,
    origin::{self, Page},
    wrong_method,
};
use crate::{
    actors::messages::{
        BrokerError, ConnectionLookup, Disconnect, Enrol, HistoryExtent, Publish, Published, Refusal, RoomList, RoomMemberList,
    },
    protocol::{
        Argument, ConnectionId, ErrorCode, Event, EventName, NameError, RoomName, Target, UserName,
        dialect::MAX_DEPTH,
        gossip::{ConnectionReport, Subject},
        json,
    },
};

/// Events of one batch, and rooms and users of one event.
const MAX_BATCH: usize = 1000;
/// A body that takes longer to arrive is not waited for.
const BODY_PATIENCE: Duration = Duration::from_secs(8);

/// How long an unread body is held, for the refusal to leave.
const HOLD_UNREAD: Duration = Duration::from_secs(1);

pub fn routes(app: &mut ServiceConfig) {
    for (path, handler) in [
        ("/api/publish", web::post().to(publish)),
        ("/api/batch", web::post().to(batch)),
        ("/api/join", web::post().to(join)),
        ("/api/leave", web::post().to(leave)),
        ("/api/disconnect", web::post().to(disconnect)),
        ("/api/rooms", web::get().to(rooms)),
        ("/api/rooms/{room:.*}", web::get().to(room)),
        ("/api/connections/{id}", web::get().to(connection)),
    ] {
        app.service(
            web::resource(path).route(handler).route(web::method(Method::OPTIONS).to(preflight)).default_service(web::to(wrong_method)),
        );
    }
}

async fn preflight(request: HttpRequest, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    Ok(origin::check(&request, &door.config().http.allowed_origins)?.preflight(&request, "GET, POST, OPTIONS"))
}

/// A caller who may: a request that shows a key, or comes from this machine where no keys are set.
pub struct Caller(Page);

impl Caller {
    fn check(request: &HttpRequest) -> Result<Self, ApiError> {
        let Some(door) = request.app_data::<Data<Door>>() else {
            return Err(ApiError::new(ErrorCode::Internal, "the door is not open"));
        };
        let page = origin::check(request, &door.config().http.allowed_origins)?;
        let config = door.config();
        let keys = &config.api.keys;
        if keys.is_empty() {
            let is_forwarded = request.headers().contains_key(header::FORWARDED) || request.headers().contains_key("x-forwarded-for");
            return if Door::is_local(request.peer_addr().map(|address| address.ip()), is_forwarded) {
                Ok(Self(page))
            } else {
                Err(ApiError::new(ErrorCode::Forbidden, "without api.keys the API answers callers on its own machine only"))
            };
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Some(shown) = header("x-api-key").or_else(|| bearer(request)) else {
            return Err(ApiError::new(ErrorCode::Unauthorized, "an API key is needed: Authorization: Bearer KEY, or X-API-Key"));
        };
        // Every key is compared, so that the time says nothing of which one it was.
        let is_known = keys.iter().fold(0, |known, key| known | key.expose().as_bytes().ct_eq(shown.as_bytes()).unwrap_u8());
        if is_known == 1 { Ok(Self(page)) } else { Err(ApiError::new(ErrorCode::Unauthorized, "the API key is not known")) }
    }

    fn answer(&self, value: &impl serde::Serialize) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        self.0.allow(&mut response);
        response.insert_header((header::CACHE_CONTROL, "no-store")).json(value)
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
        std::future::ready(Self::check(request))
    }
}

/// The whole body, bounded in size and time.
pub async fn read_body(mut payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    let deadline = Instant::now() + BODY_PATIENCE;
    let mut body = BytesMut::new();
    let refusal = loop {
        match timeout_at(deadline, payload.next()).await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(Ok(bytes))) if body.len() + bytes.len() <= limit => body.extend_from_slice(&bytes),
            Ok(Some(Ok(_))) => break ApiError::new(ErrorCode::TooLarge, format!("the body has more than {limit} bytes")),
            Ok(Some(Err(error))) => return Err(ApiError::new(ErrorCode::BadRequest, format!("the body ended early: {error}"))),
            Err(_) => break ApiError::new(ErrorCode::TimedOut, "the body did not arrive in time"),
        }
    };
    // actix-http waits without end for the rest of a chunked body that was dropped, but closes under one that is still held.
    actix_web::rt::spawn(async move {
        tokio::time::sleep(HOLD_UNREAD).await;
        drop(payload);
    });
    Err(refusal)
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::BadRequest, message);
    json::check_depth(body, MAX_DEPTH).map_err(|error| invalid(format!("the body {error}")))?;
    serde_json::from_slice(body).map_err(|error| invalid(format!("the body is not as expected: {error}")))
}

// ---- publishing -------------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBody<'a> {
    room: Option<String>,
    #[serde(default)]
    rooms: Vec<String>,
    user: Option<String>,
    #[serde(default)]
    users: Vec<String>,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    args: Option<Vec<&'a RawValue>>,
    id: Option<String>,
    idempotency_key: Option<String>,
    #[serde(default)]
    except: Vec<String>,
}

/// A name that is none is the caller's mistake, with its own code.
fn named<T>(code: ErrorCode, what: &str, text: &str, parsed: Result<T, NameError>) -> Result<T, ApiError> {
    parsed.map_err(|error| ApiError::new(code, format!("the {what} name {text:?} {error}")))
}

fn room_name(text: &str) -> Result<RoomName, ApiError> {
    named(ErrorCode::RoomNameInvalid, "room", text, RoomName::parse(text))
}

fn user_name(text: &str) -> Result<UserName, ApiError> {
    named(ErrorCode::UserNameInvalid, "user", text, UserName::parse(text))
}

impl PublishBody<'_> {
    fn into_order(self) -> Result<Publish, ApiError> {
        let invalid = |message: &str| ApiError::new(ErrorCode::BadRequest, message);
        let mut targets: SmallVec<[Target; 1]> = SmallVec::new();
        for room in self.room.iter().chain(&self.rooms) {
            push_new(&mut targets, Target::Room(room_name(room)?));
        }
        for user in self.user.iter().chain(&self.users) {
            push_new(&mut targets, Target::User(user_name(user)?));
        }
        match targets.len() {
            0 => return Err(invalid("name whom it is for: room, rooms, user or users")),
            1..=MAX_BATCH => {}
            _ => return Err(invalid("more than 1000 rooms and users in one event")),
        }
        let name = match &self.event {
            Some(text) => named(ErrorCode::EventNameInvalid, "event", text, EventName::parse(text))?,
            None => EventName::default(),
        };
        let argument = |raw: &RawValue| Argument::Json(raw.to_owned());
        let arguments: Vec<Argument> = match (self.data, self.args) {
            (Some(_), Some(_)) => return Err(invalid("data or args, not both")),
            (Some(data), None) => vec![argument(data)],
            (None, Some(args)) => args.into_iter().map(argument).collect(),
            (None, None) => Vec::new(),
        };
        let is_misspelled = |id: &String| id.is_empty() || id.len() > 200 || id.chars().any(char::is_control);
        if self.id.iter().chain(&self.idempotency_key).any(is_misspelled) {
            return Err(invalid("an id or idempotency_key has 1 to 200 bytes and no control characters"));
        }
        let except: Result<Vec<ConnectionId>, _> = self.except.iter().map(|id| id.parse()).collect();
        let mut event = Event::new(name, arguments);
        event.id = self.id.map(String::into_boxed_str);
        let except = except.map_err(|_| invalid("except lists connection ids"))?;
        Ok(Publish { targets, event, except, idempotency_key: self.idempotency_key.map(String::into_boxed_str) })
    }
}

fn push_new(targets: &mut SmallVec<[Target; 1]>, target: Target) {
    if !targets.contains(&target) {
        targets.push(target);
    }
}

/// The event that one body of `/api/publish` asks for.
pub fn read_publish(body: &Bytes) -> Result<Publish, ApiError> {
    parse::<PublishBody<'_>>(body)?.into_order()
}

/// Hands the event to the bridge at once, so that those of one batch keep their order; the answer comes later.
fn send(door: &Door, order: Result<Publish, ApiError>) -> LocalBoxFuture<'static, Result<Published, ApiError>> {
    let sent = order.map(|order| door.publish.send(order));
    Box::pin(async move {
        let published = sent?.await.unwrap_or(Err(BrokerError::Unavailable));
        published.map_err(|error| Refusal::from(error).into())
    })
}

fn published(published: &Published) -> Value {
    json!({ "id": published.id, "delivered": published.delivered })
}

async fn publish(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let body = read_body(payload, door.config().http.max_body).await?;
    let result = send(&door, read_publish(&body)).await?;
    Ok(caller.answer(&published(&result)))
}

async fn batch(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let body = read_body(payload, door.config().http.max_body).await?;
    let events: Vec<&RawValue> = parse(&body)?;
    if events.len() > MAX_BATCH {
        return Err(ApiError::new(ErrorCode::TooLarge, format!("{} events; a batch has at most {MAX_BATCH}", events.len())));
    }
    let sent = events.into_iter().map(|raw| {
        let body: Result<PublishBody<'_>, _> = serde_json::from_str(raw.get());
        let body = body.map_err(|error| ApiError::new(ErrorCode::BadRequest, format!("the event is not as expected: {error}")));
        send(&door, body.and_then(PublishBody::into_order))
    });
    let results = join_all(sent.collect::<Vec<_>>()).await;
    let answers: Vec<Value> = results.iter().map(|result| result.as_ref().map_or_else(ApiError::to_json, published)).collect();
    Ok(caller.answer(&answers))
}

// ---- membership -------------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MembershipBody {
    user: Option<String>,
    connection: Option<String>,
    room: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectBody {
    user: Option<String>,
    connection: Option<String>,
}

fn subject(user: Option<&str>, connection: Option<&str>) -> Result<Subject, ApiError> {
    match (user, connection) {
        (Some(user), None) => Ok(Subject::User(user_name(user)?)),
        (None, Some(id)) => {
            let id = id.parse().map_err(|_| ApiError::new(ErrorCode::BadRequest, format!("{id:?} is no connection id")))?;
            Ok(Subject::Connection(id))
        }
        _ => Err(ApiError::new(ErrorCode::BadRequest, "name either a user or a connection")),
    }
}

/// An order that did not leave this node is no success, although it was carried out here.
fn everywhere(concerned: Result<usize, BrokerError>) -> Result<usize, ApiError> {
    concerned.map_err(|error| {
        let Refusal { code, message } = error.into();
        ApiError::new(code, format!("done on this node, but the others could not be told: {message}"))
    })
}

async fn join(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    enrol(&caller, payload, &door, true).await
}

async fn leave(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    enrol(&caller, payload, &door, false).await
}

async fn enrol(caller: &Caller, payload: Payload, door: &Door, is_member: bool) -> Result<HttpResponse, ApiError> {
    let body = read_body(payload, door.config().http.max_body).await?;
    let MembershipBody { user, connection, room } = parse(&body)?;
    let order = Enrol { subject: subject(user.as_deref(), connection.as_deref())?, room: room_name(&room)?, is_member };
    let concerned = everywhere(ask(door.registry.send(order).await)?)?;
    Ok(caller.answer(&json!({ "connections": concerned })))
}

async fn disconnect(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let body = read_body(payload, door.config().http.max_body).await?;
    let DisconnectBody { user, connection } = parse(&body)?;
    let subject = subject(user.as_deref(), connection.as_deref())?;
    let concerned = everywhere(ask(door.registry.send(Disconnect { subject }).await)?)?;
    Ok(caller.answer(&json!({ "connections": concerned })))
}

// ---- questions --------------------------------------------------------------------------------------------------------------

fn ask<T>(answer: Result<T, actix::MailboxError>) -> Result<T, ApiError> {
    answer.map_err(|_| ApiError::new(ErrorCode::Internal, "the hub is going down"))
}

async fn rooms(caller: Caller, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let rooms = ask(door.registry.send(RoomList).await)?;
    let rooms: Vec<Value> = rooms.iter().map(|(room, members)| json!({ "room": room, "connections": members })).collect();
    Ok(caller.answer(&json!({ "rooms": rooms })))
}

async fn room(caller: Caller, name: Path<String>, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let room = room_name(&name)?;
    let rule = door.config().rule_for(&room).clone();
    let members = ask(door.registry.send(RoomMemberList { room: room.clone() }).await)?;
    let connections = members.anonymous + members.users.iter().map(|(_, count)| count).sum::<usize>();
    let mut answer = json!({ "room": room, "connections": connections });
    if rule.presence {
        let users = members.users.iter().map(|(user, connections)| json!({ "user": user, "connections": connections }));
        answer["members"] = users.collect();
        answer["anonymous"] = members.anonymous.into();
    }
    if rule.history.is_kept() {
        let kept = ask(door.history.send(HistoryExtent { room }).await)?.map_err(Refusal::from)?;
        answer["history"] = json!({ "length": kept.length, "first": kept.first, "last": kept.last });
    }
    Ok(caller.answer(&answer))
}

async fn connection(caller: Caller, id: Path<String>, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let unknown = || ApiError::new(ErrorCode::NotFound, format!("no node has a connection {:?}", &**id));
    let connection: ConnectionId = id.parse().map_err(|_| unknown())?;
    let found = ask(door.registry.send(ConnectionLookup { connection }).await)?.map_err(Refusal::from)?;
    let ConnectionReport { wire, user, rooms, queued, dropped } = found.ok_or_else(unknown)?;
    Ok(caller.answer(&json!({
        "connection": connection,
        "wire": wire,
        "user": user,
        "rooms": rooms,
        "queued": queued,
        "dropped": dropped,
    })))
}
