//! The copies of the event loop: which run, what each waits for, whose they are.

use std::os::fd::BorrowedFd;

use bosun_types::ExecId;
use bosun_types::shim::Response;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::Shim;
use crate::stdio::{Copies, Fed, Input, Output, Waits};

/// A copy under way.
#[derive(Debug)]
pub struct Stream {
    /// `None`: init's.
    pub owner: Option<ExecId>,
    /// The copy.
    pub copy: Copy,
    watched: Option<Waits>,
}

/// Either direction.
#[derive(Debug)]
pub enum Copy {
    /// From the process.
    Output(Output),
    /// To the process.
    Input(Input),
    /// To the process, from attached clients.
    Fed(Fed),
}

impl Shim {
    /// Begins to copy a process's streams.
    pub fn begin_copies(&mut self, owner: Option<&ExecId>, copies: Copies) {
        if let Ok(process) = self.process(owner) {
            process.tail = copies.tail;
        }
        let outputs = copies.outputs.into_iter().map(Copy::Output);
        let inputs = copies.input.map(Copy::Input).into_iter().chain(copies.fed.map(Copy::Fed));
        for copy in outputs.chain(inputs) {
            let id = self.next_id();
            self.streams.insert(id, Stream { owner: owner.cloned(), copy, watched: None });
            self.pump(id);
        }
    }

    /// Whether output of that process is still to come or to be written; and whether some of it waits for a reader.
    pub fn output_state(&mut self, owner: Option<&ExecId>) -> (bool, bool) {
        let ids: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, it)| it.owner.as_ref() == owner && matches!(it.copy, Copy::Output(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.pump(*id);
        }
        let left = ids.iter().filter_map(|id| self.streams.get(id));
        left.fold((false, false), |(_, blocked), it| {
            (true, blocked || matches!(&it.copy, Copy::Output(output) if output.is_blocked()))
        })
    }

    /// Ends the input copy of a process.
    pub fn end_input(&mut self, owner: Option<&ExecId>) {
        self.end_streams(|it| it.owner.as_ref() == owner && !matches!(it.copy, Copy::Output(_)));
    }

    /// Ends all copies of a process; what was not written is lost.
    pub fn end_copies(&mut self, owner: Option<&ExecId>) {
        self.end_streams(|it| it.owner.as_ref() == owner);
    }

    /// Gives up the shim's write end of a process's input FIFO.
    pub fn release_input(&mut self, owner: Option<&ExecId>) {
        let ids: Vec<u64> =
            self.streams.iter().filter(|(_, it)| it.owner.as_ref() == owner).map(|(id, _)| *id).collect();
        for id in ids {
            match self.streams.get_mut(&id).map(|stream| &mut stream.copy) {
                Some(Copy::Input(input)) => input.release(),
                Some(Copy::Fed(fed)) => fed.close(),
                _ => continue,
            }
            self.pump(id);
        }
    }

    /// Moves a stream on, and watches what it waits for then. An end that is not waited for is not watched at all:
    /// epoll would report its hang-up again and again.
    pub(super) fn pump(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (mut answers, mut readers) = (Vec::new(), None);
        let waits = match &mut stream.copy {
            Copy::Output(output) => {
                let waits = output.pump();
                readers = Some(stream.owner.clone());
                waits
            }
            Copy::Input(input) => input.pump(),
            Copy::Fed(fed) => {
                let waits = fed.pump();
                answers = fed.answers();
                waits
            }
        };
        self.watch_stream(id, waits);
        for (waiter, answer) in answers {
            self.reply(waiter, answer.map(|()| Response::Done));
        }
        if let Some(owner) = readers {
            self.feed_readers(owner.as_ref());
        }
    }

    /// Outputs that waited for a reader are looked at again, by the loop: from here it could go on for ever.
    pub(super) fn resume_outputs(&mut self, owner: Option<&ExecId>) {
        let waiting = self.streams.iter().filter(|(_, it)| {
            it.owner.as_ref() == owner
                && it.watched == Some(Waits::Room)
                && matches!(it.copy, Copy::Output(_))
        });
        let ids: Vec<u64> = waiting.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.watch_stream(id, Waits::Source));
    }

    fn watch_stream(&mut self, id: u64, waits: Waits) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.watched == Some(waits) {
            return;
        }
        if let Some(fd) = stream.watched.and_then(|waits| stream.copy.fd(waits)) {
            let _ = self.epoll.delete(fd);
        }
        stream.watched = Some(waits);
        let flags = match waits {
            Waits::Source => EpollFlags::EPOLLIN,
            Waits::Sink => EpollFlags::EPOLLOUT,
            // Whoever makes room pumps.
            Waits::Room => return,
            Waits::Ended => {
                self.streams.remove(&id);
                return;
            }
        };
        let watched =
            stream.copy.fd(waits).is_some_and(|fd| self.epoll.add(fd, EpollEvent::new(flags, id)).is_ok());
        if !watched {
            self.streams.remove(&id);
        }
    }

    fn end_streams(&mut self, which: impl Fn(&Stream) -> bool) {
        let ids: Vec<u64> = self.streams.iter().filter(|(_, it)| which(it)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(stream) = self.streams.remove(&id)
                && let Some(fd) = stream.watched.and_then(|waits| stream.copy.fd(waits))
            {
                let _ = self.epoll.delete(fd);
            }
        }
    }
}

impl Copy {
    fn fd(&self, waits: Waits) -> Option<BorrowedFd<'_>> {
        match (self, waits) {
            (_, Waits::Ended | Waits::Room) => None,
            (Self::Output(output), Waits::Source) => Some(output.source()),
            (Self::Output(output), Waits::Sink) => output.sink(),
            (Self::Input(input), Waits::Source) => Some(input.source()),
            (Self::Input(input), Waits::Sink) => Some(input.sink()),
            (Self::Fed(_), Waits::Source) => None,
            (Self::Fed(fed), Waits::Sink) => Some(fed.sink()),
        }
    }
}
