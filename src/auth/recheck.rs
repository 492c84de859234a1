//! Asking anew: whoever said who a client is may change its mind while the client is connected.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;

use super::Identity;

/// What is known of a client by now.
#[derive(Debug, Clone)]
pub enum Standing {
    Granted(Arc<Identity>),
    Denied,
    /// Nobody answered: what was granted goes on.
    Unknown,
}

type Ask = Arc<dyn Fn() -> LocalBoxFuture<'static, Standing> + Send + Sync>;

/// How to ask once more about a client, and when.
#[derive(Clone)]
pub struct Recheck {
    ask: Ask,
    /// From the last answer to the next question.
    pub after: Duration,
}

impl Recheck {
    pub fn new(after: Duration, ask: impl Fn() -> LocalBoxFuture<'static, Standing> + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), after }
    }

    pub fn ask(&self) -> LocalBoxFuture<'static, Standing> {
        (self.ask)()
    }
}

impl fmt::Debug for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recheck").field("after", &self.after).finish_non_exhaustive()
    }
}

/// Two identities are the same person whoever vouches for them.
impl PartialEq for Recheck {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Recheck {}
