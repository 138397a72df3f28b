//! A mount attached to no path: it exists as a descriptor and ends with it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use bosun_types::Error;
use bosun_types::mount::Mount;
use nix::errno::Errno;
use nix::mount::MsFlags;

use super::options::parse;
use crate::error::{Context as _, Result};

/// Of linux/mount.h.
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOUNT_ATTR_READ_ONLY: u32 = 0x1;
const MOUNT_ATTR_NOSUID: u32 = 0x2;
const MOUNT_ATTR_NODEV: u32 = 0x4;
const MOUNT_ATTR_NOEXEC: u32 = 0x8;
/// fsconfig(2) takes values of up to 255 bytes.
const VALUE_BYTES_MAX: usize = 255;

/// The root that these mounts describe, for reading only: read-only, no devices, no programs. One mount without a
/// target of its own. An overlay that is in use elsewhere is not disturbed: its writable layer becomes the topmost of
/// the read-only ones here. Blocking.
pub fn detached(mounts: &[Mount]) -> Result<OwnedFd> {
    let [it] = mounts else {
        let message = format!("{} mounts cannot be read without a place to put them", mounts.len());
        return Err(Error::not_implemented(message).into());
    };
    let options = parse(&it.options);
    let what = || format!("mount {} {} detached", it.kind, it.source);
    if it.kind == "overlay" {
        return overlay(&layers(&options.data)?).context(what);
    }
    if it.kind == "bind" || options.flags.contains(MsFlags::MS_BIND) {
        return clone_of(&text(&it.source).context(what)?, options.recursive).context(what);
    }
    Err(Error::not_implemented(format!("a detached mount of type {:?}", it.kind)).into())
}

/// Layers of an overlay, the topmost first, the writable one among them.
fn layers<'a>(data: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    let value = |key: &str| data.iter().find_map(|word| word.strip_prefix(key));
    let lower = value("lowerdir=").ok_or_else(|| Error::invalid_argument("an overlay without lowerdir"))?;
    Ok(value("upperdir=").into_iter().chain(lower.split(':')).collect())
}

fn overlay(layers: &[&str]) -> io::Result<OwnedFd> {
    if let [only] = layers {
        return clone_of(&text(only)?, false);
    }
    let context = open_context(c"overlay")?;
    // One by one (Linux 6.8): no limit on the length of all of them together.
    let appended = layers.iter().try_for_each(|layer| set(&context, c"lowerdir+", layer));
    if let Err(error) = appended {
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        return overlay_at_once(layers);
    }
    create(&context)
}

/// On older kernels, in one word, if that is short enough.
fn overlay_at_once(layers: &[&str]) -> io::Result<OwnedFd> {
    let joined = layers.join(":");
    if joined.len() > VALUE_BYTES_MAX {
        let message = "this kernel (before 6.8) cannot mount so many layers detached";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let context = open_context(c"overlay")?;
    set(&context, c"lowerdir", &joined)?;
    create(&context)
}

fn text(value: &str) -> io::Result<CString> {
    CString::new(value).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn open_context(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the text lives through the call; the second argument is a flag.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })
}

fn set(context: &OwnedFd, key: &CStr, value: &str) -> io::Result<()> {
    let value = text(value)?;
    configure(context, FSCONFIG_SET_STRING, Some(key), Some(&value))
}

#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn configure(context: &OwnedFd, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both texts live through the call, or are null where the command takes none.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0)
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn create(context: &OwnedFd) -> io::Result<OwnedFd> {
    configure(context, FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = MOUNT_ATTR_READ_ONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    // SAFETY: a descriptor and two numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
}

/// A clone of what is at a path. Its attributes are those of the original: callers only read through it.
#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn clone_of(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let recursion = if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursion;
    // SAFETY: the text lives through the call; the rest are numbers.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

#[expect(unsafe_code, reason = "descriptors come as numbers from the calls above")]
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just made this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
