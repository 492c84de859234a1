//! What the conformance suite of Socket.IO expects of the server under test, behind `--conformance`: two namespaces that say
//! what they were connected with and return events and acks.

use bytes::Bytes;

use super::{
    socketio::{Namespace, Spelling},
    socketio_session::{ConnectRequest, NamespacedEvent},
};

pub fn knows(namespace: &Namespace) -> bool {
    matches!(namespace.as_str(), "/" | "/custom")
}

/// What follows the connected packet.
pub fn greeting(spelling: Spelling, request: &ConnectRequest) -> Bytes {
    let auth = request.auth.as_deref().map_or("{}", |auth| auth.get());
    spelling.event(&request.namespace.as_str()[1..], "auth", &[auth])
}

/// The answer to one event.
pub fn answer(spelling: Spelling, event: &NamespacedEvent) -> Option<Bytes> {
    let namespace = &event.namespace.as_str()[1..];
    let arguments: Vec<_> = event.event.arguments.iter().map(|argument| argument.to_json()).collect();
    let attachments = &event.event.attachments;
    match (&*event.event.name, event.event.ack) {
        ("message", _) if attachments.is_empty() => Some(spelling.event(namespace, "message-back", &arguments)),
        ("message", _) => Some(spelling.binary_event(namespace, "message-back", &arguments, attachments)),
        ("message-with-ack", Some(id)) if attachments.is_empty() => Some(spelling.ack(namespace, id, &arguments.join(","))),
        ("message-with-ack", Some(id)) => Some(spelling.binary_ack(namespace, id, &arguments.join(","), attachments)),
        _ => None,
    }
}
