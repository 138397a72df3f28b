//! Limits of the wire that both ends must agree on. What one end limits on its own account stands in that crate.

/// Version of the protocol. It grows when a client could notice a difference that the schema does not show.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest message that the daemon reads, in bytes. Control messages are far below; bulk bytes come in chunks.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Largest message that a client reads, in bytes: a page of a list with one over-large record, or a chunk of bulk bytes.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Deepest nesting of pointers in a message. The supervision tree is the deepest thing sent: two pointers for each level.
pub const NESTING_MAX: i32 = 32;

/// Largest chunk of bulk bytes, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Chunk that senders should use, in bytes: above 64 KiB the cost per call no longer shows, below 1 MiB several fit the window.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of a stream that may be under way. It is the sender's; capnp's default of 64 KiB costs more than half the rate.
pub const WINDOW_BYTES: usize = 1 << 20;

/// Most bytes of records in one page of a list, before the first record that passes it.
pub const PAGE_BYTES: usize = 2 << 20;

/// Most records in one page of a list.
pub const PAGE_RECORDS_MAX: usize = 4096;

/// Buffer before each half of a socket, in bytes.
pub const IO_BUFFER_BYTES: usize = 64 << 10;

/// The reader options for one direction.
pub fn reader_options(message_bytes_max: usize) -> capnp::message::ReaderOptions {
    capnp::message::ReaderOptions {
        traversal_limit_in_words: Some(message_bytes_max / size_of::<capnp::Word>()),
        nesting_limit: NESTING_MAX,
    }
}
