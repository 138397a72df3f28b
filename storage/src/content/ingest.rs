//! One unfinished write: bytes appended to a file while their hash is kept, then committed under their digest or left to
//! be resumed.
//!
//! A *shared* one (CON-19) has no bytes of its own: the blob it promises is here already, in another namespace. It stands at the blob's end; writing
//! more copies the blob first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bosun_types::content::IngestStatus;
use bosun_types::{Digest, NamespaceName, Timestamp};
use sha2::{Digest as _, Sha256};

use self::status::{StatusFile, read_status, renew, write_status};
use super::{
    ContentError, ContentStore, IngestLock, REFERENCE_BYTES_MAX, Result, io_error, make_private_directory,
    sync_directory,
};

mod status;

/// Size of the buffer that re-reads bytes, in bytes.
const REHASH_BUFFER_BYTES: usize = 1 << 20;

/// A blob that is on disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedBlob {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The writer of one ingest. Dropped without a commit it leaves its bytes to be resumed (CON-22).
#[derive(Debug)]
pub struct Ingest {
    store: ContentStore,
    /// Held for its `Drop`.
    _lock: IngestLock,
    directory: PathBuf,
    status: StatusFile,
    data: File,
    hash: Sha256,
    offset: u64,
    updated_at: Timestamp,
}

impl Ingest {
    pub(super) fn open(
        store: &ContentStore,
        namespace: &NamespaceName,
        reference: &str,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<Self> {
        check_reference(reference)?;
        let directory = directory_of(store, namespace, reference);
        let lock =
            store.lock(&directory).ok_or_else(|| ContentError::Locked { reference: reference.to_owned() })?;
        make_private_directory(&directory)?;
        let status = match read_status(&directory)? {
            Some(recorded) => renew(&directory, recorded, total, expected)?,
            None => {
                let status = StatusFile {
                    namespace: namespace.clone(),
                    reference: reference.to_owned(),
                    total,
                    expected,
                    started_at: Timestamp::now(),
                    shared: None,
                };
                write_status(&directory, &status)?;
                status
            }
        };
        let path = directory.join("data");
        let mut data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let (hash, offset) = rehash(&mut data).map_err(io_error("read", &path))?;
        let updated_at = modified(&data);
        Ok(Self { store: store.clone(), _lock: lock, directory, status, data, hash, offset, updated_at })
    }

    /// Stands for the blob that it promises, which is in the store (CON-19). What it had of its own is dropped.
    pub(super) fn share(&mut self, size: u64) -> Result<()> {
        self.restart()?;
        self.status.shared = Some(size);
        write_status(&self.directory, &self.status)
    }

    /// Takes the shared blob's bytes as its own. What was promised at `begin` was the blob, and is promised no more.
    fn unshare(&mut self) -> Result<()> {
        let Some(digest) = self.shared() else { return Ok(()) };
        let path = self.directory.join("data");
        let mut blob = self.store.open_blob(&digest)?;
        let copied = io::copy(&mut blob, &mut self.data).and_then(|_| self.data.rewind());
        let hashed = copied.and_then(|()| rehash(&mut self.data));
        match hashed {
            Ok((hash, offset)) => (self.hash, self.offset) = (hash, offset),
            Err(error) => {
                let _ = self.rewind(0);
                return Err(io_error("copy a blob to", &path)(error));
            }
        }
        (self.status.total, self.status.expected) = (0, None);
        self.forget_share()
    }

    fn forget_share(&mut self) -> Result<()> {
        match self.status.shared.take() {
            Some(_) => write_status(&self.directory, &self.status),
            None => Ok(()),
        }
    }

    /// The blob that it stands for.
    fn shared(&self) -> Option<Digest> {
        self.status.shared.and(self.status.expected)
    }

    /// Its ref.
    pub fn reference(&self) -> &str {
        &self.status.reference
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.status.shared.unwrap_or(self.offset)
    }

    /// What was promised at `begin`.
    pub fn expected(&self) -> Option<Digest> {
        self.status.expected
    }

    /// How it stands, with the digest so far (CON-12, CON-21).
    pub fn status(&self) -> IngestStatus {
        IngestStatus { digest: Some(self.digest()), ..self.status.describe(self.offset, self.updated_at) }
    }

    /// The digest of the bytes so far (CON-12).
    pub fn digest(&self) -> Digest {
        self.shared().unwrap_or_else(|| Digest::from_bytes(self.hash.clone().finalize().into()))
    }

    /// A second handle on the bytes so far, at their start.
    pub fn reader(&self) -> Result<File> {
        if let Some(digest) = self.shared() {
            return self.store.open_blob(&digest);
        }
        let path = self.directory.join("data");
        File::open(&path).map_err(io_error("open", &path))
    }

    /// Appends. After a failure (a full disk) nothing of `bytes` counts: the offset is as before and so is the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.unshare()?;
        if let Err(source) = self.data.write_all(bytes) {
            // What did get written must not be taken for good bytes by the next open. If even this fails the bytes on
            // disk are still a prefix of what was sent, which the hash at commit judges.
            let _ = self.rewind(self.offset);
            return Err(io_error("write", &self.directory.join("data"))(source));
        }
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.updated_at = Timestamp::now();
        Ok(())
    }

    /// Forgets the bytes so far (CON-13: a write at 0 starts again).
    pub fn restart(&mut self) -> Result<()> {
        self.forget_share()?;
        self.rewind(0).map_err(io_error("truncate", &self.directory.join("data")))?;
        self.hash = Sha256::new();
        self.offset = 0;
        Ok(())
    }

    fn rewind(&mut self, offset: u64) -> io::Result<()> {
        self.data.set_len(offset)?;
        self.data.seek(SeekFrom::Start(offset)).map(drop)
    }

    /// Checks size (0: unchecked) and digest, and makes the blob durable: sync, read-only, rename, sync of the directory.
    ///
    /// Bytes that turn out wrong are thrown away (CON-18): the next open starts from nothing instead of failing for ever.
    /// So are bytes that could not be synced: after a failed sync the kernel takes its pages for clean, and a second sync
    /// would succeed without having written them. On any other failure the ingest stays and can be committed later.
    pub fn commit(self, size: u64, expected: Option<&Digest>) -> Result<CommittedBlob> {
        let digest = self.digest();
        if let Err(refusal) = self.verify(size, expected, digest) {
            self.discard()?;
            return Err(refusal);
        }
        if self.shared().is_some() {
            // There since before it was opened, unless its last holder has let it go.
            let size = self.store.blob_size(&digest)?;
            self.discard()?;
            return Ok(CommittedBlob { digest, size });
        }
        let path = self.directory.join("data");
        if let Err(error) = self.data.sync_all() {
            self.discard()?;
            return Err(io_error("sync", &path)(error));
        }
        self.data
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(io_error("change the mode of", &path))?;
        bosun_faults::point("content.commit.before_rename")?;
        // A blob of that name holds the same bytes: replacing it changes nothing for its readers.
        fs::rename(&path, self.store.blob_path(&digest)).map_err(io_error("rename", &path))?;
        sync_directory(&self.store.inner.blobs)?;
        bosun_faults::point("content.commit.after_rename")?;
        remove_directory(&self.directory)?;
        Ok(CommittedBlob { digest, size: self.offset })
    }

    /// Commits what there is, under whatever digest it has, if that is what was promised at `begin`.
    pub fn commit_as_is(self) -> Result<CommittedBlob> {
        self.commit(0, None)
    }

    /// Throws the ingest away.
    pub fn abort(self) -> Result<()> {
        self.discard()
    }

    fn verify(&self, size: u64, expected: Option<&Digest>, actual: Digest) -> Result<()> {
        let reference = || self.status.reference.clone();
        for promised in [size, self.status.total] {
            if promised != 0 && promised != self.offset() {
                return Err(ContentError::WrongSize {
                    reference: reference(),
                    expected: promised,
                    actual: self.offset(),
                });
            }
        }
        for promised in [expected, self.status.expected.as_ref()].into_iter().flatten() {
            if *promised != actual {
                return Err(ContentError::WrongDigest {
                    reference: reference(),
                    expected: *promised,
                    actual,
                });
            }
        }
        Ok(())
    }

    fn discard(&self) -> Result<()> {
        remove_directory(&self.directory)
    }
}

fn check_reference(reference: &str) -> Result<()> {
    let refuse = |why: &str| {
        let reference = reference.chars().take(64).collect();
        Err(ContentError::Refused { reference, why: why.to_owned() })
    };
    match reference.len() {
        0 => refuse("the ref is empty"),
        1..=REFERENCE_BYTES_MAX => Ok(()),
        _ => refuse("the ref is too long"),
    }
}

/// The NUL cannot be part of a namespace's name, so no two pairs meet in one directory.
fn directory_of(store: &ContentStore, namespace: &NamespaceName, reference: &str) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(namespace.as_str());
    hash.update([0]);
    hash.update(reference);
    store.inner.ingests.join(Digest::from_bytes(hash.finalize().into()).hex())
}

fn modified(data: &File) -> Timestamp {
    let since_epoch = data
        .metadata()
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// Hashes what is there; the file is left at its end.
fn rehash(data: &mut File) -> io::Result<(Sha256, u64)> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    if data.metadata()?.len() == 0 {
        return Ok((hash, offset));
    }
    let mut buffer = vec![0; REHASH_BUFFER_BYTES];
    loop {
        match data.read(&mut buffer)? {
            0 => return Ok((hash, offset)),
            length => {
                hash.update(&buffer[..length]);
                offset += length as u64;
            }
        }
    }
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", directory)(error)),
        _ => Ok(()),
    }
}

pub(super) fn abort(store: &ContentStore, namespace: &NamespaceName, reference: &str) -> Result<()> {
    check_reference(reference)?;
    let directory = directory_of(store, namespace, reference);
    let _lock =
        store.lock(&directory).ok_or_else(|| ContentError::Locked { reference: reference.to_owned() })?;
    if !directory.exists() {
        return Err(ContentError::IngestNotFound { reference: reference.to_owned() });
    }
    remove_directory(&directory)
}

pub(super) fn status(
    store: &ContentStore,
    namespace: &NamespaceName,
    reference: &str,
) -> Result<IngestStatus> {
    check_reference(reference)?;
    let directory = directory_of(store, namespace, reference);
    let found = status_of(&directory)?.map(|(_, status)| status);
    found.ok_or_else(|| ContentError::IngestNotFound { reference: reference.to_owned() })
}

pub(super) fn statuses(store: &ContentStore, namespace: &NamespaceName) -> Result<Vec<IngestStatus>> {
    let mine = all(store)?.into_iter().filter(|(owner, _)| owner == namespace);
    let mut found: Vec<IngestStatus> = mine.map(|(_, status)| status).collect();
    found.sort_by(|one, other| one.reference.cmp(&other.reference));
    Ok(found)
}

/// Those of every namespace.
pub(super) fn all(store: &ContentStore) -> Result<Vec<(NamespaceName, IngestStatus)>> {
    let root = &store.inner.ingests;
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(io_error("list", root))? {
        let entry = entry.map_err(io_error("list", root))?;
        found.extend(status_of(&entry.path())?);
    }
    Ok(found)
}

/// The ingest in a directory; `None` when it has just gone or is damaged.
fn status_of(directory: &Path) -> Result<Option<(NamespaceName, IngestStatus)>> {
    let Some(status) = read_status(directory)? else { return Ok(None) };
    let (offset, updated_at) = match File::open(directory.join("data")) {
        Ok(data) => (data.metadata().map_or(0, |metadata| metadata.len()), modified(&data)),
        Err(_) => (0, status.started_at),
    };
    let described = status.describe(offset, updated_at);
    Ok(Some((status.namespace, described)))
}
