//! The first stage of the pass: compressed bytes on their way, each hashed and kept as it goes by.

use std::fs::File;
use std::io::{self, Read, Take};

use bosun_types::Digest;
use bosun_types::content::Descriptor;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::content::Ingest;

/// Compressed bytes between two calls of `progress`.
const PROGRESS_BYTES: u64 = 256 << 10;
/// Size of the buffer that reads on when nobody wants the bytes any more, in bytes.
const DRAIN_BUFFER_BYTES: usize = 64 << 10;

/// Where the bytes go besides onwards.
enum Keeper {
    /// Into the content store; the ingest keeps the hash.
    Ingest(Box<Ingest>),
    /// Nowhere: they are there already.
    Hash(Box<Sha256>),
}

/// A reader over the whole layer. A failure of its own is kept in `failure`, typed; the error that the reader above it sees
/// is only a sign.
pub(super) struct Tee<'a, R> {
    descriptor: &'a Descriptor,
    /// Bytes of an earlier try, hashed when the ingest was opened.
    earlier: Option<Take<File>>,
    source: R,
    keeper: Keeper,
    /// Bytes passed on, earlier ones included.
    passed: u64,
    progress: &'a (dyn Fn(u64) + Sync),
    reported: u64,
    failure: Option<LayerError>,
}

impl<'a, R: Read> Tee<'a, R> {
    pub(super) fn new(
        source: R,
        ingest: Option<Ingest>,
        descriptor: &'a Descriptor,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Self, LayerError> {
        let content = |source| LayerError::Content { digest: descriptor.digest, source };
        let (keeper, earlier) = match ingest {
            Some(ingest) => {
                let bytes = ingest.offset();
                let earlier =
                    if bytes > 0 { Some(ingest.reader().map_err(content)?.take(bytes)) } else { None };
                (Keeper::Ingest(Box::new(ingest)), earlier)
            }
            None => (Keeper::Hash(Box::new(Sha256::new())), None),
        };
        Ok(Self { descriptor, earlier, source, keeper, passed: 0, progress, reported: 0, failure: None })
    }

    /// Reads on to the end although nobody wants the bytes: only the whole tells whether they were the right ones.
    pub(super) fn drain(&mut self) {
        let mut buffer = vec![0; DRAIN_BUFFER_BYTES];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What went wrong here, if anything.
    pub(super) fn take_failure(&mut self) -> Option<LayerError> {
        self.failure.take()
    }

    /// Ends the pass early. Too many bytes throw the ingest away; everything else leaves it to be resumed.
    pub(super) fn give_up(self, failure: LayerError) -> LayerError {
        if matches!(failure, LayerError::Long { .. }) {
            self.discard();
        }
        failure
    }

    /// Ends the pass when all bytes went by: verifies, and commits the ingest.
    pub(super) fn finish(mut self) -> Result<(Digest, u64), LayerError> {
        let expected = self.descriptor.digest;
        if let Some(failure) = self.failure.take() {
            return Err(self.give_up(failure));
        }
        if self.passed < self.descriptor.size {
            // Dropping the ingest keeps its bytes.
            return Err(LayerError::Short {
                digest: expected,
                expected: self.descriptor.size,
                actual: self.passed,
            });
        }
        let actual = match &self.keeper {
            Keeper::Ingest(ingest) => ingest.digest(),
            Keeper::Hash(hash) => Digest::from_bytes(hash.as_ref().clone().finalize().into()),
        };
        if actual != expected {
            self.discard();
            return Err(LayerError::WrongDigest { expected, actual });
        }
        if let Keeper::Ingest(ingest) = self.keeper {
            ingest
                .commit(self.passed, Some(&expected))
                .map_err(|source| LayerError::Content { digest: expected, source })?;
        }
        (self.progress)(self.passed);
        Ok((actual, self.passed))
    }

    /// Throws away bytes that are wrong: the next try must not build on them.
    fn discard(self) {
        if let Keeper::Ingest(ingest) = self.keeper
            && let Err(error) = ingest.abort()
        {
            tracing::warn!(layer = %self.descriptor.digest, %error, "wrong bytes could not be removed");
        }
    }

    fn fail(&mut self, failure: LayerError) -> io::Error {
        self.failure.get_or_insert(failure);
        io::Error::other("the layer's source failed")
    }

    fn read_earlier(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(earlier) = &mut self.earlier else { return Ok(0) };
        match earlier.read(buffer) {
            Ok(0) => {
                self.earlier = None;
                Ok(0)
            }
            Ok(length) => Ok(length),
            Err(source) => {
                let digest = self.descriptor.digest;
                Err(self.fail(LayerError::Source { digest, source }))
            }
        }
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let digest = self.descriptor.digest;
        let length = match self.source.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(source) => return Err(self.fail(LayerError::Source { digest, source })),
        };
        if self.passed + length as u64 > self.descriptor.size {
            return Err(self.fail(LayerError::Long { digest, expected: self.descriptor.size }));
        }
        match &mut self.keeper {
            Keeper::Ingest(ingest) => {
                if let Err(source) = ingest.write(&buffer[..length]) {
                    return Err(self.fail(LayerError::Content { digest, source }));
                }
            }
            Keeper::Hash(hash) => hash.update(&buffer[..length]),
        }
        Ok(length)
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failure.is_some() {
            return Err(io::Error::other("the layer's source failed"));
        }
        let mut length = self.read_earlier(buffer)?;
        if length == 0 {
            length = self.read_source(buffer)?;
        }
        self.passed += length as u64;
        if self.passed - self.reported >= PROGRESS_BYTES {
            self.reported = self.passed;
            (self.progress)(self.passed);
        }
        Ok(length)
    }
}
