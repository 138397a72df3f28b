//! Compression of a stream that is being written, with the digest of what goes in. The same bytes in give the same bytes
//! out: no names, no times.

use std::io::{self, Write};

use bosun_types::Digest;
use flate2::write::GzEncoder;

use super::Compression;
use crate::hashed::Hashed;

/// Level of zstd: its own default.
const ZSTD_LEVEL: i32 = 3;

enum Encoder<W: Write> {
    Plain(W),
    Gzip(Box<GzEncoder<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

/// A compressing writer. Nothing may be taken for complete before [`Compressor::finish`].
pub struct Compressor<W: Write> {
    encoder: Hashed<Encoder<W>>,
}

impl<W: Write> Compressor<W> {
    /// Begins.
    pub fn new(output: W, compression: Compression) -> io::Result<Self> {
        let encoder = match compression {
            Compression::None => Encoder::Plain(output),
            Compression::Gzip => {
                Encoder::Gzip(Box::new(GzEncoder::new(output, flate2::Compression::default())))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(Box::new(encoder))
            }
        };
        Ok(Self { encoder: Hashed::new(encoder) })
    }

    /// Ends the stream: the output, the digest of what went in, and how many bytes that were.
    pub fn finish(self) -> io::Result<(W, Digest, u64)> {
        let (encoder, digest, bytes) = self.encoder.finish();
        let output = match encoder {
            Encoder::Plain(output) => output,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        Ok((output, digest, bytes))
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.encoder.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(buffer),
            Self::Gzip(encoder) => encoder.write(buffer),
            Self::Zstd(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
