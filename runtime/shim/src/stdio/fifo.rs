//! FIFOs that the client made (IO-1, IO-3).
//!
//! Output: the shim keeps a read end beside its write end, so that neither opening nor writing needs a reader, no
//! SIGPIPE comes, and what is written before a reader comes waits in the FIFO. When the FIFO is full, the shim drops
//! its own read end for as long: the kernel then tells whether anyone else reads. Somebody does: wait for room, the
//! container blocks as it would on any pipe. Nobody does: the bytes are dropped for the FIFO.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context as _, Result};

/// The write side of an output FIFO.
#[derive(Debug)]
pub struct OutputFifo {
    write: File,
    /// Ours; `None` while blocked by a reader that does not keep up.
    read: Option<File>,
}

/// What became of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All are written, or dropped for want of a reader.
    All,
    /// This many; there is a reader, and no room.
    Blocked(usize),
}

impl OutputFifo {
    /// Opens the FIFO at `path`; never blocks.
    pub fn open(path: &str) -> Result<Self> {
        let context = || format!("open {path}");
        let read = open_nonblocking(path, true).context(context)?;
        let write = reopen(&read, false).context(context)?;
        Ok(Self { write, read: Some(read) })
    }

    /// The write end of a pipe, used as a FIFO's.
    pub fn of_pipe(write: OwnedFd) -> io::Result<Self> {
        crate::sys::set_nonblocking(write.as_fd())?;
        let write = File::from(write);
        let read = Some(reopen(&write, true)?);
        Ok(Self { write, read })
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> Written {
        let mut done = 0;
        while done < bytes.len() {
            match self.write.write(&bytes[done..]) {
                Ok(0) => return Written::All,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.read = None;
                    if self.has_reader() {
                        return Written::Blocked(done);
                    }
                    self.keep_open();
                    return Written::All;
                }
                // The reader went away while we waited for room.
                Err(_) => {
                    self.keep_open();
                    return Written::All;
                }
            }
        }
        self.keep_open();
        Written::All
    }

    /// Whether anyone but us has it open for reading; our own read end must be closed.
    fn has_reader(&self) -> bool {
        let mut fds = [PollFd::new(self.write.as_fd(), PollFlags::POLLOUT)];
        let answered = poll(&mut fds, PollTimeout::ZERO).is_ok();
        answered && !fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    }

    fn keep_open(&mut self) {
        if self.read.is_none() {
            self.read = reopen(&self.write, true).ok();
        }
    }
}

impl AsFd for OutputFifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

/// The read side of an input FIFO. Until `release` the shim holds a write end: a client that comes and goes gives the
/// process no end of file (TSK-27).
#[derive(Debug)]
pub struct InputFifo {
    read: File,
    write: Option<File>,
}

impl InputFifo {
    /// Opens the FIFO (or plain file) at `path`; never blocks.
    pub fn open(path: &str) -> Result<Self> {
        let context = || format!("open {path}");
        let read = open_nonblocking(path, true).context(context)?;
        let is_fifo = read.metadata().context(context)?.file_type().is_fifo();
        let write = is_fifo.then(|| reopen(&read, false)).transpose().context(context)?;
        Ok(Self { read, write })
    }

    /// Reads; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read.read(buffer)
    }

    /// Gives up the shim's own write end.
    pub fn release(&mut self) {
        self.write = None;
    }

    /// Whether epoll can watch it: a plain file it cannot, which is always readable anyway.
    pub fn is_plain(&self) -> bool {
        self.write.is_none() && self.read.metadata().is_ok_and(|it| it.file_type().is_file())
    }
}

impl AsFd for InputFifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// Whether the path is a FIFO.
pub fn is_fifo(path: &str) -> Result<bool> {
    let metadata = std::fs::metadata(path).context(|| format!("open {path}"))?;
    Ok(metadata.file_type().is_fifo())
}

fn open_nonblocking(path: &str, read: bool) -> io::Result<File> {
    File::options().read(read).write(!read).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// The other end of an open FIFO, whatever its path has become.
fn reopen(file: &File, read: bool) -> io::Result<File> {
    open_nonblocking(&format!("/proc/self/fd/{}", file.as_raw_fd()), read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo() -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn io_3_output_without_a_reader_neither_blocks_nor_fails_and_waits_for_one() {
        let (_directory, path) = fifo();
        let mut output = OutputFifo::open(&path).unwrap();
        assert_eq!(output.write(b"early"), Written::All);
        let mut reader = open_nonblocking(&path, true).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(reader.read(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn io_3_a_full_fifo_without_a_reader_drops_and_with_one_blocks() {
        let (_directory, path) = fifo();
        let mut output = OutputFifo::open(&path).unwrap();
        let much = vec![b'x'; 200 << 10];
        assert_eq!(output.write(&much), Written::All);
        let mut reader = open_nonblocking(&path, true).unwrap();
        assert_eq!(output.write(b"more"), Written::Blocked(0));
        let mut buffer = vec![0; 64 << 10];
        assert!(reader.read(&mut buffer).unwrap() > 0);
        assert_eq!(output.write(b"more"), Written::All);
        assert!(matches!(output.write(&much), Written::Blocked(count) if count > 0));
        drop(reader);
        assert_eq!(output.write(b"after"), Written::All);
    }

    #[test]
    fn tsk_27_the_end_comes_only_after_release_and_the_client_closing() {
        let (_directory, path) = fifo();
        let mut input = InputFifo::open(&path).unwrap();
        let mut client = open_nonblocking(&path, false).unwrap();
        client.write_all(b"in").unwrap();
        drop(client);
        let mut buffer = [0; 8];
        assert_eq!(input.read(&mut buffer).unwrap(), 2);
        assert_eq!(input.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        input.release();
        assert_eq!(input.read(&mut buffer).unwrap(), 0);
    }
}
