//! Socket.IO's own connection state recovery: what a client that was cut off comes back to, under a secret name that it was
//! given when it connected.
//!
//! One table per process. A name is in it from when its namespace is connected until its client leaves for good, or has been
//! away for [`KEPT`]. Only rooms are remembered: what was missed in them, their history tells.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Message, Recipient};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::time::Instant;

use crate::protocol::{ConnectionId, RoomName, UserName, socketio::Namespace};

/// How long a client may be away: what Socket.IO's server takes where nothing else is said (`maxDisconnectionDuration`).
pub const KEPT: Duration = Duration::from_secs(120);
/// Bytes of a name before base64: whoever knows it is taken for the client.
const NAME_BYTES: usize = 15;

#[derive(Debug, Clone)]
pub struct Recoveries {
    table: Arc<Mutex<Table>>,
    /// Most that are kept of those who are away.
    limit: usize,
}

#[derive(Debug, Default)]
struct Table {
    places: HashMap<Box<str>, Place>,
    /// Who is away, the longest first. A name may be here that has come back.
    away: VecDeque<(Instant, Box<str>)>,
}

#[derive(Debug)]
enum Place {
    /// Its connection lives, as far as we know: a client may notice before us that its line is dead.
    Live(ConnectionId, Recipient<Surrender>),
    Away(Instant, Remains),
}

/// What a client was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    pub user: Option<UserName>,
    pub namespace: Namespace,
    pub rooms: Vec<RoomName>,
}

/// New connection → the client's old one: your client is here. Answers what it was in under this name, and ends; none where
/// it has no such name any more.
#[derive(Debug, Message)]
#[rtype(result = "Option<Remains>")]
pub struct Surrender(pub Box<str>);

impl Recoveries {
    pub fn new(limit: usize) -> Self {
        Self { table: Arc::default(), limit }
    }

    /// A name that nobody has. None where the system has no randomness.
    pub fn new_name() -> Option<Box<str>> {
        let mut bytes = [0; NAME_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// From now on this connection has the name.
    pub fn note_live(&self, name: Box<str>, connection: ConnectionId, surrender: Recipient<Surrender>) {
        self.lock().places.insert(name, Place::Live(connection, surrender));
    }

    /// The connection has ended, and left this; none: its client will not come back. Another that has the name keeps it.
    pub fn note_away(&self, name: &str, by: ConnectionId, remains: Option<Remains>) {
        let now = Instant::now();
        let mut table = self.lock();
        if !matches!(table.places.get(name), Some(Place::Live(holder, _)) if *holder == by) {
            return;
        }
        match remains {
            None => drop(table.places.remove(name)),
            Some(remains) => {
                table.places.insert(name.into(), Place::Away(now, remains));
                table.away.push_back((now, name.into()));
            }
        }
        table.forget_the_late(now, self.limit);
    }

    /// Takes what is kept under a name; from a connection that still lives, if need be, which ends. Never from the one that
    /// asks: its client left the namespace of its own will.
    pub async fn claim(&self, name: &str, by: ConnectionId) -> Option<Remains> {
        let (old, surrender) = match self.look(name, by)? {
            Place::Live(old, surrender) => (old, surrender),
            away @ Place::Away(..) => return away.remains(),
        };
        let surrendered = surrender.send(Surrender(name.into())).await;
        let left = {
            let mut table = self.lock();
            // Another that has it by now keeps it.
            if matches!(table.places.get(name)?, Place::Live(holder, _) if *holder != old) {
                return None;
            }
            table.places.remove(name)?
        };
        match (surrendered, left) {
            (Ok(remains), _) => remains,
            // It ended before it could answer, and has left what it was in.
            (Err(_), left) => left.remains(),
        }
    }

    /// What is known; taken from the table where there is nobody to ask.
    fn look(&self, name: &str, by: ConnectionId) -> Option<Place> {
        let mut table = self.lock();
        match table.places.get(name)? {
            Place::Live(holder, surrender) if *holder != by => Some(Place::Live(*holder, surrender.clone())),
            Place::Live(..) => table.places.remove(name).and(None),
            Place::Away(..) => table.places.remove(name),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole between statements.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn remains(self) -> Option<Remains> {
        match self {
            Self::Away(since, remains) => (since.elapsed() < KEPT).then_some(remains),
            Self::Live(..) => None,
        }
    }
}

impl Table {
    fn forget_the_late(&mut self, now: Instant, limit: usize) {
        while self.away.front().is_some_and(|(since, _)| self.away.len() > limit || now.duration_since(*since) >= KEPT) {
            let Some((left, name)) = self.away.pop_front() else { return };
            if matches!(self.places.get(&name), Some(Place::Away(since, _)) if *since == left) {
                self.places.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, ActorContext, Context, Handler};

    use super::*;

    struct Old(Option<Remains>);

    impl Actor for Old {
        type Context = Context<Self>;
    }

    impl Handler<Surrender> for Old {
        type Result = Option<Remains>;

        fn handle(&mut self, _: Surrender, _: &mut Context<Self>) -> Self::Result {
            self.0.take()
        }
    }

    /// Ends as it begins, and leaves something.
    struct Ending(Recoveries);

    impl Actor for Ending {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Context<Self>) {
            ctx.stop();
        }

        fn stopped(&mut self, _: &mut Context<Self>) {
            self.0.note_away("a", id(1), Some(remains()));
        }
    }

    impl Handler<Surrender> for Ending {
        type Result = Option<Remains>;

        fn handle(&mut self, _: Surrender, _: &mut Context<Self>) -> Self::Result {
            panic!("it has ended")
        }
    }

    #[actix::test]
    async fn a_name_whose_connection_ends_while_it_is_asked_is_found_all_the_same() {
        let recoveries = Recoveries::new(10);
        recoveries.note_live("a".into(), id(1), Ending(recoveries.clone()).start().recipient());
        assert_eq!(recoveries.claim("a", id(2)).await, Some(remains()));
        assert_eq!(recoveries.claim("a", id(3)).await, None, "once");
    }

    fn remains() -> Remains {
        Remains { user: None, namespace: Namespace::root(), rooms: vec![RoomName::parse("a").unwrap()] }
    }

    fn id(number: u32) -> ConnectionId {
        ConnectionId::new(1, number)
    }

    fn names(recoveries: &Recoveries) -> usize {
        recoveries.lock().places.len()
    }

    #[actix::test]
    async fn what_is_left_is_taken_once_and_not_after_two_minutes() {
        tokio::time::pause();
        let recoveries = Recoveries::new(8);
        let old = Old(None).start();
        for (away, expected) in [(KEPT - Duration::from_millis(1), Some(remains())), (KEPT, None)] {
            recoveries.note_live("name".into(), id(1), old.clone().recipient());
            recoveries.note_away("name", id(1), Some(remains()));
            tokio::time::advance(away).await;
            assert_eq!(recoveries.claim("name", id(2)).await, expected);
            assert_eq!(recoveries.claim("name", id(2)).await, None);
        }
    }

    #[actix::test]
    async fn a_connection_that_still_lives_surrenders_and_later_leaves_nothing() {
        let recoveries = Recoveries::new(8);
        recoveries.note_live("name".into(), id(1), Old(Some(remains())).start().recipient());
        assert_eq!(recoveries.claim("name", id(2)).await, Some(remains()));
        recoveries.note_live("name".into(), id(2), Old(None).start().recipient());
        recoveries.note_away("name", id(1), Some(remains()));
        assert_eq!(recoveries.claim("name", id(2)).await, None, "it is its own");
        assert_eq!(names(&recoveries), 0);
    }

    #[actix::test]
    async fn no_more_are_kept_than_the_limit_and_none_that_left_for_good() {
        let recoveries = Recoveries::new(2);
        let old = Old(None).start();
        for number in 0..5 {
            recoveries.note_live(number.to_string().into(), id(number), old.clone().recipient());
            recoveries.note_away(&number.to_string(), id(number), (number < 4).then(remains));
        }
        assert_eq!(names(&recoveries), 2);
        assert_eq!(recoveries.claim("1", id(9)).await, None);
        assert_eq!(recoveries.claim("3", id(9)).await, Some(remains()));
    }
}
