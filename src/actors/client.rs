//! One connection, as the registry knows it: who it is, where it is a member, and how it is told of things: by its outbox.

use std::sync::Arc;

use actix::Recipient;
use smallvec::SmallVec;

use super::{messages::Summon, outbox::Outbox, replay::Positions, worker::Worker};
use crate::{
    auth::Identity,
    protocol::{Encoding, RoomName, Target, resume::Point, socketio::Namespace},
};

/// One connection, as the registry knows it.
pub(super) struct Client {
    pub identity: Arc<Identity>,
    pub outbox: Arc<Outbox>,
    /// None where it does not hear its user's own events.
    pub user_encoding: Option<Encoding>,
    pub summon: Option<Recipient<Summon>>,
    pub worker: Arc<Worker>,
    /// Its user's own events come to it.
    pub has_user: bool,
    pub rooms: SmallVec<[RoomName; 2]>,
    /// Those of them whose presence counts it.
    pub present: SmallVec<[RoomName; 1]>,
    /// Those of Socket.IO whose every event it gets; none where no publisher may emit so.
    pub namespaces: Vec<Namespace>,
    /// Where it stood when it entered its first room with history.
    pub first: Option<Box<(RoomName, Option<Point>)>>,
    /// Where its stream stands, once that has several such rooms and its ids must cover them all.
    pub positions: Option<Arc<Positions>>,
}

impl Client {
    /// Notes that it enters; true if it was there already.
    pub fn note(&mut self, target: &Target) -> bool {
        match target {
            Target::User(_) => std::mem::replace(&mut self.has_user, true),
            Target::Room(room) if self.rooms.contains(room) => true,
            Target::Room(room) => {
                self.rooms.push(room.clone());
                false
            }
            Target::Namespace(namespace) if self.namespaces.contains(namespace) => true,
            Target::Namespace(namespace) => {
                self.namespaces.push(namespace.clone());
                false
            }
        }
    }

    /// Notes that it is there no more; false if it was not.
    pub fn forget(&mut self, target: &Target) -> bool {
        match target {
            Target::User(_) => std::mem::take(&mut self.has_user),
            Target::Room(room) => {
                let place = self.rooms.iter().position(|known| known == room);
                place.map(|place| self.rooms.remove(place)).is_some()
            }
            Target::Namespace(namespace) => {
                let place = self.namespaces.iter().position(|known| known == namespace);
                place.map(|place| self.namespaces.remove(place)).is_some()
            }
        }
    }

    /// Notes that presence counts it no more; false if it did not.
    pub fn withdraw(&mut self, room: &RoomName) -> bool {
        let place = self.present.iter().position(|known| known == room);
        place.map(|place| self.present.swap_remove(place)).is_some()
    }

    /// All whose events it gets.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let user = self.identity.user.clone().filter(|_| self.has_user);
        let namespaces = self.namespaces.iter().cloned().map(Target::Namespace);
        self.rooms.iter().cloned().map(Target::Room).chain(user.map(Target::User)).chain(namespaces)
    }

    /// True if it does by itself what the application orders.
    #[expect(clippy::disallowed_methods, reason = "once per order of the application, and it must not be lost")]
    pub fn summon(&self, order: Summon) -> bool {
        let Some(summon) = &self.summon else { return false };
        summon.do_send(order);
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::actors::{Connection, Outbox};

    /// Bytes of the three that each connection has. tokio rounds its task, which holds the `Connection`, up to 640: some 60 more
    /// bytes in it cost 128. See docs/decisions/fan-out.md before this is raised.
    #[test]
    fn what_every_connection_holds_stays_small() {
        assert!(size_of::<Connection>() <= 144, "a Connection has {} bytes", size_of::<Connection>());
        assert!(size_of::<Outbox>() <= 192, "an Outbox has {} bytes", size_of::<Outbox>());
        assert!(size_of::<super::Client>() <= 168, "a Client has {} bytes", size_of::<super::Client>());
    }
}
