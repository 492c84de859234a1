//! The listening connection: RESP3, where confirmations come among the messages, in Redis' order, and where a marker can be sent
//! right behind a subscription.

use std::sync::Arc;

use futures_util::future;
use redis::{Cmd, Msg, PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::mpsc;

/// Takes subscriptions.
#[derive(Clone)]
pub(super) struct Sink {
    connection: MultiplexedConnection,
    /// On a primary of a cluster.
    native: Option<Native>,
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
    pub fn new(connection: MultiplexedConnection, native: Option<Native>) -> Self {
        Self { connection, native }
    }

    pub async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        match &self.native {
            None => tell("SUBSCRIBE", channel, &mut self.connection).await,
            Some(native) => both("SUBSCRIBE", channel, native, &mut self.connection).await,
        }
    }

    /// In one command, where the answer is one for all.
    pub async fn subscribe_all(&mut self, channels: &[Arc<str>]) -> Option<Result<(), RedisError>> {
        match self.native {
            None => Some(self.connection.subscribe(names(channels)).await),
            Some(_) => None,
        }
    }

    pub async fn unsubscribe(&mut self, channels: &[Arc<str>]) -> Result<(), RedisError> {
        let Some(native) = &self.native else { return self.connection.unsubscribe(names(channels)).await };
        let told = channels.iter().map(|channel| {
            let mut connection = self.connection.clone();
            async move { both("UNSUBSCRIBE", channel, native, &mut connection).await }
        });
        // A slot that has moved took its subscriptions along.
        let answers = future::join_all(told).await;
        answers.into_iter().find(|answer| answer.as_ref().is_err_and(|error| !super::is_answer(error))).unwrap_or(Ok(()))
    }

    pub async fn psubscribe(&mut self, pattern: &str) -> Result<(), RedisError> {
        tell("PSUBSCRIBE", pattern, &mut self.connection).await
    }

    /// Runs a command behind the subscriptions that were asked for before.
    pub async fn run(mut self, command: Cmd) -> Result<(), RedisError> {
        command.query_async(&mut self.connection).await
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
    /// What comes from here on was published after this channel was subscribed, in all the ways that it is.
    Confirmed(String),
    /// Asked to or not, the primary ended the sharded subscription to this channel.
    Gone(String),
}

/// Hears messages. It is for the caller to be fast: no bound is put to what waits here.
pub(super) struct Ear {
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    /// On a primary of a cluster.
    native: Option<Native>,
}

impl Ear {
    pub fn new(pushes: mpsc::UnboundedReceiver<PushInfo>, native: Option<Native>) -> Self {
        Self { pushes, native }
    }

    /// `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let push = self.pushes.recv().await?;
            match push.kind {
                PushKind::Disconnection => return None,
                PushKind::Subscribe | PushKind::SSubscribe => {
                    let is_sharded = push.kind == PushKind::SSubscribe;
                    // The sharded subscription is the second of two.
                    let is_last = |channel: &str| is_sharded || !self.native.as_ref().is_some_and(|native| native.has(channel));
                    if let Some(channel) = channel_of(push).filter(|channel| is_last(channel)) {
                        return Some(Heard::Confirmed(channel));
                    }
                }
                PushKind::SUnsubscribe => {
                    if let Some(channel) = channel_of(push) {
                        return Some(Heard::Gone(channel));
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

fn channel_of(push: PushInfo) -> Option<String> {
    match push.data.into_iter().next()? {
        Value::BulkString(channel) => Some(String::from_utf8_lossy(&channel).into_owned()),
        _ => None,
    }
}
