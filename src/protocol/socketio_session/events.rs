//! What a client's events mean here: `subscribe` and `unsubscribe` are about rooms, `callboard:token` renews the grant, any
//! other is a publish to the room that its first argument names.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{NamespacedEvent, Outcome, Session, calls::Answer, memberships::Obstacle, ticket::Ticket};
use crate::protocol::{
    command::{Command, ErrorCode},
    event::{Argument, Event},
    names::{EventName, RoomName},
    socketio::{ClientEvent, Namespace, is_reserved},
    socketio_legacy,
};

/// The event whose argument is a new token. A room could not have it: what begins so is the hub's.
const TOKEN_EVENT: &str = "callboard:token";
/// The event that tells of an error where no answer was asked for.
const ERROR_EVENT: &str = "callboard:error";

#[derive(Clone, Copy)]
enum Change {
    Join,
    Leave,
}

/// Why an event leads to nothing.
struct Refused {
    code: ErrorCode,
    message: String,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Session {
    /// Turns a client's event into commands; their replies go to [`Session::reply`].
    pub fn perform(&mut self, event: NamespacedEvent) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(id) = event.arrival {
            let packet = socketio_legacy::arrival(&event.namespace.as_str()[1..], id);
            outcome.packets.push(socketio_legacy::ready(self.spelling.carrier, &packet));
        }
        match &*event.event.name {
            "subscribe" => self.change_rooms(&event, Change::Join, &mut outcome),
            "unsubscribe" => self.change_rooms(&event, Change::Leave, &mut outcome),
            TOKEN_EVENT => self.renew(&event, &mut outcome),
            _ => self.publish(event, &mut outcome),
        }
        outcome
    }

    fn change_rooms(&mut self, event: &NamespacedEvent, change: Change, outcome: &mut Outcome) {
        let NamespacedEvent { namespace, socket, event: ClientEvent { arguments, ack, name, .. }, .. } = event;
        if arguments.is_empty() {
            let refused = Refused::new(ErrorCode::BadRequest, format!("{name} names no room"));
            return outcome.packets.extend(self.refuse_event(namespace, *ack, &refused));
        }
        let call = match self.open_call(*socket, *ack, arguments.len()) {
            Ok(call) => call,
            Err(refused) => return outcome.packets.extend(self.refuse_event(namespace, *ack, &refused)),
        };
        for argument in arguments {
            match self.ask(namespace, *socket, argument) {
                Ok(room) => {
                    let command = self.command(change, room, *socket, call);
                    outcome.commands.push(command);
                }
                Err(refused) => outcome.packets.extend(self.fail(namespace, call, &refused)),
            }
        }
    }

    fn ask(&mut self, namespace: &Namespace, socket: u32, argument: &Argument) -> Result<RoomName, Refused> {
        let room = room_argument(namespace, argument)?;
        match self.memberships.ask(&room, socket, self.limits.rooms) {
            Ok(()) => Ok(room),
            Err(Obstacle::OtherNamespace) => {
                Err(Refused::new(ErrorCode::BadRequest, format!("room {room} is joined by another namespace of this connection")))
            }
            Err(Obstacle::TooMany) => {
                Err(Refused::new(ErrorCode::TooManyRooms, format!("a connection has at most {} rooms", self.limits.rooms)))
            }
        }
    }

    fn renew(&mut self, event: &NamespacedEvent, outcome: &mut Outcome) {
        let NamespacedEvent { namespace, socket, event: ClientEvent { arguments, ack, .. }, .. } = event;
        let token = arguments.first().and_then(|argument| serde_json::from_str::<Box<str>>(&argument.to_json()).ok());
        let Some(token) = token else {
            let refused = Refused::new(ErrorCode::BadRequest, format!("{TOKEN_EVENT} brings no token"));
            return outcome.packets.extend(self.refuse_event(namespace, *ack, &refused));
        };
        let call = match self.open_call(*socket, *ack, 1) {
            Ok(call) => call,
            Err(refused) => return outcome.packets.extend(self.refuse_event(namespace, *ack, &refused)),
        };
        let reference = Ticket { socket: *socket, call, room: None }.reference();
        outcome.commands.push(Command::Token { token, reference });
    }

    fn command(&mut self, change: Change, room: RoomName, socket: u32, call: Option<u32>) -> Command {
        let reference = Ticket { socket, call, room: Some(room.as_str()) }.reference();
        match change {
            Change::Join => Command::Join { since: self.sockets.last_seen(socket, &room, self.limits.rooms), room, reference },
            Change::Leave => Command::Leave { room, reference },
        }
    }

    fn publish(&mut self, event: NamespacedEvent, outcome: &mut Outcome) {
        let NamespacedEvent { namespace, socket, event, .. } = event;
        let ack = event.ack;
        let (room, event) = match publication(&namespace, event) {
            Ok(publication) => publication,
            Err(refused) => return outcome.packets.extend(self.refuse_event(&namespace, ack, &refused)),
        };
        let call = match self.open_call(socket, ack, 1) {
            Ok(call) => call,
            Err(refused) => return outcome.packets.extend(self.refuse_event(&namespace, ack, &refused)),
        };
        let reference = Ticket { socket, call, room: None }.reference();
        outcome.commands.push(Command::Publish { room, event, reference });
    }

    /// None where the client waits for no answer.
    fn open_call(&mut self, socket: u32, ack: Option<u64>, replies: usize) -> Result<Option<u32>, Refused> {
        let Some(ack) = ack else { return Ok(None) };
        let too_many = || Refused::new(ErrorCode::RateLimited, "too many answers are awaited already");
        self.calls.open(socket, ack, replies).map(Some).ok_or_else(too_many)
    }

    /// One of a call's commands failed before it was one.
    fn fail(&mut self, namespace: &Namespace, call: Option<u32>, refused: &Refused) -> Option<Bytes> {
        match call {
            None => Some(self.error_event(namespace, refused.code, &refused.message)),
            Some(call) => self.settle(call, Answer::error(refused.code, &refused.message)),
        }
    }

    fn refuse_event(&self, namespace: &Namespace, ack: Option<u64>, refused: &Refused) -> Option<Bytes> {
        let answer = Answer::error(refused.code, &refused.message);
        Some(match ack {
            None => self.error_event(namespace, refused.code, &refused.message),
            Some(id) => self.spelling.ack(&namespace.as_str()[1..], id, answer.as_str()),
        })
    }

    pub(super) fn error_event(&self, namespace: &Namespace, code: ErrorCode, message: &str) -> Bytes {
        let argument = serde_json::json!({ "code": code.as_str(), "message": message }).to_string();
        self.spelling.event(&namespace.as_str()[1..], ERROR_EVENT, &[argument])
    }
}

fn publication(namespace: &Namespace, event: ClientEvent) -> Result<(RoomName, Event), Refused> {
    let ClientEvent { name, arguments, attachments, .. } = event;
    if is_reserved(&name) {
        return Err(Refused::new(ErrorCode::EventNameInvalid, format!("event name {name} is reserved")));
    }
    let name = EventName::parse(&name).map_err(|error| Refused::new(ErrorCode::EventNameInvalid, format!("event name {error}")))?;
    let mut arguments = arguments.into_iter();
    let first = arguments.next().ok_or_else(|| Refused::new(ErrorCode::BadRequest, format!("event {name} names no room")))?;
    let room = room_argument(namespace, &first)?;
    let event = Event { name, arguments: arguments.collect::<SmallVec<_>>(), attachments, id: None };
    Ok((room, event))
}

fn room_argument(namespace: &Namespace, argument: &Argument) -> Result<RoomName, Refused> {
    let name: String =
        serde_json::from_str(&argument.to_json()).map_err(|_| Refused::new(ErrorCode::RoomNameInvalid, "room name is no string"))?;
    namespace.hub_room(&name).map_err(|error| Refused::new(ErrorCode::RoomNameInvalid, format!("room name {error}")))
}
