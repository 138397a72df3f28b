//! A directory that nothing resolves out of.
//!
//! Every path is resolved below the root's descriptor with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: symbolic
//! links, absolute ones too, are followed as if the root were `/`. Other mounts are not entered, unless the root is that of a container that runs.
//! What is missing is made by a walk of our own that opens one component at a time without following anything, so that it is as safe.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};

use super::path::c_string;

/// Symbolic links followed for one path, as the kernel has it.
const LINKS_MAX: usize = 40;
/// Directories on the way to one that is made: each is open meanwhile, and a link's text could name thousands.
const WAY_MAX: usize = 256;
/// Tries of an `openat2` that a rename somewhere on the host disturbed.
const DISTURBED_TRIES_MAX: usize = 64;

/// Mode of directories that an archive only implies. The original made them 0700 (MNT-8), which locks every process but
/// root out of what lies below; later versions make them 0755, and so do we.
pub(crate) const IMPLICIT_MODE: Mode = Mode::from_bits_truncate(0o755);

/// What every directory is opened with.
const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// The root of everything that one unpack touches.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    /// Mounts below it belong to it.
    mounts: ResolveFlag,
}

impl Root {
    /// Opens a directory that exists.
    pub(crate) fn open(path: &Path) -> nix::Result<Self> {
        nix::fcntl::open(path, DIRECTORY, Mode::empty())
            .map(|fd| Self { fd, mounts: ResolveFlag::RESOLVE_NO_XDEV })
    }

    /// What a container sees as its root, its mounts included.
    pub(crate) fn with_mounts(fd: OwnedFd) -> Self {
        Self { fd, mounts: ResolveFlag::empty() }
    }

    /// Opens whatever is at `path` without reading it, following symbolic links inside the root, the last one only if `follow`.
    pub(crate) fn look(&self, path: &[u8], follow: bool) -> nix::Result<OwnedFd> {
        let last = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        self.resolve(path, OFlag::O_PATH | OFlag::O_CLOEXEC | last)
    }

    /// Opens the directory `path`, following symbolic links inside the root.
    pub(crate) fn directory(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        self.resolve(path, DIRECTORY)
    }

    fn resolve(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() { c_string(b".") } else { c_string(path) };
        let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(inside | self.mounts);
        for _ in 0..DISTURBED_TRIES_MAX {
            match openat2(&self.fd, path.as_c_str(), how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Opens the directory `path`, making what is missing; each directory made is added to `made`.
    pub(crate) fn ensure_directory(&self, path: &[u8], made: &mut Vec<Made>) -> nix::Result<OwnedFd> {
        let mut way: Vec<OwnedFd> = Vec::new();
        let mut left: VecDeque<Vec<u8>> = components(path).collect();
        let mut links = 0;
        while let Some(component) = left.pop_front() {
            let here = way.last().map_or(self.fd.as_fd(), |fd| fd.as_fd());
            if component == b".." {
                // Upwards by the way we came, never by the directory's own `..`; the root's parent is the root.
                way.pop();
                continue;
            }
            match step(here, &component, made)? {
                Step::Into(_) if way.len() == WAY_MAX => return Err(Errno::ELOOP),
                Step::Into(fd) => way.push(fd),
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::ELOOP);
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
            }
        }
        match way.pop() {
            Some(fd) => Ok(fd),
            None => self.directory(&[]),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory that had to be made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Inode of its parent.
    pub(crate) parent: u64,
    pub(crate) name: Vec<u8>,
    /// The directory, if it took the place of a whiteout.
    pub(crate) opaque: Option<OwnedFd>,
}

fn to_errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

enum Step {
    Into(OwnedFd),
    Link(Vec<u8>),
}

/// One component further: into the directory, made if it is missing, or to a link's target. A whiteout in the way gives
/// way to a directory.
fn step(here: BorrowedFd<'_>, component: &[u8], made: &mut Vec<Made>) -> nix::Result<Step> {
    let name = c_string(component);
    let mut over_whiteout = false;
    let stat = match fstatat(here, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => {
            nix::unistd::unlinkat(here, name.as_c_str(), nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            over_whiteout = true;
            None
        }
        Ok(stat) => Some(stat),
        Err(Errno::ENOENT) => None,
        Err(error) => return Err(error),
    };
    let Some(stat) = stat else {
        mkdirat(here, name.as_c_str(), Mode::from_bits_truncate(0o700))?;
        let fd = open_child_directory(here, &name)?;
        nix::sys::stat::fchmod(&fd, IMPLICIT_MODE)?;
        let parent = fstat(here)?.st_ino;
        let opaque = if over_whiteout { Some(fd.try_clone().map_err(to_errno)?) } else { None };
        made.push(Made { parent, name: component.to_vec(), opaque });
        return Ok(Step::Into(fd));
    };
    match file_type(&stat) {
        SFlag::S_IFLNK => {
            use std::os::unix::ffi::OsStringExt as _;
            Ok(Step::Link(readlinkat(here, name.as_c_str())?.into_vec()))
        }
        SFlag::S_IFDIR => open_child_directory(here, &name).map(Step::Into),
        _ => Err(Errno::ENOTDIR),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")).map(<[u8]>::to_vec)
}

/// Opens a directory by one component, following nothing.
pub(crate) fn open_child_directory(parent: BorrowedFd<'_>, name: &CString) -> nix::Result<OwnedFd> {
    openat(parent, name.as_c_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}

/// The type bits of a file's mode.
pub(crate) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Whether it is overlayfs's mark of a removed file: character device 0:0.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// The path by which calls without a descriptor form reach what a descriptor names.
pub(crate) fn descriptor_path(file: BorrowedFd<'_>) -> CString {
    c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes())
}
