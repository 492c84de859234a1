//! What an application asks about one connection, wherever it is: the registry looks among its own, and asks the node whose
//! number the connection bears about others.

use std::{collections::HashMap, time::Duration};

use actix::{Context, Handler, ResponseFuture};
use foldhash::fast::RandomState;
use futures_util::future;
use tokio::{sync::oneshot, time::timeout};

use super::{
    client::Client,
    messages::{BrokerError, ConnectionLookup},
    registry::RoomRegistry,
};
use crate::protocol::gossip::{Answer, ConnectionReport, Control, Question};

/// A node that does not answer within this time is gone, and its connections with it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions that may wait for their answers.
const WAITING: usize = 1024;

/// What was asked of other nodes and is not answered yet.
#[derive(Default)]
pub(super) struct Inquiries {
    asked: u64,
    waiting: HashMap<u64, oneshot::Sender<Option<ConnectionReport>>, RandomState>,
}

impl Inquiries {
    fn ask(&mut self) -> Option<(u64, oneshot::Receiver<Option<ConnectionReport>>)> {
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        if self.waiting.len() >= WAITING {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.asked += 1;
        self.waiting.insert(self.asked, answer);
        Some((self.asked, answered))
    }
}

impl Client {
    fn report(&self) -> ConnectionReport {
        ConnectionReport {
            wire: self.outbox.wire().as_str().into(),
            user: self.identity.user.clone(),
            rooms: self.rooms.to_vec(),
            queued: self.outbox.queued_events(),
            dropped: self.outbox.dropped_events(),
        }
    }
}

impl RoomRegistry {
    /// Another node asks about a connection of this one.
    pub(super) fn answer(&self, Question { node, number, about }: &Question) {
        if *node == self.parts.node || about.node() != self.parts.node {
            return;
        }
        let found = self.connections.get(about).map(|client| client.report());
        let told = self.tell_control(&Control::Answer(Answer { to: *node, number: *number, found }));
        // Who asked waits for a while only.
        actix::spawn(async move { _ = told.await });
    }

    /// Another node has answered.
    pub(super) fn take_answer(&mut self, Answer { to, number, found }: Answer) {
        if to == self.parts.node
            && let Some(waiting) = self.inquiries.waiting.remove(&number)
        {
            _ = waiting.send(found);
        }
    }
}

impl Handler<ConnectionLookup> for RoomRegistry {
    type Result = ResponseFuture<Result<Option<ConnectionReport>, BrokerError>>;

    fn handle(&mut self, ConnectionLookup { connection }: ConnectionLookup, _: &mut Context<Self>) -> Self::Result {
        let found = self.connections.get(&connection).map(|client| client.report());
        if found.is_some() || connection.node() == self.parts.node {
            return Box::pin(future::ready(Ok(found)));
        }
        let Some((number, answered)) = self.inquiries.ask() else { return Box::pin(future::ready(Err(BrokerError::Overloaded))) };
        let told = self.tell_control(&Control::Question(Question { node: self.parts.node, number, about: connection }));
        Box::pin(async move {
            told.await?;
            Ok(timeout(PATIENCE, answered).await.ok().and_then(Result::ok).flatten())
        })
    }
}
