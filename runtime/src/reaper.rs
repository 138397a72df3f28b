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
use nix::errno::Errno;
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
        find(&lock(&self.reaped), process)
    }

    /// Waits for the end of a child of ours. Of a process that is gone and was not reaped here, it says so.
    pub async fn wait(&self, process: &ProcessIdentity) -> ExitStatus {
        let mut count = self.count.subscribe();
        loop {
            count.mark_unchanged();
            let (status, gone) = {
                // Both under the lock: whoever is gone from the host is among the reaped then, or never will be.
                let reaped = lock(&self.reaped);
                (find(&reaped, process), identity_of(process.pid) != Some(*process))
            };
            if let Some(status) = status {
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
            match sys::wait(sys::Whom::Any, libc::WNOWAIT) {
                Ok(Some((pid, _))) => self.take(pid),
                Ok(None) | Err(Errno::EINTR) => {}
                // No child. An orphan can only come from one, so nothing is missed until one is started.
                Err(_) => drop(self.started.wait_timeout(lock(&self.gate), IDLE_LOOK)),
            }
        }
    }

    fn take(&self, pid: u32) {
        let _gate = lock(&self.gate);
        let identity = identity_of(pid);
        let mut reaped = lock(&self.reaped);
        let Ok(Some((_, cause))) = sys::wait(sys::Whom::This(pid), libc::WNOHANG) else { return };
        let Some(identity) = identity else { return };
        if reaped.len() == REMEMBERED_MAX {
            reaped.pop_front();
        }
        reaped.push_back((identity, ExitStatus { cause, exited_at: Timestamp::now() }));
        drop(reaped);
        self.count.send_modify(|count| *count += 1);
    }
}

fn find(reaped: &VecDeque<(ProcessIdentity, ExitStatus)>, process: &ProcessIdentity) -> Option<ExitStatus> {
    reaped.iter().rev().find(|(it, _)| it == process).map(|(_, status)| status.clone())
}

/// A panic of another thread leaves these values whole: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `waitid` by hand: nix's fails with EINVAL for a child that a real-time signal killed, which it has reaped by then.
#[expect(unsafe_code, reason = "see above")]
mod sys {
    use std::mem::MaybeUninit;

    use bosun_types::task::ExitCause;
    use nix::errno::Errno;

    pub enum Whom {
        Any,
        This(u32),
    }

    /// Waits for an end; `None` when none has ended (with `WNOHANG`).
    pub fn wait(whom: Whom, options: i32) -> Result<Option<(u32, ExitCause)>, Errno> {
        let (kind, id) = match whom {
            Whom::Any => (libc::P_ALL, 0),
            Whom::This(pid) => (libc::P_PID, pid),
        };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is writable and lives through the call.
        let result =
            unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options | libc::WEXITED | libc::__WALL) };
        Errno::result(result)?;
        // SAFETY: zeroed is a valid siginfo, and the call leaves a valid one.
        let info = unsafe { info.assume_init() };
        // SAFETY: after waitid these fields are set, or still zero when nobody has ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let byte = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
        let cause = match info.si_code {
            libc::CLD_EXITED => ExitCause::Code(byte),
            _ => ExitCause::Signal(byte),
        };
        Ok(Some((pid.unsigned_abs(), cause)))
    }
}
