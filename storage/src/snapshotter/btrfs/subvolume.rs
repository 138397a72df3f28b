//! Subvolumes by ioctl: the few calls that the snapshotter makes of btrfs, each on descriptors.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};

use crate::archive::root::{file_type, open_child_directory};
use crate::archive::tree;

/// Of linux/btrfs.h.
const MAGIC: u64 = 0x94;
const SNAP_DESTROY: u64 = 15;
const SNAP_CREATE_V2: u64 = 23;
const SUBVOL_CREATE_V2: u64 = 24;
const SUBVOL_SETFLAGS: u64 = 26;
const READ_ONLY: u64 = 1 << 1;
const NAME_BYTES: usize = 4040;
const NAME_BYTES_V1: usize = 4088;
/// The inode number of every subvolume's top directory (linux/btrfs_tree.h).
const TOP_INODE: u64 = 256;
/// Name of a snapshot's subvolume in its directory.
const FILES: &CStr = c"fs";

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Arguments {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_BYTES],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct ArgumentsV1 {
    fd: i64,
    name: [u8; NAME_BYTES_V1],
}

/// `_IOW(0x94, number, size)`.
const fn request(number: u64, size: usize) -> libc::Ioctl {
    ((1 << 30) | ((size as u64) << 16) | (MAGIC << 8) | number) as libc::Ioctl
}

/// Whether the path is on btrfs.
pub(super) fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(fstatfs(File::open(path)?)?.filesystem_type() == BTRFS_SUPER_MAGIC)
}

/// Makes the empty subvolume `fs` in a directory.
pub(super) fn create(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    call(&directory, SUBVOL_CREATE_V2, &arguments(0, 0))
}

/// Makes `fs` in a directory a snapshot of another subvolume.
pub(super) fn snapshot(directory: &Path, of: &File, read_only: bool) -> io::Result<()> {
    let directory = File::open(directory)?;
    let flags = if read_only { READ_ONLY } else { 0 };
    call(&directory, SNAP_CREATE_V2, &arguments(i64::from(of.as_raw_fd()), flags))
}

/// Removes the subvolume `fs` of a directory, with subvolumes that a container made in it. None there is success.
pub(super) fn ensure_none(directory: &Path) -> io::Result<()> {
    let directory = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    match destroy(directory.as_fd(), FILES) {
        Err(Errno::ENOENT) => Ok(()),
        // Not a subvolume: it is removed as any directory is.
        Err(Errno::EINVAL | Errno::ENOTTY | Errno::ENOTDIR) => Ok(()),
        Err(Errno::ENOTEMPTY) => {
            let top = open_child_directory(directory.as_fd(), &FILES.to_owned())?;
            destroy_below(top)?;
            destroy(directory.as_fd(), FILES).map_err(io::Error::from)
        }
        other => other.map_err(io::Error::from),
    }
}

/// A directory on the way down: what is left to look at, and its name in its parent when it is a subvolume.
struct Frame {
    directory: OwnedFd,
    left: Vec<CString>,
    subvolume: Option<CString>,
}

/// Destroys all subvolumes below, the deepest first.
fn destroy_below(top: OwnedFd) -> io::Result<()> {
    let mut stack = vec![Frame::open(top, None)?];
    while let Some(frame) = stack.last_mut() {
        let Some(name) = frame.left.pop() else {
            let done = stack.pop().and_then(|frame| frame.subvolume);
            if let (Some(name), Some(parent)) = (done, stack.last()) {
                destroy(parent.directory.as_fd(), &name)?;
            }
            continue;
        };
        let stat = fstatat(&frame.directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if file_type(&stat) == SFlag::S_IFDIR {
            let child = open_child_directory(frame.directory.as_fd(), &name)?;
            let subvolume = (stat.st_ino == TOP_INODE).then_some(name);
            stack.push(Frame::open(child, subvolume)?);
        }
    }
    Ok(())
}

impl Frame {
    fn open(directory: OwnedFd, subvolume: Option<CString>) -> io::Result<Self> {
        if subvolume.is_some() {
            // A read-only one gives up none of its own.
            set_flags(directory.as_fd(), 0)?;
        }
        let left = tree::list(directory.as_fd())?.into_iter().map(|(name, _)| name).collect();
        Ok(Self { directory, left, subvolume })
    }
}

fn arguments(fd: i64, flags: u64) -> Arguments {
    let mut name = [0; NAME_BYTES];
    name[..FILES.to_bytes().len()].copy_from_slice(FILES.to_bytes());
    Arguments { fd, transid: 0, flags, unused: [0; 4], name }
}

#[expect(unsafe_code, reason = "nix has no calls of btrfs")]
fn call(directory: &File, number: u64, arguments: &Arguments) -> io::Result<()> {
    // SAFETY: the kernel reads one structure of the size that the request says, which lives through the call.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), request(number, size_of::<Arguments>()), &raw const *arguments)
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "nix has no calls of btrfs")]
fn destroy(directory: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    let bytes = name.to_bytes();
    let mut arguments = ArgumentsV1 { fd: 0, name: [0; NAME_BYTES_V1] };
    arguments.name.get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
    // SAFETY: the kernel reads one structure of the size that the request says, which lives through the call.
    let result = unsafe {
        libc::ioctl(
            directory.as_raw_fd(),
            request(SNAP_DESTROY, size_of::<ArgumentsV1>()),
            &raw const arguments,
        )
    };
    Errno::result(result).map(drop)
}

#[expect(unsafe_code, reason = "nix has no calls of btrfs")]
fn set_flags(subvolume: BorrowedFd<'_>, flags: u64) -> nix::Result<()> {
    // SAFETY: the kernel reads one number, which lives through the call.
    let result = unsafe {
        libc::ioctl(subvolume.as_raw_fd(), request(SUBVOL_SETFLAGS, size_of::<u64>()), &raw const flags)
    };
    Errno::result(result).map(drop)
}
