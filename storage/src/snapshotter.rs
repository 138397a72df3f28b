//! Snapshotters: directories of layers and containers, and the mounts that show them. Rows live in the database (SNP-21:
//! one database, not one per snapshotter); here are only directories, named by a number that is never used again.

use std::io;
use std::path::{Path, PathBuf};

use bosun_types::ErrorClass;
use bosun_types::error::{chain, class_of_io};
use bosun_types::mount::Mount;
use bosun_types::snapshot::{SnapshotKind, Usage};
use bosun_types::user_namespace::IdMaps;

mod btrfs;
#[cfg(test)]
mod conformance;
mod copy;
mod native;
mod overlay;
mod place;

pub use btrfs::Btrfs;
pub(crate) use copy::copy_one;
pub use native::Native;
pub use overlay::Overlay;

/// What a snapshotter refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotterError {
    /// SNP-15: the file system below cannot carry this snapshotter.
    #[error("{path} cannot hold snapshots: {why}")]
    Unsupported {
        /// Its root.
        path: PathBuf,
        /// Why not.
        why: &'static str,
        /// What the operator can do.
        hint: &'static str,
    },
    /// There is no such directory.
    #[error("snapshot directory {directory}")]
    Missing {
        /// Its number.
        directory: u64,
    },
    /// The file system failed.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SnapshotterError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unsupported { .. } => ErrorClass::FailedPrecondition,
            Self::Missing { .. } => ErrorClass::NotFound,
            Self::Io { source, .. } => class_of_io(source),
        }
    }
}

impl From<SnapshotterError> for bosun_types::Error {
    fn from(error: SnapshotterError) -> Self {
        let mapped = Self::new(error.class(), chain(&error));
        match error {
            SnapshotterError::Unsupported { hint, .. } => mapped.with_hint(hint),
            _ => mapped,
        }
    }
}

/// Short form.
pub type Result<T, E = SnapshotterError> = std::result::Result<T, E>;

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SnapshotterError + 'a {
    move |source| SnapshotterError::Io { doing, path: path.to_owned(), source }
}

/// A bind of a whole directory, `rw` or `ro`.
fn bind(source: &Path, word: &str) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: String::new(),
        options: vec![word.to_owned(), "rbind".to_owned()],
    }
}

/// The disk side of snapshots. Every call blocks, is idempotent, and may be repeated after a crash.
pub trait Snapshotter: Send + Sync {
    /// Its name, such as `overlayfs`.
    fn name(&self) -> &str;

    /// The directory that it keeps everything in.
    fn root(&self) -> &Path;

    /// Makes the directory of a new snapshot above `parents` (nearest first). One that is there is left as it is.
    ///
    /// It is not synced, to keep the way to a container's start short: after a power cut (another boot id) recovery calls
    /// this again for each active snapshot of the database.
    fn ensure_directory(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<()>;

    /// Makes a directory with what the committed snapshot `from` has of its own, but with the owners that `maps` say
    /// (CTR-15). One that is there is left as it is. Not synced.
    fn ensure_remapped(&self, directory: u64, from: u64, maps: &IdMaps) -> Result<()>;

    /// Removes a snapshot's directory with everything in it; none there is success.
    fn ensure_no_directory(&self, directory: u64) -> Result<()>;

    /// The mounts that show a snapshot above `parents` (nearest first); always the same for the same arguments (SNP-5).
    fn mounts(&self, directory: u64, parents: &[u64], kind: SnapshotKind) -> Result<Vec<Mount>>;

    /// Disk use of the snapshot alone, without what it shares with its `parents` (nearest first); hard links counted once
    /// (SNP-10).
    fn usage(&self, directory: u64, parents: &[u64]) -> Result<Usage>;

    /// Makes everything in the directory durable; to be called before the row that makes it a parent commits.
    fn sync(&self, directory: u64) -> Result<()>;

    /// The numbers of all directories, those half made or half removed included.
    fn directories(&self) -> Result<Vec<u64>>;

    /// Where a layer's files are unpacked: with independent layers, the layer's own difference alone.
    fn layer_root(&self, directory: u64) -> PathBuf;

    /// Whether layers can be unpacked at the same time, each without its parents.
    fn supports_independent_layers(&self) -> bool;
}
