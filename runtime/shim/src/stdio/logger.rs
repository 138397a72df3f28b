//! A logging program (`binary://`, IO-12): started before the container, fed through pipes of its own, never waited for. When it ends, what is written for it is
//! dropped; when this shim ends, it reads end-of-file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bosun_types::log_program::LogProgram;
use bosun_types::{Error, ErrorClass};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2, read};

use super::fifo::OutputFifo;
use crate::error::{Context as _, Result};

/// How long a logging program may take until it is ready.
const READY_WAIT: Duration = Duration::from_secs(10);
/// What the program finds where.
const STDOUT: i32 = 3;
const STDERR: i32 = 4;
const READY: i32 = 5;

/// The shim's side of a logging program.
#[derive(Debug)]
pub struct Logger {
    /// To descriptor 3.
    pub stdout: OutputFifo,
    /// To descriptor 4.
    pub stderr: OutputFifo,
    /// What it closes when it is ready.
    pub ready: Ready,
}

/// To wait for a logging program.
#[derive(Debug)]
pub struct Ready {
    descriptor: OwnedFd,
    program: String,
    /// Of the program, which leads a group.
    pid: i32,
}

/// Starts it. NotFound, PermissionDenied: it cannot be run.
pub fn start(program: &LogProgram, namespace: &str, container: &str) -> Result<Logger> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).context(|| format!("{program}: make a pipe"));
    let ((stdout, ours_out), (stderr, ours_err), (ready, theirs)) = (pipe()?, pipe()?, pipe()?);
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).process_group(0);
    command.env("CONTAINER_ID", container).env("CONTAINER_NAMESPACE", namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mappings = [(stdout, STDOUT), (stderr, STDERR), (theirs, READY)];
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.into()).map_err(|error| Error::internal(format!("{program}: {error}")))?;
    // Reaped with everything else that this process is the parent of.
    let child = command.spawn().context(|| format!("run {program}"))?;
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let outputs = (OutputFifo::of_pipe(ours_out), OutputFifo::of_pipe(ours_err));
    let (stdout, stderr) =
        (outputs.0.context(|| program.to_string())?, outputs.1.context(|| program.to_string())?);
    Ok(Logger { stdout, stderr, ready: Ready { descriptor: ready, program: program.to_string(), pid } })
}

impl Ready {
    /// Waits for it; DeadlineExceeded after ten seconds, and then it is killed.
    pub fn wait(&self) -> Result<()> {
        let until = Instant::now() + READY_WAIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(0) => {
                    let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
                    let message = format!("{} is not ready after {READY_WAIT:?}", self.program);
                    let hint = "it must close descriptor 5 once it reads descriptors 3 and 4";
                    return Err(Error::new(ErrorClass::DeadlineExceeded, message).with_hint(hint).into());
                }
                Ok(_) => match read(&self.descriptor, &mut [0; 64]) {
                    // Closed: ready, or ended, which is its own affair.
                    Ok(0) => return Ok(()),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error).context(|| format!("wait for {}", self.program)),
                },
                Err(error) => return Err(error).context(|| format!("wait for {}", self.program)),
            }
        }
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
