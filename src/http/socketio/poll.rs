//! Polls and posts of a session: one poll waits at a time, and one post is read at a time.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Payload},
};

use super::{
    super::{api::read_body, door::Door, error::ApiError},
    engine::{Asked, Failed, Found, form_of},
    readable,
};
use crate::{
    actors::{
        messages::Post,
        sessions::{PollStart, Session},
    },
    protocol::{
        CloseReason, ErrorCode,
        engineio::{Carrier, Packet, Refusal, Version, polling, polling::Form},
        jsonp,
    },
};

/// A poll that comes after the probe of a WebSocket waits so long for the client to move: one that moves meanwhile is told
/// that polls are over, one that waits for its poll to end is not held up.
const BRIEF: Duration = Duration::from_millis(50);

/// How a poll ended.
pub enum Polled {
    Units(Vec<Bytes>),
    /// Nothing to say: poll again, or move.
    Nothing,
    /// The session no longer polls, or is over.
    Over,
}

/// A poll that waits. Dropped before its answer, its client is gone.
pub struct Waiting {
    session: Arc<Session>,
    number: u64,
    /// Whether the session ends with a client that gives up its poll.
    is_vital: bool,
}

impl Waiting {
    pub fn new(session: Arc<Session>, number: u64, is_vital: bool) -> Self {
        Self { session, number, is_vital }
    }

    /// Waits until there is something for the client, at most so long.
    pub async fn polled(self, at_most: Option<Duration>) -> Polled {
        let (session, number) = (Arc::clone(&self.session), self.number);
        let ended = move || if session.has_moved() { Polled::Over } else { Polled::Nothing };
        let session = &self.session;
        let waiting = poll_fn(|cx| {
            if !session.is_current(number) {
                return Poll::Ready(ended());
            }
            match session.outbox.poll_units(cx) {
                Poll::Ready(Some(units)) => Poll::Ready(Polled::Units(units)),
                Poll::Ready(None) => Poll::Ready(Polled::Over),
                // It may have ended between the look above and the waker's registration.
                Poll::Pending if !session.is_current(number) => Poll::Ready(ended()),
                Poll::Pending => Poll::Pending,
            }
        });
        let polled = match at_most {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting).await.unwrap_or(Polled::Nothing),
        };
        session.end_poll(number);
        polled
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.session.end_poll(self.number) && self.is_vital {
            self.session.outbox.end();
        }
    }
}

pub async fn answer(asked: &Asked, session: Found) -> Result<HttpResponse, Failed> {
    let (number, is_brief) = match session.begin_poll() {
        PollStart::Wait { number, is_brief } => (number, is_brief),
        PollStart::Overlaps => {
            session.outbox.close(CloseReason::ProtocolError);
            return Err(Refusal::BadRequest.into());
        }
        PollStart::Refused => return Err(Refusal::BadRequest.into()),
    };
    let is_text = session.is_text;
    let polled = Waiting::new(session, number, true).polled(is_brief.then_some(BRIEF)).await;
    let units = match polled {
        Polled::Units(units) => units,
        Polled::Nothing => vec![Packet::Noop.ready(asked.version, Carrier::Polling)],
        Polled::Over => return Err(Refusal::UnknownSession.into()),
    };
    let form = match form_of(asked) {
        Form::Octets if is_text => Form::Text,
        form => form,
    };
    let body = polling::body(asked.version, form, &units);
    Ok(readable(&asked.page, body.content_type, body.bytes))
}

pub async fn take_post(asked: &Asked, payload: Payload, session: Found, door: &Door) -> Result<HttpResponse, Failed> {
    let is_octets = asked.request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream");
    if is_octets && asked.version == Version::V4 {
        return Err(Refusal::BadRequest.into());
    }
    let mut body = read_post(payload, &session, door.config().socketio.max_payload).await?;
    if matches!(form_of(asked), Form::Jsonp(_)) {
        body = jsonp::posted_engineio(&body).ok_or(Refusal::BadRequest)?.into();
    }
    if !deliver(&session, Post { body, is_octets }).await {
        return Err(Refusal::BadRequest.into());
    }
    Ok(readable(&asked.page, "text/html", "ok"))
}

/// The body of a post, if no other is under way: two at a time have no order.
pub async fn read_post(payload: Payload, session: &Arc<Session>, limit: usize) -> Result<Bytes, Failed> {
    if !session.begin_post() {
        session.outbox.close(CloseReason::ProtocolError);
        return Err(Refusal::BadRequest.into());
    }
    let _posting = Posting(Arc::clone(session));
    read_body(payload, limit).await.map_err(|error| match error {
        ApiError { code: ErrorCode::TooLarge, .. } => Refusal::TooLarge.into(),
        error => error.into(),
    })
}

struct Posting(Arc<Session>);

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.end_post();
    }
}

/// Hands a post to the connection. False if that ended the session; then a poll that waits is told, and no later one.
pub async fn deliver(session: &Session, post: Post) -> bool {
    let is_fine = session.connection.send(post).await.unwrap_or(false);
    if !is_fine && !session.is_polled() {
        session.outbox.end();
    }
    is_fine
}
