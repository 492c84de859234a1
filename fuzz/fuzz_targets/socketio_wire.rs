//! A whole connection of each revision: frames cut anywhere mean the same, posts of any kind are taken or refused, and what
//! asks for a namespace gets it, so that the packets behind it are read too.
#![no_main]

use callboard::protocol::{
    engineio::Carrier,
    socketio::Revision,
    socketio_session::{Limits, Terms},
    socketio_wire::{Manner, Post, SocketIoWire},
    wire::Received,
};
use libfuzzer_sys::fuzz_target;

fn wire(number: u8, carrier: Carrier) -> SocketIoWire {
    let revision = [Revision::V1, Revision::V4, Revision::V5][usize::from(number) % 3];
    SocketIoWire::new(revision, carrier, Limits { attachment_bytes: 1024, rooms: 4 }, 1024, Manner::Hub)
}

/// Accepts what asks. False at the end of the connection.
fn act(wire: &mut SocketIoWire, received: &mut Vec<Received>) -> bool {
    received.drain(..).all(|received| {
        if let Received::Namespace(request) = &received {
            drop(wire.accept(request, "sid", Terms::default()));
        }
        !matches!(received, Received::Close(..))
    })
}

fuzz_target!(|input: (u8, u8, Vec<Vec<u8>>)| {
    let (number, cut, pieces) = input;
    let mut received = Vec::new();
    let mut polled = wire(number, Carrier::Polling);
    for piece in &pieces {
        let post = match std::str::from_utf8(piece) {
            Ok(text) if cut & 1 == 0 => Post::Text(text),
            _ => Post::Octets(piece),
        };
        polled.receive_post(post, &mut received);
        if !act(&mut polled, &mut received) {
            break;
        }
    }
    let bytes = pieces.concat();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    wire(number, Carrier::WebSocket).receive(&bytes, &mut whole);
    let mut carried = wire(number, Carrier::WebSocket);
    for chunk in bytes.chunks(usize::from(cut) + 1) {
        carried.receive(chunk, &mut parts);
        if matches!(parts.last(), Some(Received::Close(..))) {
            break;
        }
    }
    assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
});
