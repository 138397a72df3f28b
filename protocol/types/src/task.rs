//! The running container: task and exec records, states, exit status (TSK-*).

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::checkpoint::TaskCheckpoint;
use crate::stdio::Stdio;
use crate::{ContainerId, ExecId, NamespaceName, Timestamp};

/// The public state of a process (TSK-2). `Recovering` is ours: the daemon has started and has not yet heard from the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessStatus {
    /// Being made; nothing to start yet.
    Creating,
    /// Made, held before exec.
    Created,
    /// Running.
    Running,
    /// Freezing.
    Pausing,
    /// Frozen.
    Paused,
    /// Ended; its exit status is known or typed unknown.
    Stopped,
    /// Not heard from since the daemon started; the last known record stands.
    Recovering,
}

impl fmt::Display for ProcessStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Recovering => "recovering",
        })
    }
}

/// How a process ended. Never an invented number: what cannot be known is `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// `exit(code)`, 0 to 255.
    Code(u8),
    /// Killed by this signal.
    Signal(u8),
    /// Nobody saw it end; the text says why.
    Unknown(String),
}

/// Cause and time of an end. Exactly one per process (invariant I4).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExitStatus {
    /// How.
    pub cause: ExitCause,
    /// When, as near as it was seen.
    pub exited_at: Timestamp,
}

/// What a caller of `wait` gets as a number when the true status is unknown (TSK-14).
pub const EXIT_CODE_UNKNOWN: u32 = 255;

impl ExitStatus {
    /// The same end, not before its beginning: the clock may have been set back between the two.
    pub fn not_before(self, begin: Timestamp) -> Self {
        Self { exited_at: self.exited_at.max(begin), ..self }
    }

    /// The code a shell would show: code, or 128 + signal, or 255 when unknown (TSK-14).
    pub fn code(&self) -> u32 {
        match self.cause {
            ExitCause::Code(code) => u32::from(code),
            ExitCause::Signal(signal) => 128 + u32::from(signal),
            ExitCause::Unknown(_) => EXIT_CODE_UNKNOWN,
        }
    }
}

/// A process proven by pid and start time; a pid alone is never believed (F31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Host pid.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since boot.
    pub start_ticks: u64,
}

/// The stored phase of a task. Phases with work under way (`creating`, …) live in the operation log, not here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum StoredPhase {
    /// The intent to create is logged; see the open operation.
    Creating,
    /// Created, not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Stopped(ExitStatus),
}

/// What becomes of a container whose shim died while init lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShimDeath {
    /// It is killed and cleaned up: what nobody holds does not run.
    #[default]
    Kill,
    /// It goes on, and a new shim takes it over. Its output waits in its pipes meanwhile; what it was to read from standard input before it noticed an
    /// end of file is lost. Not with a terminal, which goes with the shim that had it.
    Adopt,
}

/// One task. At most one per container (CTR-2).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Namespace.
    pub namespace: NamespaceName,
    /// Its container.
    pub container: ContainerId,
    /// Random hex that proves that a shim, a task directory is of this very task; names `<state>/tasks/<nonce>`.
    pub nonce: String,
    /// Boot on which it was made; after a reboot nothing of it can live.
    pub boot_id: String,
    /// The shim, once it is up.
    pub shim: Option<ProcessIdentity>,
    /// The container's init, once it is made.
    pub init: Option<ProcessIdentity>,
    /// Where its streams go.
    pub stdio: Stdio,
    /// OCI runtime name.
    pub runtime: String,
    /// Phase.
    pub phase: StoredPhase,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// What becomes of it when its shim dies.
    pub on_shim_death: OnShimDeath,
}

/// One exec of a task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ExecRecord {
    /// Namespace.
    pub namespace: NamespaceName,
    /// Its container.
    pub container: ContainerId,
    /// Its id, unique in the task.
    pub id: ExecId,
    /// The OCI `Process`, as JSON.
    pub process: Vec<u8>,
    /// Its streams.
    pub stdio: Stdio,
    /// Phase: `Created` is registered but not started.
    pub phase: StoredPhase,
    /// The process, once started.
    pub identity: Option<ProcessIdentity>,
    /// Set by the daemon.
    pub created_at: Timestamp,
}

/// What `get`, `list` and `inspect` answer (TSK-24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its container.
    pub container: ContainerId,
    /// `None` for init.
    pub exec: Option<ExecId>,
    /// Host pid; 0 before it is made.
    pub pid: u32,
    /// State.
    pub status: ProcessStatus,
    /// Streams.
    pub stdio: Stdio,
    /// Set when stopped.
    pub exit: Option<ExitStatus>,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When the shim last confirmed this; `None`: never since the daemon started.
    pub confirmed_at: Option<Timestamp>,
}

/// One process of a container (TSK-28).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PidInfo {
    /// Host pid.
    pub pid: u32,
    /// The exec it is, when the shim knows it as one.
    pub exec: Option<ExecId>,
}

/// Whom a signal goes to (TSK-19).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum KillTarget {
    /// The container's init.
    Init,
    /// Every process of the container.
    All,
    /// One exec.
    Exec(ExecId),
}

/// An exec to register (TSK-22): a whole OCI `Process`, or words to build it from the container's own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Its id.
    pub id: ExecId,
    /// What to run.
    pub process: ExecProcess,
    /// Its streams; `terminal` here overrides the process's.
    pub stdio: Stdio,
}

/// What an exec runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecProcess {
    /// OCI `Process` JSON.
    Json(Vec<u8>),
    /// Built from the container's user, cwd, env and capabilities.
    Inherit {
        /// Arguments, the program first.
        args: Vec<String>,
        /// `KEY=VALUE` added or replaced.
        env: Vec<String>,
        /// Working directory.
        cwd: Option<String>,
        /// `user[:group]`, names or numbers.
        user: Option<String>,
    },
}

/// A task to create (TSK-5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskRequest {
    /// Streams of init.
    pub stdio: Stdio,
    /// Ask for the daemon's own log file (`stdio.log` is then filled in by the daemon).
    pub log_to_file: bool,
    /// `chroot`-like root change instead of `pivot_root`, for a root on ramfs (TSK-8).
    pub no_pivot_root: bool,
    /// What becomes of it when its shim dies while it runs.
    pub on_shim_death: OnShimDeath,
    /// What `start` restores instead of running the container's process (TSK-5, CKP-10).
    pub checkpoint: Option<TaskCheckpoint>,
}

impl TaskRequest {
    /// Null streams, and the daemon's log of the output.
    pub fn logged() -> Self {
        Self { log_to_file: true, ..Self::default() }
    }

    /// These streams.
    pub fn with_stdio(stdio: Stdio) -> Self {
        Self { stdio, ..Self::default() }
    }
}

impl ExecRequest {
    /// A command with the container's own user, directory and environment, and null streams.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(id: ExecId, args: I) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        let process = ExecProcess::Inherit { args, env: Vec::new(), cwd: None, user: None };
        Self { id, process, stdio: Stdio::default() }
    }

    /// These streams.
    #[must_use]
    pub fn stdio(self, stdio: Stdio) -> Self {
        Self { stdio, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_never_before_its_beginning() {
        let end = |at| ExitStatus { cause: ExitCause::Code(3), exited_at: Timestamp(at) };
        for (exited, begun, told) in [(5, 3, 5), (3, 3, 3), (2, 3, 3), (-7, 3, 3)] {
            assert_eq!(end(exited).not_before(Timestamp(begun)), end(told));
        }
    }
}
