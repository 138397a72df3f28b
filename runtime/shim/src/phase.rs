//! The law of a process's life in the shim: phase × input → next phase and what to do, or a refusal. Pure.
//!
//! ```text
//!  init   Registered → Creating → Created → Starting → Running ⇄ Paused
//!                                    └─────────┴──────────┴────────┴→ Ending → Ended → Deleting → Deleted
//!  exec   Registered → Starting → Running → Ending → Ended → Deleted
//! ```
//!
//! `Ending`: the process is reaped; what is left of the container is killed, output drained, the record written.
//! `Ended`: the record is on disk and reported.

use bosun_types::Error;

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Known by name only.
    Registered,
    /// The OCI runtime is at work.
    Creating,
    /// Held before exec.
    Created,
    /// The OCI runtime is at work.
    Starting,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Reaped, not yet recorded.
    Ending { started: bool },
    /// Recorded and reported.
    Ended { started: bool },
    /// The OCI runtime is at work.
    Deleting { started: bool },
    /// Nothing of it is left.
    Deleted,
}

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Asked to create.
    Create,
    /// The worker made it.
    CreateDone,
    /// The worker failed and cleaned up.
    CreateFailed,
    /// Asked to start.
    Start,
    /// It runs.
    StartDone,
    /// It could not be started.
    StartFailed,
    /// Asked to freeze.
    Pause,
    /// Asked to thaw.
    Resume,
    /// Asked to send a signal.
    Signal,
    /// Asked to register an exec in it (init only).
    AddExec,
    /// Asked to change its resources (init only).
    Update,
    /// Asked to store its processes (init only).
    Dump,
    /// It was reaped.
    Exit,
    /// Its exit record is on disk.
    Recorded,
    /// Asked to delete.
    Delete,
    /// The worker deleted it.
    DeleteDone,
    /// The worker could not delete it.
    DeleteFailed,
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Perform the effect.
    Do,
    /// The same effect is under way: wait for it.
    Join,
    /// It was done before: give the same answer.
    Repeat,
    /// Kill it first, and come back when it ended.
    KillFirst,
}

/// An allowed move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Where it is afterwards.
    pub next: Phase,
    /// What to do.
    pub step: Step,
}

/// A refused move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Where it is.
    pub phase: Phase,
    /// What was asked.
    pub input: Input,
}

/// Which life: an init's or an exec's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The container's init.
    Init,
    /// An exec.
    Exec,
}

impl Phase {
    /// The law.
    pub fn next(self, kind: Kind, input: Input) -> Result<Transition, Denied> {
        let moved = match kind {
            Kind::Init => self.next_init(input),
            Kind::Exec => self.next_exec(input),
        };
        moved.map(|(next, step)| Transition { next, step }).ok_or(Denied { phase: self, input })
    }

    fn next_init(self, input: Input) -> Option<(Self, Step)> {
        use Input as I;
        use Phase as P;
        use Step::{Do, Join, KillFirst, Repeat};
        Some(match (self, input) {
            (P::Registered, I::Create) => (P::Creating, Do),
            (P::Creating, I::Create) => (self, Join),
            (P::Deleting { .. } | P::Deleted, I::Create) => return None,
            (_, I::Create) => (self, Repeat),
            (P::Creating, I::CreateDone) => (P::Created, Do),
            (P::Creating, I::CreateFailed) => (P::Registered, Do),

            (P::Created, I::Start) => (P::Starting, Do),
            (P::Starting, I::Start) => (self, Join),
            (P::Running | P::Paused, I::Start) => (self, Repeat),
            (P::Ending { started: true } | P::Ended { started: true }, I::Start) => (self, Repeat),
            (P::Starting, I::StartDone) => (P::Running, Do),
            (P::Starting, I::StartFailed) => (P::Created, Do),

            (P::Running, I::Pause) => (P::Paused, Do),
            (P::Paused, I::Pause) => (self, Repeat),
            (P::Paused, I::Resume) => (P::Running, Do),
            (P::Running, I::Resume) => (self, Repeat),
            (P::Created | P::Starting | P::Running | P::Paused, I::Signal) => (self, Do),
            (P::Created | P::Starting | P::Running, I::AddExec) => (self, Do),
            (P::Created | P::Starting | P::Running | P::Paused, I::Update) => (self, Do),
            (P::Paused, I::Dump) => (self, Do),

            (P::Created, I::Exit) => (P::Ending { started: false }, Do),
            (P::Starting | P::Running | P::Paused, I::Exit) => (P::Ending { started: true }, Do),
            (P::Ending { started }, I::Recorded) => (P::Ended { started }, Do),

            (P::Registered, I::Delete) => (P::Deleted, Repeat),
            (P::Created, I::Delete) => (self, KillFirst),
            (P::Ending { .. }, I::Delete) => (self, Join),
            (P::Ended { started }, I::Delete) => (P::Deleting { started }, Do),
            (P::Deleting { .. }, I::Delete) => (self, Join),
            (P::Deleted, I::Delete) => (self, Repeat),
            (P::Deleting { .. }, I::DeleteDone) => (P::Deleted, Do),
            (P::Deleting { started }, I::DeleteFailed) => (P::Ended { started }, Do),
            _ => return None,
        })
    }

    fn next_exec(self, input: Input) -> Option<(Self, Step)> {
        use Input as I;
        use Phase as P;
        use Step::{Do, Join, Repeat};
        Some(match (self, input) {
            (P::Registered, I::Start) => (P::Starting, Do),
            (P::Starting, I::Start) => (self, Join),
            (P::Running | P::Ending { .. } | P::Ended { .. }, I::Start) => (self, Repeat),
            (P::Starting, I::StartDone) => (P::Running, Do),
            (P::Starting, I::StartFailed) => (P::Registered, Do),
            (P::Running, I::Signal) => (self, Do),
            (P::Running, I::Exit) => (P::Ending { started: true }, Do),
            (P::Ending { started }, I::Recorded) => (P::Ended { started }, Do),
            (P::Registered | P::Ended { .. }, I::Delete) => (P::Deleted, Do),
            (P::Ending { .. }, I::Delete) => (self, Join),
            _ => return None,
        })
    }

    /// The public word for the phase, as refusals use it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Registered => "not created",
            Self::Creating => "creating",
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ending { .. } | Self::Ended { .. } => "stopped",
            Self::Deleting { .. } | Self::Deleted => "deleted",
        }
    }

    /// Whether a process exists that a signal could reach.
    pub fn lives(self) -> bool {
        matches!(self, Self::Created | Self::Starting | Self::Running | Self::Paused)
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        let word = denied.phase.word();
        let ended = matches!(denied.phase, Phase::Ending { .. } | Phase::Ended { .. });
        match denied.input {
            // TSK-19: programs that kill rely on this class to know that the process is gone.
            Input::Signal if ended || matches!(denied.phase, Phase::Deleting { .. } | Phase::Deleted) => {
                Self::not_found("process already finished")
            }
            Input::Signal => Self::failed_precondition(format!("cannot signal a {word} process")),
            Input::AddExec => Self::failed_precondition(format!("cannot exec in a {word} state")),
            Input::Delete => Self::failed_precondition(format!("cannot delete a {word} process")),
            Input::Create => Self::failed_precondition(format!("cannot create a {word} container")),
            Input::Start => Self::failed_precondition(format!("cannot start a {word} process")),
            Input::Pause => Self::failed_precondition(format!("cannot pause a {word} container")),
            Input::Resume => Self::failed_precondition(format!("cannot resume a {word} container")),
            Input::Update => Self::failed_precondition(format!("cannot update a {word} container")),
            Input::Dump => Self::failed_precondition(format!("cannot checkpoint a {word} container")),
            other => Self::internal(format!("{other:?} of a {word} process")),
        }
    }
}

#[cfg(test)]
#[path = "phase/tests.rs"]
mod tests;
