//! The few system calls that nix does not wrap, and small helpers around descriptors and `/proc`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bosun_types::task::{ExitCause, ProcessIdentity};

use crate::error::{Context as _, Result};

/// Field of `/proc/<pid>/stat` after the command's closing parenthesis that holds the start time (field 22 of all).
const START_TICKS_FIELD: usize = 19;

/// Pid and start time of a process that has not been reaped yet.
pub fn identity_of(pid: i32) -> io::Result<ProcessIdentity> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed /proc/<pid>/stat");
    let (_, fields) = stat.rsplit_once(')').ok_or_else(malformed)?;
    let ticks = fields.split_ascii_whitespace().nth(START_TICKS_FIELD).ok_or_else(malformed)?;
    Ok(ProcessIdentity {
        pid: u32::try_from(pid).map_err(|_| malformed())?,
        start_ticks: ticks.parse().map_err(|_| malformed())?,
    })
}

/// The pid as the kernel's calls want it.
pub fn raw_pid(identity: &ProcessIdentity) -> i32 {
    i32::try_from(identity.pid).unwrap_or(0)
}

/// A child that has ended, left for [`wait_for`]; `None` when there is none.
pub fn wait_for_any() -> Option<(i32, ExitCause)> {
    wait(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Reaps a child that has ended.
pub fn wait_for(pid: i32) -> Option<ExitCause> {
    wait(libc::P_PID, u32::try_from(pid).ok()?, 0).map(|(_, cause)| cause)
}

/// Whether that is a child of this process that was not reaped yet.
pub fn is_own_child(process: &ProcessIdentity) -> bool {
    look(libc::P_PID, process.pid, libc::WNOWAIT).is_some()
}

#[expect(unsafe_code, reason = "a union's fields")]
fn wait(kind: libc::idtype_t, id: u32, options: i32) -> Option<(i32, ExitCause)> {
    let info = look(kind, id, options)?;
    // SAFETY: after waitid these fields are set, or still zero when nobody has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let byte = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    let cause =
        if info.si_code == libc::CLD_EXITED { ExitCause::Code(byte) } else { ExitCause::Signal(byte) };
    (pid > 0).then_some((pid, cause))
}

/// `waitid` by hand: nix's fails with EINVAL for a child that a real-time signal killed; looking only, it does so for
/// ever, and nothing would be reaped any more. `None`: no such child.
#[expect(unsafe_code, reason = "see above")]
fn look(kind: libc::idtype_t, id: u32, options: i32) -> Option<libc::siginfo_t> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = options | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    loop {
        // SAFETY: `info` is writable and lives through the call.
        if unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) } == 0 {
            // SAFETY: zeroed is a valid siginfo, and the call leaves a valid one.
            return Some(unsafe { info.assume_init() });
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// A descriptor of a process that is no child of this one.
#[derive(Debug)]
pub struct ProcessFd(OwnedFd);

/// What the kernel tells of how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelStatus {
    /// It has not ended, or is not reaped yet.
    NotYet,
    /// It ended like this.
    Ended(ExitCause),
    /// This kernel does not tell (before Linux 6.15).
    NotTold,
}

/// `struct pidfd_info` in its first size (Linux 6.13).
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroup_id: u64,
    pids: [u32; 3],
    ids: [u32; 8],
    exit_code: i32,
}
/// Ask for, and told that there is, an exit code (Linux 6.15).
const PIDFD_INFO_EXIT: u64 = 1 << 3;
nix::ioctl_readwrite!(pidfd_get_info, 0xff, 11, PidFdInfo);

impl ProcessFd {
    /// Opens it; `None` when it has gone, or has ended already.
    #[expect(unsafe_code, reason = "nix has no pidfd calls")]
    pub fn open(process: &ProcessIdentity) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, raw_pid(process), 0) };
        let Ok(fd) = i32::try_from(result) else { return Ok(None) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            // The pid is a thread's now, which Linux says as ENOENT since 6.15, as EINVAL before: whoever had it as a process is gone.
            return match error.raw_os_error() {
                Some(libc::ESRCH | libc::ENOENT | libc::EINVAL) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the call has just made this descriptor; nobody else knows it.
        let held = unsafe { OwnedFd::from_raw_fd(fd) };
        // Read after opening: if it is the right one now, the descriptor is of it.
        Ok(identity_of(raw_pid(process)).is_ok_and(|it| it == *process).then_some(Self(held)))
    }

    /// How it ended, as far as the kernel tells those who are not its parent.
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn exit_status(&self) -> KernelStatus {
        let mut info = PidFdInfo { mask: PIDFD_INFO_EXIT, ..PidFdInfo::default() };
        // SAFETY: the request's size is that of the structure, which lives through the call.
        match unsafe { pidfd_get_info(self.0.as_raw_fd(), &raw mut info) } {
            Ok(_) if info.mask & PIDFD_INFO_EXIT != 0 => {
                let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
                KernelStatus::Ended(match info.exit_code & 0x7f {
                    0 => ExitCause::Code(byte(info.exit_code >> 8)),
                    signal => ExitCause::Signal(byte(signal)),
                })
            }
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ESRCH) => KernelStatus::NotYet,
            Err(_) => KernelStatus::NotTold,
        }
    }
}

impl AsFd for ProcessFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal by number to the process of a descriptor.
#[expect(unsafe_code, reason = "nix has no pidfd calls")]
pub fn signal(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the whole call; a null siginfo is allowed.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, none, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal by number: real-time signals have no name in nix. `pid` must be positive.
#[expect(unsafe_code, reason = "nix knows no real-time signals")]
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: kill(2) touches no memory of this process.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Marks every descriptor from 3 up close-on-exec.
#[expect(unsafe_code, reason = "no wrapper")]
pub fn cloexec_all() {
    // SAFETY: the call touches no memory; it changes descriptor flags only. A kernel without it (before 5.11) leaves
    // the flags as they are, and everything that the shim opens itself is close-on-exec anyway.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Closes every descriptor from 3 up except `keep`. Only for a forked child that uses none of the others again.
#[expect(unsafe_code, reason = "no wrapper")]
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> =
        keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3_u32;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > first {
            // SAFETY: the caller promises that nothing uses these descriptors again.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// Takes over a descriptor number that this process was given.
#[expect(unsafe_code, reason = "the number comes from the command line")]
pub fn take_fd(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks; a number that is not open is refused.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and nothing else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets O_NONBLOCK.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Sets the size of a terminal.
#[expect(unsafe_code, reason = "nix has no typed TIOCSWINSZ")]
pub fn set_terminal_size(fd: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writes a file so that after a crash it is there whole or not at all: write, fsync, rename.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    write().context(|| format!("write {}", path.display()))
}
