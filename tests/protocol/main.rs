//! The words and wires of `callboard::protocol`, from outside: bytes in, values out, and back.

mod native;
mod sse;
mod websocket;
