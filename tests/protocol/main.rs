//! The wires and words of the protocol folder, seen from outside: vectors and properties.

mod engineio;
mod socketio;
mod socketio_legacy;
mod socketio_session;
