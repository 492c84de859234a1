//! The wire of one Socket.IO connection: what its frames and posts mean, on either carrier, and what it is told. The dialogue
//! itself is [`super::socketio_session`]'s; sockets, polls and identities are the caller's.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    close::CloseReason,
    command::Reply,
    engineio::{Carrier, Packet, PacketError, Version, polling},
    names::RoomName,
    publication::Encoding,
    socketio::{Namespace, Revision},
    socketio_echo, socketio_legacy,
    socketio_session::{ConnectRequest, Departure, Limits, Received as SessionReceived, Session, SessionError, Terms},
    websocket::{self, Decoder, Message},
    wire::Received,
};

/// What becomes of a client's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Hub,
    /// Messages of Engine.IO come back: for its conformance suites.
    EngineEcho,
    /// Events come back as the suite of Socket.IO expects.
    SocketEcho,
}

/// The body of a client's POST.
#[derive(Debug, Clone, Copy)]
pub enum Post<'a> {
    Text(&'a str),
    /// Engine.IO 3, `application/octet-stream`.
    Octets(&'a [u8]),
}

#[derive(Debug)]
pub struct SocketIoWire {
    session: Session,
    decoder: Decoder,
    manner: Manner,
}

impl SocketIoWire {
    /// `max_message` bounds a frame of the client.
    pub fn new(revision: Revision, carrier: Carrier, limits: Limits, max_message: usize, manner: Manner) -> Self {
        Self { session: Session::new(revision, carrier, limits), decoder: Decoder::new(max_message), manner }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn manner(&self) -> Manner {
        self.manner
    }

    pub fn is_polling(&self) -> bool {
        self.session.spelling().carrier == Carrier::Polling
    }

    fn revision(&self) -> Revision {
        self.session.spelling().revision
    }

    /// Engine.IO's version; the first protocol has none.
    fn version(&self) -> Option<Version> {
        match self.revision() {
            Revision::V5 => Some(Version::V4),
            Revision::V4 => Some(Version::V3),
            Revision::V1 => None,
        }
    }

    // ---- what the client says ------------------------------------------------------------------------------------------

    /// Reads what came on the WebSocket, however it was cut into pieces.
    pub fn receive(&mut self, mut input: &[u8], out: &mut Vec<Received>) {
        loop {
            match self.decoder.decode(&mut input) {
                Ok(Some(message)) => self.receive_message(message, out),
                Ok(None) => return,
                Err(reason) => self.give_up(reason, out),
            }
            if matches!(out.last(), Some(Received::Close(..))) {
                return;
            }
        }
    }

    fn receive_message(&mut self, message: Message, out: &mut Vec<Received>) {
        match (message, self.version()) {
            (Message::Ping(payload), _) => out.push(Received::Answer(websocket::pong(&payload))),
            (Message::Pong(_), _) => {}
            (Message::Close(code, _), _) => out.push(Received::Close(CloseReason::Gone, Some(websocket::close_echo(code)))),
            (Message::Text(text), Some(version)) => self.receive_packet(version, Packet::from_text(version, &text), out),
            (Message::Binary(data), Some(version)) => self.receive_packet(version, Packet::from_binary(version, data), out),
            (Message::Text(text), None) => self.receive_legacy(&text, out),
            (Message::Binary(_), None) => self.give_up(CloseReason::ProtocolError, out),
        }
    }

    /// Reads a POST.
    pub fn receive_post(&mut self, post: Post<'_>, out: &mut Vec<Received>) {
        match (post, self.version()) {
            (Post::Text(text), Some(version)) => {
                for packet in polling::read(version, text) {
                    self.receive_packet(version, packet, out);
                    if matches!(out.last(), Some(Received::Close(..))) {
                        return;
                    }
                }
            }
            (Post::Octets(octets), Some(Version::V3)) => {
                for packet in polling::read_octets(octets) {
                    self.receive_packet(Version::V3, packet, out);
                    if matches!(out.last(), Some(Received::Close(..))) {
                        return;
                    }
                }
            }
            (Post::Text(text), None) => self.receive_legacy(text, out),
            (Post::Octets(_), _) => self.give_up(CloseReason::ProtocolError, out),
        }
    }

    fn receive_packet(&mut self, version: Version, packet: Result<Packet<'_>, PacketError>, out: &mut Vec<Received>) {
        let Ok(packet) = packet else { return self.give_up(CloseReason::ProtocolError, out) };
        if self.manner == Manner::EngineEcho && matches!(packet, Packet::Text(_) | Packet::Binary(_)) {
            return out.push(Received::Answer(packet.ready(version, self.session.spelling().carrier)));
        }
        let received = self.session.receive(packet);
        self.act(received, out);
    }

    fn receive_legacy(&mut self, payload: &str, out: &mut Vec<Received>) {
        for packet in socketio_legacy::read(payload) {
            let Ok(packet) = packet else { return self.give_up(CloseReason::ProtocolError, out) };
            let received = self.session.receive_legacy(packet);
            self.act(received, out);
            if matches!(out.last(), Some(Received::Close(..))) {
                return;
            }
        }
    }

    fn act(&mut self, received: Result<SessionReceived, SessionError>, out: &mut Vec<Received>) {
        match received {
            Err(error) => self.give_up(error.close_reason(), out),
            Ok(SessionReceived::Nothing) => {}
            Ok(SessionReceived::Send(bytes)) => out.push(Received::Answer(bytes)),
            Ok(SessionReceived::Connect(request)) if self.manner == Manner::SocketEcho => match socketio_echo::knows(&request.namespace) {
                true => out.push(Received::Namespace(request)),
                false => out.extend(self.refuse(&request.namespace, "Invalid namespace", None).map(Received::Answer)),
            },
            Ok(SessionReceived::Connect(request)) => out.push(Received::Namespace(request)),
            Ok(SessionReceived::Event(event)) if self.manner == Manner::SocketEcho => {
                out.extend(socketio_echo::answer(self.session.spelling(), &event).map(Received::Answer));
            }
            Ok(SessionReceived::Event(event)) => {
                let outcome = self.session.perform(event);
                out.extend(outcome.packets.into_iter().map(Received::Answer));
                out.extend(outcome.commands.into_iter().map(Received::Command));
            }
            Ok(SessionReceived::Left(departure)) => depart(departure, out),
            Ok(SessionReceived::Closed) => out.push(Received::Close(CloseReason::Gone, Some(self.parting(CloseReason::Gone)))),
        }
    }

    fn give_up(&self, reason: CloseReason, out: &mut Vec<Received>) {
        out.push(Received::Close(reason, Some(self.parting(reason))));
    }

    /// The end of the transport: a close frame, or what ends the poll that waits.
    fn parting(&self, reason: CloseReason) -> Bytes {
        let carrier = self.session.spelling().carrier;
        match (carrier, self.version()) {
            (Carrier::WebSocket, _) => websocket::close(reason.code(), reason.text()),
            // The client has closed already: its poll has nothing more to say.
            (Carrier::Polling, Some(version)) if reason == CloseReason::Gone => Packet::Noop.ready(version, carrier),
            (Carrier::Polling, Some(version)) => Packet::Close.ready(version, carrier),
            (Carrier::Polling, None) if reason == CloseReason::Gone => socketio_legacy::ready(carrier, socketio_legacy::NOOP),
            (Carrier::Polling, None) => socketio_legacy::ready(carrier, socketio_legacy::RECONNECT),
        }
    }

    // ---- what it is told -----------------------------------------------------------------------------------------------

    /// Connects a namespace that asked for it.
    pub fn accept(&mut self, request: &ConnectRequest, sid: &str, terms: Terms) -> SmallVec<[Bytes; 2]> {
        let accepted = self.session.accept(&request.namespace, sid, terms);
        let is_accepted = accepted.is_some();
        let mut packets: SmallVec<[Bytes; 2]> = accepted.into_iter().collect();
        if is_accepted && self.manner == Manner::SocketEcho {
            packets.push(socketio_echo::greeting(self.session.spelling(), request));
        }
        packets
    }

    /// What the client said on a namespace before that was accepted.
    pub fn catch_up(&mut self, namespace: &Namespace, out: &mut Vec<Received>) {
        while let Some(received) = self.session.next_early(namespace) {
            self.act(Ok(received), out);
        }
    }

    /// The application disconnects a namespace.
    pub fn quit(&mut self, namespace: &Namespace, out: &mut Vec<Received>) {
        if let Some((packet, departure)) = self.session.quit(namespace) {
            depart(departure, out);
            out.push(Received::Answer(packet));
        }
    }

    /// A namespace is in a room again.
    pub fn restore(&mut self, namespace: &Namespace, room: &RoomName) {
        self.session.restore(namespace, room);
    }

    pub fn refuse(&mut self, namespace: &Namespace, message: &str, data: Option<&serde_json::Value>) -> Option<Bytes> {
        self.session.refuse(namespace, message, data)
    }

    pub fn reply(&mut self, reply: &Reply) -> SmallVec<[Bytes; 2]> {
        self.session.reply(reply)
    }

    pub fn announce_move(&self, reply: &Reply) -> Option<Bytes> {
        self.session.announce_move(reply)
    }

    pub fn settle_move(&mut self, reply: &Reply) -> Option<Bytes> {
        self.session.settle_move(reply)
    }

    pub fn encoding(&self, room: &RoomName) -> Encoding {
        self.session.encoding(room)
    }

    /// The last packets, and the end of the transport.
    pub fn goodbye(&self, reason: CloseReason) -> SmallVec<[Bytes; 2]> {
        let mut packets = self.session.goodbye(reason);
        match self.session.spelling().carrier {
            Carrier::WebSocket => packets.push(websocket::close(reason.code(), reason.text())),
            Carrier::Polling if packets.is_empty() => packets.push(self.parting(reason)),
            Carrier::Polling => {}
        }
        packets
    }

    // ---- the move to another carrier -----------------------------------------------------------------------------------

    /// From now on a WebSocket carries the connection.
    pub fn move_to_web_socket(&mut self) {
        self.session.carry_by(Carrier::WebSocket);
    }

    /// Turns what was spelled for a poll into frames; what is a frame already stays.
    pub fn respell(&self) -> fn(&Bytes) -> Bytes {
        match self.revision() {
            Revision::V5 => |bytes| framed(bytes, |unit| polling::frames(Version::V4, std::slice::from_ref(unit))),
            Revision::V4 => |bytes| framed(bytes, |unit| polling::frames(Version::V3, std::slice::from_ref(unit))),
            Revision::V1 => |bytes| framed(bytes, socketio_legacy::frames),
        }
    }
}

fn depart(Departure { namespace, leaves }: Departure, out: &mut Vec<Received>) {
    out.extend(leaves.into_iter().map(Received::Due));
    out.extend(namespace.map(Received::NamespaceLeft));
}

/// A frame's first byte has the FIN bit and an opcode. A unit starts with a digit or a letter, or in protocol 1 with the
/// first byte of U+FFFD.
fn framed(bytes: &Bytes, frames: impl Fn(&Bytes) -> Vec<Bytes>) -> Bytes {
    const MARK: u8 = 0xef;
    match bytes.first() {
        Some(first) if first & 0x80 == 0 || *first == MARK => match &mut frames(bytes)[..] {
            [only] => std::mem::take(only),
            several => Bytes::from(several.concat()),
        },
        _ => bytes.clone(),
    }
}

/// A ping of the server to a connection that starts on this carrier; empty where the client pings. A connection that moves
/// has it spelled anew.
pub const fn ping(revision: Revision, carrier: Carrier) -> &'static [u8] {
    match (revision, carrier) {
        (Revision::V5, Carrier::Polling) => b"2",
        (Revision::V5, Carrier::WebSocket) => &[0x81, 1, b'2'],
        (Revision::V1, _) => "\u{fffd}3\u{fffd}2::".as_bytes(),
        (Revision::V4, _) => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spelled_for_a_poll_becomes_frames_and_frames_stay() {
        let limits = Limits { attachment_bytes: 100, rooms: 8 };
        let wire = |revision| SocketIoWire::new(revision, Carrier::Polling, limits, 100, Manner::Hub);
        let frame = websocket::text("42[\"a\"]");
        for (revision, unit) in [
            (Revision::V5, Bytes::from_static(b"42[\"a\"]")),
            (Revision::V4, Bytes::from_static(b"7:42[\"a\"]")),
            (Revision::V1, socketio_legacy::ready(Carrier::Polling, "42[\"a\"]")),
        ] {
            let respell = wire(revision).respell();
            assert_eq!(respell(&unit), frame, "{revision:?}");
            assert_eq!(respell(&frame), frame, "{revision:?}");
        }
        let binary = Bytes::from_static("451-[\"a\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID".as_bytes());
        let expected = [websocket::text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]"), websocket::binary(&[1, 2, 3])].concat();
        assert_eq!(wire(Revision::V5).respell()(&binary), expected);
    }
}
