//! A job: work that takes long or needs much memory, done in a short-lived forked child.
//!
//! The shim stays small, because what libcontainer and the JSON parser allocate goes away with the child; and it stays
//! responsive, because it only waits for the child's end among all its other events. Processes that the child leaves
//! behind (a container's init) become the shim's own children: it is their subreaper.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use bincode::{Decode, Encode, config};
use bosun_types::Error;
use bosun_types::task::ExitCause;
use bosun_types::task::ProcessIdentity;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, fork, pipe2};

use crate::error::{Context as _, Result};
use crate::{setup, sys};

/// Longest error text that goes over the result pipe: it must fit the pipe, nobody reads until the child has ended.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// What a job brings back.
#[derive(Debug, Encode, Decode)]
pub enum Outcome {
    /// Done.
    Done,
    /// A process was made.
    Process(ProcessIdentity),
}

/// A running job.
#[derive(Debug)]
pub struct Job {
    /// The forked child.
    pub pid: i32,
    result: OwnedFd,
}

/// What every job needs from the shim.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// OOM score adjustment that children get back.
    pub oom_score: String,
}

impl Job {
    /// Forks a child that closes every descriptor but stdio and `keep`, and does `work`.
    #[expect(unsafe_code, reason = "fork")]
    pub fn spawn(
        context: &JobContext,
        keep: &[RawFd],
        work: impl FnOnce() -> Result<Outcome>,
    ) -> Result<Self> {
        let (result, report) = pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into())?;
        // SAFETY: the shim has one thread, so the child may do everything the parent may.
        match unsafe { fork() }.context(|| "fork".into())? {
            ForkResult::Parent { child } => Ok(Self { pid: child.as_raw(), result }),
            ForkResult::Child => {
                let mut keep = keep.to_vec();
                keep.push(report.as_raw_fd());
                // A created container that waits for its start must hold no connection, pipe or socket of the shim.
                sys::close_all_but(&keep);
                setup::restore_for_child(&context.oom_score);
                let outcome = work().map_err(|error| shorten(error.into()));
                if let Ok(bytes) = bincode::encode_to_vec(&outcome, config::standard()) {
                    let _ = nix::unistd::write(&report, &bytes);
                }
                // SAFETY: ends this child without running the parent's exit handlers and destructors.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// What came of it, once the child was reaped with `cause`.
    pub fn finish(self, cause: &ExitCause) -> Result<Outcome, Error> {
        let mut bytes = Vec::new();
        // The write end may live on in a created container: read what is there, not until its end.
        if sys::set_nonblocking(std::os::fd::AsFd::as_fd(&self.result)).is_ok() {
            let _ = std::fs::File::from(self.result).read_to_end(&mut bytes);
        }
        match bincode::decode_from_slice::<Result<Outcome, Error>, _>(&bytes, config::standard()) {
            Ok((outcome, _)) => outcome,
            Err(_) => Err(Error::internal(format!("the shim's worker ended without an answer: {cause:?}"))),
        }
    }
}

fn shorten(mut error: Error) -> Error {
    if error.message.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|at| error.message.is_char_boundary(*at)).unwrap_or(0);
        error.message.truncate(end);
    }
    error
}
