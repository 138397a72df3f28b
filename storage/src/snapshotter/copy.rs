//! A copy of a whole tree: contents (shared blocks where the file system can, holes kept), owners, attributes, modes,
//! times, hard links, devices; owned by the same or by whoever a map says. The tree is a stranger's: every step goes by descriptor, nothing is followed, and no depth
//! of directories is too much for the stack.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, copy_file_range, openat, readlinkat, renameat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, Whence, fchownat, linkat, lseek, symlinkat, unlinkat};

use crate::archive::path::{c_string, shown};
use crate::archive::root::{descriptor_path, file_type, open_child_directory};
use crate::archive::{tree, xattr};

mod owners;

pub(super) use owners::Owners;

/// Bytes that one system call copies at most: Linux takes no more than 2 GiB.
const CHUNK_BYTES: usize = 1 << 30;

/// Copies what is in the directory `from` into the empty directory `to`, and `from`'s own metadata onto `to`. `aside` is
/// another empty directory of `to`'s file system, where the first name of each file with several waits for the next.
/// Nothing is synced.
pub(super) fn copy(from: &Path, to: &Path, aside: &Path, owners: Owners<'_>) -> io::Result<()> {
    let open = |path: &Path| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty())
    };
    let mut copier = Copier::new(open(aside)?, owners);
    copier.frames(Frame::new(open(from)?, open(to)?)?)?;
    copier.finish()
}

/// The same for one name of the directory `from`, with what is below it.
pub(crate) fn copy_one(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    aside: OwnedFd,
) -> io::Result<()> {
    let mut copier = Copier::new(aside, Owners::Same);
    if let Some(below) = copier.entry(from, to, name)? {
        copier.frames(below)?;
    }
    copier.finish()
}

struct Copier<'a> {
    aside: OwnedFd,
    /// Files of which not all names have come yet, by device and inode of the original.
    links: HashMap<(u64, u64), Link>,
    next_link: u64,
    can_share_blocks: bool,
    owners: Owners<'a>,
}

struct Link {
    /// Its name in `aside`.
    name: CString,
    /// Names still to come.
    left: u64,
}

/// A directory that is being copied.
struct Frame {
    from: OwnedFd,
    to: OwnedFd,
    left: std::vec::IntoIter<CString>,
}

impl Frame {
    fn new(from: OwnedFd, to: OwnedFd) -> nix::Result<Self> {
        let mut names: Vec<CString> = tree::list(from.as_fd())?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(Self { from, to, left: names.into_iter() })
    }
}

impl<'a> Copier<'a> {
    fn new(aside: OwnedFd, owners: Owners<'a>) -> Self {
        Self { aside, links: HashMap::new(), next_link: 0, can_share_blocks: true, owners }
    }

    fn finish(self) -> io::Result<()> {
        for link in self.links.into_values() {
            // Its other names are outside of the tree.
            unlinkat(&self.aside, link.name.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }

    /// A directory's metadata comes last: every name put into it changes its times, and a default list of access rights
    /// would be inherited.
    fn frames(&mut self, first: Frame) -> io::Result<()> {
        let mut stack = vec![first];
        while let Some(frame) = stack.last_mut() {
            let Some(name) = frame.left.next() else {
                let stat = fstat(&frame.from)?;
                metadata(frame.from.as_fd(), frame.to.as_fd(), &stat, self.owners)?;
                stack.pop();
                continue;
            };
            let below = self.entry(frame.from.as_fd(), frame.to.as_fd(), &name);
            let below = below.map_err(|error| {
                let name = shown(name.to_bytes());
                io::Error::new(error.kind(), format!("copy {name}: {error}"))
            })?;
            stack.extend(below);
        }
        Ok(())
    }

    /// Copies one name; a directory is only made, to be gone into.
    fn entry(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Frame>> {
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = file_type(&stat);
        if kind == SFlag::S_IFDIR {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let open = |parent| open_child_directory(parent, &name.to_owned());
            return Ok(Some(Frame::new(open(from)?, open(to)?)?));
        }
        if stat.st_nlink > 1 && self.link_to_earlier(&stat, to, name)? {
            return Ok(None);
        }
        match kind {
            SFlag::S_IFREG => self.file(from, to, name, &stat)?,
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name)?;
                symlinkat(c_string(target.as_bytes()).as_c_str(), to, name)?;
            }
            _ => mknodat(to, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, stat.st_rdev)?,
        }
        if kind != SFlag::S_IFREG {
            metadata(open_node(from, name)?.as_fd(), open_node(to, name)?.as_fd(), &stat, self.owners)?;
        }
        if stat.st_nlink > 1 {
            self.expect_links(&stat, to, name)?;
        }
        Ok(None)
    }

    /// A further name of a file that was copied before.
    fn link_to_earlier(&mut self, stat: &FileStat, to: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
        let key = (stat.st_dev, stat.st_ino);
        let Some(link) = self.links.get_mut(&key) else { return Ok(false) };
        link.left = link.left.saturating_sub(1);
        if link.left == 0 {
            // The last one is the waiting name itself: never one link more than the original has.
            renameat(&self.aside, link.name.as_c_str(), to, name)?;
            self.links.remove(&key);
        } else {
            linkat(&self.aside, link.name.as_c_str(), to, name, AtFlags::empty())?;
        }
        Ok(true)
    }

    fn expect_links(&mut self, stat: &FileStat, to: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        let waiting = c_string(self.next_link.to_string().as_bytes());
        self.next_link += 1;
        linkat(to, name, &self.aside, waiting.as_c_str(), AtFlags::empty())?;
        self.links.insert((stat.st_dev, stat.st_ino), Link { name: waiting, left: stat.st_nlink - 1 });
        Ok(())
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
    ) -> io::Result<()> {
        let base = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let source =
            File::from(openat(from, name, base | OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?);
        let flags = base | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let target = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        if length > 0 && !(self.can_share_blocks && self.share_blocks(&source, &target)?) {
            contents(&source, &target, length)?;
        }
        metadata(source.as_fd(), target.as_fd(), stat, self.owners)
    }

    /// Lets both files have the same blocks; false, from then on, where the file system cannot.
    #[expect(unsafe_code, reason = "nix has no FICLONE")]
    fn share_blocks(&mut self, source: &File, target: &File) -> nix::Result<bool> {
        // SAFETY: both descriptors are open for the call, which takes only the second one's number.
        let result = unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
        match Errno::result(result) {
            Ok(_) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS) => {
                self.can_share_blocks = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies the data and leaves holes where there are holes.
fn contents(source: &File, target: &File, length: u64) -> io::Result<()> {
    target.set_len(length)?;
    let end = i64::try_from(length).map_err(io::Error::other)?;
    let mut at = 0;
    while at < end {
        let data = match lseek(source, at, Whence::SeekData) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => break,
            // A file system that does not know: all of it is data.
            Err(Errno::EINVAL) => at,
            Err(error) => return Err(error.into()),
        };
        at = lseek(source, data, Whence::SeekHole).unwrap_or(end).min(end);
        span(source, target, data, at)?;
    }
    Ok(())
}

/// Copies the bytes from `at` to `end`, within the kernel where it can.
fn span(source: &File, target: &File, mut at: i64, end: i64) -> io::Result<()> {
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let copied = if by_kernel {
            match copy_file_range(source, Some(&mut at.clone()), target, Some(&mut at.clone()), wanted) {
                Err(Errno::EXDEV | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                    by_kernel = false;
                    continue;
                }
                other => other?,
            }
        } else {
            through_memory(source, target, at, wanted, &mut buffer)?
        };
        if copied == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was copied",
            ));
        }
        at += i64::try_from(copied).map_err(io::Error::other)?;
    }
    Ok(())
}

fn through_memory(
    source: &File,
    target: &File,
    at: i64,
    wanted: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    buffer.resize(wanted.min(1 << 20), 0);
    let at = u64::try_from(at).map_err(io::Error::other)?;
    let length = source.read_at(buffer, at)?;
    target.write_all_at(&buffer[..length], at)?;
    Ok(length)
}

/// Owner, attributes, mode and times, in this order: a change of owner clears set-uid bits and capabilities.
fn metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &FileStat, owners: Owners<'_>) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owners.uid(stat.st_uid)?), Gid::from_raw(owners.gid(stat.st_gid)?));
    fchownat(to, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW)?;
    for (name, mut value) in xattr::all(from)? {
        owners.attribute(&name, &mut value)?;
        xattr::set_on_path_descriptor(to, &name, &value)?;
    }
    // The path leads to what the descriptor names and no further.
    let path = descriptor_path(to);
    if file_type(stat) != SFlag::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        fchmodat(AT_FDCWD, path.as_c_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    Ok(utimensat(AT_FDCWD, path.as_c_str(), &accessed, &modified, UtimensatFlags::FollowSymlink)?)
}

/// What a name stands for, without opening it: a device must not be opened, a link not followed.
fn open_node(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    openat(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests;
