//! Blobs as files: `<root>/content/blobs/sha256/<hex>` (committed, 0444) and `<root>/content/ingest/<hash>/` (unfinished).
//!
//! ```text
//! content/                     0700: blobs may hold set-uid files and secrets of other namespaces
//! ├─ blobs/sha256/<hex>        0444, complete, synced, verified; shared by all namespaces
//! └─ ingest/<sha256 of namespace and ref>/
//!    ├─ status                 JSON: whose, promised size and digest, when it began
//!    └─ data                   the bytes so far
//! ```
//!
//! Who may see a blob is the business of the content rows in the database; this file store knows no namespaces beyond
//! the names of ingests. Order of durability: data is synced, made read-only, renamed, and the directory is synced; only
//! then may a row name the blob. After a crash there is either no blob or the whole blob, never a part of one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bosun_types::content::IngestStatus;
use bosun_types::error::{chain, class_of_io};
use bosun_types::{Digest, ErrorClass, NamespaceName};
use sha2::{Digest as _, Sha256};

use crate::hashed::Hashed;

mod ingest;
#[cfg(test)]
mod tests;

pub use ingest::{CommittedBlob, Ingest};

/// Longest ref of an ingest in bytes; it lies in a small JSON file and in messages.
pub const REFERENCE_BYTES_MAX: usize = 4096;

/// What the content store refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// No such blob.
    #[error("blob {digest}")]
    BlobNotFound {
        /// The digest asked for.
        digest: Digest,
    },
    /// No such ingest.
    #[error("ingest {reference:?}")]
    IngestNotFound {
        /// The ref asked for.
        reference: String,
    },
    /// CON-9: somebody is writing under this ref.
    #[error("ingest {reference:?} has a writer already")]
    Locked {
        /// The ref.
        reference: String,
    },
    /// The ref is empty or too long, or what was asked contradicts what is recorded.
    #[error("ingest {reference:?}: {why}")]
    Refused {
        /// The ref.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// CON-16: not as many bytes as promised.
    #[error("ingest {reference:?}: {actual} bytes arrived, {expected} were promised")]
    WrongSize {
        /// The ref.
        reference: String,
        /// Promised size in bytes.
        expected: u64,
        /// Size in bytes.
        actual: u64,
    },
    /// CON-16: other bytes than promised.
    #[error("ingest {reference:?}: the bytes have digest {actual}, promised was {expected}")]
    WrongDigest {
        /// The ref.
        reference: String,
        /// Promised digest.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// Asked for whole, and larger than the asker takes.
    #[error("blob {digest} has more than {bytes_max} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Most bytes asked for.
        bytes_max: usize,
    },
    /// The bytes on disk are not those that were committed.
    #[error("blob {digest} is damaged on disk")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
    /// An injected fault of a test.
    #[error("{0}")]
    Injected(bosun_faults::Injected),
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

impl ContentError {
    /// The class that callers see.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::BlobNotFound { .. } | Self::IngestNotFound { .. } => ErrorClass::NotFound,
            Self::Locked { .. } => ErrorClass::Unavailable,
            Self::Refused { .. } | Self::TooLarge { .. } => ErrorClass::InvalidArgument,
            Self::Damaged { .. } => ErrorClass::DataLoss,
            Self::WrongSize { .. } | Self::WrongDigest { .. } => ErrorClass::FailedPrecondition,
            Self::Injected(_) => ErrorClass::Internal,
            Self::Io { source, .. } => class_of_io(source),
        }
    }
}

impl From<ContentError> for bosun_types::Error {
    fn from(error: ContentError) -> Self {
        Self::new(error.class(), chain(&error))
    }
}

impl From<bosun_faults::Injected> for ContentError {
    fn from(injected: bosun_faults::Injected) -> Self {
        Self::Injected(injected)
    }
}

/// Short form.
pub type Result<T, E = ContentError> = std::result::Result<T, E>;

/// For `map_err`: what was done to which file.
fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ContentError + 'a {
    move |source| ContentError::Io { doing, path: path.to_owned(), source }
}

/// The blob files. Cheap to clone; all calls block on the disk.
#[derive(Clone, Debug)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    ingests: PathBuf,
    /// Directories of the ingests that have a writer now.
    locked: Mutex<HashSet<PathBuf>>,
}

impl ContentStore {
    /// Opens `<root>/content`, making what is missing.
    pub fn open(root: &Path) -> Result<Self> {
        let content = root.join("content");
        let blobs = content.join("blobs").join("sha256");
        let ingests = content.join("ingest");
        for directory in [&content, &content.join("blobs"), &blobs, &ingests] {
            make_private_directory(directory)?;
        }
        for directory in [root, &content, &content.join("blobs")] {
            sync_directory(directory)?;
        }
        let inner = Inner { blobs, ingests, locked: Mutex::new(HashSet::new()) };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.join(digest.hex())
    }

    /// Opens a blob for reading; NotFound if there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::BlobNotFound { digest: *digest },
            _ => io_error("open", &path)(error),
        })
    }

    /// A small blob (a document) whole: at most `bytes_max`, and only if its bytes still have the digest they are named by.
    pub fn read_blob(&self, digest: &Digest, bytes_max: usize) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error("read", &self.blob_path(digest)))?;
        if bytes.len() > bytes_max {
            return Err(ContentError::TooLarge { digest: *digest, bytes_max });
        }
        if Digest::from_bytes(Sha256::digest(&bytes).into()) != *digest {
            return Err(ContentError::Damaged { digest: *digest });
        }
        Ok(bytes)
    }

    /// The digest that a blob's bytes have now, and how many they are.
    pub fn hash_blob(&self, digest: &Digest) -> Result<(Digest, u64)> {
        let mut file = self.open_blob(digest)?;
        let mut hashed = Hashed::new(io::sink());
        io::copy(&mut file, &mut hashed).map_err(io_error("read", &self.blob_path(digest)))?;
        let (_, actual, bytes) = hashed.finish();
        Ok((actual, bytes))
    }

    /// The size of a blob in bytes; NotFound if there is none.
    pub fn blob_size(&self, digest: &Digest) -> Result<u64> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContentError::BlobNotFound { digest: *digest })
            }
            Err(error) => Err(io_error("look at", &path)(error)),
        }
    }

    /// Whether there is such a blob.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Removes a blob durably. None there is success: the call may be repeated.
    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        self.remove_blobs(std::slice::from_ref(digest))
    }

    /// Removes many, with one sync; as [`Self::remove_blob`].
    pub fn remove_blobs(&self, digests: &[Digest]) -> Result<()> {
        let mut removed = false;
        for digest in digests {
            let path = self.blob_path(digest);
            match fs::remove_file(&path) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("remove", &path)(error)),
            }
        }
        if removed { sync_directory(&self.inner.blobs) } else { Ok(()) }
    }

    /// The digests of all blobs, in order. Names that are no digest are left alone.
    pub fn list_blobs(&self) -> Result<Vec<Digest>> {
        let directory = &self.inner.blobs;
        let mut digests = Vec::new();
        for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
            let entry = entry.map_err(io_error("list", directory))?;
            if let Some(name) = entry.file_name().to_str()
                && let Ok(digest) = format!("sha256:{name}").parse::<Digest>()
            {
                digests.push(digest);
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Opens the ingest `reference` of a namespace, new or where it was left (CON-15: the bytes on disk are hashed again).
    ///
    /// `total` is the promised size in bytes, 0 when unknown; a promise that differs from the recorded one is refused.
    /// One writer per ref (CON-9): a second gets Unavailable until the first is dropped.
    pub fn begin(
        &self,
        namespace: &NamespaceName,
        reference: &str,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<Ingest> {
        Ingest::open(self, namespace, reference, total, expected)
    }

    /// As [`Self::begin`], when the blob `expected` is in the store for another namespace (CON-19): nothing needs to be written, and the ingest stands
    /// at the blob's end. NotFound when it is not.
    pub fn begin_shared(
        &self,
        namespace: &NamespaceName,
        reference: &str,
        total: u64,
        expected: Digest,
    ) -> Result<Ingest> {
        let size = self.blob_size(&expected)?;
        let mut ingest = Ingest::open(self, namespace, reference, total, Some(expected))?;
        ingest.share(size)?;
        Ok(ingest)
    }

    /// Removes an unfinished ingest (CON-20): NotFound if there is none, Unavailable while it has a writer.
    pub fn abort(&self, namespace: &NamespaceName, reference: &str) -> Result<()> {
        ingest::abort(self, namespace, reference)
    }

    /// The unfinished ingest `reference` of a namespace (CON-21).
    pub fn status(&self, namespace: &NamespaceName, reference: &str) -> Result<IngestStatus> {
        ingest::status(self, namespace, reference)
    }

    /// The unfinished ingests of a namespace, by ref (CON-21).
    pub fn statuses(&self, namespace: &NamespaceName) -> Result<Vec<IngestStatus>> {
        ingest::statuses(self, namespace)
    }

    /// The unfinished ingests of all namespaces.
    pub fn ingests(&self) -> Result<Vec<(NamespaceName, IngestStatus)>> {
        ingest::all(self)
    }

    /// Takes the lock of an ingest directory; `None` while somebody else has it.
    fn lock(&self, directory: &Path) -> Option<IngestLock> {
        let mut locked = self.inner.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked
            .insert(directory.to_owned())
            .then(|| IngestLock { store: self.clone(), directory: directory.to_owned() })
    }
}

/// Holds one ref for one writer.
#[derive(Debug)]
struct IngestLock {
    store: ContentStore,
    directory: PathBuf,
}

impl Drop for IngestLock {
    fn drop(&mut self) {
        self.store.inner.locked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.directory);
    }
}

/// Makes a 0700 directory, or narrows the mode of one that is there.
fn make_private_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error("change the mode of", path))
}

/// Makes renames and removals in a directory durable.
fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}
