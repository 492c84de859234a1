//! What the hub says beside events, as packets.

use bytes::Bytes;
use serde_json::{Value, json};
use smallvec::{SmallVec, smallvec};

use super::{Session, calls::Answer, sockets::Socket, ticket::Ticket};
use crate::protocol::{
    command::{ErrorCode, GapReason, Reference, Reply},
    names::RoomName,
    socketio::{Namespace, encode::id_argument},
};

const GAP_EVENT: &str = "callboard:gap";
const PRESENCE_EVENT: &str = "callboard:presence";

/// The packets of one reply, ready to be sent in this order.
type Packets = SmallVec<[Bytes; 2]>;

impl Session {
    /// Takes a reply of the hub. A reply for a namespace that is gone has no packets.
    pub fn reply(&mut self, reply: &Reply) -> Packets {
        match reply {
            // The connected packet is the welcome here, and no command of this wire is answered with a pong.
            Reply::Welcome { .. } | Reply::Pong { .. } => Packets::new(),
            Reply::Joined { .. } | Reply::Left { .. } => self.moved(reply),
            Reply::Ack { id, reference } => {
                let call = Ticket::read(reference).and_then(|ticket| ticket.call);
                call.and_then(|call| self.settle(call, Answer::ok(id.as_deref()))).into_iter().collect()
            }
            Reply::Gap { rooms, user, reason, dropped } => self.gap(rooms, *user, *reason, *dropped),
            Reply::Presence { room, joined, left } => self.presence(room, json!({ "joined": joined, "left": left })),
            Reply::Error { code, message, reference } => self.error(*code, message, reference).into_iter().collect(),
        }
    }

    /// What tells the client that it joined or left a room. It may be said before the hub has answered, for the hub sends it
    /// on when it is true; then comes [`Self::settle_move`].
    pub fn announce_move(&self, reply: &Reply) -> Option<Bytes> {
        let (room, reference, event) = match reply {
            Reply::Joined { room, reference, .. } => (room, reference, "joined"),
            Reply::Left { room, reference } => (room, reference, "left"),
            _ => return None,
        };
        let socket = match Ticket::read(reference) {
            Some(ticket) => self.sockets.numbered(ticket.socket),
            None => self.owner_of(room),
        };
        let socket = socket?;
        let (namespace, name) = seen_by(socket, room)?;
        Some(self.spelling.moved(namespace, event, name, socket.shows_ids.then(|| id_argument(None))))
    }

    /// Takes the hub's answer to a join or leave that was announced; the ack, if the client waits for one.
    pub fn settle_move(&mut self, reply: &Reply) -> Option<Bytes> {
        let (room, reference, is_joined) = match reply {
            Reply::Joined { room, reference, .. } => (room, reference, true),
            Reply::Left { room, reference } => (room, reference, false),
            _ => return None,
        };
        match Ticket::read(reference) {
            Some(ticket) => {
                self.memberships.answered(room.as_str(), ticket.socket, Some(is_joined));
                ticket.call.and_then(|call| self.settle(call, Answer::ok(None)))
            }
            None => {
                let owner = self.sockets.owner(room)?.number;
                self.memberships.moved(room, owner, is_joined);
                None
            }
        }
    }

    fn moved(&mut self, reply: &Reply) -> Packets {
        let announced = self.announce_move(reply);
        let settled = self.settle_move(reply);
        announced.into_iter().chain(settled).collect()
    }

    /// Takes one reply of a call; the ack when it was the last.
    pub(super) fn settle(&mut self, call: u32, answer: Answer) -> Option<Bytes> {
        let settled = self.calls.settle(call, answer)?;
        let socket = self.sockets.numbered(settled.socket)?;
        Some(self.spelling.ack(&socket.namespace.as_str()[1..], settled.ack, settled.answer.as_str()))
    }

    fn error(&mut self, code: ErrorCode, message: &str, reference: &Reference) -> Option<Bytes> {
        let Some(ticket) = Ticket::read(reference) else {
            let root = self.is_connected("/").then(Namespace::root)?;
            return Some(self.error_event(&root, code, message));
        };
        if let Some(room) = ticket.room {
            self.memberships.answered(room, ticket.socket, None);
        }
        match ticket.call {
            Some(call) => self.settle(call, Answer::error(code, message)),
            None => self.sockets.numbered(ticket.socket).map(|socket| self.error_event(&socket.namespace, code, message)),
        }
    }

    /// One notice for each namespace that has one of the rooms; the user's own events are the root namespace's.
    fn gap(&self, rooms: &[RoomName], user: bool, reason: GapReason, dropped: Option<u64>) -> Packets {
        // What was emitted to all of a namespace has no room to name.
        let is_everyones = rooms.is_empty() && !user;
        let notice = |socket: &Socket| {
            let rooms = rooms.iter().filter(|room| self.owner_of(room).is_some_and(|owner| owner.number == socket.number));
            let names: Vec<&str> = rooms.filter_map(|room| socket.namespace.client_room(room)).collect();
            let is_users = user && socket.namespace.is_root();
            if names.is_empty() && !is_users && !is_everyones {
                return None;
            }
            let mut notice = json!({ "rooms": names, "reason": reason.as_str() });
            if is_users {
                notice["user"] = true.into();
            }
            if let Some(dropped) = dropped {
                notice["dropped"] = dropped.into();
            }
            Some(self.spelling.event(&socket.namespace.as_str()[1..], GAP_EVENT, &[notice.to_string()]))
        };
        self.sockets.connected().filter_map(notice).collect()
    }

    fn presence(&self, room: &RoomName, mut notice: Value) -> Packets {
        let Some((namespace, name)) = self.owner_of(room).and_then(|socket| seen_by(socket, room)) else { return Packets::new() };
        notice["room"] = name.into();
        smallvec![self.spelling.event(namespace, PRESENCE_EVENT, &[notice.to_string()])]
    }

    /// The socket that a room is seen through.
    fn owner_of(&self, room: &RoomName) -> Option<&Socket> {
        let joined_by = self.memberships.socket(room).and_then(|number| self.sockets.numbered(number));
        joined_by.or_else(|| self.sockets.owner(room))
    }
}

/// The namespace without its slash, and what its clients call the room.
fn seen_by<'a>(socket: &'a Socket, room: &'a RoomName) -> Option<(&'a str, &'a str)> {
    Some((&socket.namespace.as_str()[1..], socket.namespace.client_room(room)?))
}
