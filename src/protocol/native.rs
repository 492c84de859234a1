//! The native WebSocket: one JSON object per text frame.

use bytes::Bytes;

use super::publication::Publication;

/// One event as a complete WebSocket text frame.
pub fn event_frame(_publication: &Publication) -> Bytes {
    Bytes::new()
}
