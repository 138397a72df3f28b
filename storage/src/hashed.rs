//! A writer that knows the digest and the size of what went through it.

use std::io::{self, Write};

use bosun_types::Digest;
use sha2::{Digest as _, Sha256};

/// Passes everything on and hashes it.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    output: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, hash: Sha256::new(), bytes: 0 }
    }

    /// The output, the digest of what was written, and its size in bytes.
    pub(crate) fn finish(self) -> (W, Digest, u64) {
        (self.output, Digest::from_bytes(self.hash.finalize().into()), self.bytes)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.output.write(buffer)?;
        self.hash.update(&buffer[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
