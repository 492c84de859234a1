//! The listening connection: the crate's PubSub on one Redis, a RESP3 connection with pushes on a primary of a cluster, where
//! the crate's PubSub knows no SSUBSCRIBE.

use std::sync::Arc;

use futures_util::{StreamExt, future};
use redis::{
    Msg, PushInfo, PushKind, RedisError, Value,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use tokio::sync::mpsc;

/// Takes subscriptions.
#[derive(Clone)]
pub(super) enum Sink {
    One(PubSubSink),
    Primary { connection: MultiplexedConnection, native: Native },
}

/// Which channels are subscribed in both ways: those of our own naming, which alone are promised to hear SPUBLISH.
#[derive(Debug, Clone)]
pub(super) struct Native {
    room: Arc<str>,
    user: Arc<str>,
}

impl Native {
    pub fn new(prefix: &str) -> Self {
        Self { room: format!("{prefix}:room:").into(), user: format!("{prefix}:user:").into() }
    }

    pub fn has(&self, channel: &str) -> bool {
        channel.starts_with(&*self.room) || channel.starts_with(&*self.user)
    }
}

impl Sink {
    pub async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        match self {
            Self::One(sink) => sink.subscribe(channel).await,
            Self::Primary { connection, native } => both("SUBSCRIBE", channel, native, connection).await,
        }
    }

    /// In one command, where the answer is one for all.
    pub async fn subscribe_all(&mut self, channels: &[Arc<str>]) -> Option<Result<(), RedisError>> {
        match self {
            Self::One(sink) => Some(sink.subscribe(names(channels)).await),
            Self::Primary { .. } => None,
        }
    }

    pub async fn unsubscribe(&mut self, channels: &[Arc<str>]) -> Result<(), RedisError> {
        match self {
            Self::One(sink) => sink.unsubscribe(names(channels)).await,
            Self::Primary { connection, native } => {
                let told = channels.iter().map(|channel| {
                    let mut connection = connection.clone();
                    let native = &*native;
                    async move { both("UNSUBSCRIBE", channel, native, &mut connection).await }
                });
                // A slot that has moved took its subscriptions along.
                let answers = future::join_all(told).await;
                answers.into_iter().find(|answer| answer.as_ref().is_err_and(|error| !super::is_answer(error))).unwrap_or(Ok(()))
            }
        }
    }

    pub async fn psubscribe(&mut self, pattern: &str) -> Result<(), RedisError> {
        match self {
            Self::One(sink) => sink.psubscribe(pattern).await,
            Self::Primary { connection, .. } => tell("PSUBSCRIBE", pattern, connection).await,
        }
    }
}

/// What is PUBLISHed anywhere in the cluster comes by SUBSCRIBE, what is SPUBLISHed by SSUBSCRIBE, and nothing by both.
async fn both(command: &'static str, channel: &str, native: &Native, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    if !native.has(channel) {
        return tell(command, channel, connection).await;
    }
    let sharded = if command == "SUBSCRIBE" { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" };
    let mut second = connection.clone();
    let (plain, sharded) = future::join(tell(command, channel, connection), tell(sharded, channel, &mut second)).await;
    plain.and(sharded)
}

/// One channel a command, because each channel has its own answer.
async fn tell(command: &str, channel: &str, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    redis::cmd(command).arg(channel).query_async::<Value>(connection).await.map(drop)
}

fn names(channels: &[Arc<str>]) -> Vec<&str> {
    channels.iter().map(|channel| &**channel).collect()
}

/// What was heard.
pub(super) enum Heard {
    Message(Msg),
    /// Asked to or not, the primary ended the sharded subscription to this channel.
    Gone(String),
}

/// Hears messages. It is for the caller to be fast: no bound is put to what waits here.
pub(super) enum Ear {
    One(PubSubStream),
    Primary(mpsc::UnboundedReceiver<PushInfo>),
}

impl Ear {
    /// `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        let pushes = match self {
            Self::One(stream) => return stream.next().await.map(Heard::Message),
            Self::Primary(pushes) => pushes,
        };
        loop {
            let push = pushes.recv().await?;
            match push.kind {
                PushKind::Disconnection => return None,
                PushKind::SUnsubscribe => {
                    if let Some(Value::BulkString(channel)) = push.data.into_iter().next() {
                        return Some(Heard::Gone(String::from_utf8_lossy(&channel).into_owned()));
                    }
                }
                _ => {
                    if let Some(message) = Msg::from_push_info(push) {
                        return Some(Heard::Message(message));
                    }
                }
            }
        }
    }
}
