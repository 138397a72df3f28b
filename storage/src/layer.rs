//! One pass over a layer: its compressed bytes are hashed and kept, inflated, hashed again and unpacked, each byte touched
//! once and none of it waiting for the whole.

use std::io::{self, Read};
use std::path::Path;

use bosun_types::content::Descriptor;
use bosun_types::error::{chain, class_of_io};
use bosun_types::{Digest, ErrorClass};

use crate::archive::{ArchiveError, UnpackOptions, UnpackReport};
use crate::content::{ContentError, Ingest};

mod pipeline;
mod tee;
#[cfg(test)]
mod tests;

/// What the pass refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Fewer bytes came than promised: the way was cut. The ingest keeps what came and can be resumed.
    #[error("layer {digest}: the source ended after {actual} of {expected} bytes")]
    Short {
        /// The layer.
        digest: Digest,
        /// Promised size in bytes.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// More bytes came than promised. The ingest is gone.
    #[error("layer {digest}: more than the promised {expected} bytes came")]
    Long {
        /// The layer.
        digest: Digest,
        /// Promised size in bytes.
        expected: u64,
    },
    /// Other bytes came than promised. The ingest is gone.
    #[error("layer {expected}: the bytes have digest {actual}")]
    WrongDigest {
        /// Promised digest.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// The unpacked bytes are not those the image's config names (IMG-19).
    #[error("layer {layer}: wrong diff id calculated: {actual}, the image's config says {expected}")]
    WrongDiffId {
        /// The layer.
        layer: Digest,
        /// Diff id of the config.
        expected: Digest,
        /// Digest of the unpacked bytes.
        actual: Digest,
    },
    /// The source failed. The ingest keeps what came and can be resumed.
    #[error("layer {digest}: read the source")]
    Source {
        /// The layer.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Unpacking failed.
    #[error("layer {digest}")]
    Unpack {
        /// The layer.
        digest: Digest,
        /// Why.
        source: ArchiveError,
    },
    /// Keeping the bytes failed.
    #[error("layer {digest}")]
    Content {
        /// The layer.
        digest: Digest,
        /// Why.
        source: ContentError,
    },
}

impl LayerError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Short { .. } => ErrorClass::Unavailable,
            Self::Long { .. } | Self::WrongDigest { .. } | Self::WrongDiffId { .. } => {
                ErrorClass::FailedPrecondition
            }
            Self::Source { source, .. } => class_of_io(source),
            Self::Unpack { source, .. } => source.class(),
            Self::Content { source, .. } => source.class(),
        }
    }
}

impl From<LayerError> for bosun_types::Error {
    fn from(error: LayerError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}

/// A layer that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerOutcome {
    /// Digest of the compressed bytes; equal to the descriptor's.
    pub digest: Digest,
    /// Compressed size in bytes.
    pub size: u64,
    /// Digest of the uncompressed bytes, trailing ones included.
    pub diff_id: Digest,
    /// Uncompressed size in bytes, trailing ones included.
    pub size_plain: u64,
    /// What unpacking did, when there was a target.
    pub unpacked: Option<UnpackReport>,
}

impl LayerOutcome {
    /// Compares the diff id with what the image's config names (IMG-19).
    pub fn expect_diff_id(&self, expected: &Digest) -> Result<(), LayerError> {
        if self.diff_id == *expected {
            return Ok(());
        }
        Err(LayerError::WrongDiffId { layer: self.digest, expected: *expected, actual: self.diff_id })
    }
}

/// Reads a layer from `source` and unpacks it into `target` while its bytes go to `ingest`, which is committed when they
/// turn out right. Blocks; belongs on a worker thread.
///
/// - With an ingest that has bytes already, `source` continues at `ingest.offset()`; the bytes before are read from disk.
///   If it has all of them, the source is empty.
/// - Without an ingest, `source` is the whole layer, such as a blob of the store.
/// - On any error the caller removes what is in `target`. The ingest stays, to be resumed, when the bytes so far may be
///   good (the source failed or ended early, the disk is full, the unpacking failed), and is gone when they are wrong.
/// - `progress` gets the number of compressed bytes so far, now and then.
pub fn fetch_and_unpack(
    source: impl Read + Send,
    ingest: Option<Ingest>,
    descriptor: &Descriptor,
    target: Option<(&Path, &UnpackOptions)>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LayerOutcome, LayerError> {
    pipeline::run(source, ingest, descriptor, target, progress)
}

/// As [`fetch_and_unpack`], for a blob that is not looked into: kept, and verified. Its diff id is its digest.
pub fn fetch_as_is(
    source: impl Read,
    ingest: Ingest,
    descriptor: &Descriptor,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LayerOutcome, LayerError> {
    let mut tee = tee::Tee::new(source, Some(ingest), descriptor, progress)?;
    tee.drain();
    let (digest, size) = tee.finish()?;
    Ok(LayerOutcome { digest, size, diff_id: digest, size_plain: size, unpacked: None })
}
