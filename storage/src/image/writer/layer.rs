//! Layers from entries in memory or from directories.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bosun_types::Digest;

use crate::archive::reader::{Entry, Kind};
use crate::archive::writer::TarWriter;
use crate::compression::{Compression, Compressor};
use crate::image::digest_of;

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEntryKind {
    /// A directory.
    Directory,
    /// A regular file with these bytes.
    File(Vec<u8>),
    /// A symbolic link to this text.
    Symlink(String),
    /// A hard link to this earlier entry.
    HardLink(String),
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

/// One entry with everything an archive can say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Path inside the root, without a leading slash.
    pub path: String,
    /// What it is.
    pub kind: LayerEntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds.
    pub mtime: u64,
    /// Extended attributes, in order.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl LayerEntry {
    /// Owned by root, made at the epoch.
    pub fn new(path: &str, kind: LayerEntryKind, mode: u32) -> Self {
        Self { path: path.to_owned(), kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
    }
}

/// Collects the entries of one layer. A failure (such as a path that no archive can hold) is told by `build`.
#[derive(Debug, Default)]
pub struct LayerBuilder {
    tar: Vec<u8>,
    failure: Option<io::Error>,
}

impl LayerBuilder {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(&LayerEntry::new(path, LayerEntryKind::Directory, mode))
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(&LayerEntry::new(path, LayerEntryKind::File(bytes.to_vec()), mode))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(&LayerEntry::new(path, LayerEntryKind::Symlink(target.to_owned()), 0o777))
    }

    /// A hard link to an earlier file of the layer.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(&LayerEntry::new(path, LayerEntryKind::HardLink(target.to_owned()), 0o644))
    }

    /// Removes `path` of the layers below.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
        self.file(&join(parent, &format!(".wh.{name}")), 0o600, b"")
    }

    /// Hides what the layers below have in directory `path`.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        self.file(&join(path, ".wh..wh..opq"), 0o600, b"")
    }

    /// Any entry.
    #[must_use]
    pub fn entry(mut self, entry: &LayerEntry) -> Self {
        if self.failure.is_none() {
            self.failure = self.append(entry).err();
        }
        self
    }

    /// Everything below a directory of the host, owned by root, in order of name. Sockets are left out (MNT-10).
    pub fn directory_tree(mut self, source: &Path) -> io::Result<Self> {
        self.walk(source, "")?;
        Ok(self)
    }

    fn walk(&mut self, source: &Path, prefix: &str) -> io::Result<()> {
        let mut names: Vec<_> =
            fs::read_dir(source)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort_unstable();
        for name in names {
            let path = source.join(&name);
            let text =
                name.to_str().ok_or_else(|| io::Error::other(format!("{} is not text", path.display())))?;
            let inside = join(prefix, text);
            let metadata = fs::symlink_metadata(&path)?;
            let kind = if metadata.is_dir() {
                LayerEntryKind::Directory
            } else if metadata.is_file() {
                LayerEntryKind::File(fs::read(&path)?)
            } else if metadata.is_symlink() {
                LayerEntryKind::Symlink(fs::read_link(&path)?.to_string_lossy().into_owned())
            } else {
                continue;
            };
            let is_directory = kind == LayerEntryKind::Directory;
            self.append(&LayerEntry::new(&inside, kind, metadata.permissions().mode() & 0o7777))?;
            if is_directory {
                self.walk(&path, &inside)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: &LayerEntry) -> io::Result<()> {
        let none: &[u8] = b"";
        let (kind, data, link, device) = match &entry.kind {
            LayerEntryKind::Directory => (Kind::Directory, none, "", (0, 0)),
            LayerEntryKind::File(bytes) => (Kind::Regular, bytes.as_slice(), "", (0, 0)),
            LayerEntryKind::Symlink(target) => (Kind::Symlink, none, target.as_str(), (0, 0)),
            LayerEntryKind::HardLink(target) => (Kind::HardLink, none, target.as_str(), (0, 0)),
            LayerEntryKind::Character(major, minor) => (Kind::Character, none, "", (*major, *minor)),
            LayerEntryKind::Block(major, minor) => (Kind::Block, none, "", (*major, *minor)),
            LayerEntryKind::Fifo => (Kind::Fifo, none, "", (0, 0)),
        };
        let xattrs = entry.xattrs.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone()));
        let mut tar = TarWriter::new(&mut self.tar);
        tar.entry(&Entry {
            path: entry.path.clone().into_bytes(),
            link: link.as_bytes().to_vec(),
            kind,
            size: data.len() as u64,
            sparse: false,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: (entry.mtime.cast_signed(), 0),
            device,
            xattrs: xattrs.collect(),
        })?;
        // The end of the archive is written once, by `build`.
        tar.content(data)
    }

    /// Ends the archive and compresses it.
    pub fn build(mut self, compression: Compression) -> io::Result<Layer> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.tar.resize(self.tar.len() + 1024, 0);
        Layer::from_tar(&self.tar, compression)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// A finished layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// As stored and pushed.
    pub bytes: Vec<u8>,
    /// How `bytes` is compressed.
    pub compression: Compression,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Digest of the plain tar.
    pub diff_id: Digest,
}

impl Layer {
    /// From a finished tar archive.
    pub fn from_tar(tar: &[u8], compression: Compression) -> io::Result<Self> {
        let mut compressor = Compressor::new(Vec::new(), compression)?;
        compressor.write_all(tar)?;
        let (bytes, diff_id, _) = compressor.finish()?;
        Ok(Self { digest: digest_of(&bytes), bytes, compression, diff_id })
    }

    /// A layer with one file of the host at `path` and the directories above it.
    pub fn of_file(source: &Path, path: &str, mode: u32, compression: Compression) -> io::Result<Self> {
        let path = path.trim_start_matches('/');
        let mut builder = LayerBuilder::new();
        for (slash, _) in path.match_indices('/') {
            builder = builder.directory(&path[..slash], 0o755);
        }
        builder.file(path, mode, &fs::read(source)?).build(compression)
    }
}
