//! Processes by proof: pid and start time together; a pid alone is never believed (F31).
//!
//! A [`PidFd`] is opened first and checked after: once open it cannot come to mean another process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use bosun_types::task::{ExitCause, ProcessIdentity};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Context as _, Result};

/// Number of `starttime` among the fields of `/proc/<pid>/stat` that follow the command's closing parenthesis.
const START_TIME_FIELD: usize = 19;
/// Number of the state among the same.
const STATE_FIELD: usize = 0;

/// Who has this pid now; `None` when nobody.
pub fn identity_of(pid: u32) -> Option<ProcessIdentity> {
    read_stat(pid).map(|(_, identity)| identity)
}

/// Whether this very process still runs. A zombie has ended.
pub fn alive(process: &ProcessIdentity) -> bool {
    read_stat(process.pid)
        .is_some_and(|(state, identity)| identity == *process && !matches!(state, 'Z' | 'X'))
}

/// Sends a signal to this very process; `false` when it has ended.
pub fn kill(process: &ProcessIdentity, signal: Signal) -> Result<bool> {
    match PidFd::open(process)? {
        Some(descriptor) => descriptor.kill(signal),
        None => Ok(false),
    }
}

/// The root that this very process sees, in its own mount namespace; `None` when it has ended.
pub fn root_of(process: &ProcessIdentity) -> Result<Option<OwnedFd>> {
    let opened = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{}/root", process.pid));
    // Asked after opening: if it is the right one still, what was opened is of it.
    if !alive(process) {
        return Ok(None);
    }
    let root = opened.context(|| format!("open the root of process {}", process.pid))?;
    Ok(Some(root.into()))
}

fn read_stat(pid: u32) -> Option<(char, ProcessIdentity)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &text)
}

/// The command may hold anything, parentheses too: fields are counted from the last one.
fn parse_stat(pid: u32, text: &[u8]) -> Option<(char, ProcessIdentity)> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> =
        std::str::from_utf8(text.get(end + 1..)?).ok()?.split_ascii_whitespace().collect();
    let state = fields.get(STATE_FIELD)?.chars().next()?;
    let start_ticks = fields.get(START_TIME_FIELD)?.parse().ok()?;
    Some((state, ProcessIdentity { pid, start_ticks }))
}

/// What the kernel still tells of how a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelStatus {
    /// It has not ended, or is not reaped yet.
    NotYet,
    /// It ended like this.
    Ended(ExitCause),
    /// This kernel does not tell (before Linux 6.15).
    NotTold,
}

/// A descriptor of one process.
#[derive(Debug)]
pub struct PidFd {
    identity: ProcessIdentity,
    descriptor: OwnedFd,
}

impl PidFd {
    /// Opens it; `None` when it is gone. A zombie can be opened.
    pub fn open(process: &ProcessIdentity) -> Result<Option<Self>> {
        let Some(descriptor) = sys::open(process.pid).context(|| format!("open process {}", process.pid))?
        else {
            return Ok(None);
        };
        // Read after opening: if it is the right one now, the descriptor is of it.
        Ok((identity_of(process.pid) == Some(*process)).then_some(Self { identity: *process, descriptor }))
    }

    /// Whose it is.
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// Sends a signal; `false` when it has ended.
    pub fn kill(&self, signal: Signal) -> Result<bool> {
        match sys::send_signal(&self.descriptor, signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).context(|| format!("send {signal} to process {}", self.identity.pid)),
        }
    }

    /// Ends when the process has ended (it may not be reaped yet).
    pub async fn exited(&self) -> Result<()> {
        let what = || format!("watch process {}", self.identity.pid);
        let watched = self.descriptor.try_clone().context(what)?;
        let watched = sys::watch(watched).context(what)?;
        watched.readable().await.context(what)?.retain_ready();
        Ok(())
    }

    /// How it ended, as far as the kernel tells; that works for whoever holds a descriptor, once the parent has reaped.
    pub fn exit_status(&self) -> KernelStatus {
        match sys::exit_code(&self.descriptor) {
            Ok(Some(raw)) => KernelStatus::Ended(cause_of(raw)),
            // EAGAIN, ESRCH: between its end and its reaping.
            Ok(None) | Err(Errno::EAGAIN | Errno::ESRCH) => KernelStatus::NotYet,
            Err(_) => KernelStatus::NotTold,
        }
    }
}

/// Registers a descriptor to wait until it is readable.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    sys::watch(descriptor)
}

/// A wait status as the kernel writes it.
pub(crate) fn cause_of(raw: i32) -> ExitCause {
    let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    match raw & 0x7f {
        0 => ExitCause::Code(byte(raw >> 8)),
        signal => ExitCause::Signal(byte(signal)),
    }
}

/// The system calls that nix does not have.
#[expect(unsafe_code, reason = "nix 0.31 has no pidfd calls; tokio asks for proof of I/O safety")]
mod sys {
    use std::os::fd::{AsRawFd as _, FromRawFd as _};

    use super::{AsyncFd, Errno, Interest, OwnedFd, Signal, io};

    /// `struct pidfd_info` in its first size (Linux 6.13).
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup_id: u64,
        pid: u32,
        tgid: u32,
        ppid: u32,
        ids: [u32; 8],
        exit_code: i32,
    }
    /// Ask for, and told that there is, an exit code (Linux 6.15).
    const MASK_EXIT: u64 = 1 << 3;
    /// ioctl group of pidfds.
    const GROUP: u8 = 0xff;
    nix::ioctl_readwrite!(get_info, GROUP, 11, Info);

    pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: an `OwnedFd` gives the same open descriptor until it is dropped, and the `AsyncFd` owns it.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        watched.map_err(io::Error::from)
    }

    pub fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
        let pid = i32::try_from(pid).map_err(|_| Errno::EINVAL)?;
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(result) {
            // SAFETY: the call has just made this descriptor; nobody else knows it. It fits: the kernel's fds are ints.
            Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
            // The pid is a thread's now, which Linux says as ENOENT since 6.15, as EINVAL before: whoever had it as a process is gone.
            Err(Errno::ESRCH | Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn send_signal(descriptor: &OwnedFd, signal: Signal) -> Result<(), Errno> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open for the whole call; a null siginfo is allowed.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal as libc::c_int, none, 0)
        };
        Errno::result(result).map(drop)
    }

    pub fn exit_code(descriptor: &OwnedFd) -> Result<Option<i32>, Errno> {
        let mut info = Info { mask: MASK_EXIT, ..Info::default() };
        // SAFETY: the request's size is that of `Info`, which lives through the call.
        unsafe { get_info(descriptor.as_raw_fd(), &raw mut info) }?;
        Ok((info.mask & MASK_EXIT != 0).then_some(info.exit_code))
    }
}

#[cfg(test)]
mod tests;
