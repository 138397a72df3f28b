//! Sending bulk bytes: chunks of a good size, as fast as the daemon takes them.

use bosun_protocol::limits::CHUNK_BYTES;
use bytes::Bytes;

/// Chunks buffered between a writer and the private thread; behind it the writer waits.
pub(crate) const CHUNKS_BUFFERED_MAX: usize = 4;

/// Cuts bytes into chunks that a message may carry. Shares the memory.
pub(crate) fn chunks(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        Some(bytes.split_to(bytes.len().min(CHUNK_BYTES)))
    })
}
