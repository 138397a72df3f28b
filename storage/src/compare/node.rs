//! One file of a tree, held by a descriptor from the moment it is looked at.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};

use super::decide::Facts;
use crate::archive::metadata::{HOST, RESERVED};
use crate::archive::reader::{Entry, Kind};
use crate::archive::root::{descriptor_path, file_type};
use crate::archive::xattr;

/// Attributes that are overlayfs's own.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Size of each of the two buffers that compare contents, in bytes.
const COMPARE_BUFFER_BYTES: usize = 64 << 10;

/// What overlayfs says of a file in its writable directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverlayMark {
    /// The file removes one of the layers below.
    Whiteout,
    /// The directory hides what the layers below have in it.
    Opaque,
    /// What the file is stands in the layers below; the attribute that says so.
    Partial(&'static str),
}

/// A file that was opened by name, without following or reading it.
#[derive(Debug)]
pub(crate) struct Node {
    /// An `O_PATH` descriptor.
    fd: OwnedFd,
    pub(crate) facts: Facts,
    pub(crate) kind: SFlag,
    pub(crate) inode: (u64, u64),
    overlay: Vec<(Vec<u8>, Vec<u8>)>,
    /// Attributes that no PAX record can name.
    pub(super) xattrs_skipped: u64,
}

impl Node {
    /// Opens `name` below `parent`; `None` if it is gone.
    pub(crate) fn open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => Self::of(fd).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The file that an `O_PATH` descriptor is of.
    pub(crate) fn of(fd: OwnedFd) -> io::Result<Self> {
        let stat = fstat(&fd)?;
        let kind = file_type(&stat);
        let link = if kind == SFlag::S_IFLNK { readlinkat(&fd, c"")?.into_vec() } else { Vec::new() };
        let (mut xattrs, mut overlay, mut skipped) = (Vec::new(), Vec::new(), 0);
        for (name, value) in xattr::all(fd.as_fd())? {
            let name = name.into_bytes();
            if name.starts_with(OVERLAY) {
                overlay.push((name, value));
            } else if RESERVED.iter().chain(&HOST).any(|prefix| name.starts_with(prefix)) {
                continue;
            } else if name.contains(&b'=') {
                // It would end the key of the record.
                skipped += 1;
            } else {
                xattrs.push((name, value));
            }
        }
        let is_device = matches!(kind, SFlag::S_IFCHR | SFlag::S_IFBLK);
        let facts = Facts {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            size: if kind == SFlag::S_IFREG { stat.st_size.cast_unsigned() } else { 0 },
            device: if is_device { stat.st_rdev } else { 0 },
            names: if kind == SFlag::S_IFDIR { 1 } else { stat.st_nlink },
            link,
            xattrs,
        };
        Ok(Self { fd, facts, kind, inode: (stat.st_dev, stat.st_ino), overlay, xattrs_skipped: skipped })
    }

    /// What overlayfs says of it, if anything.
    pub(super) fn overlay_mark(&self) -> Option<OverlayMark> {
        let has = |name: &CStr| self.overlay.iter().find(|(known, _)| known == name.to_bytes());
        if self.kind == SFlag::S_IFCHR && self.facts.device == 0 {
            return Some(OverlayMark::Whiteout);
        }
        if self.kind == SFlag::S_IFREG && self.facts.size == 0 && has(c"trusted.overlay.whiteout").is_some() {
            return Some(OverlayMark::Whiteout);
        }
        if self.kind == SFlag::S_IFREG && has(c"trusted.overlay.metacopy").is_some() {
            return Some(OverlayMark::Partial("metacopy"));
        }
        if self.kind == SFlag::S_IFDIR {
            if has(c"trusted.overlay.redirect").is_some() {
                return Some(OverlayMark::Partial("redirect"));
            }
            // The value `x` means only that the directory may hold whiteouts by attribute.
            return has(c"trusted.overlay.opaque")
                .filter(|(_, value)| value == b"y")
                .map(|_| OverlayMark::Opaque);
        }
        None
    }

    /// Opens a directory for listing.
    pub(crate) fn directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(openat(&self.fd, c".", flags, Mode::empty())?)
    }

    /// Opens a regular file for reading: this very one, whatever its name leads to by now.
    pub(crate) fn contents(&self) -> io::Result<File> {
        debug_assert_eq!(self.kind, SFlag::S_IFREG, "nothing else may be opened");
        let path = descriptor_path(self.fd.as_fd());
        Ok(nix::fcntl::open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
    }

    /// Its entry under `path`; `None` for a socket.
    pub(crate) fn entry(&self, path: &[u8]) -> Option<Entry> {
        let kind = match self.kind {
            SFlag::S_IFREG => Kind::Regular,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Symlink,
            SFlag::S_IFCHR => Kind::Character,
            SFlag::S_IFBLK => Kind::Block,
            SFlag::S_IFIFO => Kind::Fifo,
            _ => return None,
        };
        let facts = &self.facts;
        let mut path = path.to_vec();
        if kind == Kind::Directory {
            path.push(b'/');
        }
        // Both fit: Linux has 12 bits of major and 20 bits of minor numbers.
        let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Entry {
            path,
            link: facts.link.clone(),
            kind,
            size: facts.size,
            sparse: false,
            mode: facts.mode & 0o7777,
            uid: facts.uid,
            gid: facts.gid,
            mtime: facts.mtime,
            device: (part(major(facts.device)), part(minor(facts.device))),
            xattrs: facts.xattrs.clone(),
        })
    }
}

/// Whether two regular files of the same size have the same contents.
pub(super) fn same_contents(one: &Node, other: &Node) -> io::Result<bool> {
    let (mut one, mut other) = (one.contents()?, other.contents()?);
    let mut buffers = [vec![0; COMPARE_BUFFER_BYTES], vec![0; COMPARE_BUFFER_BYTES]];
    loop {
        let length = fill(&mut one, &mut buffers[0])?;
        if fill(&mut other, &mut buffers[1])? != length || buffers[0][..length] != buffers[1][..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
