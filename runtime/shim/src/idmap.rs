//! Mounts whose files are shown with other owners (CTR-15): idmapped mounts, made of a user namespace that exists only
//! for its maps.
//!
//! The merged mount of an overlay cannot be one (Linux 6.18 answers EINVAL), its layers can (Linux 5.19). Each layer is
//! cloned, the clone gets the maps and a place in a file system in memory; the overlay is made of those places, takes
//! private clones of them, and the places go. The upper layer is shown through the maps like the others, so that what
//! the container writes is on disk as an image would have it: root's files are 0's.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use bosun_types::Error;
use bosun_types::user_namespace::{IdMaps, IdRange};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, fork, pipe2, setfsgid, setfsuid};

use crate::error::{Context as _, Result};

/// Where the layers of an overlay have their places, below the task directory.
const LAYERS: &str = "layers";
/// Name of the upper layer's place.
const UPPER: &str = "u";
/// Overlayfs takes idmapped layers since then.
const KERNEL_MIN: (u32, u32) = (5, 19);
/// Keeps capabilities when the user for file systems changes (linux/securebits.h).
const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// A user namespace of no process, with maps.
#[derive(Debug)]
pub struct Users {
    namespace: File,
    root: (Uid, Gid),
}

impl Users {
    /// Makes it. Only where there is one thread: it forks.
    #[expect(unsafe_code, reason = "fork")]
    pub fn new(maps: &IdMaps) -> Result<Self> {
        let unmapped = || Error::invalid_argument("the maps leave root out");
        let root = (maps.host_uid(0).ok_or_else(unmapped)?, maps.host_gid(0).ok_or_else(unmapped)?);
        let pipe = || pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into());
        let ((made, tell), (end, keep)) = (pipe()?, pipe()?);
        // SAFETY: one thread, so the child may do everything the parent may.
        match unsafe { fork() }.context(|| "fork".into())? {
            ForkResult::Child => {
                drop((made, keep));
                if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
                    let _ = nix::unistd::write(&tell, b"1");
                    // Until the parent has taken hold of the namespace.
                    let _ = File::from(end).read(&mut [0]);
                }
                // SAFETY: ends this child without running the parent's exit handlers.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                drop((tell, end));
                let namespace = take_hold(made, child.as_raw(), maps);
                drop(keep);
                let _ = waitpid(child, None);
                Ok(Self { namespace: namespace?, root: (root.0.into(), root.1.into()) })
            }
        }
    }

    /// A path of it for this process and its forks.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.namespace.as_raw_fd()))
    }

    /// A clone of the mount at `path`, attached nowhere, that shows its files through the maps.
    pub fn shown(&self, path: &Path) -> io::Result<OwnedFd> {
        let clone = clone_of(path)?;
        set_maps(&clone, &self.namespace)?;
        Ok(clone)
    }

    /// Does `work` as the mapped root as far as file systems see it, with all of our rights. Overlayfs makes its own
    /// directories, and copies files up, as whoever mounts it: we ourselves are nobody on a layer with maps.
    fn as_root<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let bits = keep_capabilities(true).context(|| "keep capabilities".into());
        let before = (setfsuid(self.root.0), setfsgid(self.root.1));
        let result = bits.and_then(|()| work());
        setfsuid(before.0);
        setfsgid(before.1);
        keep_capabilities(false).context(|| "give capabilities back".into())?;
        result
    }
}

/// Of a child that waits in its new user namespace.
fn take_hold(made: OwnedFd, child: i32, maps: &IdMaps) -> Result<File> {
    let mut byte = [0];
    if File::from(made).read(&mut byte).context(|| "wait for a user namespace".into())? == 0 {
        let hint = "see sysctl user.max_user_namespaces";
        return Err(Error::failed_precondition("the kernel makes no user namespace").with_hint(hint).into());
    }
    for (name, ranges) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        std::fs::write(format!("/proc/{child}/{name}"), map_text(ranges))
            .context(|| format!("write {name}"))?;
    }
    File::open(format!("/proc/{child}/ns/user")).context(|| "open a user namespace".into())
}

fn map_text(ranges: &[IdRange]) -> String {
    ranges.iter().map(|it| format!("{} {} {}\n", it.container, it.host, it.size)).collect()
}

/// The places of an overlay's layers; gone when dropped.
#[derive(Debug)]
pub struct Layers {
    directory: PathBuf,
}

impl Layers {
    /// Gives each layer that `data` names its place, and mounts an overlay of them onto `target`.
    pub fn mount(users: &Users, data: &[&str], flags: MsFlags, target: &Path) -> Result<()> {
        let layers = Self::new()?;
        let words = layers.placed(users, data)?;
        // Relative names: hundreds of layers fit into the one page that the kernel takes.
        let back = File::open(".").context(|| "open the task directory".into())?;
        nix::unistd::chdir(&layers.directory).context(|| "enter the layers".into())?;
        let mounted = users.as_root(|| {
            mount(Some("overlay"), target, Some("overlay"), flags, Some(words.as_str()))
                .context(|| "mount an overlay of mapped layers".into())
        });
        nix::unistd::fchdir(back.as_fd()).context(|| "leave the layers".into())?;
        mounted
    }

    fn new() -> Result<Self> {
        let directory = std::path::absolute(LAYERS).context(|| "working directory".into())?;
        std::fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))?;
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("layers"), &directory, Some("tmpfs"), flags, Some("mode=0700"))
            .context(|| "mount a place for layers".into())?;
        Ok(Self { directory })
    }

    /// The options with the layers' places instead of their paths.
    fn placed(&self, users: &Users, data: &[&str]) -> Result<String> {
        let mut words = Vec::new();
        for word in data {
            if let Some(lower) = word.strip_prefix("lowerdir=") {
                let mut names = Vec::new();
                for (index, path) in lower.split(':').enumerate() {
                    let name = index.to_string();
                    self.place(users, Path::new(path), &name)?;
                    names.push(name);
                }
                words.push(format!("lowerdir={}", names.join(":")));
            } else if let Some(upper) = word.strip_prefix("upperdir=") {
                // The kernel wants both on one mount: their common directory has the place.
                let (parent, name) = split(upper)?;
                self.place(users, parent, UPPER)?;
                words.push(format!("upperdir={UPPER}/{name}"));
            } else if let Some(work) = word.strip_prefix("workdir=") {
                words.push(format!("workdir={UPPER}/{}", split(work)?.1));
            } else {
                words.push((*word).to_owned());
            }
        }
        Ok(words.join(","))
    }

    fn place(&self, users: &Users, path: &Path, name: &str) -> Result<()> {
        let place = self.directory.join(name);
        std::fs::create_dir(&place).context(|| format!("make {}", place.display()))?;
        let shown = users.shown(path).context(|| format!("show {} through maps", path.display()))?;
        attach(&shown, &place).context(|| format!("attach {}", path.display()))
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let _ = std::fs::remove_dir(&self.directory);
    }
}

fn split(path: &str) -> Result<(&Path, &str)> {
    let path = Path::new(path);
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    parts.ok_or_else(|| Error::invalid_argument(format!("{} is no layer", path.display())).into())
}

/// Whether this kernel shows the files of a directory's file system through maps, also as layers of an overlay.
pub fn probe(directory: &Path) -> Result<()> {
    let release = nix::sys::utsname::uname().context(|| "uname".into())?;
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|it: char| !it.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < KERNEL_MIN {
        return Err(Error::not_implemented(format!("Linux {release} is older than 5.19")).into());
    }
    let range = vec![IdRange { container: 0, host: 1, size: 1 }];
    let users = Users::new(&IdMaps { uids: range.clone(), gids: range })?;
    users.shown(directory).map(drop).context(|| format!("show {} through maps", directory.display()))
}

#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn clone_of(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the text lives through the call; the rest are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the call has just made this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
fn set_maps(mount: &OwnedFd, users: &File) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: the text and the attributes, whose size is given, live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Puts a mount that is attached nowhere onto a directory.
#[expect(unsafe_code, reason = "nix 0.31 has no new mount API")]
pub fn attach(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_encoded_bytes())?;
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both texts live through the call; the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "nix has no secure bits")]
fn keep_capabilities(keep: bool) -> nix::Result<()> {
    let bits = if keep { SECBIT_NO_SETUID_FIXUP } else { 0 };
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_as_the_kernel_reads_them() {
        let ranges = ["0:100000:10", "10:5:1"].map(|text| text.parse().unwrap());
        assert_eq!(map_text(&ranges), "0 100000 10\n10 5 1\n");
    }

    #[test]
    fn an_upper_layer_is_placed_by_its_parent() {
        assert_eq!(split("/v/s/9/fs").unwrap(), (Path::new("/v/s/9"), "fs"));
        assert!(split("/").is_err());
    }
}
