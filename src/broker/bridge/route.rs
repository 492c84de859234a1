//! Where the publications of one room or user go, and what the broker made of its channels.

use std::sync::Arc;

use actix::prelude::SendError;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::{
    actors::messages::{BrokerError, Deliver, Feed},
    broker::recording::Recording,
    metrics::Metrics,
    protocol::Target,
};

/// Where the publications of one room or user go.
pub(super) struct Route {
    pub feeds: SmallVec<[Feed; 2]>,
    channels: SmallVec<[(Arc<str>, ChannelState); 2]>,
    pub waiting: Vec<oneshot::Sender<Result<(), BrokerError>>>,
    /// It was whole when the link went down.
    pub is_torn: bool,
    /// It has moved to another shard, and is about to follow.
    pub is_frozen: bool,
    /// Of a room with history.
    pub recording: Option<Box<Recording>>,
}

impl Route {
    pub fn new(channels: &[Arc<str>]) -> Self {
        Self {
            feeds: SmallVec::new(),
            channels: channels.iter().map(|channel| (Arc::clone(channel), ChannelState::Asked)).collect(),
            waiting: Vec::new(),
            is_torn: false,
            is_frozen: false,
            recording: None,
        }
    }

    pub fn set(&mut self, channel: &str, state: ChannelState) {
        if let Some((_, known)) = self.channels.iter_mut().find(|(known, _)| **known == *channel) {
            *known = state;
        }
    }

    /// What the broker made of it; `None` while an answer is missing. A room is served if any of its channels is: an ACL may
    /// well allow the native ones alone. One that has no channels is served by those that are always subscribed.
    pub fn outcome(&self) -> Option<Result<(), BrokerError>> {
        if self.channels.iter().any(|(_, state)| *state == ChannelState::Asked) {
            return None;
        }
        let refusals = self.channels.iter().filter_map(|(_, state)| match state {
            ChannelState::Refused(error) => Some(error),
            ChannelState::Asked | ChannelState::Confirmed => None,
        });
        match refusals.clone().next() {
            Some(error) if refusals.count() == self.channels.len() => Some(Err(BrokerError::Refused(error.clone()))),
            _ => Some(Ok(())),
        }
    }

    /// Whether the broker delivers this channel.
    pub fn is_confirmed(&self, channel: &str) -> bool {
        self.channels.iter().any(|(known, state)| **known == *channel && *state == ChannelState::Confirmed)
    }

    /// It was recorded before an outage or a move, and is not yet again.
    pub fn awaits_numbers(&self) -> bool {
        self.is_frozen || self.recording.as_ref().is_some_and(|recording| recording.can_catch_up() && !recording.is_numbered())
    }

    pub fn channels(&self) -> Vec<Arc<str>> {
        self.channels.iter().map(|(channel, _)| Arc::clone(channel)).collect()
    }

    /// All channels, to be asked for once more.
    pub fn ask_again(&mut self) -> Vec<Arc<str>> {
        self.channels.iter_mut().for_each(|(_, state)| *state = ChannelState::Asked);
        self.channels()
    }

    /// Hands a publication to each worker that has members.
    pub fn fan_out(&self, delivery: &Deliver, metrics: &Metrics) {
        for feed in &self.feeds {
            match feed.deliver_to.try_send(delivery.clone()) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    feed.miss(1);
                    metrics.mailbox_full(match delivery.publication.target {
                        Target::Room(_) => "room",
                        Target::User(_) => "user",
                        Target::Namespace(_) => "namespace",
                    });
                }
                // The registry has let it go and the unsubscription is on its way.
                Err(SendError::Closed(_)) => {}
            }
        }
    }

    /// Hands on what waited for its number or its turn, or was fetched.
    pub fn fan_out_late(&self, deliveries: impl IntoIterator<Item = Deliver>, metrics: &Metrics) {
        for delivery in deliveries {
            metrics.published("history").inc();
            self.fan_out(&delivery, metrics);
        }
    }

    /// Answers those who wait, if it is known what to. Who joins a room with history is told when its events have numbers.
    pub fn settle(&mut self) {
        self.is_frozen &= self.outcome().is_none();
        let is_numbered = self.recording.as_ref().is_none_or(|recording| recording.is_numbered());
        if let Some(outcome) = self.outcome().filter(|outcome| is_numbered || outcome.is_err()) {
            for waiting in self.waiting.drain(..) {
                // Who asked may be gone.
                let _ = waiting.send(outcome.clone());
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChannelState {
    Asked,
    Confirmed,
    Refused(String),
}
