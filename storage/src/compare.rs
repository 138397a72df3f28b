//! Compare: what changed between two trees, or what an overlayfs upper directory holds, as an OCI layer. The way back of
//! [`crate::archive::unpack`].
//!
//! - One walk, in order of name, in bounded memory: the names of the directories on the way, and the paths of files with
//!   several names. The same trees give the same bytes.
//! - A container may rename and replace whatever is walked. Every name is opened below its directory's descriptor without
//!   following it, judged by what was opened, and read from that descriptor: the worst a race can do is a layer with a mix
//!   of before and after, never a file from outside of the tree, and no device is ever opened.
//! - Contents are compared byte by byte where all metadata is equal: a program may set times back.
//! - Not in a layer: sockets (MNT-10), the root's own metadata (MNT-7), overlayfs's own attributes, labels of this host
//!   (SELinux, IMA, EVM). Refused, because a layer cannot say it: a name that begins with `.wh.`.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use bosun_types::error::{chain, class_of_io};
use bosun_types::{Digest, ErrorClass};

use crate::archive::Limits;
use crate::archive::root::Root;
use crate::compression::{Compression, Compressor};
use crate::content::{ContentError, Ingest};
use crate::hashed::Hashed;

mod decide;
pub(crate) mod node;
#[cfg(test)]
mod tests;
mod walk;

/// What comparing refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A layer cannot say it.
    #[error("{path:?} cannot be in a layer: {why}")]
    Refused {
        /// Path below the root, shortened.
        path: String,
        /// Why not.
        why: String,
    },
    /// Somebody truncated a file while it was read.
    #[error("{path:?} became shorter while it was read")]
    Changed {
        /// Path below the root, shortened.
        path: String,
    },
    /// The upper directory says less than the change: overlayfs has renamed a directory by reference, or copied metadata
    /// alone. The mounted trees must be compared instead ([`Source::Trees`]).
    #[error(
        "the writable directory does not hold all of {path:?}: overlayfs refers to the layers below ({attribute})"
    )]
    Partial {
        /// Path below the root, shortened.
        path: String,
        /// The attribute that says so.
        attribute: &'static str,
    },
    /// The file system failed.
    #[error("{doing} {path:?}")]
    Read {
        /// What was being done.
        doing: &'static str,
        /// Path below the root, shortened.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The layer could not be written.
    #[error("write the layer")]
    Output {
        /// Why.
        source: io::Error,
    },
}

impl CompareError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused { .. } | Self::Partial { .. } => ErrorClass::FailedPrecondition,
            Self::Changed { .. } => ErrorClass::Unavailable,
            Self::Read { source, .. } => class_of_io(source),
            Self::Output { source } => match source.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(content) => ContentError::class(content),
                None => class_of_io(source),
            },
        }
    }
}

impl From<CompareError> for bosun_types::Error {
    fn from(error: CompareError) -> Self {
        let mapped = Self::new(error.class(), chain(&error));
        match error {
            CompareError::Changed { .. } => mapped.with_hint("pause the container and try again"),
            _ => mapped,
        }
    }
}

/// Short form.
pub type Result<T, E = CompareError> = std::result::Result<T, E>;

/// What is compared.
#[derive(Debug)]
pub enum Source {
    /// The writable directory of an overlayfs: it holds the difference already, with whiteouts as character devices 0:0 and
    /// opaque directories by attribute.
    Overlay {
        /// That directory.
        upper: OwnedFd,
    },
    /// Two whole trees.
    Trees {
        /// The one before; `None` for nothing.
        lower: Option<OwnedFd>,
        /// The one after.
        upper: OwnedFd,
    },
}

impl Source {
    /// An overlayfs's writable directory by its path.
    pub fn overlay(upper: &Path) -> Result<Self> {
        open(upper).map(|upper| Self::Overlay { upper })
    }

    /// Two trees by their paths.
    pub fn trees(lower: Option<&Path>, upper: &Path) -> Result<Self> {
        Ok(Self::Trees { lower: lower.map(open).transpose()?, upper: open(upper)? })
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let failed = |errno: nix::errno::Errno| CompareError::Read {
        doing: "open",
        path: path.to_string_lossy().into_owned(),
        source: errno.into(),
    };
    Root::open(path).and_then(|root| root.directory(&[])).map_err(failed)
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Digest of the layer as written.
    pub digest: Digest,
    /// Size of the layer as written, in bytes.
    pub size: u64,
    /// Digest of the plain tar.
    pub diff_id: Digest,
    /// Size of the plain tar, in bytes.
    pub size_plain: u64,
    /// What is in it.
    pub report: CompareReport,
}

/// Counts of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompareReport {
    /// Entries written, whiteouts included.
    pub entries: u64,
    /// Whiteouts and opaque marks.
    pub whiteouts: u64,
    /// Sockets left out.
    pub sockets_skipped: u64,
    /// Attributes left out because no PAX record can name them.
    pub xattrs_skipped: u64,
}

/// Called now and then with the bytes of plain tar so far. An error ends the comparison with it.
pub type Progress<'a> = &'a dyn Fn(u64) -> io::Result<()>;

/// Writes the layer to `output`. Blocks; belongs on a worker thread.
pub fn compare(
    source: Source,
    compression: Compression,
    output: impl Write,
    progress: Progress<'_>,
) -> Result<Compared> {
    let (hashed, compared) = run(source, compression, Hashed::new(output), progress)?;
    let (_, digest, size) = hashed.finish();
    Ok(Compared { digest, size, ..compared })
}

/// Writes the layer to the end of an ingest, which must be empty. It is the caller's to commit; on an error what it holds
/// is of no use.
pub fn compare_into(
    source: Source,
    compression: Compression,
    ingest: &mut Ingest,
    progress: Progress<'_>,
) -> Result<Compared> {
    let (_, compared) = run(source, compression, IngestOutput(&mut *ingest), progress)?;
    Ok(Compared { digest: ingest.digest(), size: ingest.offset(), ..compared })
}

/// The digest and size of what was written are the output's business, and left empty here.
fn run<W: Write>(
    source: Source,
    compression: Compression,
    output: W,
    progress: Progress<'_>,
) -> Result<(W, Compared)> {
    let failed = |source| CompareError::Output { source };
    let compressor = Compressor::new(output, compression).map_err(failed)?;
    let (compressor, report) = walk::Walk::new(compressor, Limits::default(), progress).run(source)?;
    let (mut output, diff_id, size_plain) = compressor.finish().map_err(failed)?;
    output.flush().map_err(failed)?;
    let compared = Compared { digest: diff_id, size: size_plain, diff_id, size_plain, report };
    Ok((output, compared))
}

/// An ingest as a writer; its errors keep their type inside.
struct IngestOutput<'a>(&'a mut Ingest);

impl Write for IngestOutput<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer).map_err(io::Error::other)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
