//! Server-Sent Events (WHATWG HTML §9.2): the blocks of a stream.

use bytes::Bytes;

use super::publication::Publication;

/// One event as a block of the stream.
pub fn event_block(_publication: &Publication) -> Bytes {
    Bytes::new()
}
