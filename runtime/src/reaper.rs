//! The one place that reaps: children of the daemon, and orphans of a killed shim that come to it as the subreaper.
//!
//! One thread waits for any child. It looks first (`WNOWAIT`), reads the start time, and takes the status only then, so
//! that a status is always of a proven process. Statuses are remembered, bounded, for whoever asks later: that is how
//! the true exit code of a container survives the death of its shim.
//!
//! Whoever starts a child in the daemon does it through [`Reaper::spawn`]: the standard library's `Child::wait` would
//! find nothing left to wait for.

use std::collections::VecDeque;
use std::io;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity};
use bosun_types::{Error, Timestamp};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::sync::watch;

use crate::error::{Context as _, Result};
use crate::process::identity_of;

/// Statuses remembered; the oldest go first.
const REMEMBERED_MAX: usize = 4096;
/// With no child at all, look again this often even if nobody said that one was started.
const IDLE_LOOK: Duration = Duration::from_secs(1);

static REAPER: OnceLock<Arc<Reaper>> = OnceLock::new();

/// See the module.
#[derive(Debug)]
pub struct Reaper {
    /// Held while a child is being started, and while one is taken: a start that fails reaps its own child.
    gate: Mutex<()>,
    started: Condvar,
    reaped: Mutex<VecDeque<(ProcessIdentity, ExitStatus)>>,
    count: watch::Sender<u64>,
}

impl Reaper {
    /// Makes this process the subreaper of its descendants and starts the thread, once; later calls give the same one.
    pub fn start() -> Result<Arc<Self>> {
        if let Some(reaper) = REAPER.get() {
            return Ok(reaper.clone());
        }
        nix::sys::prctl::set_child_subreaper(true).context(|| "become the subreaper".into())?;
        let reaper = Arc::new(Self {
            gate: Mutex::new(()),
            started: Condvar::new(),
            reaped: Mutex::new(VecDeque::new()),
            count: watch::Sender::new(0),
        });
        if REAPER.set(reaper.clone()).is_ok() {
            let own = reaper.clone();
            let thread = std::thread::Builder::new().name("reaper".into());
            thread.spawn(move || own.run()).context(|| "start the reaper's thread".into())?;
        }
        REAPER.get().cloned().ok_or_else(|| Error::internal("the reaper was not set").into())
    }

    /// The reaper of this process, if it was started.
    pub fn get() -> Option<Arc<Self>> {
        REAPER.get().cloned()
    }

    /// Starts a child that this reaper will reap. Blocks until it has executed its program.
    pub fn spawn(&self, command: &mut Command) -> io::Result<ProcessIdentity> {
        self.spawn_with(|| command.spawn().map(|child| child.id()))
    }

    /// The same for another way of starting one; `start` answers its pid.
    pub(crate) fn spawn_with(&self, start: impl FnOnce() -> io::Result<u32>) -> io::Result<ProcessIdentity> {
        let _gate = lock(&self.gate);
        let pid = start()?;
        self.started.notify_all();
        // Not reaped yet: the gate is held. So it is there, as a zombie at worst.
        identity_of(pid)
            .ok_or_else(|| io::Error::other(format!("the start time of child {pid} cannot be read")))
    }

    /// How a reaped process ended; `None` when it has not ended, or was never ours.
    pub fn status(&self, process: &ProcessIdentity) -> Option<ExitStatus> {
        lock(&self.reaped).iter().rev().find(|(it, _)| it == process).map(|(_, status)| status.clone())
    }

    /// Waits for the end of a child of ours. Of a process that is gone and was not reaped here, it says so.
    pub async fn wait(&self, process: &ProcessIdentity) -> ExitStatus {
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            let gone = identity_of(process.pid) != Some(*process);
            if let Some(status) = self.status(process) {
                return status;
            }
            if gone || count.changed().await.is_err() {
                let cause = ExitCause::Unknown("it was not reaped by this daemon".into());
                return ExitStatus { cause, exited_at: Timestamp::now() };
            }
        }
    }

    fn run(&self) {
        loop {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            match waitid(Id::All, peek) {
                Ok(status) => {
                    if let Some(pid) = status.pid() {
                        self.take(pid);
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                // No child. An orphan can only come from one, so nothing is missed until one is started.
                Err(_) => drop(self.started.wait_timeout(lock(&self.gate), IDLE_LOOK)),
            }
        }
    }

    fn take(&self, pid: nix::unistd::Pid) {
        let _gate = lock(&self.gate);
        let identity = identity_of(pid.as_raw().unsigned_abs());
        let take = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        let Ok(status) = waitid(Id::Pid(pid), take) else { return };
        let (Some(identity), Some(cause)) = (identity, cause_of(&status)) else { return };
        let mut reaped = lock(&self.reaped);
        if reaped.len() == REMEMBERED_MAX {
            reaped.pop_front();
        }
        reaped.push_back((identity, ExitStatus { cause, exited_at: Timestamp::now() }));
        drop(reaped);
        self.count.send_modify(|count| *count += 1);
    }
}

fn cause_of(status: &WaitStatus) -> Option<ExitCause> {
    match status {
        WaitStatus::Exited(_, code) => Some(ExitCause::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
        WaitStatus::Signaled(_, signal, _) => {
            Some(ExitCause::Signal(u8::try_from(*signal as i32).unwrap_or(u8::MAX)))
        }
        _ => None,
    }
}

/// A panic of another thread leaves these values whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
