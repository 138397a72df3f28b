//! A process's pipes. Those of an adoptable container are FIFOs in the task directory: when this shim dies, the next one opens them again and finds what was
//! written meanwhile. The process's own end of an output is then open for reading too, so that for want of a shim it waits, and gets no SIGPIPE.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use bosun_types::shim::file::PIPE_PREFIX;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2};

use crate::error::{Context as _, Result};

/// Streams of a process, as parts of names.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Index of standard input.
pub const STDIN: usize = 0;

/// How the pipes of one process are made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Of the process, unique in the task.
    pub name: &'a str,
    /// Whether another shim may have to open them.
    pub adoptable: bool,
}

/// The process's end, and ours.
pub struct Pipe {
    pub theirs: OwnedFd,
    pub ours: OwnedFd,
}

impl Place<'_> {
    /// A pipe for the stream of this index: standard input, or an output.
    pub fn pipe(&self, stream: usize) -> Result<Pipe> {
        let what = || "make a pipe".to_owned();
        if self.adoptable {
            return self.named(stream).context(what);
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context(what)?;
        Ok(if stream == STDIN {
            Pipe { theirs: read, ours: write }
        } else {
            Pipe { theirs: write, ours: read }
        })
    }

    fn named(&self, stream: usize) -> io::Result<Pipe> {
        let path = self.path(stream);
        let _ = std::fs::remove_file(&path);
        mkfifo(path.as_str(), Mode::S_IRUSR | Mode::S_IWUSR)?;
        let is_input = stream == STDIN;
        // For standard input, reading alone: the process is to see the end of it.
        let theirs = open(&path, true, !is_input)?;
        let ours = open(&path, !is_input, is_input)?;
        let flags = OFlag::from_bits_retain(fcntl(theirs.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(theirs.as_fd(), FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
        Ok(Pipe { theirs, ours })
    }

    /// Our end of a pipe that a shim before this one made; `None`: it made none, or the process reads its input no more.
    pub fn reopen(&self, stream: usize) -> Result<Option<OwnedFd>> {
        let path = self.path(stream);
        let is_input = stream == STDIN;
        match open(&path, !is_input, is_input) {
            Ok(ours) => Ok(Some(ours)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => Ok(None),
            Err(error) => Err(error).context(|| format!("open {path}")),
        }
    }

    /// Takes the names away.
    pub fn forget(&self) {
        (0..STREAMS.len()).for_each(|stream| drop(std::fs::remove_file(self.path(stream))));
    }

    fn path(&self, stream: usize) -> String {
        format!("{PIPE_PREFIX}{}-{}", self.name, STREAMS[stream])
    }
}

/// Never waits for the other end.
fn open(path: &str, read: bool, write: bool) -> io::Result<OwnedFd> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    Ok(File::options().read(read).write(write).custom_flags(flags).open(path)?.into())
}
