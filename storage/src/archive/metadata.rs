//! Owner, attributes, mode and times of what was just made, in that order: a change of owner clears set-uid bits and
//! capabilities. Everything goes through descriptors or single names below them, and nothing follows a link.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::path::c_string;
use super::reader::Entry;
use super::root::{Root, descriptor_path};
use super::xattr;

/// Attributes that are the mount's business: a layer that could set them could redirect lookups in other layers.
pub(crate) const RESERVED: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Attributes that the host's security modules add: they are of this host, not of the tree.
pub(crate) const HOST: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Owner, attributes and mode of an open file or directory; returns how many attributes were left out.
pub(super) fn apply(file: BorrowedFd<'_>, entry: &Entry, owners: bool) -> io::Result<u64> {
    if owners {
        fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    let skipped = set_xattrs(entry, |name, value| xattr::set(file, name, value))?;
    fchmod(file, Mode::from_bits_truncate(entry.mode))?;
    Ok(skipped)
}

/// Takes from a directory that was there what its entry does not have: the entry says all that it shall have. The mount's
/// and the host's own attributes stay.
pub(super) fn remove_other_xattrs(directory: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    for (name, _) in xattr::all(directory)? {
        let bytes = name.to_bytes();
        let stays = RESERVED.iter().chain(&HOST).any(|prefix| bytes.starts_with(prefix));
        if !stays && !entry.xattrs.iter().any(|(kept, _)| kept == bytes) {
            match xattr::remove(directory, &name) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EPERM)) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// [`apply`] for a symbolic link, which has no mode, times included.
pub(super) fn apply_to_link(
    parent: BorrowedFd<'_>,
    name: &CStr,
    entry: &Entry,
    owners: bool,
) -> io::Result<u64> {
    chown_name(parent, name, entry, owners)?;
    let skipped = if entry.xattrs.is_empty() {
        0
    } else {
        let link = openat(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        set_xattrs(entry, |name, value| xattr::set_on_path_descriptor(link.as_fd(), name, value))?
    };
    set_times_of_name(parent, name, entry)?;
    Ok(skipped)
}

/// [`apply`] for a device or FIFO, which must not be opened.
pub(super) fn apply_to_node(
    parent: BorrowedFd<'_>,
    name: &CStr,
    entry: &Entry,
    owners: bool,
) -> io::Result<u64> {
    chown_name(parent, name, entry, owners)?;
    let node = openat(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let skipped = set_xattrs(entry, |name, value| xattr::set_on_path_descriptor(node.as_fd(), name, value))?;
    // The descriptor was opened without following, so this path leads to the node itself.
    fchmodat(
        nix::fcntl::AT_FDCWD,
        descriptor_path(node.as_fd()).as_c_str(),
        Mode::from_bits_truncate(entry.mode),
        FchmodatFlags::FollowSymlink,
    )?;
    set_times_of_name(parent, name, entry)?;
    Ok(skipped)
}

fn chown_name(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry, owners: bool) -> nix::Result<()> {
    if !owners {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Sets modification and access time.
pub(super) fn set_times(file: BorrowedFd<'_>, mtime: (i64, i64)) -> io::Result<()> {
    let time = TimeSpec::new(mtime.0, mtime.1);
    Ok(futimens(file, &time, &time)?)
}

fn set_times_of_name(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> nix::Result<()> {
    let time = TimeSpec::new(entry.mtime.0, entry.mtime.1);
    utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

/// MNT-9: what the file system or our rights do not allow is left out with a warning.
fn set_xattrs(entry: &Entry, set: impl Fn(&CStr, &[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut skipped = 0;
    for (name, value) in &entry.xattrs {
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            skipped += 1;
            continue;
        }
        match set(&c_string(name), value) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {
                let name = String::from_utf8_lossy(name);
                tracing::warn!(path = super::path::shown(&entry.path), %name, %error, "attribute left out");
                skipped += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(skipped)
}

/// Gives an implied directory the owner and mode that the nearest parent layer has for it, so that the layer on top does
/// not change what it never mentioned. False if no parent has it.
pub(super) fn adopt(
    parents: &[Root],
    path: &[u8],
    directory: BorrowedFd<'_>,
    owners: bool,
) -> nix::Result<bool> {
    for parent in parents {
        let model = match parent.directory(path) {
            Ok(model) => fstat(&model)?,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(error) => return Err(error),
        };
        if owners {
            fchown(directory, Some(Uid::from_raw(model.st_uid)), Some(Gid::from_raw(model.st_gid)))?;
        }
        fchmod(directory, Mode::from_bits_truncate(model.st_mode & 0o7777))?;
        return Ok(true);
    }
    Ok(false)
}
