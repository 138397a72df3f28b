//! Clients that read a process's output live, each on a connection of its own, and those that write its input.
//!
//! A reader's window is its socket and one frame; what it does not take stays in the process's [`Tail`](crate::stdio::Tail).

use bosun_types::shim::{FromShim, Response};
use bosun_types::stdio::{AttachFrom, Overflow, STDIN_WRITE_BYTES_MAX};
use bosun_types::{Error, ExecId};

use super::Shim;
use super::streams::Copy;
use crate::process::Waiter;
use crate::stdio::SharedTail;

impl Shim {
    /// `Attach`: the connection is the reader's from now on.
    pub fn attach(&mut self, waiter: Waiter, exec: Option<ExecId>, from: AttachFrom, overflow: Overflow) {
        let connection = waiter.connection;
        let answer = self.tail_of(exec.as_ref()).and_then(|tail| {
            if self.attached.contains_key(&connection) {
                return Err(Error::failed_precondition("this connection is attached already"));
            }
            let position = tail.borrow_mut().attach(connection, from, overflow);
            let position = position
                .ok_or_else(|| Error::resource_exhausted("the process has as many readers as it may have"))?;
            Ok(Response::Attached { position })
        });
        let is_attached = answer.is_ok();
        self.reply(waiter, answer);
        // A reply to a connection that is gone has detached it already.
        if is_attached && self.connections.contains_key(&connection) {
            self.attached.insert(connection, exec);
            self.feed(connection);
        }
    }

    fn tail_of(&mut self, exec: Option<&ExecId>) -> Result<SharedTail, Error> {
        let process = self.process(exec)?;
        if let Some(tail) = &process.tail {
            return Ok(tail.clone());
        }
        Err(match process.identity {
            None => Error::failed_precondition(format!("the process is {}", process.phase.word())),
            Some(_) => Error::failed_precondition("its output goes nowhere")
                .with_hint("create it with a log, with FIFOs, or with stdin `attach:`"),
        })
    }

    /// Gives every reader of a process what it can take.
    pub fn feed_readers(&mut self, owner: Option<&ExecId>) {
        self.finish_tail(owner);
        let tail = self.process(owner).ok().and_then(|it| it.tail.clone());
        let readers = tail.map(|tail| tail.borrow().readers()).unwrap_or_default();
        for connection in readers {
            self.feed(connection);
        }
    }

    /// The process has ended and all of its output is here: readers may be told.
    pub fn finish_tail(&mut self, owner: Option<&ExecId>) {
        let copying =
            self.streams.values().any(|it| it.owner.as_ref() == owner && matches!(it.copy, Copy::Output(_)));
        if let Ok(process) = self.process(owner)
            && process.status.is_some()
            && !copying
            && let Some(tail) = &process.tail
        {
            tail.borrow_mut().finish();
        }
    }

    /// Moves frames to a reader while its socket takes them; then outputs that waited for it go on.
    pub(super) fn feed(&mut self, connection: u64) {
        let Some(owner) = self.attached.get(&connection).cloned() else { return };
        let Some(tail) = self.process(owner.as_ref()).ok().and_then(|it| it.tail.clone()) else { return };
        let was_full = tail.borrow().is_full();
        while self.connections.get(&connection).is_some_and(|it| !it.wants_to_write()) {
            let Some(frame) = tail.borrow_mut().next(connection) else { break };
            self.send(connection, &FromShim::Output(frame));
        }
        if was_full && !tail.borrow().is_full() {
            self.resume_outputs(owner.as_ref());
        }
    }

    /// A connection has gone: it holds up nobody any more.
    pub(super) fn detach(&mut self, connection: u64) {
        let Some(owner) = self.attached.remove(&connection) else { return };
        if let Some(tail) = self.process(owner.as_ref()).ok().and_then(|it| it.tail.clone()) {
            tail.borrow_mut().detach(connection);
            self.resume_outputs(owner.as_ref());
        }
    }

    /// `WriteStdin`.
    pub fn write_stdin(&mut self, waiter: Waiter, exec: Option<&ExecId>, bytes: Vec<u8>) {
        if bytes.len() > STDIN_WRITE_BYTES_MAX {
            let message =
                format!("{} bytes for standard input, at most {STDIN_WRITE_BYTES_MAX}", bytes.len());
            return self.reply(waiter, Err(Error::invalid_argument(message)));
        }
        if let Err(error) = self.process(exec) {
            return self.reply(waiter, Err(error));
        }
        let fed = self.streams.iter_mut().find_map(|(id, stream)| match &mut stream.copy {
            Copy::Fed(fed) if stream.owner.as_ref() == exec => Some((*id, fed)),
            _ => None,
        });
        let Some((id, fed)) = fed else {
            let error =
                Error::failed_precondition("its standard input is not written by clients, or is closed")
                    .with_hint("create it with stdin `attach:`");
            return self.reply(waiter, Err(error));
        };
        fed.take(waiter, bytes);
        self.pump(id);
    }
}
