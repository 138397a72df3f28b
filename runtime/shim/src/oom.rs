//! Watches for the kernel's out-of-memory killer in the container's cgroup (MET-7).

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cgroup::Cgroup;

/// See the module.
#[derive(Debug)]
pub enum OomWatch {
    /// v1 signals an event descriptor.
    V1(EventFd),
    /// v2 makes a file readable anew and counts in it.
    V2 {
        /// The file, open to be watched.
        file: File,
        /// The same, to be read from its start.
        path: PathBuf,
        /// What the count was.
        kills: u64,
    },
}

impl OomWatch {
    /// Watches the group; `None` when it has no memory controller.
    pub fn new(cgroup: &Cgroup) -> Option<Self> {
        if let Some(directory) = cgroup.v1("memory") {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
            let control = File::open(directory.join("memory.oom_control")).ok()?;
            let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
            std::fs::write(directory.join("cgroup.event_control"), line).ok()?;
            return Some(Self::V1(event));
        }
        let path = cgroup.v2()?.join("memory.events");
        Some(Self::V2 { file: File::open(&path).ok()?, kills: kills(&path)?, path })
    }

    /// What epoll has to look for.
    pub fn events(&self) -> EpollFlags {
        match self {
            Self::V1(_) => EpollFlags::EPOLLIN,
            Self::V2 { .. } => EpollFlags::EPOLLPRI,
        }
    }

    /// Something came; whether the killer was at work. (v1 signals the removal of the group too: the caller knows.)
    pub fn fired(&mut self) -> bool {
        match self {
            Self::V1(event) => event.read().is_ok(),
            Self::V2 { file, path, kills: before } => {
                // The file must be read for the next event to come.
                let _ = file.read(&mut [0; 512]);
                let now = kills(path).unwrap_or(*before);
                std::mem::replace(before, now) < now
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V1(event) => event.as_fd(),
            Self::V2 { file, .. } => file.as_fd(),
        }
    }
}

/// The count of kills in `memory.events`.
fn kills(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}
