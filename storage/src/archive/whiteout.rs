//! `.wh.` entries: what a layer removes of the layers below (MNT-6).
//!
//! In overlayfs's form nothing is removed: a character device 0:0 or `trusted.overlay.opaque` hides what lies below. The
//! order inside one layer does not matter: a whiteout and a new directory of the same name make an opaque directory.

use std::os::fd::{AsFd as _, BorrowedFd};

use nix::dir::Type;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::path::{CleanPath, c_string, shown};
use super::reader::{Entry, Kind};
use super::root::{file_type, open_child_directory};
use super::unpack::{Unpacker, failed, failed_io};
use super::{ArchiveError, Result, Whiteouts, tree, xattr};

/// What a name of a mark begins with.
pub(crate) const PREFIX: &[u8] = b".wh.";
const META_PREFIX: &[u8] = b".wh..wh.";
/// The mark that hides what lies below in its directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Where AUFS kept the targets of hard links; old archives have it.
pub(super) const LINK_DIRECTORY: &[u8] = b".wh..wh.plnk";
/// Depth of the walk that clears a directory, in directories: deeper than any path an archive may have.
const CLEAR_DEPTH_MAX: u32 = 300;

/// What a `.wh.` entry says.
pub(super) enum Mark {
    /// The directory hides what lies below.
    Opaque,
    /// This name is removed.
    Removed(Vec<u8>),
    /// AUFS's hard links.
    LinkDirectory,
    /// Other bookkeeping of AUFS.
    Ignored,
}

/// What an entry's name says, if it is a mark at all.
pub(super) fn parse(path: &CleanPath) -> Result<Option<Mark>> {
    let (parent, name) = path.split();
    let Some(removed) = name.strip_prefix(PREFIX) else { return Ok(None) };
    if name == OPAQUE {
        return Ok(Some(Mark::Opaque));
    }
    if name == LINK_DIRECTORY && parent.is_empty() {
        return Ok(Some(Mark::LinkDirectory));
    }
    if name.starts_with(META_PREFIX) {
        return Ok(Some(Mark::Ignored));
    }
    if matches!(removed, b"" | b"." | b"..") {
        let why = "a whiteout that points outside of its directory".to_owned();
        return Err(ArchiveError::Refused { path: shown(path.as_bytes()), why });
    }
    Ok(Some(Mark::Removed(removed.to_vec())))
}

/// Hides what the layers below have in a directory.
pub(super) fn make_opaque(directory: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    xattr::set(directory, c"trusted.overlay.opaque", b"y").map_err(failed_io("make opaque", path))
}

impl Unpacker<'_> {
    pub(super) fn whiteout(&mut self, path: &CleanPath, mark: Mark, entry: &Entry) -> Result<()> {
        let parent_path = path.split().0;
        match (mark, self.options.whiteouts) {
            // Files that are ordinary are not asked about.
            (Mark::Ignored, _) | (_, Whiteouts::Ordinary) => return Ok(()),
            (Mark::LinkDirectory, _) => {
                if entry.kind == Kind::Directory {
                    self.note_link_directory();
                    self.parent(path.as_bytes())?;
                }
                return Ok(());
            }
            (Mark::Opaque, Whiteouts::Overlay) => {
                let directory = self.parent(parent_path)?;
                make_opaque(directory.fd.as_fd(), parent_path)?;
            }
            (Mark::Opaque, Whiteouts::Remove) => {
                let directory = self.parent(parent_path)?;
                self.clear(directory.fd.as_fd(), 0).map_err(failed("clear", parent_path))?;
                self.forget_open();
            }
            (Mark::Removed(name), Whiteouts::Overlay) => self.hide(parent_path, &name)?,
            (Mark::Removed(name), Whiteouts::Remove) => {
                let directory = match self.root.directory(parent_path) {
                    // Nothing there, nothing to remove.
                    Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                    other => other.map_err(failed("open the directory", parent_path))?,
                };
                let inode = fstat(&directory).map_err(failed("look at", parent_path))?.st_ino;
                if !self.was_unpacked(inode, &name) {
                    tree::remove(directory.as_fd(), &c_string(&name)).map_err(failed("remove", &name))?;
                    self.forget_open();
                }
            }
        }
        self.report.whiteouts += 1;
        Ok(())
    }

    /// Marks a name as removed. A whiteout is about the layers below: what this layer itself has there stays, but a
    /// directory must not be merged with theirs.
    fn hide(&mut self, parent_path: &[u8], name: &[u8]) -> Result<()> {
        let parent = self.parent(parent_path)?;
        let c_name = c_string(name);
        match mknodat(&parent.fd, c_name.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0) {
            Err(Errno::EEXIST) => {}
            other => return other.map_err(failed("make the whiteout of", name)),
        }
        let path = CleanPath::new(name, &self.options.limits)?;
        let there = self.look(parent.fd.as_fd(), &path)?;
        if there.is_some_and(|stat| file_type(&stat) == SFlag::S_IFDIR) {
            let directory = open_child_directory(parent.fd.as_fd(), &c_name)
                .map_err(failed("open the directory", name))?;
            make_opaque(directory.as_fd(), name)?;
        }
        Ok(())
    }

    /// Removes what this archive did not unpack. A directory with something unpacked below stays, with only that in it.
    fn clear(&self, directory: BorrowedFd<'_>, depth: u32) -> nix::Result<()> {
        let inode = fstat(directory)?.st_ino;
        for (name, kind) in tree::list(directory)? {
            let is_directory = match kind {
                Some(kind) => kind == Type::Directory,
                None => open_child_directory(directory, &name).is_ok(),
            };
            let ours = self.was_unpacked(inode, name.as_bytes());
            if !is_directory {
                if !ours {
                    unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
                }
                continue;
            }
            if depth >= CLEAR_DEPTH_MAX {
                // No name of an archive reaches here, so nothing below is ours.
                tree::remove(directory, &name)?;
                continue;
            }
            let child = open_child_directory(directory, &name)?;
            self.clear(child.as_fd(), depth + 1)?;
            drop(child);
            if !ours {
                match unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
