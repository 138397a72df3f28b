//! What can be wrong with an archive, and what can go wrong while it is unpacked.

use std::io;

use bosun_types::ErrorClass;
use bosun_types::error::{chain, class_of_io};

use crate::compression::CompressionError;

/// What unpacking refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not a tar archive, or a damaged one.
    #[error("archive entry {entry}: {why}")]
    Malformed {
        /// Position of the entry, from 1.
        entry: u64,
        /// What is wrong.
        why: String,
    },
    /// Well formed, and refused: it points outside of the root, or exceeds a limit.
    #[error("archive entry {path:?}: {why}")]
    Refused {
        /// Name of the entry, shortened.
        path: String,
        /// Why it is refused.
        why: String,
    },
    /// The stream ended in the middle.
    #[error("the archive ends in the middle of entry {entry}")]
    Truncated {
        /// Position of the entry, from 1.
        entry: u64,
    },
    /// The source of the stream failed.
    #[error("read the archive")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The file system below the target failed.
    #[error("{doing} {path:?}")]
    Write {
        /// What was being done.
        doing: &'static str,
        /// Name of the entry, shortened.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ArchiveError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Malformed { .. } | Self::Refused { .. } | Self::Truncated { .. } => {
                ErrorClass::InvalidArgument
            }
            Self::Read { source } => match CompressionError::inside(source) {
                Some(error) => error.class(),
                None => class_of_io(source),
            },
            Self::Write { .. } if self.is_about_the_bytes() => ErrorClass::InvalidArgument,
            Self::Write { source, .. } => class_of_io(source),
        }
    }

    /// Whether the bytes are to blame, not this host and not the way they came.
    pub fn is_about_the_bytes(&self) -> bool {
        match self {
            Self::Malformed { .. } | Self::Refused { .. } | Self::Truncated { .. } => true,
            Self::Read { source } => CompressionError::inside(source).is_some(),
            // Names that this file system cannot have.
            Self::Write { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENAMETOOLONG | libc::EILSEQ))
            }
        }
    }
}

impl From<ArchiveError> for bosun_types::Error {
    fn from(error: ArchiveError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}
