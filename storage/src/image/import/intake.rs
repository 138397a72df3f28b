//! The stream: blobs into the content store, small documents into memory, names remembered.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use bosun_types::{Digest, NamespaceName};

use super::{ImportError, ImportOptions, REF_PREFIX, invalid};
use crate::archive::path::{CleanPath, shown};
use crate::archive::reader::{Entry, Kind, TarReader};
use crate::archive::{ArchiveError, Limits};
use crate::compression::{self, Compression, CompressionLimits, Decompressor};
use crate::content::{ContentStore, Ingest};
use crate::image::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX, media_type};

/// Most entries of an image archive.
const ENTRIES_MAX: u64 = 100_000;
/// Size of the buffer between decompressor and tar, in bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// Links followed from a name in `manifest.json` to a file.
const LINKS_MAX: usize = 16;
/// Bytes of a file that tell how it is compressed.
const MAGIC_BYTES: usize = 6;

/// A file that was kept under the digest of its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
}

/// What an archive holds, once it was read.
pub(super) struct Archive<'a> {
    pub(super) store: &'a ContentStore,
    namespace: &'a NamespaceName,
    /// `index.json`.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json`.
    pub(super) docker: Option<Vec<u8>>,
    /// Blobs written, with their sizes.
    pub(super) blobs: BTreeMap<Digest, u64>,
    files: BTreeMap<Vec<u8>, Kept>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Makes the refs of this import its own, whatever other imports run.
    nonce: u64,
    refs: u64,
}

impl Archive<'_> {
    /// The file that a name in `manifest.json` leads to, through links if need be.
    pub(super) fn file(&self, name: &str) -> Option<Kept> {
        let mut name = name.as_bytes().to_vec();
        for _ in 0..LINKS_MAX {
            if let Some(kept) = self.files.get(&name) {
                return Some(*kept);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn begin(&mut self, total: u64, expected: Option<Digest>) -> Result<Ingest, ImportError> {
        self.refs += 1;
        let reference = format!("{REF_PREFIX}{:016x}-{}", self.nonce, self.refs);
        Ok(self.store.begin(self.namespace, &reference, total, expected)?)
    }

    /// Keeps a document that the import itself made.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<Kept, ImportError> {
        let mut ingest = self.begin(0, None)?;
        ingest.write(bytes)?;
        let kept = ingest.commit_as_is()?;
        self.blobs.insert(kept.digest, kept.size);
        Ok(Kept { digest: kept.digest, size: kept.size, compression: Compression::None })
    }

    /// A kept blob, if it is not larger than `max`.
    pub(super) fn read(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, ImportError> {
        Ok(self.store.read_blob(digest, max)?)
    }
}

/// Reads the stream into an [`Archive`].
pub(super) struct Intake<'a> {
    archive: Archive<'a>,
    progress: &'a dyn Fn(u64),
    passed: u64,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        store: &'a ContentStore,
        namespace: &'a NamespaceName,
        options: &ImportOptions<'a>,
    ) -> Result<Self, ImportError> {
        let nonce = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?;
        let archive = Archive {
            store,
            namespace,
            index: None,
            docker: None,
            blobs: BTreeMap::new(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            nonce,
            refs: 0,
        };
        Ok(Self { archive, progress: options.progress, passed: 0 })
    }

    pub(super) fn finish(self) -> Archive<'a> {
        self.archive
    }

    pub(super) fn read(&mut self, reader: impl Read) -> Result<(), ImportError> {
        let plain = Decompressor::new(reader, CompressionLimits::default())
            .map_err(|source| ArchiveError::Read { source })?;
        let limits = Limits { entries_max: ENTRIES_MAX, ..Limits::default() };
        let mut tar = TarReader::new(BufReader::with_capacity(BUFFER_BYTES, plain), limits);
        while let Some(entry) = tar.next()? {
            let path = CleanPath::new(&entry.path, &limits)?;
            match entry.kind {
                Kind::Regular => self.file(path.as_bytes(), &entry, &mut tar)?,
                Kind::Symlink | Kind::HardLink => self.link(&path, &entry, &limits)?,
                _ => {}
            }
        }
        // The end of a compressed stream holds its checksum.
        tar.drain()?;
        (self.progress)(self.passed);
        Ok(())
    }

    fn file<R: std::io::BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        tar: &mut TarReader<R>,
    ) -> Result<(), ImportError> {
        if entry.sparse {
            return Err(invalid(format!("{} is a sparse file", shown(path))));
        }
        let document = match path {
            b"index.json" => Some((&mut self.archive.index, "index.json")),
            b"manifest.json" => Some((&mut self.archive.docker, "manifest.json")),
            _ => None,
        };
        if let Some((slot, name)) = document {
            if slot.is_some() {
                return Err(invalid(format!("it has two {name}")));
            }
            if entry.size > MANIFEST_BYTES_MAX as u64 {
                let size = entry.size;
                return Err(invalid(format!(
                    "{name} has {size} bytes, at most {MANIFEST_BYTES_MAX} are read"
                )));
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = tar.chunk()? {
                bytes.extend_from_slice(chunk);
                let length = chunk.len();
                tar.consume(length);
            }
            *slot = Some(bytes);
            return Ok(());
        }
        let kept = match blob_digest(path)? {
            Some(digest) => self.blob(entry.size, Some(digest), tar)?,
            None if is_wanted(path, entry.size) => self.blob(entry.size, None, tar)?,
            // IEX-2: other files are ignored.
            None => return Ok(()),
        };
        self.archive.files.insert(path.to_vec(), kept);
        Ok(())
    }

    /// One file into the content store. A failed one leaves no ingest behind.
    fn blob<R: std::io::BufRead>(
        &mut self,
        size: u64,
        expected: Option<Digest>,
        tar: &mut TarReader<R>,
    ) -> Result<Kept, ImportError> {
        let mut ingest = self.archive.begin(size, expected)?;
        let mut start = Vec::with_capacity(MAGIC_BYTES);
        if let Err(error) = self.copy(&mut ingest, &mut start, tar) {
            ingest.abort()?;
            return Err(error);
        }
        let committed = ingest.commit_as_is()?;
        self.archive.blobs.insert(committed.digest, committed.size);
        let compression = compression::detect(&start).unwrap_or(Compression::None);
        Ok(Kept { digest: committed.digest, size: committed.size, compression })
    }

    fn copy<R: std::io::BufRead>(
        &mut self,
        ingest: &mut Ingest,
        start: &mut Vec<u8>,
        tar: &mut TarReader<R>,
    ) -> Result<(), ImportError> {
        while let Some(chunk) = tar.chunk()? {
            ingest.write(chunk)?;
            start.extend(chunk.iter().take(MAGIC_BYTES - start.len()));
            let length = chunk.len();
            tar.consume(length);
            self.passed += length as u64;
            (self.progress)(self.passed);
        }
        Ok(())
    }

    /// Old `docker save` links a layer that comes twice. Only names of this archive can be reached: nothing is followed
    /// on a disk.
    fn link(&mut self, path: &CleanPath, entry: &Entry, limits: &Limits) -> Result<(), ImportError> {
        if !path.as_bytes().ends_with(b".tar") {
            return Ok(());
        }
        let mut way: Vec<&[u8]> = Vec::new();
        if entry.kind == Kind::Symlink && !path.split().0.is_empty() {
            way.extend(path.split().0.split(|byte| *byte == b'/'));
        }
        for component in entry.link.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    if way.pop().is_none() {
                        let why = "a link that points outside of the archive".to_owned();
                        return Err(ArchiveError::Refused { path: shown(&entry.path), why }.into());
                    }
                }
                _ => way.push(component),
            }
        }
        let target = CleanPath::new(&way.join(&b'/'), limits)?;
        self.archive.links.insert(path.as_bytes().to_vec(), target.as_bytes().to_vec());
        Ok(())
    }
}

/// The digest that `blobs/sha256/<hex>` promises. Other algorithms are ignored; a name that is no digest is refused.
fn blob_digest(path: &[u8]) -> Result<Option<Digest>, ImportError> {
    let Some(hex) = path.strip_prefix(b"blobs/sha256/") else { return Ok(None) };
    let text = format!("sha256:{}", String::from_utf8_lossy(hex));
    text.parse().map(Some).map_err(|error: bosun_types::Error| invalid(error.message))
}

/// Whether a file may be what a `manifest.json` points at, which may come later: a layer, or a config of bounded size.
fn is_wanted(path: &[u8], size: u64) -> bool {
    path.ends_with(b".tar") || (path.ends_with(b".json") && size <= CONFIG_BYTES_MAX as u64)
}

impl Kept {
    /// The docker media type of a kept layer.
    pub(super) fn layer_media_type(&self) -> String {
        match self.compression {
            Compression::None => media_type::DOCKER_LAYER.to_owned(),
            Compression::Gzip => media_type::DOCKER_LAYER_GZIP.to_owned(),
            Compression::Zstd => format!("{}.zstd", media_type::DOCKER_LAYER),
        }
    }
}
