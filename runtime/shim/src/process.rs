//! What the shim holds of one process, init or exec.

use std::os::fd::OwnedFd;
use std::time::Instant;

use bosun_types::shim::ShimPhase;
use bosun_types::stdio::Stdio;
use bosun_types::task::{ExitStatus, ProcessIdentity};

use crate::phase::{Denied, Input, Kind, Phase, Step};
use crate::stdio::SharedTail;

/// Whom an answer goes to: connection and request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Token of the connection.
    pub connection: u64,
    /// Id of the request.
    pub request: u64,
    /// Number of the client's call that it is for.
    pub call: Option<u64>,
}

/// How an ended process is wound up.
#[derive(Debug)]
pub struct Ending {
    /// How it ended.
    pub status: ExitStatus,
    /// What is left is killed again and again until then; after it the exit is reported as it is.
    pub kill_until: Instant,
    /// When it was reaped.
    pub since: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Process {
    kind: Kind,
    /// Where it is in its life.
    pub phase: Phase,
    /// The OCI `Process` as JSON; empty for init.
    pub spec: Vec<u8>,
    /// Its streams.
    pub stdio: Stdio,
    /// Once it exists.
    pub identity: Option<ProcessIdentity>,
    /// From its reaping to its record.
    pub ending: Option<Ending>,
    /// Once recorded.
    pub status: Option<ExitStatus>,
    /// Whether it was ever let go.
    pub started: bool,
    /// Answers to `Create` and `Start` under way.
    pub waiters: Vec<Waiter>,
    /// Answers to `Delete` under way, or waiting for its end.
    pub deleters: Vec<Waiter>,
    /// The pty, for resizing.
    pub terminal: Option<OwnedFd>,
    /// Its last output, for those who attach; also after its end.
    pub tail: Option<SharedTail>,
    /// Of one that was taken over: it is no child of this shim.
    pub held: Option<crate::sys::ProcessFd>,
}

impl Process {
    /// A process of which nothing exists yet.
    pub fn new(kind: Kind, spec: Vec<u8>, stdio: Stdio) -> Self {
        Self {
            kind,
            phase: Phase::Registered,
            spec,
            stdio,
            identity: None,
            ending: None,
            status: None,
            started: false,
            waiters: Vec::new(),
            deleters: Vec::new(),
            terminal: None,
            tail: None,
            held: None,
        }
    }

    /// Moves by the law, or refuses.
    pub fn step(&mut self, input: Input) -> Result<Step, Denied> {
        let transition = self.phase.next(self.kind, input)?;
        self.phase = transition.next;
        self.started |= input == Input::StartDone;
        Ok(transition.step)
    }

    /// As the daemon sees it.
    pub fn public_phase(&self) -> ShimPhase {
        let Some(identity) = self.identity else {
            return if self.phase == Phase::Deleted { ShimPhase::Deleted } else { ShimPhase::Registered };
        };
        match (self.phase, &self.status) {
            (Phase::Deleted, _) => ShimPhase::Deleted,
            (_, Some(status)) => ShimPhase::Exited(identity, status.clone()),
            (Phase::Paused, None) => ShimPhase::Paused(identity),
            (Phase::Created | Phase::Starting | Phase::Ending { started: false }, None) => {
                ShimPhase::Created(identity)
            }
            _ => ShimPhase::Running(identity),
        }
    }

    /// Its pid, for signals, while it lives.
    pub fn live_pid(&self) -> Option<i32> {
        self.identity.as_ref().filter(|_| self.phase.lives()).map(crate::sys::raw_pid)
    }
}
