//! What the hub says, in each revision and for each carrier: ready WebSocket frames, or units of a poll's body.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;
use smallvec::SmallVec;

use super::{MAX_ATTACHMENTS, Revision};
use crate::protocol::{
    engineio::{self, Carrier},
    publication::{Publication, Target},
    socketio_legacy,
};

/// How packets are written for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spelling {
    pub revision: Revision,
    pub carrier: Carrier,
}

/// Ready bytes of one event for all connections of a spelling. The namespace is that many leading bytes of the room's name;
/// a user's own events are the root namespace's. The last argument, where there is one, follows the event's own.
pub fn event_bytes(publication: &Publication, spelling: Spelling, namespace_length: u8, last: Option<String>) -> Bytes {
    let prefix = match &publication.target {
        Target::Room(room) => room.as_str().get(..usize::from(namespace_length)).unwrap_or_default(),
        Target::User(_) => "",
        Target::Namespace(namespace) => &namespace.as_str()[1..],
    };
    let event = &publication.event;
    let is_binary = (1..=MAX_ATTACHMENTS).contains(&event.attachments.len()) && spelling.revision != Revision::V1;
    let mut arguments: SmallVec<[Cow<'_, str>; 3]> = match is_binary {
        true => event.arguments.iter().map(|argument| argument.to_json()).collect(),
        false => event.json_arguments().into_iter().collect(),
    };
    arguments.extend(last.map(Cow::Owned));
    match is_binary {
        true => spelling.binary_event(prefix, event.name.as_str(), &arguments, &event.attachments),
        false => spelling.event(prefix, event.name.as_str(), &arguments),
    }
}

/// What a client that wants ids finds behind the arguments of each event. Null is no id: the one before still holds, and
/// socket.io-client, which takes any text in this place for an offset, keeps it.
pub fn id_argument(id: Option<&str>) -> String {
    Value::from(id).to_string()
}

impl Spelling {
    /// An event. Here and below, a namespace is named without its slash: empty for the root.
    pub fn event(self, namespace: &str, name: &str, arguments: &[impl AsRef<str>]) -> Bytes {
        match self.revision {
            Revision::V1 => self.legacy(&socketio_legacy::event(namespace, name, arguments)),
            _ => self.text(&format!("42{}{}", head(namespace), named_array(name, arguments))),
        }
    }

    /// An event of protocol 5 or 4 whose arguments hold placeholders, and the attachments after it.
    pub fn binary_event(self, namespace: &str, name: &str, arguments: &[impl AsRef<str>], attachments: &[Bytes]) -> Bytes {
        let packet = format!("45{}-{}{}", attachments.len(), head(namespace), named_array(name, arguments));
        self.with_attachments(&packet, attachments)
    }

    /// A client has joined a room, or left it.
    pub fn moved(self, namespace: &str, event: &str, room: &str, last: Option<String>) -> Bytes {
        let arguments: SmallVec<[String; 2]> = std::iter::once(Value::from(room).to_string()).chain(last).collect();
        self.event(namespace, event, &arguments)
    }

    /// The answer to a client's event: JSON text of the arguments, joined by commas.
    pub fn ack(self, namespace: &str, id: u64, arguments: &str) -> Bytes {
        match self.revision {
            Revision::V1 => self.legacy(&format!("6::{}:{id}+[{arguments}]", socketio_legacy::endpoint(namespace))),
            _ => self.text(&format!("43{}{id}[{arguments}]", head(namespace))),
        }
    }

    /// An answer of protocol 5 or 4 whose arguments hold placeholders, and the attachments after it.
    pub fn binary_ack(self, namespace: &str, id: u64, arguments: &str, attachments: &[Bytes]) -> Bytes {
        let packet = format!("46{}-{}{id}[{arguments}]", attachments.len(), head(namespace));
        self.with_attachments(&packet, attachments)
    }

    fn with_attachments(self, packet: &str, attachments: &[Bytes]) -> Bytes {
        let version = self.engine_version();
        let binary = attachments.iter().map(|data| engineio::ready_binary(version, self.carrier, data));
        let parts: SmallVec<[Bytes; 3]> = std::iter::once(self.text(packet)).chain(binary).collect();
        match self.carrier {
            Carrier::Polling => engineio::polling::join(version, &parts),
            Carrier::WebSocket => Bytes::from(parts.concat()),
        }
    }

    /// A namespace is connected; in protocol 5 its socket has this id, and another to recover by.
    pub fn connected(self, namespace: &str, sid: &str, pid: Option<&str>) -> Bytes {
        match self.revision {
            Revision::V1 => self.legacy(&format!("1::{}", socketio_legacy::endpoint(namespace))),
            Revision::V4 => self.text(&format!("40{}", head(namespace))),
            Revision::V5 => {
                let mut named = serde_json::json!({ "sid": sid });
                if let Some(pid) = pid {
                    named["pid"] = pid.into();
                }
                self.text(&format!("40{}{named}", head(namespace)))
            }
        }
    }

    /// A namespace is refused. Protocol 4 knows no message beside data, and the first one only its own reasons.
    pub fn refused(self, namespace: &str, message: &str, data: Option<&Value>) -> Bytes {
        let head = head(namespace);
        match (self.revision, data) {
            (Revision::V1, _) => self.legacy(&socketio_legacy::unauthorized(namespace)),
            (Revision::V4, Some(data)) => self.text(&format!("44{head}{data}")),
            (Revision::V4, None) => self.text(&format!("44{head}{}", Value::from(message))),
            (Revision::V5, Some(data)) => self.text(&format!("44{head}{}", serde_json::json!({ "message": message, "data": data }))),
            (Revision::V5, None) => self.text(&format!("44{head}{}", serde_json::json!({ "message": message }))),
        }
    }

    /// A namespace is disconnected by the server: the client does not come back by itself.
    pub fn disconnected(self, namespace: &str) -> Bytes {
        match self.revision {
            Revision::V1 => self.legacy(&format!("0::{}", socketio_legacy::endpoint(namespace))),
            _ => self.text(&format!("41{}", head(namespace))),
        }
    }

    /// The Engine.IO of the revision; of the first one, which has none, it is never asked.
    fn engine_version(self) -> engineio::Version {
        match self.revision {
            Revision::V5 => engineio::Version::V4,
            Revision::V4 | Revision::V1 => engineio::Version::V3,
        }
    }

    fn text(self, packet: &str) -> Bytes {
        engineio::ready_text(self.engine_version(), self.carrier, packet)
    }

    fn legacy(self, packet: &str) -> Bytes {
        socketio_legacy::ready(self.carrier, packet)
    }
}

/// The namespace's part of a packet.
fn head(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!("/{namespace},") }
}

fn named_array(name: &str, arguments: &[impl AsRef<str>]) -> String {
    let length = arguments.iter().map(|argument| argument.as_ref().len() + 1).sum::<usize>();
    let mut array = String::with_capacity(length + name.len() + 4);
    array.push('[');
    array.push_str(&Value::from(name).to_string());
    for argument in arguments {
        array.push(',');
        array.push_str(argument.as_ref());
    }
    array.push(']');
    array
}
