//! Where the publications of one room or user go, and what the broker made of its channels.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::actors::messages::{BrokerError, Feed};

/// Where the publications of one room or user go.
pub(super) struct Route {
    pub feeds: SmallVec<[Feed; 2]>,
    channels: SmallVec<[(Arc<str>, ChannelState); 2]>,
    pub waiting: Vec<oneshot::Sender<Result<(), BrokerError>>>,
    /// It was whole when the link went down.
    pub is_torn: bool,
}

impl Route {
    pub fn new(channels: &[Arc<str>]) -> Self {
        Self {
            feeds: SmallVec::new(),
            channels: channels.iter().map(|channel| (Arc::clone(channel), ChannelState::Asked)).collect(),
            waiting: Vec::new(),
            is_torn: false,
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

    pub fn channels(&self) -> Vec<Arc<str>> {
        self.channels.iter().map(|(channel, _)| Arc::clone(channel)).collect()
    }

    /// All channels, to be asked for once more.
    pub fn ask_again(&mut self) -> Vec<Arc<str>> {
        self.channels.iter_mut().for_each(|(_, state)| *state = ChannelState::Asked);
        self.channels()
    }

    /// Answers those who wait, if it is known what to.
    pub fn settle(&mut self) {
        if let Some(outcome) = self.outcome() {
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
