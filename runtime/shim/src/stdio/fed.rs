//! One input copy without a FIFO: what attached clients write, to the process's pipe or terminal.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bosun_types::Error;

use super::Waits;
use crate::error::{Context as _, Result};
use crate::process::Waiter;
use crate::sys;

/// Writes that may wait for room.
const WAITING_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Fed {
    sink: File,
    waiting: VecDeque<(Waiter, Vec<u8>)>,
    /// No more will come; the end is given when nothing waits.
    closing: bool,
    answered: Vec<(Waiter, Result<(), Error>)>,
}

impl Fed {
    /// Writes to `sink`.
    pub fn new(sink: OwnedFd) -> Result<Self> {
        sys::set_nonblocking(sink.as_fd()).context(|| "stdin".into())?;
        Ok(Self { sink: sink.into(), waiting: VecDeque::new(), closing: false, answered: Vec::new() })
    }

    /// Takes a write; it is answered when all of it is in the pipe.
    pub fn take(&mut self, waiter: Waiter, bytes: Vec<u8>) {
        if self.closing {
            self.answered.push((waiter, Err(Error::failed_precondition("standard input is closed"))));
        } else if self.waiting.len() >= WAITING_MAX {
            let error = Error::resource_exhausted(format!("{WAITING_MAX} writes to standard input wait"));
            self.answered.push((waiter, Err(error)));
        } else {
            self.waiting.push_back((waiter, bytes));
        }
    }

    /// No more will come.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Moves what can be moved now.
    pub fn pump(&mut self) -> Waits {
        while let Some((waiter, bytes)) = self.waiting.front_mut() {
            match self.sink.write(bytes) {
                Ok(count) if count == bytes.len() => {
                    self.answered.push((*waiter, Ok(())));
                    self.waiting.pop_front();
                }
                Ok(count) => drop(bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Waits::Sink,
                Err(_) => {
                    // The process closed its standard input, or has ended.
                    let gone = || Error::failed_precondition("the process reads its standard input no more");
                    self.answered.extend(self.waiting.drain(..).map(|(waiter, _)| (waiter, Err(gone()))));
                    return Waits::Ended;
                }
            }
        }
        if self.closing { Waits::Ended } else { Waits::Room }
    }

    /// Writes that are over.
    pub fn answers(&mut self) -> Vec<(Waiter, Result<(), Error>)> {
        std::mem::take(&mut self.answered)
    }

    /// To watch.
    pub fn sink(&self) -> BorrowedFd<'_> {
        self.sink.as_fd()
    }
}
