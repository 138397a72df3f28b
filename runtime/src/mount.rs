//! Mounts of the daemon (MNT-1 to MNT-5). A container's own root is mounted by its shim, in the shim's mount namespace;
//! the daemon needs a mount only to read a snapshot, and takes one that is attached nowhere: [`detached`]. It goes with
//! its descriptor, whatever happens to the daemon, so there is nothing to clean up.

mod detached;
mod options;

pub use detached::detached;
pub use options::{MountOptions, parse};

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bosun_types::Error;
use bosun_types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Context as _, Result, RuntimeError};
use crate::task_directory::ensure_private;

/// MNT-4: how often, and how long after one another, a busy mount is tried again.
const UNMOUNT_TRIES: usize = 50;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(50);
/// Most mounts stacked on one another that unmounting takes off.
const STACK_MAX: usize = 64;
/// Folder of temporary mounts below the state directory.
pub const TEMPORARY: &str = "tmp";
/// Bytes of randomness in the name of a temporary mount.
const NAME_BYTES: usize = 8;

/// Performs the mounts, in order, onto a directory of the daemon's own. Only whole roots: a mount with a target of its
/// own inside an untrusted root is the shim's business. Blocking.
pub fn perform(mounts: &[Mount], target: &Path) -> Result<()> {
    for it in mounts {
        if !it.target.trim_matches('/').is_empty() {
            let message = format!("a mount onto {:?} inside the root is not done here", it.target);
            return Err(Error::not_implemented(message).into());
        }
        perform_one(it, target)
            .context(|| format!("mount {} {} on {}", it.kind, it.source, target.display()))?;
    }
    Ok(())
}

fn perform_one(it: &Mount, target: &Path) -> nix::Result<()> {
    let options = parse(&it.options);
    let source = Some(it.source.as_str());
    let data = options.data.join(",");
    let bind = options.flags.contains(MsFlags::MS_BIND) || it.kind == "bind";
    if bind {
        let recursion = if options.recursive { MsFlags::MS_REC } else { MsFlags::empty() };
        mount(source, target, None::<&str>, MsFlags::MS_BIND | recursion, None::<&str>)?;
        let rest = options.flags - MsFlags::MS_BIND;
        if !rest.is_empty() {
            // MNT-3: a bind takes its flags only by a second call.
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | rest;
            mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
        }
    } else {
        mount(source, target, Some(it.kind.as_str()), options.flags, Some(data.as_str()))?;
    }
    if let Some(propagation) = options.propagation {
        mount(None::<&str>, target, None::<&str>, propagation, None::<&str>)?;
    }
    Ok(())
}

/// A directory of the host as a root to look below, nothing more.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    Ok(options.open(path).context(|| format!("open {}", path.display()))?.into())
}

/// Takes everything off `target`; nothing mounted, or nothing there, is success. Blocking, for seconds when it is busy.
pub fn unmount(target: &Path) -> Result<()> {
    for _ in 0..STACK_MAX {
        match unmount_one(target) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| format!("unmount {}", target.display())),
        }
    }
    Err(Error::internal(format!("more than {STACK_MAX} mounts on {}", target.display())).into())
}

fn unmount_one(target: &Path) -> nix::Result<()> {
    for _ in 1..UNMOUNT_TRIES {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) => std::thread::sleep(UNMOUNT_PAUSE),
            other => return other,
        }
    }
    umount2(target, MntFlags::UMOUNT_NOFOLLOW)
}

/// A mount in a private place, for what needs a path; unmounted when dropped. What a crash leaves is taken by
/// [`ensure_no_temporary`].
#[derive(Debug)]
pub struct TempMount {
    path: PathBuf,
}

impl TempMount {
    /// Mounts below `<state>/tmp`. Blocking.
    pub fn new(state: &Path, mounts: &[Mount]) -> Result<Self> {
        let parent = state.join(TEMPORARY);
        ensure_private(&parent)?;
        let mut bytes = [0u8; NAME_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = parent.join(name);
        ensure_private(&path)?;
        // From here on `drop` cleans up, also after half of the mounts.
        let mounted = Self { path };
        perform(mounts, &mounted.path)?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempMount {
    fn drop(&mut self) {
        if let Err(error) = ensure_not_temporary(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary mount stays until the next start");
        }
    }
}

fn ensure_not_temporary(path: &Path) -> Result<()> {
    unmount(path)?;
    // rmdir, never recursively: if something is mounted there after all, it is safe.
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// MNT-5: takes what an earlier daemon left. A busy one is reported, not an obstacle to the start.
pub fn ensure_no_temporary(state: &Path) -> Vec<RuntimeError> {
    let Ok(entries) = std::fs::read_dir(state.join(TEMPORARY)) else { return Vec::new() };
    entries.flatten().filter_map(|entry| ensure_not_temporary(&entry.path()).err()).collect()
}

#[cfg(test)]
mod tests;
