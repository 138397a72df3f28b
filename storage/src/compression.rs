//! Decompression by magic number, with a guard against bombs: gzip (several members), zstd (several frames), or plain.

use std::io::{self, BufReader, Chain, Cursor, Read};

use bosun_types::ErrorClass;
use bosun_types::error::chain;
use flate2::bufread::MultiGzDecoder;

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
    /// Known, and not read.
    #[error("{name} compression is not supported")]
    Unsupported {
        /// Its name.
        name: &'static str,
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
        match self {
            Self::Unsupported { .. } => ErrorClass::NotImplemented,
            Self::Bomb { .. } | Self::Damaged { .. } => ErrorClass::InvalidArgument,
        }
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

/// Window of 128 MiB: what `zstd --ultra --long` makes and the configuration may allow.
pub const ZSTD_WINDOW_LOG_LARGE: u32 = 27;

impl Default for CompressionLimits {
    fn default() -> Self {
        Self { ratio_max: 1000, ratio_free_bytes: 64 << 20, zstd_window_log_max: 23 }
    }
}

/// Size of the buffer between source and decompressor, in bytes. Small, so that a bomb cannot hide behind input that was
/// read ahead.
const BUFFER_BYTES: usize = 32 << 10;
/// Longest magic number looked at, in bytes.
const MAGIC_BYTES: usize = 6;

/// Decides by the first bytes. Fewer than four are never compressed.
pub fn detect(start: &[u8]) -> Result<Compression, CompressionError> {
    let refuse = |name| Err(CompressionError::Unsupported { name });
    match start {
        [0x1f, 0x8b, 0x08, ..] => Ok(Compression::Gzip),
        // A frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => refuse("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => refuse("bzip2"),
        _ => Ok(Compression::None),
    }
}

type Source<R> = BufReader<Counted<Chain<Cursor<Vec<u8>>, R>>>;

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

/// A decompressing reader. It reads its source to the end: bytes after the last member are part of the stream.
pub struct Decompressor<R: Read> {
    inner: Inner<R>,
    limits: CompressionLimits,
    written: u64,
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes and decides. An empty stream is plain (MNT-12).
    pub fn new(mut source: R, limits: CompressionLimits) -> io::Result<Self> {
        let mut start = Vec::with_capacity(MAGIC_BYTES);
        source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
        let compression = detect(&start).map_err(io::Error::other)?;
        let counted = Counted { source: Cursor::new(start).chain(source), read: 0, failed: false };
        let source = BufReader::with_capacity(BUFFER_BYTES, counted);
        let inner = match compression {
            Compression::None => Inner::Plain(source),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(limits.zstd_window_log_max)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, limits, written: 0 })
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self.inner {
            Inner::Plain(_) => Compression::None,
            Inner::Gzip(_) => Compression::Gzip,
            Inner::Zstd(_) => Compression::Zstd,
        }
    }

    /// Gives the source back. What it had read ahead is lost.
    pub fn into_source(self) -> R {
        let source = match self.inner {
            Inner::Plain(source) => source,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(decoder) => decoder.finish(),
        };
        source.into_inner().source.into_inner().1
    }

    fn counted(&self) -> &Counted<Chain<Cursor<Vec<u8>>, R>> {
        match &self.inner {
            Inner::Plain(source) => source.get_ref(),
            Inner::Gzip(decoder) => decoder.get_ref().get_ref(),
            Inner::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.inner {
            Inner::Plain(source) => return source.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
        };
        match result {
            Ok(length) => {
                self.written += length as u64;
                let (read, written) = (self.counted().read, self.written);
                if written > self.limits.ratio_free_bytes
                    && written > read.saturating_mul(self.limits.ratio_max)
                {
                    return Err(io::Error::other(CompressionError::Bomb { read, written }));
                }
                Ok(length)
            }
            // The source's own failures, an interruption among them, are not the stream's.
            Err(error) if self.counted().failed || error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(source) => Err(io::Error::other(CompressionError::Damaged { source })),
        }
    }
}

/// Counts what a source gives, and remembers whether it failed.
struct Counted<R> {
    source: R,
    read: u64,
    failed: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.source.read(buffer);
        match &result {
            Ok(length) => self.read += *length as u64,
            Err(error) => self.failed = error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

mod compressor;
#[cfg(test)]
mod tests;

pub use compressor::Compressor;
