//! A hall: one room or user as the registry sees it, with a group actor on each worker that has members. Plain bookkeeping;
//! only the registry has halls.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix::{Actor, Addr, Handler, Message, Recipient};
use tokio::time::Instant;

use super::{
    group::{Group, GroupOptions, Room, User},
    messages::{
        AccountForMissed, AddMember, Announce, Answer, BrokerError, ChangeCarrier, Deliver, Feed, Greeting, Hold, Refusal, RemoveMember,
    },
    outbox::Outbox,
    worker::Worker,
};
use crate::protocol::{ConnectionId, Encoding, ErrorCode, Reply, Target, socketio::Namespace};

/// The addresses of a room or user, by worker index.
#[derive(Default)]
pub struct Hall {
    seats: Vec<Option<Seat>>,
}

/// The group on one worker.
struct Seat {
    group: GroupAddress,
    /// Also tells this seat from those that were here before it.
    missed: Arc<AtomicU64>,
    members: usize,
    /// Set while it has no members.
    empty_since: Option<Instant>,
    /// `None` once the broker has confirmed the subscription.
    opening: Option<Opening>,
}

#[derive(Default)]
struct Opening {
    waiting: Vec<Waiting>,
    /// Members that were told they had joined before the broker confirmed.
    unproven: Vec<ConnectionId>,
}

/// Who are members no more because the broker refused the room.
pub struct Refused {
    pub turned_away: Vec<ConnectionId>,
    /// These were told that they had joined.
    pub unproven: Vec<ConnectionId>,
}

/// A connection that becomes a member when the broker has confirmed.
pub struct Waiting {
    pub place: Place,
    pub greeting: Option<Greeting>,
    /// Set in rooms with history.
    pub resume: Option<Resume>,
    pub answer: Answer,
}

/// Who was let in.
#[derive(Default)]
pub struct Admitted {
    /// These are members now.
    pub entered: Vec<ConnectionId>,
    /// These will be when what they missed is known.
    pub resuming: Vec<Waiting>,
}

/// How a connection enters a room with history.
pub struct Resume {
    /// The last id that the client saw.
    pub since: Option<Box<str>>,
    pub is_known: bool,
}

/// A connection as a group needs it.
#[derive(Clone)]
pub struct Place {
    pub connection: ConnectionId,
    pub encoding: Encoding,
    pub outbox: Arc<Outbox>,
}

enum GroupAddress {
    Room(Addr<Room>),
    User(Addr<User>),
    Namespace(Addr<Group<Namespace>>),
}

impl Waiting {
    /// It is a member already, and only wants to know where it stands.
    pub fn is_known(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| resume.is_known)
    }
}

impl Hall {
    fn seat(&mut self, worker: usize) -> Option<&mut Seat> {
        self.seats.get_mut(worker)?.as_mut()
    }

    /// The group on this worker, started if there is none. True if it was started.
    pub fn prepare(&mut self, worker: &Worker, target: &Target, options: GroupOptions) -> bool {
        if self.seats.len() <= worker.index {
            self.seats.resize_with(worker.index + 1, || None);
        }
        let seat = &mut self.seats[worker.index];
        let is_new = seat.is_none();
        seat.get_or_insert_with(|| Seat {
            missed: Arc::clone(&options.missed),
            group: GroupAddress::start(worker, target, options),
            members: 0,
            empty_since: None,
            opening: Some(Opening::default()),
        });
        is_new
    }

    /// Takes a connection in, at once if the subscription is confirmed, else when it is. `is_known`: it is counted already.
    /// Returns it if it is to resume now.
    pub fn enter(&mut self, worker: usize, is_known: bool, waiting: Waiting) -> Option<Waiting> {
        let seat = self.seat(worker)?;
        seat.members += usize::from(!is_known);
        seat.empty_since = None;
        match &mut seat.opening {
            Some(opening) => {
                opening.waiting.push(waiting);
                None
            }
            None => seat.admit(waiting),
        }
    }

    /// True if a connection waits for the broker here.
    pub fn is_waiting(&self, worker: usize) -> bool {
        let opening = self.seats.get(worker).and_then(Option::as_ref).and_then(|seat| seat.opening.as_ref());
        opening.is_some_and(|opening| !opening.waiting.is_empty())
    }

    pub fn feed(&mut self, worker: usize) -> Option<Feed> {
        let seat = self.seat(worker)?;
        let missed = Arc::clone(&seat.missed);
        Some(Feed { worker, deliver_to: seat.group.deliver_to(), missed, account_to: seat.group.account_to() })
    }

    /// The workers that have a group.
    pub fn workers(&self) -> Vec<usize> {
        self.seats.iter().enumerate().filter(|(_, seat)| seat.is_some()).map(|(worker, _)| worker).collect()
    }

    pub fn has_group(&self, worker: usize) -> bool {
        self.seats.get(worker).is_some_and(Option::is_some)
    }

    /// True if the group on this worker is the one that this feed leads to, and not a later one.
    pub fn is_fed_by(&self, feed: &Feed) -> bool {
        let seat = self.seats.get(feed.worker).and_then(Option::as_ref);
        seat.is_some_and(|seat| Arc::ptr_eq(&seat.missed, &feed.missed))
    }

    /// The broker has confirmed. Returns those who were told before, and those who are let in now.
    pub fn open(&mut self, worker: usize) -> (Vec<ConnectionId>, Admitted) {
        let Some(seat) = self.seat(worker) else { return Default::default() };
        let Some(opening) = seat.opening.take() else { return Default::default() };
        (opening.unproven, seat.admit_all(opening.waiting))
    }

    /// Waiting any longer is worse than listening unproven.
    pub fn admit_unproven(&mut self, worker: usize) -> Admitted {
        let Some(seat) = self.seat(worker) else { return Admitted::default() };
        let Some(opening) = &mut seat.opening else { return Admitted::default() };
        let waiting = std::mem::take(&mut opening.waiting);
        opening.unproven.extend(waiting.iter().map(|waiting| waiting.place.connection));
        seat.admit_all(waiting)
    }

    /// Says something to the group of a worker.
    pub fn order<M>(&self, worker: usize, order: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Room: Handler<M>,
        User: Handler<M>,
        Group<Namespace>: Handler<M>,
    {
        if let Some(seat) = self.seats.get(worker).and_then(Option::as_ref) {
            seat.group.order(order);
        }
    }

    /// The broker will not have it: the group ends, so that the next who joins asks anew. Those who wait are answered.
    pub fn refuse(&mut self, worker: usize, error: &BrokerError) -> Refused {
        let seat = self.seats.get_mut(worker).and_then(Option::take);
        let Opening { waiting, unproven } = seat.and_then(|seat| seat.opening).unwrap_or_default();
        let turned_away = waiting.into_iter().map(|waiting| {
            // The connection may have ended meanwhile.
            let _ = waiting.answer.send(Err(error.clone().into()));
            waiting.place.connection
        });
        Refused { turned_away: turned_away.collect(), unproven }
    }

    /// True when nobody is left on this worker.
    pub fn leave(&mut self, worker: usize, order: RemoveMember) -> bool {
        let connection = order.connection;
        let Some(seat) = self.seat(worker) else { return false };
        if let Some(opening) = &mut seat.opening {
            // The group knows whom it was told of, and says the farewell.
            let is_known = opening.unproven.contains(&connection);
            opening.unproven.retain(|known| *known != connection);
            let mut unknown = None;
            for waiting in opening.waiting.extract_if(.., |waiting| waiting.place.connection == connection) {
                let _ = waiting.answer.send(Err(left_before_joined()));
                unknown = Some(waiting.place.outbox).filter(|_| !is_known);
            }
            if let (Some(outbox), Some(farewell)) = (unknown, &order.farewell) {
                outbox.push_control(farewell.clone());
            }
        }
        seat.group.order(order);
        seat.members = seat.members.saturating_sub(1);
        if seat.members == 0 {
            seat.empty_since = Some(Instant::now());
        }
        seat.members == 0
    }

    /// Ends the group of a worker where nobody has been for so long. True if it did.
    pub fn retire(&mut self, worker: usize, linger: Duration) -> bool {
        let is_deserted = self.seat(worker).is_some_and(|seat| seat.empty_since.is_some_and(|since| since.elapsed() >= linger));
        if is_deserted {
            self.seats[worker] = None;
        }
        is_deserted
    }

    /// A member moved from polling to a WebSocket.
    pub fn change_carrier(&mut self, worker: usize, order: ChangeCarrier) {
        let Some(seat) = self.seat(worker) else { return };
        let waiting = seat.opening.iter_mut().flat_map(|opening| &mut opening.waiting);
        waiting.filter(|waiting| waiting.place.connection == order.connection).for_each(|waiting| {
            waiting.place.encoding.change_carrier(order.carrier);
        });
        seat.group.order(order);
    }

    pub fn is_closed(&self) -> bool {
        self.seats.iter().all(Option::is_none)
    }

    pub fn members(&self) -> usize {
        self.seats.iter().flatten().map(|seat| seat.members).sum()
    }

    pub fn announce(&self, reply: &Reply) {
        self.seats.iter().flatten().for_each(|seat| seat.group.order(Announce(reply.clone())));
    }
}

/// Why a join came to nothing that its own client overtook.
pub(super) fn left_before_joined() -> Refusal {
    Refusal::new(ErrorCode::NotJoined, "the room was left before it was joined")
}

impl Seat {
    fn admit_all(&self, waiting: Vec<Waiting>) -> Admitted {
        let mut admitted = Admitted::default();
        for waiting in waiting {
            let connection = waiting.place.connection;
            match self.admit(waiting) {
                Some(waiting) => admitted.resuming.push(waiting),
                None => admitted.entered.push(connection),
            }
        }
        admitted
    }

    /// Makes it a member; one that is to resume is held, and returned.
    fn admit(&self, waiting: Waiting) -> Option<Waiting> {
        let Place { connection, encoding, outbox } = waiting.place.clone();
        if let Some(resume) = &waiting.resume {
            if !resume.is_known {
                self.group.order(Hold { connection, encoding, outbox });
            }
            return Some(waiting);
        }
        self.group.order(AddMember { connection, encoding, outbox, greeting: waiting.greeting, answer: Some(waiting.answer) });
        None
    }
}

/// Membership is ordered once per cause and must not be lost, so these pass the mailbox whatever its capacity; their number is
/// bounded by the connections.
#[expect(clippy::disallowed_methods, reason = "see above")]
impl GroupAddress {
    fn start(worker: &Worker, target: &Target, options: GroupOptions) -> Self {
        match target.clone() {
            Target::Room(name) => Self::Room(Room::start_in_arbiter(&worker.arbiter, |_| Group::new(name, options))),
            Target::User(name) => Self::User(User::start_in_arbiter(&worker.arbiter, |_| Group::new(name, options))),
            Target::Namespace(name) => Self::Namespace(Group::start_in_arbiter(&worker.arbiter, |_| Group::new(name, options))),
        }
    }

    fn deliver_to(&self) -> Recipient<Deliver> {
        match self {
            Self::Room(room) => room.clone().recipient(),
            Self::User(user) => user.clone().recipient(),
            Self::Namespace(namespace) => namespace.clone().recipient(),
        }
    }

    fn account_to(&self) -> Recipient<AccountForMissed> {
        match self {
            Self::Room(room) => room.clone().recipient(),
            Self::User(user) => user.clone().recipient(),
            Self::Namespace(namespace) => namespace.clone().recipient(),
        }
    }

    fn order<M>(&self, order: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Room: Handler<M>,
        User: Handler<M>,
        Group<Namespace>: Handler<M>,
    {
        match self {
            Self::Room(room) => room.do_send(order),
            Self::User(user) => user.do_send(order),
            Self::Namespace(namespace) => namespace.do_send(order),
        }
    }
}
