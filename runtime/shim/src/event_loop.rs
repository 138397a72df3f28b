//! The shim itself: everything it holds, and the loop that turns readiness into calls.

mod attach;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use bosun_types::shim::{
    CreateRequest, ExitNotice, FromShim, Notice, PROTOCOL_VERSION, Response, ShimBeacon, ToShim,
};
use bosun_types::task::{ExitStatus, ProcessIdentity};
use bosun_types::{Error, ExecId, Timestamp};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use crate::calls::Calls;
use crate::cgroup::Cgroup;
use crate::connection::{Connection, Frame};
use crate::dump::Dumping;
use crate::error::{Context as _, Result};
use crate::job::{Job, JobContext};
use crate::oom::OomWatch;
use crate::options::Options;
use crate::phase::Kind;
use crate::process::{Process, Waiter};
use crate::restore::Restore;
use crate::sys::ProcessFd;
use crate::trace::{self, Level};
use streams::Stream;

/// Connections at once; more than a daemon, its successor, a person with a tool and some attached clients need.
const CONNECTIONS_MAX: usize = 32;
/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 32;
/// Pause between looks at what is left of an ended container.
const LOOK_AGAIN_MILLIS: u8 = 5;

/// Tokens below this are not stream or connection ids. Ids are never reused, so an event that comes late finds nothing.
const FIRST_ID: u64 = 8;
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const OOM: u64 = 2;

/// What a running job is for.
#[derive(Debug)]
pub enum JobKind {
    /// `Create`; the spec's terminal is in the pending stdio.
    Create(crate::stdio::Opened),
    /// `Start` of init by the runtime.
    StartInit,
    /// `Start` of an exec.
    StartExec(ExecId, crate::stdio::Opened),
    /// `Delete`.
    Delete,
    /// `Update`.
    Update(Waiter),
    /// `Dump`.
    Dump,
}

/// What the shim knows of its container once `Create` has come.
#[derive(Debug)]
pub struct Container {
    /// The request, for repeats.
    pub request: CreateRequest,
    /// Its group.
    pub cgroup: Cgroup,
    /// The group's path, as in the spec.
    pub cgroup_path: Option<String>,
    /// Whether the kernel ends all of it with init.
    pub owns_pids: bool,
    /// Whether `Start` must go through the runtime, because of hooks or because it is a binary.
    pub start_by_runtime: bool,
    /// What `Start` restores, until it has.
    pub restore: Option<Restore>,
}

/// See the module.
pub struct Shim {
    /// The command line.
    pub options: Options,
    /// This process.
    pub identity: ProcessIdentity,
    /// For jobs.
    pub job_context: JobContext,
    /// Init.
    pub init: Process,
    /// Execs.
    pub execs: BTreeMap<ExecId, Process>,
    /// Once `Create` has come.
    pub container: Option<Container>,
    /// Running jobs.
    pub jobs: Vec<(Job, JobKind)>,
    /// Reaped while jobs ran: one of them may be the process that a job is about to report.
    pub reaped_early: Vec<(ProcessIdentity, ExitStatus)>,
    /// Processes that were taken over and have ended, since when, but were not reaped yet.
    pub unreaped: Vec<(Option<ExecId>, Instant)>,
    /// Exits whose record waits for the daemon's acknowledgement.
    pub unacknowledged: Vec<ExitNotice>,
    /// Calls with keys.
    pub calls: Calls,
    /// The dump under way.
    pub dumping: Dumping,
    /// A signal asked the shim to kill, delete and go (SHM-7).
    pub stopping: bool,
    /// The loop ends.
    pub ended: bool,
    epoll: Epoll,
    listener: UnixListener,
    signals: SignalFd,
    oom: Option<OomWatch>,
    connections: BTreeMap<u64, Connection>,
    streams: BTreeMap<u64, Stream>,
    /// Connections that read a process's output.
    attached: BTreeMap<u64, Option<ExecId>>,
    /// Processes that were taken over, watched for their end.
    watched: BTreeMap<u64, Option<ExecId>>,
    next_id: u64,
}

impl Shim {
    /// A shim that listens.
    pub fn new(
        options: Options,
        identity: ProcessIdentity,
        signals: SignalFd,
        listener: UnixListener,
        oom_score: String,
    ) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context(|| "make an epoll".into())?;
        listener.set_nonblocking(true).context(|| "listen".into())?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(&listener, readable(LISTENER)).context(|| "watch the socket".into())?;
        epoll.add(&signals, readable(SIGNALS)).context(|| "watch signals".into())?;
        Ok(Self {
            options,
            identity,
            job_context: JobContext { oom_score },
            init: Process::new(Kind::Init, Vec::new(), bosun_types::stdio::Stdio::default()),
            execs: BTreeMap::new(),
            container: None,
            jobs: Vec::new(),
            reaped_early: Vec::new(),
            unreaped: Vec::new(),
            unacknowledged: Vec::new(),
            calls: Calls::default(),
            dumping: Dumping::default(),
            stopping: false,
            ended: false,
            epoll,
            listener,
            signals,
            oom: None,
            connections: BTreeMap::new(),
            streams: BTreeMap::new(),
            attached: BTreeMap::new(),
            watched: BTreeMap::new(),
            next_id: FIRST_ID,
        })
    }

    /// Serves until the task is over.
    pub fn run(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        // Children that ended before signals were watched.
        self.reap();
        while !self.ended {
            let timeout = if self.is_winding_up() { LOOK_AGAIN_MILLIS.into() } else { EpollTimeout::NONE };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error).context(|| "wait for events".into()),
            };
            for event in &events[..count] {
                self.dispatch(event.data(), event.events());
            }
            self.advance_adopted();
            self.advance_endings();
            self.advance_stopping();
        }
        Ok(())
    }

    /// The beacon as it is now.
    pub fn beacon(&self) -> ShimBeacon {
        let container = self.container.as_ref();
        ShimBeacon {
            init: self.init.identity,
            cgroup_path: container.and_then(|it| it.cgroup_path.clone()),
            runtime: container.map(|it| it.request.runtime.clone()),
            ..first_beacon(&self.options, self.identity)
        }
    }

    /// Watches a process that is no child of this shim for its end.
    pub fn watch_end(&mut self, exec: Option<&ExecId>, held: ProcessFd) -> Result<()> {
        let id = self.next_id();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id);
        self.epoll.add(&held, event).context(|| "watch a process".into())?;
        self.watched.insert(id, exec.cloned());
        self.process(exec)?.held = Some(held);
        Ok(())
    }

    /// Ends that; the descriptor stays, for the status.
    pub fn unwatch_end(&mut self, exec: Option<&ExecId>) {
        self.watched.retain(|_, it| it.as_ref() != exec);
        let process = match exec {
            None => Some(&self.init),
            Some(id) => self.execs.get(id),
        };
        if let Some(held) = process.and_then(|it| it.held.as_ref()) {
            let _ = self.epoll.delete(held);
        }
    }

    /// Watches for the out-of-memory killer as long as init lives.
    pub fn watch_oom(&mut self) {
        let watch = self.container.as_ref().and_then(|it| OomWatch::new(&it.cgroup));
        if let Some(watch) = watch
            && self.epoll.add(&watch, EpollEvent::new(watch.events(), OOM)).is_ok()
        {
            self.oom = Some(watch);
        }
    }

    /// Ends that.
    pub fn unwatch_oom(&mut self) {
        // The last kill may be the one that ended init.
        self.take_oom();
        if let Some(watch) = self.oom.take() {
            let _ = self.epoll.delete(&watch);
        }
    }

    fn take_oom(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::fired) {
            self.notify(&Notice::OutOfMemory { at: Timestamp::now() });
        }
    }

    /// Answers a request, unless its connection has gone.
    pub fn reply(&mut self, waiter: Waiter, result: Result<Response, Error>) {
        let level = if waiter.call.is_some() { Level::Info } else { Level::Debug };
        match &result {
            Ok(_) => trace::tell(level, waiter.call, "done"),
            Err(error) => trace::tell(level, waiter.call, format_args!("refused: {error}")),
        }
        // A daemon that was killed meanwhile has asked again, or will.
        for other in self.calls.end(waiter, result.is_ok()) {
            self.send(other.connection, &FromShim::Reply { id: other.request, result: result.clone() });
        }
        self.send(waiter.connection, &FromShim::Reply { id: waiter.request, result });
    }

    /// Answers all who wait for the same.
    pub fn reply_all(&mut self, waiters: Vec<Waiter>, result: &Result<Response, Error>) {
        for waiter in waiters {
            self.reply(waiter, result.clone());
        }
    }

    /// Tells every daemon.
    pub fn notify(&mut self, notice: &Notice) {
        let greeted: Vec<u64> =
            self.connections.iter().filter(|(_, it)| it.greeted).map(|(token, _)| *token).collect();
        for token in greeted {
            self.send(token, &FromShim::Notice(notice.clone()));
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn dispatch(&mut self, token: u64, events: EpollFlags) {
        match token {
            LISTENER => self.accept(),
            SIGNALS => self.take_signals(),
            OOM => self.take_oom(),
            id if self.connections.contains_key(&id) => self.serve(id, events),
            id if self.watched.contains_key(&id) => {
                let exec = self.watched.get(&id).cloned().flatten();
                self.adopted_ended(exec.as_ref());
            }
            id => self.pump(id),
        }
    }

    fn accept(&mut self) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let connection = Connection::accept(stream).filter(|_| self.connections.len() < CONNECTIONS_MAX);
            if let Some(connection) = connection {
                let id = self.next_id();
                if self.epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, id)).is_ok() {
                    self.connections.insert(id, connection);
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {}
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.stopping = true,
                _ => {}
            }
        }
        // Several ends may come as one signal: always look for all.
        self.reap();
    }

    fn serve(&mut self, id: u64, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if events.contains(EpollFlags::EPOLLOUT) && connection.flush().is_err() {
            return self.disconnect(id);
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            match connection.read() {
                Err(_) => return self.disconnect(id),
                Ok(frames) => frames.into_iter().for_each(|frame| self.receive(id, frame)),
            }
        }
        self.watch_connection(id);
        self.feed(id);
    }

    fn receive(&mut self, id: u64, frame: Frame) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match frame {
            Frame::Message(ToShim::Hello { nonce, .. }) if nonce == self.options.nonce => {
                connection.greeted = true;
                self.send(id, &FromShim::Hello { version: PROTOCOL_VERSION, shim: self.identity });
                for notice in self.unacknowledged.clone() {
                    self.send(id, &FromShim::Notice(Notice::Exited(notice)));
                }
            }
            Frame::Message(ToShim::Request { id: request, request: what }) if connection.greeted => {
                trace::tell(Level::Debug, None, format_args!("asked to {}", trace::word(&what)));
                self.handle(Waiter { connection: id, request, call: None }, what);
            }
            Frame::Message(ToShim::Traced { id: request, call, request: what }) if connection.greeted => {
                trace::tell(Level::Info, Some(call), format_args!("asked to {}", trace::word(&what)));
                self.handle(Waiter { connection: id, request, call: Some(call) }, what);
            }
            Frame::UnknownRequest(request) if connection.greeted => {
                let error = Error::not_implemented("this shim is older than the request")
                    .with_hint("recreate the task to get a newer shim");
                self.reply(Waiter { connection: id, request, call: None }, Err(error));
            }
            // A stranger, or a daemon that looks for another task.
            _ => self.disconnect(id),
        }
    }

    fn send(&mut self, id: u64, message: &FromShim) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.send(message).is_err() {
            return self.disconnect(id);
        }
        self.watch_connection(id);
    }

    fn watch_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, connection.wants_to_write());
        if self.epoll.modify(connection, &mut EpollEvent::new(flags, id)).is_err() {
            self.disconnect(id);
        }
    }

    fn disconnect(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            let _ = self.epoll.delete(connection.as_fd());
            self.detach(id);
        }
    }
}

/// The beacon of a shim that has no container yet.
pub fn first_beacon(options: &Options, shim: ProcessIdentity) -> ShimBeacon {
    ShimBeacon {
        version: PROTOCOL_VERSION,
        nonce: options.nonce.clone(),
        shim,
        init: None,
        cgroup_path: None,
        runtime: None,
    }
}
