//! Walking trees that strangers made: by descriptor, following nothing, with bounded depth of recursion whatever depth a
//! container gave its directories.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use bosun_types::snapshot::Usage;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::path::c_string;
use super::root::{file_type, open_child_directory};

/// Recursion below the top of a removal, in directories. What lies deeper is moved up to the top first.
const DEPTH_MAX: u32 = 48;
/// Size of the blocks that `st_blocks` counts, in bytes.
const STAT_BLOCK_BYTES: u64 = 512;

/// The names in a directory with their types, without `.` and `..`.
pub(crate) fn list(directory: BorrowedFd<'_>) -> nix::Result<Vec<(CString, Option<Type>)>> {
    // A descriptor of its own: `Dir` closes it, and its position is not shared.
    let mut dir = Dir::from_fd(open_child_directory(directory, &c_string(b"."))?)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Removes `name` with everything below it. Nothing there is success.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux says EISDIR, POSIX says EPERM.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error),
    }
    let top = match open_child_directory(parent, &name.to_owned()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0;
    loop {
        remove_children(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            // Directories that were too deep were moved up meanwhile: again.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove_children(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: u32,
    moved: &mut u64,
) -> nix::Result<()> {
    for (name, kind) in list(directory)? {
        if kind != Some(Type::Directory) {
            match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EISDIR | Errno::EPERM) if kind.is_none() => {}
                Err(error) => return Err(error),
            }
        }
        if depth >= DEPTH_MAX {
            move_up(directory, &name, top, moved)?;
            continue;
        }
        let child = open_child_directory(directory, &name)?;
        remove_children(child.as_fd(), top, depth + 1, moved)?;
        unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Moves a directory to the top under a name that is free there.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, moved: &mut u64) -> nix::Result<()> {
    loop {
        *moved += 1;
        let free = c_string(format!(".removed-{moved}").as_bytes());
        match renameat2(from, name, top, free.as_c_str(), RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EEXIST) => {}
            other => return other,
        }
    }
}

/// Disk use of a directory and everything in it; hard links count once (SNP-10).
pub(crate) fn usage(directory: OwnedFd) -> nix::Result<Usage> {
    usage_above(directory, None)
}

/// The same of what is not, unchanged, in `below` under the same name: what a tree has of its own that began as a
/// snapshot of another, with the same inode numbers.
pub(crate) fn usage_above(directory: OwnedFd, below: Option<OwnedFd>) -> nix::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let top = fstat(&directory)?;
    let top_below = below.as_ref().map(fstat).transpose()?;
    if !top_below.is_some_and(|below| is_same(&top, &below)) {
        add(&mut usage, top.st_blocks);
    }
    // A directory stays open only while it has children that wait.
    let mut waiting: Vec<(Rc<Pair>, CString)> = Vec::new();
    let mut next = Some(Rc::new(Pair { directory, below }));
    while let Some(pair) = next.take() {
        for (name, _) in list(pair.directory.as_fd())? {
            let stat = match fstatat(&pair.directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                // A running container may remove files while it is measured.
                Err(Errno::ENOENT) => continue,
                other => other?,
            };
            let is_shared = pair.below_of(&name).is_some_and(|below| is_same(&stat, &below));
            if file_type(&stat) == SFlag::S_IFDIR {
                waiting.push((Rc::clone(&pair), name));
            } else if stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            if !is_shared {
                add(&mut usage, stat.st_blocks);
            }
        }
        drop(pair);
        while next.is_none()
            && let Some((parent, name)) = waiting.pop()
        {
            next = match open_child_directory(parent.directory.as_fd(), &name) {
                Ok(directory) => {
                    let below = parent.below.as_ref();
                    let below = below.and_then(|below| open_child_directory(below.as_fd(), &name).ok());
                    Some(Rc::new(Pair { directory, below }))
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => None,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(usage)
}

/// A directory, and the one that it began as.
struct Pair {
    directory: OwnedFd,
    below: Option<OwnedFd>,
}

impl Pair {
    fn below_of(&self, name: &CStr) -> Option<FileStat> {
        fstatat(self.below.as_ref()?, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }
}

/// Every change of a file or its metadata changes its ctime.
fn is_same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_ino, one.st_ctime, one.st_ctime_nsec) == (other.st_ino, other.st_ctime, other.st_ctime_nsec)
}

fn add(usage: &mut Usage, blocks: i64) {
    usage.inodes += 1;
    usage.size_bytes += u64::try_from(blocks).unwrap_or(0) * STAT_BLOCK_BYTES;
}
