//! Waiting for a log to change: inotify on its directory, which sees writes, rotations and a file that comes later.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::process;

/// Between two looks while the directory itself is not there, or the host is out of inotify instances.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    events: Inotify,
    readable: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Of the directory of this file.
    pub fn new(path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let active = Active::new(&directory);
        Self { directory, active }
    }

    /// Ends when something may have changed since the last call.
    pub async fn changed(&mut self) {
        if let Some(active) = &mut self.active {
            if !active.changed().await {
                self.active = None;
            }
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        self.active = Active::new(&self.directory);
    }
}

impl Active {
    fn new(directory: &Path) -> Option<Self> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        let what = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        events.add_watch(directory, what).ok()?;
        let readable = process::watch(events.as_fd().try_clone_to_owned().ok()?).ok()?;
        Some(Self { events, readable })
    }

    /// `false`: the directory is gone; there is nothing left to watch.
    async fn changed(&mut self) -> bool {
        let Ok(mut ready) = self.readable.readable().await else { return false };
        ready.clear_ready();
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let mut there = true;
        // Until it is empty: only then does the descriptor become readable again.
        while let Ok(events) = self.events.read_events() {
            there &= !events.iter().any(|it| it.mask.intersects(gone));
        }
        there
    }
}
