//! The life of a task, as a pure function. The actor asks [`next`] and performs what it says.
//!
//! ```text
//!              (recovery, create)     start             started
//!    Creating ──────────▶ Created ─────────▶ Starting ───────▶ Running ◀──resumed── Paused
//!        │                   │                  │                 │ └────paused──────▶ │
//!        │ exited            │ exited           │ exited          │ exited             │ exited
//!        ▼                   ▼                  ▼                 ▼                    ▼
//!     Stopped ◀──────────────┴──────────────────┴─────────────────┴────────────────────┘
//!        │ delete                Created also goes to Deleting: what was never started needs no end
//!        ▼
//!     Deleting ──deleted──▶ (gone)
//! ```

use bosun_types::task::{ExitStatus, ProcessStatus};
use bosun_types::{Error, Result};

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The intent is logged; nothing to start yet.
    Creating,
    /// Held before exec.
    Created,
    /// A start is under way.
    Starting,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped(ExitStatus),
    /// Being removed. How it ended, if it ever ran.
    Deleting(Option<ExitStatus>),
}

/// What is asked of it, or reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Start it.
    Start,
    /// The shim has started it.
    Started,
    /// The start failed; it is as before.
    StartFailed,
    /// It ended.
    Exited(ExitStatus),
    /// Send a signal.
    Kill,
    /// Register or start an exec.
    Exec,
    /// Freeze it.
    Pause,
    /// It is frozen.
    Paused,
    /// Change its resources.
    Update,
    /// Store it as an image.
    Checkpoint,
    /// Freeze or thaw it for a checkpoint, whichever it is.
    Hold,
    /// Thaw it.
    Resume,
    /// It is thawed.
    Resumed,
    /// Remove it.
    Delete,
    /// Removing failed; it is as before.
    DeleteFailed,
}

/// Why an input is refused: a typed failed precondition that says the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// `cannot <verb> a <state> task`.
    WrongState,
    /// The process has ended: containers' users know it as "not found" (TSK-19).
    Ended,
}

impl Phase {
    /// The public state.
    pub fn status(&self) -> ProcessStatus {
        match self {
            Self::Creating => ProcessStatus::Creating,
            Self::Created | Self::Starting => ProcessStatus::Created,
            Self::Running => ProcessStatus::Running,
            Self::Paused => ProcessStatus::Paused,
            Self::Stopped(_) | Self::Deleting(Some(_)) => ProcessStatus::Stopped,
            Self::Deleting(None) => ProcessStatus::Created,
        }
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<&ExitStatus> {
        match self {
            Self::Stopped(exit) | Self::Deleting(Some(exit)) => Some(exit),
            Self::Creating
            | Self::Created
            | Self::Starting
            | Self::Running
            | Self::Paused
            | Self::Deleting(None) => None,
        }
    }
}

/// The next phase, or why not. Only allowed pairs are listed; reports of what has happened already change nothing.
pub fn next(phase: &Phase, input: &Input) -> Result<Phase, Denied> {
    use Phase as P;
    match (phase, input) {
        (P::Created, Input::Start) => Ok(P::Starting),
        (P::Starting, Input::Started) => Ok(P::Running),
        (P::Starting, Input::StartFailed) => Ok(P::Created),
        // An exit can be reported before the answer to the start: the exit stands.
        (
            P::Stopped(exit),
            Input::Started | Input::StartFailed | Input::Paused | Input::Resumed | Input::Exited(_),
        ) => Ok(P::Stopped(exit.clone())),
        (P::Creating | P::Created | P::Starting | P::Running | P::Paused, Input::Exited(exit)) => {
            Ok(P::Stopped(exit.clone()))
        }
        (P::Deleting(None), Input::Exited(exit)) => Ok(P::Deleting(Some(exit.clone()))),
        (P::Deleting(Some(exit)), Input::Exited(_)) => Ok(P::Deleting(Some(exit.clone()))),
        (P::Created | P::Starting | P::Running | P::Paused, Input::Kill) => Ok(phase.clone()),
        (P::Created | P::Running, Input::Exec) => Ok(phase.clone()),
        (P::Created | P::Running | P::Paused, Input::Update) => Ok(phase.clone()),
        (P::Running | P::Paused, Input::Checkpoint | Input::Hold) => Ok(phase.clone()),
        (P::Running, Input::Pause) => Ok(P::Running),
        (P::Running, Input::Paused) => Ok(P::Paused),
        (P::Paused, Input::Paused) => Ok(P::Paused),
        (P::Paused, Input::Resume) => Ok(P::Paused),
        (P::Running | P::Paused, Input::Resumed) => Ok(P::Running),
        (P::Created, Input::Delete) => Ok(P::Deleting(None)),
        (P::Stopped(exit), Input::Delete) => Ok(P::Deleting(Some(exit.clone()))),
        (P::Deleting(None), Input::DeleteFailed) => Ok(P::Created),
        (P::Deleting(Some(exit)), Input::DeleteFailed) => Ok(P::Stopped(exit.clone())),
        (P::Stopped(_) | P::Deleting(_), Input::Kill | Input::Hold) => Err(Denied::Ended),
        _ => Err(Denied::WrongState),
    }
}

/// The refusal as callers see it (TSK-3: it says the state; TSK-16, TSK-19).
pub fn refusal(denied: Denied, verb: &str, what: &str, phase: &Phase) -> Error {
    match denied {
        Denied::Ended => Error::not_found(format!("{what}: process already finished")),
        Denied::WrongState => {
            let error = Error::failed_precondition(format!("{what}: cannot {verb} a {} task", word(phase)));
            match (verb, phase) {
                ("delete", Phase::Running | Phase::Starting | Phase::Paused) => {
                    error.with_hint("kill it first, and wait for its end")
                }
                ("start", Phase::Stopped(_)) => error.with_hint("delete the task and create a new one"),
                _ => error,
            }
        }
    }
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Creating => "not yet created",
        Phase::Created => "created",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Stopped(_) => "stopped",
        Phase::Deleting(_) => "half deleted",
    }
}

#[cfg(test)]
#[path = "phase_tests.rs"]
mod tests;
