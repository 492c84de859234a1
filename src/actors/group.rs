//! Room and User: the members of one room, or the connections of one user, on one worker thread. They own the membership there
//! and fan publications out to it.
//!
//! As many exist as workers have members of the room; the registry starts them on their worker's arbiter when the first member
//! joins there, and ends them by letting their address go some seconds after the last one left. A group that ends has no
//! members, so nothing is lost with it.
//!
//! What waits for a fan-out is bounded by `mailbox.room` or `mailbox.user` at both of its stages: what has arrived for the next
//! batch, and what stands in the mailbox while a batch is under way, which takes nothing out of it. For the mailbox actix adds
//! one place per sender that holds its address.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
};

use actix::{Actor, ActorFuture, ActorFutureExt, AsyncContext, Context, Handler, fut};

use super::{
    fan_out::{FanOut, Step},
    members::Member,
    messages::{AccountForMissed, AddMember, Announce, Answer, ChangeCarrier, Deliver, Greet, Hold, Release, RemoveMember, Track},
};
use crate::{
    config::Overflow,
    metrics::Metrics,
    protocol::{RoomName, Target, UserName},
};

/// The members of one room on one worker.
pub type Room = Group<RoomName>;
/// The connections of one user on one worker.
pub type User = Group<UserName>;

pub struct Group<N> {
    fan_out: FanOut,
    mailbox: usize,
    /// Publications that the full mailbox refused; the bridge adds.
    missed: Arc<AtomicU64>,
    name: std::marker::PhantomData<N>,
}

pub struct GroupOptions {
    /// `mailbox.room` or `mailbox.user`.
    pub mailbox: usize,
    pub overflow: Overflow,
    /// Shared with the bridge's [`Feed`](super::messages::Feed).
    pub missed: Arc<AtomicU64>,
    pub metrics: Metrics,
}

impl<N: Into<Target> + Unpin + 'static> Group<N> {
    pub fn new(name: N, options: GroupOptions) -> Self {
        let GroupOptions { mailbox, overflow, missed, metrics } = options;
        Self { fan_out: FanOut::new(name.into(), overflow, metrics), mailbox, missed, name: std::marker::PhantomData }
    }
}

impl<N: Unpin + 'static> Actor for Group<N> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.mailbox);
    }
}

/// Walks the members in slices. The context waits for it: meanwhile members neither come nor go, so that none is skipped or
/// met twice, and what is published waits in the mailbox, within its bound.
#[derive(Default)]
struct Walk {
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<N: Unpin + 'static> ActorFuture<Group<N>> for Walk {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, group: &mut Group<N>, _: &mut Context<Group<N>>, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match group.fan_out.step() {
                Step::Done => return Poll::Ready(()),
                // `yield_now` wakes after the I/O driver ran; waking ourselves would keep it from running for 61 turns.
                Step::More => self.pause = Some(Box::pin(tokio::task::yield_now())),
            }
        }
    }
}

impl<N: Unpin + 'static> Handler<Deliver> for Group<N> {
    type Result = ();

    fn handle(&mut self, delivery: Deliver, ctx: &mut Context<Self>) {
        let arrived = self.fan_out.arrive(delivery);
        if arrived >= self.mailbox {
            ctx.wait(Walk::default());
        } else if arrived == 1 {
            // actix empties the mailbox before it polls what was spawned, so a burst is one batch.
            ctx.spawn(fut::ready(()).map(|(), _: &mut Self, ctx: &mut Context<Self>| ctx.wait(Walk::default())));
        }
    }
}

impl<N: Unpin + 'static> Handler<AccountForMissed> for Group<N> {
    type Result = ();

    fn handle(&mut self, AccountForMissed: AccountForMissed, _: &mut Context<Self>) {
        self.fan_out.account_for(self.missed.swap(0, Ordering::AcqRel));
    }
}

/// Tells a connection that it is in. It may have ended meanwhile.
fn admit(answer: Option<Answer>) {
    answer.map(|answer| answer.send(Ok(())));
}

impl<N: Unpin + 'static> Handler<AddMember> for Group<N> {
    type Result = ();

    fn handle(&mut self, order: AddMember, _: &mut Context<Self>) {
        let AddMember { connection, encoding, outbox, greeting, answer } = order;
        if let Some(greeting) = greeting.and_then(|greeting| greeting.spell(encoding, None)) {
            outbox.push_control(greeting);
        }
        self.fan_out.members.add(Member::new(connection, encoding, outbox));
        admit(answer);
    }
}

impl<N: Unpin + 'static> Handler<Hold> for Group<N> {
    type Result = ();

    fn handle(&mut self, Hold { connection, encoding, outbox }: Hold, _: &mut Context<Self>) {
        self.fan_out.hold(Member::new(connection, encoding, outbox));
    }
}

impl<N: Unpin + 'static> Handler<Release> for Group<N> {
    type Result = ();

    fn handle(&mut self, mut order: Release, ctx: &mut Context<Self>) {
        let answer = order.answer.take();
        if self.fan_out.is_idle() {
            self.fan_out.release(order);
            admit(answer);
        } else {
            // What has arrived was kept for the member; only then is it one of those to whom the next batch goes.
            ctx.wait(Walk::default().map(move |(), group: &mut Self, _| {
                group.fan_out.release(order);
                admit(answer);
            }));
        }
    }
}

impl<N: Unpin + 'static> Handler<Greet> for Group<N> {
    type Result = ();

    fn handle(&mut self, Greet { connection, greeting, stands, answer }: Greet, _: &mut Context<Self>) {
        if let Some(member) = self.fan_out.member(connection) {
            member.greet(greeting, stands);
        }
        admit(Some(answer));
    }
}

impl<N: Unpin + 'static> Handler<Track> for Group<N> {
    type Result = ();

    fn handle(&mut self, Track { connection, positions }: Track, _: &mut Context<Self>) {
        self.fan_out.track(connection, positions);
    }
}

impl<N: Unpin + 'static> Handler<RemoveMember> for Group<N> {
    type Result = ();

    fn handle(&mut self, order: RemoveMember, _: &mut Context<Self>) {
        if let (Some(member), Some(farewell)) = (self.fan_out.remove(order.connection), order.farewell) {
            member.outbox.push_control(farewell);
        }
        drop(order.unsaid);
    }
}

impl<N: Unpin + 'static> Handler<ChangeCarrier> for Group<N> {
    type Result = ();

    fn handle(&mut self, order: ChangeCarrier, _: &mut Context<Self>) {
        self.fan_out.change_carrier(order.connection, order.carrier);
    }
}

impl<N: Unpin + 'static> Handler<Announce> for Group<N> {
    type Result = ();

    fn handle(&mut self, Announce(reply): Announce, _: &mut Context<Self>) {
        self.fan_out.announce(&reply);
    }
}
