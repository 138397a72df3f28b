//! Operations: actions of several steps, each with an undo, driven here and nowhere else.
//!
//! ```text
//!   intent + row committed ──▶ step 1 ──▶ step 2 ──▶ … ──▶ outcome + row + event committed, intent closed
//!                                 │ fails
//!                                 └──▶ undo from that step back to the first ──▶ failure committed, intent closed
//!                                          │ fails
//!                                          └──▶ parked: the intent stays, visible, with its cause
//! ```
//!
//! The commits belong to the caller, who knows the rows; the driver runs steps. Every step is idempotent forward and back: after a crash
//! recovery runs them again. Around each step are the crash points `<operation>.<step>.before` and `.after`; test builds can also have a
//! step run twice (`<operation>.<step>.repeat`) and every undo run twice (`undo_twice`).
//!
//! A *request* is an action of one step that changes no row before its effect, such as a signal or a freeze: it has the same crash points and no intent ([`ask`]).
//! What came of one that nobody heard the end of is read off the thing itself: the shim is asked for its state.

use std::time::{Duration, Instant};

use bosun_storage::batch::Batch;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::{Error, NamespaceName, Result, Timestamp};
use futures::future::BoxFuture;

use crate::call;
use crate::core::{Core, Shared};

/// Tries of a removal before it is parked.
const PERSIST_TRIES: u32 = 3;
/// Before the first repeat; a busy mount or cgroup is free again soon.
const PERSIST_DELAY: Duration = Duration::from_millis(50);

/// An action of several steps.
pub trait Operation: Send + Sync {
    /// Its name and the names of its steps, in order; one of [`registry`].
    fn plan(&self) -> &'static Plan;
    /// Performs a step; again: the same result.
    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>>;
    /// Takes a step back, whether it was done wholly, partly or not at all.
    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>>;
}

/// Name and steps of an operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// As in [`Intent::name`].
    pub name: &'static str,
    /// In order.
    pub steps: &'static [&'static str],
}

/// A snapshot's directory is made.
pub static PREPARE_SNAPSHOT: Plan = Plan { name: "prepare_snapshot", steps: &["make_directory"] };
/// A snapshot's directory is removed.
pub static REMOVE_SNAPSHOT: Plan = Plan { name: "remove_snapshot", steps: &["remove_directory"] };
/// A container is made with its snapshot.
pub static CREATE_CONTAINER: Plan =
    Plan { name: "create_container", steps: &["make_snapshot", "apply_layer", "build_spec"] };
/// A container is removed with its snapshot.
pub static DELETE_CONTAINER: Plan =
    Plan { name: "delete_container", steps: &["remove_snapshot", "remove_logs"] };
/// A task is made.
pub static CREATE_TASK: Plan = Plan {
    name: "create_task",
    steps: &["make_directory", "unpack_checkpoint", "spawn_shim", "create_process"],
};
/// A process is started.
pub static START_PROCESS: Plan = Plan { name: "start_process", steps: &["start"] };
/// A task is removed.
pub static DELETE_TASK: Plan =
    Plan { name: "delete_task", steps: &["delete_process", "end_shim", "remove_directory"] };
/// A committed snapshot's files are copied for other users.
pub static REMAP_SNAPSHOT: Plan = Plan { name: "remap_snapshot", steps: &["copy_files", "settle"] };
/// A task is stored as an image.
pub static CHECKPOINT: Plan =
    Plan { name: "checkpoint", steps: &["pause", "dump", "store", "record", "release"] };
/// A task is frozen while its files are read. When they are, it is taken back.
pub static HOLD_TASK: Plan = Plan { name: "hold_task", steps: &["freeze"] };
/// An image is fetched, unpacked and recorded.
pub static PULL: Plan = Plan { name: "pull", steps: &["resolve", "fetch_documents", "fetch_layers"] };
/// An image is sent to a registry.
pub static PUSH: Plan = Plan { name: "push", steps: &["walk", "push_blobs", "push_manifests"] };
/// One object is fetched and recorded.
pub static FETCH_OBJECT: Plan = Plan { name: "fetch_object", steps: &["fetch"] };
/// One object is sent to a registry.
pub static PUSH_OBJECT: Plan = Plan { name: "push_object", steps: &["push"] };
/// Files of garbage are removed.
pub static COLLECT: Plan = Plan { name: "collect", steps: &["remove_directories", "remove_blobs"] };

/// A snapshot's changes become a layer.
pub static MAKE_LAYER: Plan = Plan { name: "make_layer", steps: &["write_layer"] };
/// A layer's files become a snapshot's.
pub static APPLY_LAYER: Plan = Plan { name: "apply_layer", steps: &["unpack"] };

/// A container is started again.
pub static RELAUNCH: Plan = Plan { name: "relaunch", steps: &["remove_task", "create_task", "start_task"] };

/// A group starts a member.
pub static START_MEMBER: Plan = Plan { name: "start_member", steps: &["start"] };
/// A group stops a member.
pub static STOP_MEMBER: Plan = Plan { name: "stop_member", steps: &["stop"] };

/// A process is signalled.
pub static KILL: Plan = Plan { name: "kill", steps: &["signal"] };
/// A container is frozen.
pub static PAUSE: Plan = Plan { name: "pause", steps: &["freeze"] };
/// A container is thawed.
pub static RESUME: Plan = Plan { name: "resume", steps: &["thaw"] };
/// A container's limits are changed.
pub static UPDATE: Plan = Plan { name: "update", steps: &["apply"] };
/// A terminal's size is set.
pub static RESIZE: Plan = Plan { name: "resize", steps: &["set_size"] };
/// A process's standard input is closed.
pub static CLOSE_STDIN: Plan = Plan { name: "close_stdin", steps: &["close"] };
/// A process's output is opened for a reader.
pub static ATTACH: Plan = Plan { name: "attach", steps: &["open"] };
/// An exec is made known to the shim.
pub static ADD_EXEC: Plan = Plan { name: "add_exec", steps: &["register"] };
/// The shim forgets an exec.
pub static DELETE_EXEC: Plan = Plan { name: "delete_exec", steps: &["forget"] };

/// Every operation and request: what the crash matrix walks.
pub fn registry() -> [&'static Plan; 29] {
    [
        &PREPARE_SNAPSHOT,
        &REMOVE_SNAPSHOT,
        &CREATE_CONTAINER,
        &DELETE_CONTAINER,
        &CREATE_TASK,
        &START_PROCESS,
        &DELETE_TASK,
        &CHECKPOINT,
        &HOLD_TASK,
        &PULL,
        &MAKE_LAYER,
        &APPLY_LAYER,
        &RELAUNCH,
        &REMAP_SNAPSHOT,
        &PUSH,
        &FETCH_OBJECT,
        &PUSH_OBJECT,
        &COLLECT,
        &START_MEMBER,
        &STOP_MEMBER,
        &KILL,
        &PAUSE,
        &RESUME,
        &UPDATE,
        &RESIZE,
        &CLOSE_STDIN,
        &ATTACH,
        &ADD_EXEC,
        &DELETE_EXEC,
    ]
}

/// How a failed operation was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Everything was taken back; this was the cause.
    Undone(Error),
    /// Taking back failed too.
    Stuck {
        /// Why the operation failed.
        cause: Error,
        /// Why it could not be taken back.
        undo: Error,
    },
}

impl Failure {
    /// What the caller is told.
    pub fn cause(&self) -> &Error {
        match self {
            Self::Undone(cause) | Self::Stuck { cause, .. } => cause,
        }
    }
}

/// A new record for an intent.
pub fn record(core: &Core, namespace: &NamespaceName, intent: Intent) -> OperationRecord {
    OperationRecord {
        id: core.store.next_operation_id(),
        namespace: namespace.clone(),
        intent,
        boot_id: core.host.boot_id(),
        opened_at: Timestamp::now(),
        status: OperationStatus::Forward,
        attempts: 0,
        call: call::current(),
    }
}

/// Runs every step in order; a failing one has everything taken back.
pub async fn perform(operation: &dyn Operation) -> Result<(), Failure> {
    let plan = operation.plan();
    for step in 0..plan.steps.len() {
        if let Err(cause) = forward(operation, step).await {
            tracing::info!(operation = plan.name, step = plan.steps[step], %cause, "a step failed; taking back");
            return Err(match take_back(operation, step).await {
                Ok(()) => Failure::Undone(cause),
                Err(undo) => Failure::Stuck { cause, undo },
            });
        }
    }
    Ok(())
}

/// Runs an operation that is never taken back (a removal) until it is done, a few times at most: its steps are idempotent, so it begins
/// again from the first.
pub async fn persist(operation: &dyn Operation) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match perform(operation).await {
            Ok(()) => return Ok(()),
            Err(failure) if tries >= PERSIST_TRIES => return Err(failure.cause().clone()),
            Err(_) => tokio::time::sleep(PERSIST_DELAY * tries).await,
        }
    }
}

/// Takes back every step, last first: what recovery does with an operation that is not to be finished.
pub async fn undo_all(operation: &dyn Operation) -> Result<()> {
    take_back(operation, operation.plan().steps.len().saturating_sub(1)).await
}

/// Performs a request: see the module. Whoever fails has changed nothing, or what it has changed is to be looked at.
pub async fn ask<'a, T>(plan: &'static Plan, request: impl Fn() -> BoxFuture<'a, Result<T>>) -> Result<T> {
    step(plan, 0, request).await
}

async fn forward(operation: &dyn Operation, at: usize) -> Result<()> {
    step(operation.plan(), at, || operation.forward(at)).await
}

async fn step<'a, T>(
    plan: &'static Plan,
    at: usize,
    work: impl Fn() -> BoxFuture<'a, Result<T>>,
) -> Result<T> {
    let name = format!("{}.{}", plan.name, plan.steps[at]);
    let begin = Instant::now();
    point(&format!("{name}.before"))?;
    let mut done = work().await?;
    if bosun_faults::flagged(&format!("{name}.repeat")) {
        done = work().await?;
    }
    let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(target: "bosun::stage", stage = name, micros, "step done");
    point(&format!("{name}.after"))?;
    Ok(done)
}

async fn take_back(operation: &dyn Operation, from: usize) -> Result<()> {
    let plan = operation.plan();
    for step in (0..=from).rev() {
        let name = format!("{}.{}", plan.name, plan.steps[step]);
        point(&format!("{name}.undo"))?;
        operation.undo(step).await?;
        if bosun_faults::flagged("undo_twice") {
            operation.undo(step).await?;
        }
    }
    Ok(())
}

fn point(name: &str) -> Result<()> {
    bosun_faults::point(name).map_err(|fault| Error::internal(fault.to_string()))
}

/// Parks an operation that does not get done: visible, with its cause, and tried again on request.
pub async fn park(core: &Shared, operation: &OperationRecord, cause: Error) -> Result<()> {
    tracing::error!(operation = %operation.id, kind = operation.intent.name(), %cause, "parked");
    let mut batch = Batch::new();
    batch.update_operation(&OperationRecord {
        status: OperationStatus::Parked { cause },
        ..operation.clone()
    });
    call::within(None, core.commit(batch)).await.map(drop)
}

/// Closes a failed operation, or parks it when it could not be taken back. `rows` adds what the failure changes.
pub async fn close_failed(
    core: &Shared,
    operation: &OperationRecord,
    failure: Failure,
    rows: impl FnOnce(&mut Batch),
) -> Error {
    let mut batch = Batch::new();
    let cause = failure.cause().clone();
    match failure {
        Failure::Undone(_) => {
            rows(&mut batch);
            batch.close_operation(operation.id);
        }
        Failure::Stuck { undo, .. } => {
            let cause = undo.context(format!("cannot take back after: {cause}"));
            tracing::error!(operation = %operation.id, %cause, "parked");
            batch.update_operation(&OperationRecord {
                status: OperationStatus::Parked { cause },
                ..operation.clone()
            });
        }
    }
    // It failed: the call was not done, and may be tried again.
    match call::within(None, core.commit(batch)).await {
        Ok(_) => cause,
        Err(error) => error.context(format!("after: {cause}")),
    }
}

#[cfg(test)]
mod tests;
