//! The words and wires of `callboard::protocol`, from outside: bytes in, values out, and back.

mod dialects;
mod engineio;
mod native;
mod resume;
mod socketio;
mod socketio_legacy;
mod socketio_session;
mod sources;
mod sse;
mod websocket;
