//! `/api`: publishing, and what an application's servers may ask and order.

use std::time::Duration;

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::{Next, from_fn},
    web::{self, Bytes, Data, Path, Payload, ReqData, ServiceConfig},
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
    address,
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
    for (path, method, handler) in [
        ("/api/publish", Method::POST, web::to(publish)),
        ("/api/batch", Method::POST, web::to(batch)),
        ("/api/join", Method::POST, web::to(join)),
        ("/api/leave", Method::POST, web::to(leave)),
        ("/api/disconnect", Method::POST, web::to(disconnect)),
        ("/api/rooms", Method::GET, web::to(rooms)),
        ("/api/rooms/{room:.*}", Method::GET, web::to(room)),
        ("/api/connections/{id}", Method::GET, web::to(connection)),
    ] {
        app.service(
            web::resource(path)
                .wrap(from_fn(admit_page))
                .route(handler.method(method.clone()))
                .route(web::method(Method::OPTIONS).to(preflight))
                .default_service(wrong_method([method, Method::OPTIONS])),
        );
    }
}

/// Refuses pages that may not call. Others may read the answer, also one that says no.
async fn admit_page(request: ServiceRequest, next: Next<impl MessageBody>) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let Some(door) = request.app_data::<Data<Door>>() else { return Err(closed().into()) };
    let page = origin::check(request.request(), &door.config().http.allowed_origins)?;
    request.extensions_mut().insert(page.clone());
    let mut response = next.call(request).await?;
    page.allow_in(response.headers_mut());
    Ok(response)
}

fn closed() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the door is not open")
}

async fn preflight(request: HttpRequest, page: ReqData<Page>) -> HttpResponse {
    page.preflight(&request, "GET, POST, OPTIONS")
}

/// A caller who may: a request that shows a key, or comes from this machine where no keys are set.
pub struct Caller {
    /// How long its body is, as far as it says.
    declared: Option<usize>,
}

impl Caller {
    fn check(request: &HttpRequest) -> Result<Self, ApiError> {
        let config = request.app_data::<Data<Door>>().ok_or_else(closed)?.config();
        let length = request.headers().get(header::CONTENT_LENGTH);
        let caller = Self { declared: length.and_then(|value| value.to_str().ok()?.parse().ok()) };
        let keys = &config.api.keys;
        if keys.is_empty() {
            return if address::is_own_machine(request) {
                Ok(caller)
            } else {
                let why = "without api.keys the API answers callers on its own machine only, who name it by address or without a dot";
                Err(ApiError::new(ErrorCode::Forbidden, why))
            };
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Some(shown) = header("x-api-key").or_else(|| bearer(request)) else {
            return Err(ApiError::new(ErrorCode::Unauthorized, "an API key is needed: Authorization: Bearer KEY, or X-API-Key"));
        };
        // Every key is compared, so that the time says nothing of which one it was.
        let is_known = keys.iter().fold(0, |known, key| known | key.expose().as_bytes().ct_eq(shown.as_bytes()).unwrap_u8());
        if is_known == 1 { Ok(caller) } else { Err(ApiError::new(ErrorCode::Unauthorized, "the API key is not known")) }
    }

    /// The whole body. One that says it is too long is not read at all.
    async fn body(&self, payload: Payload, door: &Door) -> Result<Bytes, ApiError> {
        let limit = door.config().http.max_body;
        match self.declared {
            Some(length) if length > limit => Err(leave_unread(payload, too_large(limit))),
            _ => read_body(payload, limit).await,
        }
    }
}

fn answer(value: &impl serde::Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(value)
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
            Ok(Some(Ok(_))) => break too_large(limit),
            Ok(Some(Err(error))) => return Err(ApiError::new(ErrorCode::BadRequest, format!("the body ended early: {error}"))),
            Err(_) => break ApiError::new(ErrorCode::TimedOut, "the body did not arrive in time"),
        }
    };
    Err(leave_unread(payload, refusal))
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(ErrorCode::TooLarge, format!("the body has more than {limit} bytes"))
}

/// actix-http waits without end for the rest of a chunked body that was dropped, but closes under one that is still held. What
/// comes of it meanwhile is forgotten, or it would wait in memory.
fn leave_unread(mut payload: Payload, refusal: ApiError) -> ApiError {
    actix_web::rt::spawn(async move {
        let forgotten = async { while payload.next().await.is_some_and(|read| read.is_ok()) {} };
        if tokio::time::timeout(HOLD_UNREAD, forgotten).await.is_ok() {
            tokio::time::sleep(HOLD_UNREAD).await;
        }
        drop(payload);
    });
    refusal
}

fn check_depth(body: &[u8]) -> Result<(), ApiError> {
    json::check_depth(body, MAX_DEPTH).map_err(|error| ApiError::new(ErrorCode::BadRequest, format!("the body {error}")))
}

/// Reads an object. The look at its first sign is not idle: serde's structs read arrays as well.
fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a [u8]) -> Result<T, ApiError> {
    let unexpected = |why: String| ApiError::new(ErrorCode::BadRequest, format!("the {what} is not as expected: {why}"));
    if text.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(unexpected("it is no JSON object".into()));
    }
    serde_json::from_slice(text).map_err(|error| unexpected(error.to_string()))
}

fn parse_body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    check_depth(body)?;
    parse("body", body)
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
    #[serde(borrow, default, deserialize_with = "json::present")]
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
    parse_body::<PublishBody<'_>>(body)?.into_order()
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
    let body = caller.body(payload, &door).await?;
    let result = send(&door, read_publish(&body)).await?;
    Ok(answer(&published(&result)))
}

async fn batch(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let body = caller.body(payload, &door).await?;
    check_depth(&body)?;
    let events: Result<Vec<&RawValue>, _> = serde_json::from_slice(&body);
    let events = events.map_err(|error| ApiError::new(ErrorCode::BadRequest, format!("the body is no list of events: {error}")))?;
    if events.len() > MAX_BATCH {
        return Err(ApiError::new(ErrorCode::TooLarge, format!("{} events; a batch has at most {MAX_BATCH}", events.len())));
    }
    let (mut results, mut under_way, mut were_keyed) = (Vec::with_capacity(events.len()), Vec::new(), false);
    for raw in events {
        let order = parse("event", raw.get().as_bytes()).and_then(PublishBody::into_order);
        let is_keyed = order.as_ref().is_ok_and(|order| order.idempotency_key.is_some());
        if is_keyed != were_keyed {
            // A key is claimed before its event is sent, and one without a key would overtake it.
            results.append(&mut join_all(std::mem::take(&mut under_way)).await);
            were_keyed = is_keyed;
        }
        under_way.push(send(&door, order));
    }
    results.append(&mut join_all(under_way).await);
    let answers: Vec<Value> = results.iter().map(|result| result.as_ref().map_or_else(ApiError::to_json, published)).collect();
    Ok(answer(&answers))
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
    let body = caller.body(payload, door).await?;
    let MembershipBody { user, connection, room } = parse_body(&body)?;
    let order = Enrol { subject: subject(user.as_deref(), connection.as_deref())?, room: room_name(&room)?, is_member };
    let concerned = everywhere(ask(door.registry.send(order).await)?)?;
    Ok(answer(&json!({ "connections": concerned })))
}

async fn disconnect(caller: Caller, payload: Payload, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let body = caller.body(payload, &door).await?;
    let DisconnectBody { user, connection } = parse_body(&body)?;
    let subject = subject(user.as_deref(), connection.as_deref())?;
    let concerned = everywhere(ask(door.registry.send(Disconnect { subject }).await)?)?;
    Ok(answer(&json!({ "connections": concerned })))
}

// ---- questions --------------------------------------------------------------------------------------------------------------

fn ask<T>(answer: Result<T, actix::MailboxError>) -> Result<T, ApiError> {
    answer.map_err(|_| ApiError::new(ErrorCode::Internal, "the hub is going down"))
}

async fn rooms(_: Caller, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let rooms = ask(door.registry.send(RoomList).await)?;
    let rooms: Vec<Value> = rooms.iter().map(|(room, members)| json!({ "room": room, "connections": members })).collect();
    Ok(answer(&json!({ "rooms": rooms })))
}

async fn room(_: Caller, name: Path<String>, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let room = room_name(&name)?;
    let rule = door.config().rule_for(&room).clone();
    let members = ask(door.registry.send(RoomMemberList { room: room.clone() }).await)?;
    let connections = members.anonymous + members.users.iter().map(|(_, count)| count).sum::<usize>();
    let mut told = json!({ "room": room, "connections": connections });
    if rule.presence {
        let users = members.users.iter().map(|(user, connections)| json!({ "user": user, "connections": connections }));
        told["members"] = users.collect();
        told["anonymous"] = members.anonymous.into();
    }
    if rule.history.is_kept() {
        let kept = ask(door.history.send(HistoryExtent { room }).await)?.map_err(Refusal::from)?;
        told["history"] = json!({ "length": kept.length, "first": kept.first, "last": kept.last });
    }
    Ok(answer(&told))
}

async fn connection(_: Caller, id: Path<String>, door: Data<Door>) -> Result<HttpResponse, ApiError> {
    let unknown = || ApiError::new(ErrorCode::NotFound, format!("no node has a connection {:?}", &**id));
    let connection: ConnectionId = id.parse().map_err(|_| unknown())?;
    let found = ask(door.registry.send(ConnectionLookup { connection }).await)?.map_err(Refusal::from)?;
    let ConnectionReport { wire, user, rooms, queued, dropped } = found.ok_or_else(unknown)?;
    Ok(answer(&json!({
        "connection": connection,
        "wire": wire,
        "user": user,
        "rooms": rooms,
        "queued": queued,
        "dropped": dropped,
    })))
}
