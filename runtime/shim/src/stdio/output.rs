//! One output copy: the process's pipe or terminal to the client's FIFO or file, and to the log.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::rc::Rc;

use bosun_types::Timestamp;
use bosun_types::stdio::OutputStream;

use super::fifo::{OutputFifo, Written, is_fifo};
use super::{CHUNK_BYTES, CHUNKS_PER_TURN, LogFile, SharedTail, Waits};
use crate::error::{Context as _, Result};
use crate::sys;

/// What a client names as the place of one stream, beside the log.
#[derive(Debug)]
pub enum Target<'a> {
    /// None.
    Nowhere,
    /// A FIFO or a file.
    Path(&'a str),
    /// To a logging program.
    Pipe(OutputFifo),
}

impl<'a> Target<'a> {
    /// Of a stream's path.
    pub fn of(path: Option<&'a str>) -> Self {
        path.filter(|path| !path.is_empty()).map_or(Self::Nowhere, Self::Path)
    }
}

/// Where one stream goes.
#[derive(Debug)]
pub struct Sinks {
    stream: OutputStream,
    fifo: Option<OutputFifo>,
    file: Option<File>,
    log: Option<Rc<RefCell<LogFile>>>,
    tail: SharedTail,
}

impl Sinks {
    /// Opens what the client named; a file must exist (IO-4).
    pub fn open(
        target: Target<'_>,
        stream: OutputStream,
        log: Option<Rc<RefCell<LogFile>>>,
        tail: SharedTail,
    ) -> Result<Self> {
        let mut sinks = Self { stream, fifo: None, file: None, log, tail };
        match target {
            Target::Nowhere => {}
            Target::Pipe(pipe) => sinks.fifo = Some(pipe),
            Target::Path(path) if is_fifo(path)? => sinks.fifo = Some(OutputFifo::open(path)?),
            Target::Path(path) => {
                let options = File::options().append(true).custom_flags(libc::O_NOCTTY).open(path);
                sinks.file = Some(options.context(|| format!("open {path}"))?);
            }
        }
        Ok(sinks)
    }

    /// Whether the stream goes nowhere.
    pub fn is_empty(&self) -> bool {
        self.fifo.is_none() && self.file.is_none() && self.log.is_none()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Output {
    source: File,
    sinks: Sinks,
    /// Read and logged, but no room in the FIFO yet.
    pending: Vec<u8>,
}

impl Output {
    /// Copies from `source`.
    pub fn new(source: OwnedFd, sinks: Sinks) -> Result<Self> {
        sys::set_nonblocking(source.as_fd()).context(|| "output".into())?;
        Ok(Self { source: source.into(), sinks, pending: Vec::new() })
    }

    /// Moves what can be moved now.
    pub fn pump(&mut self) -> Waits {
        let mut buffer = [0; CHUNK_BYTES];
        for _ in 0..CHUNKS_PER_TURN {
            if !self.flush() {
                return Waits::Sink;
            }
            if self.sinks.tail.borrow().is_full() {
                return Waits::Room;
            }
            match self.source.read(&mut buffer) {
                Ok(0) => return self.end(),
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waits::Source,
                // A terminal whose last user has gone answers EIO.
                Err(_) => return self.end(),
            }
        }
        if self.flush() { Waits::Source } else { Waits::Sink }
    }

    /// Whether bytes wait for a reader of the FIFO.
    pub fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// To watch.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    /// To watch.
    pub fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.sinks.fifo.as_ref().map(AsFd::as_fd)
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut tail = self.sinks.tail.borrow_mut();
        let at = tail.stamp(Timestamp::now());
        tail.push(self.sinks.stream, at, bytes);
        drop(tail);
        if let Some(log) = &self.sinks.log {
            log.borrow_mut().append(self.sinks.stream, at, bytes);
        }
        if let Some(file) = &mut self.sinks.file {
            // A full disk must not stop the container; the client sees the gap in its own file.
            let _ = file.write_all(bytes);
        }
        if let Some(fifo) = &mut self.sinks.fifo
            && let Written::Blocked(count) = fifo.write(bytes)
        {
            self.pending.extend_from_slice(&bytes[count..]);
        }
    }

    /// Whether nothing waits any more.
    fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        let Some(fifo) = &mut self.sinks.fifo else { return true };
        match fifo.write(&self.pending) {
            Written::All => {
                self.pending = Vec::new();
                true
            }
            Written::Blocked(count) => {
                drop(self.pending.drain(..count));
                false
            }
        }
    }

    fn end(&mut self) -> Waits {
        if let Some(log) = &self.sinks.log {
            log.borrow_mut().end(self.sinks.stream);
        }
        if self.flush() { Waits::Ended } else { Waits::Sink }
    }
}
