//! What is to be subscribed and unsubscribed, and telling Redis so.

use std::{collections::HashSet, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use futures_util::future;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::time::Instant;

use super::{cluster::is_passing, listen::Sink};
use crate::protocol::resume::RoomHash;

/// How often refused channels are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Channels in one command.
pub(super) const CHANNELS_PER_COMMAND: usize = 512;

/// What the bridge asks for.
pub(super) enum Wish {
    Subscribe(Vec<Arc<str>>),
    Unsubscribe(Vec<Arc<str>>),
    /// A marker of the clock, and the rooms that others should report on.
    Mark(Vec<RoomHash>),
}

/// What Redis is still to be told. A channel is in at most one of the two: the last wish counts, so a channel that is left and
/// wanted again in one breath is never unsubscribed in between.
#[derive(Default)]
pub(super) struct Orders {
    subscribe: HashSet<Arc<str>, RandomState>,
    unsubscribe: HashSet<Arc<str>, RandomState>,
}

/// One command.
pub(super) enum Order {
    Subscribe(Vec<Arc<str>>),
    Unsubscribe(Vec<Arc<str>>),
}

impl Orders {
    pub fn note(&mut self, wish: Wish) {
        let (channels, into, out_of) = match wish {
            Wish::Subscribe(channels) => (channels, &mut self.subscribe, &mut self.unsubscribe),
            Wish::Unsubscribe(channels) => (channels, &mut self.unsubscribe, &mut self.subscribe),
            Wish::Mark(..) => return,
        };
        for channel in channels {
            out_of.remove(&channel);
            into.insert(channel);
        }
    }

    /// Subscriptions first: somebody waits for them.
    pub fn next(&mut self) -> Option<Order> {
        match (self.subscribe.is_empty(), self.unsubscribe.is_empty()) {
            (false, _) => Some(Order::Subscribe(take(&mut self.subscribe))),
            (true, false) => Some(Order::Unsubscribe(take(&mut self.unsubscribe))),
            (true, true) => None,
        }
    }
}

fn take(channels: &mut HashSet<Arc<str>, RandomState>) -> Vec<Arc<str>> {
    channels.extract_if(|_| true).take(CHANNELS_PER_COMMAND).collect()
}

/// What came of orders, beside what is confirmed: that is heard among the messages.
#[derive(Default)]
pub(super) struct Carried {
    pub refused: Vec<(Arc<str>, RedisError)>,
    /// Their slot is no longer here, or not served for now.
    pub astray: Vec<Arc<str>>,
}

impl Carried {
    pub fn extend(&mut self, more: Self) {
        self.refused.extend(more.refused);
        self.astray.extend(more.astray);
    }

    fn note(&mut self, channel: Arc<str>, answer: Result<(), RedisError>) -> Result<(), RedisError> {
        match answer {
            Ok(()) => {}
            Err(error) if is_forbidden(&error) => self.refused.push((channel, error)),
            Err(error) if is_passing(&error) => self.astray.push(channel),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// An ACL says no. Any other error of a subscription is the connection's end.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// Tells Redis. An ACL judges a command as a whole, so a refused one is sent again channel by channel, in one go.
pub(super) async fn carry(mut sink: Sink, order: Order) -> Result<Carried, RedisError> {
    let mut carried = Carried::default();
    let channels = match order {
        Order::Unsubscribe(channels) => {
            sink.unsubscribe(&channels).await?;
            return Ok(carried);
        }
        Order::Subscribe(channels) => channels,
    };
    match sink.subscribe_all(&channels).await {
        Some(Ok(())) => {}
        Some(Err(error)) if !is_forbidden(&error) => return Err(error),
        Some(Err(_)) | None => {
            let answers = future::join_all(channels.iter().map(|channel| {
                let mut sink = sink.clone();
                async move { sink.subscribe(channel).await }
            }));
            for (channel, answer) in channels.iter().zip(answers.await) {
                carried.note(Arc::clone(channel), answer)?;
            }
        }
    }
    Ok(carried)
}

pub(super) fn log_refusal(channel: &str, count: usize, error: &RedisError, logged: &mut Option<Instant>) {
    if logged.is_none_or(|then| then.elapsed() >= LOG_INTERVAL) {
        *logged = Some(Instant::now());
        log::warn!(
            "Redis refuses {count} channels such as {channel:?}: {error}; allow it in the ACL (docs/operations/redis.md), or remove its \
             [[source]]; not logged again for a minute"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_channel_that_is_left_and_wanted_again_is_not_unsubscribed() {
        let mut orders = Orders::default();
        orders.note(Wish::Unsubscribe(list(&["a"])));
        orders.note(Wish::Subscribe(list(&["a"])));
        assert!(matches!(orders.next(), Some(Order::Subscribe(channels)) if channels == list(&["a"])));
        assert!(orders.next().is_none());
    }

    #[test]
    fn a_command_has_a_bounded_number_of_channels() {
        let mut orders = Orders::default();
        orders.note(Wish::Subscribe((0..=CHANNELS_PER_COMMAND).map(|number| Arc::from(number.to_string())).collect()));
        let mut sizes = Vec::new();
        while let Some(Order::Subscribe(channels)) = orders.next() {
            sizes.push(channels.len());
        }
        assert_eq!(sizes, [CHANNELS_PER_COMMAND, 1]);
    }
}
