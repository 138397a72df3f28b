//! One input copy: client's FIFO to the process's pipe or terminal.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::fifo::InputFifo;
use super::{CHUNK_BYTES, CHUNKS_PER_TURN, Waits};
use crate::error::{Context as _, Result};
use crate::sys;

/// See the module.
#[derive(Debug)]
pub struct Input {
    source: InputFifo,
    sink: File,
    /// Read, but no room yet.
    pending: Vec<u8>,
}

impl Input {
    /// Copies from `source` to `sink`.
    pub fn new(source: InputFifo, sink: OwnedFd) -> Result<Self> {
        sys::set_nonblocking(sink.as_fd()).context(|| "stdin".into())?;
        Ok(Self { source, sink: sink.into(), pending: Vec::new() })
    }

    /// Moves what can be moved now.
    pub fn pump(&mut self) -> Waits {
        let mut buffer = [0; CHUNK_BYTES];
        // epoll cannot watch a plain file: it is read to its end, or until the process does not keep up.
        let chunks = if self.source.is_plain() { usize::MAX } else { CHUNKS_PER_TURN };
        for _ in 0..chunks {
            if !self.pending.is_empty() {
                match self.flush() {
                    Waits::Source => {}
                    other => return other,
                }
            }
            match self.source.read(&mut buffer) {
                Ok(0) => return Waits::Ended,
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waits::Source,
                Err(_) => return Waits::Ended,
            }
        }
        if self.pending.is_empty() { Waits::Source } else { self.flush() }
    }

    /// CloseStdin: the process sees the end once the client has closed too.
    pub fn release(&mut self) {
        self.source.release();
    }

    /// To watch.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    /// To watch.
    pub fn sink(&self) -> BorrowedFd<'_> {
        self.sink.as_fd()
    }

    fn flush(&mut self) -> Waits {
        while !self.pending.is_empty() {
            match self.sink.write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waits::Sink,
                // The process closed its standard input.
                Err(_) => return Waits::Ended,
            }
        }
        self.pending = Vec::new();
        Waits::Source
    }
}
