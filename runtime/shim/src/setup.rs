//! Process-wide set-up, before anything else happens.
//!
//! The container's init starts as a fork of this binary, so inside the container `/proc/<pid>/exe` can lead to it
//! (CVE-2019-5736). A sealed memfd would protect it, but gives each shim a private copy of its whole text: megabytes
//! instead of shared page cache. Instead the shim binds its binary read-only onto itself, in its own mount namespace,
//! and starts again from there: the link then leads to a mount that nobody can write through, and that no process in
//! a container can change, because the mount belongs to another mount namespace.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use bosun_types::shim::environment::{LOG_FILTER, LOG_FORMAT};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use crate::error::{Context as _, Result};
use crate::options::{Options, PROTECTED};
use crate::sys;

/// The shim is the last to go when memory runs out (SHM-5).
const OOM_SCORE_ADJUSTMENT: &str = "-999";
/// Where the adjustment is.
pub const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// First start: own mount namespace, read-only view of the binary, start again from it. Does not return on success.
pub fn protect(options: &Options) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare the mount namespace".into())?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).context(|| "make mounts slaves".into())?;
    let binary = std::env::current_exe().context(|| "find the shim's binary".into())?;
    // By path: the link `/proc/self/exe` leads to a mount of the namespace that was just left, which cannot be bound.
    mount(Some(&binary), &binary, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context(|| format!("bind {}", binary.display()))?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
    mount(None::<&str>, &binary, None::<&str>, read_only, None::<&str>)
        .context(|| format!("bind {} read-only", binary.display()))?;
    start_again(binary, options)
}

/// A session keyring for this shim and all processes of its container, instead of the daemon's. Best effort: a kernel without
/// keyrings has none to share, and one that is out of quota refuses.
#[expect(unsafe_code, reason = "a system call without a wrapper")]
fn new_keyring() {
    // SAFETY: keyctl with a null name touches no memory of this process.
    unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
}

fn start_again(binary: PathBuf, options: &Options) -> Result<()> {
    let text = |bytes: Vec<u8>| CString::new(bytes).context_nul();
    let mut arguments: Vec<CString> = Vec::new();
    for argument in std::env::args_os() {
        arguments.push(text(argument.into_vec())?);
    }
    arguments.push(text(PROTECTED.into())?);
    sys::cloexec_all();
    if let Some(fd) = options.ready_fd.and_then(sys::take_fd) {
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .context(|| "keep the ready pipe".into())?;
        std::mem::forget(fd);
    }
    // The environment is the daemon's: only what finds an OCI runtime binary stays, and how to log.
    let mut environment: Vec<CString> = Vec::new();
    for name in ["PATH", LOG_FILTER, LOG_FORMAT] {
        if let Some(value) = std::env::var_os(name) {
            environment.push(text([name.as_bytes(), b"=", &value.into_vec()].concat())?);
        }
    }
    let path = text(binary.into_os_string().into_vec())?;
    match nix::unistd::execve(&path, &arguments, &environment) {
        Ok(never) => match never {},
        Err(error) => Err(error).context(|| "start again from the read-only view".into()),
    }
}

trait ContextNul {
    fn context_nul(self) -> Result<CString>;
}

impl ContextNul for Result<CString, std::ffi::NulError> {
    fn context_nul(self) -> Result<CString> {
        self.map_err(std::io::Error::from).context(|| "argument".into())
    }
}

/// Second start: everything that is set once. Returns the descriptor on which signals arrive, and the OOM score
/// adjustment to give back to children.
pub fn prepare(options: &Options) -> Result<(SignalFd, String)> {
    umask(Mode::from_bits_truncate(0o077));
    sys::cloexec_all();
    let directory = &options.directory;
    nix::unistd::chdir(directory).context(|| format!("enter {}", directory.display()))?;
    nix::sys::prctl::set_child_subreaper(true).context(|| "become subreaper".into())?;
    new_keyring();
    let inherited = std::fs::read_to_string(OOM_SCORE_FILE).unwrap_or_else(|_| "0".into());
    // Without the privilege (a test in a container) the shim is only less protected.
    let _ = std::fs::write(OOM_SCORE_FILE, OOM_SCORE_ADJUSTMENT);
    // Rust starts with SIGPIPE ignored already; said here because SHM-7 asks for it.
    set_disposition(Signal::SIGPIPE, SigHandler::SigIgn)?;
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block().context(|| "block signals".into())?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(|| "make a signal descriptor".into())?;
    Ok((signals, inherited.trim().to_owned()))
}

/// Makes this shim the only one of its task directory: a daemon that was interrupted may start another one, which must
/// not take the socket from the first. The kernel lets go of the lock when the shim dies.
pub fn lock_directory() -> Result<Flock<File>> {
    let directory = File::open(".").context(|| "open the task directory".into())?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .context(|| "another shim serves this task directory".into())
}

/// In a forked child: what a program expects to inherit, not what the shim set for itself.
pub fn restore_for_child(oom_score: &str) {
    let _ = set_disposition(Signal::SIGPIPE, SigHandler::SigDfl);
    let _ = SigSet::empty().thread_set_mask();
    umask(Mode::from_bits_truncate(0o022));
    let _ = std::fs::write(OOM_SCORE_FILE, oom_score);
}

/// Says that the socket listens.
pub fn tell_ready(options: &Options) {
    if let Some(fd) = options.ready_fd.and_then(sys::take_fd) {
        debug_assert!(fd.as_raw_fd() > 2);
        let _ = nix::unistd::write(&fd, b"1");
    }
}

#[expect(unsafe_code, reason = "nix cannot know that a disposition without a handler is safe")]
fn set_disposition(signal: Signal, handler: SigHandler) -> Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: only SIG_IGN and SIG_DFL are ever passed: no handler runs.
    unsafe { sigaction(signal, &action) }.context(|| format!("set {signal}"))?;
    Ok(())
}
