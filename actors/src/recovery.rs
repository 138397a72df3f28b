//! Recovery: what a daemon that was killed left half done is finished, taken back, adopted or shown; never guessed.
//!
//! ```text
//!   host, then store ──observe──▶ Observed ──plan (pure)──▶ Plan ──execute──▶ done, or parked
//! ```
//!
//! The host is looked at first and the store after it: every effect has its intent committed before it, so what the host shows and the
//! store does not explain is nobody's. The other order would take a task that is being made for rubbish.
//!
//! **Supervised** by the root, transient: it plans once, executes, ends; while transfers run it stays, only to sweep blobs that nobody names once they
//! have ended. The API is served meanwhile: what recovery works on has no actor until
//! it is done, and its callers are told to ask again. **Survives** nothing, needs nothing: a crash in the middle of it leaves the operations
//! that it had not closed, and the next daemon plans anew. Each try is counted in the operation's row before it begins; the third failure parks it.

mod execute;
mod guarded;
mod observe;
pub mod plan;
mod sweep;

pub(crate) use execute::isolated;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bosun_storage::key;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::task::{StoredPhase, TaskRecord};
use bosun_types::{Error, OperationId, Result};
use futures::TryStreamExt as _;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::call;
use crate::core::Shared;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};
use crate::transfers;

/// Decisions carried out at the same time.
const AT_ONCE: usize = 16;
/// Between two looks whether the transfers have ended that hold up the sweep.
const SWEEP_AGAIN: Duration = Duration::from_millis(200);

struct RecoveryActor;

/// What recovery is told.
enum RecoveryMessage {
    /// Own worker: everything is done; `false`: but for blobs that nobody names.
    Done(Result<bool>),
    /// Timer: the transfers that stood in the way may have ended.
    Sweep,
    /// Own worker: as `Done`.
    Swept(Result<bool>),
}

impl RecoveryActor {
    fn sweep_later(myself: &ActorRef<RecoveryMessage>) {
        myself.send_after(SWEEP_AGAIN, || RecoveryMessage::Sweep);
    }
}

impl Actor for RecoveryActor {
    type Msg = RecoveryMessage;
    type State = Shared;
    type Arguments = Shared;

    async fn pre_start(
        &self,
        myself: ActorRef<RecoveryMessage>,
        core: Shared,
    ) -> Result<Shared, ActorProcessingErr> {
        let worker = core.clone();
        tokio::spawn(async move {
            // Joined, so that a panic of the worker is heard and not waited for.
            let result = execute::isolated(async move { run(&worker).await }).await;
            let _ = myself.send_message(RecoveryMessage::Done(result));
        });
        Ok(core)
    }

    async fn handle(
        &self,
        myself: ActorRef<RecoveryMessage>,
        message: RecoveryMessage,
        core: &mut Shared,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RecoveryMessage::Done(Ok(swept)) => {
                core.recovering.store(false, Ordering::SeqCst);
                match swept {
                    true => myself.stop(None),
                    false => Self::sweep_later(&myself),
                }
                Ok(())
            }
            RecoveryMessage::Sweep => {
                let worker = core.clone();
                tokio::spawn(async move {
                    let result = execute::isolated(async move { sweep::sweep_blobs(&worker).await }).await;
                    let _ = myself.send_message(RecoveryMessage::Swept(result));
                });
                Ok(())
            }
            RecoveryMessage::Swept(Ok(false)) => {
                Self::sweep_later(&myself);
                Ok(())
            }
            RecoveryMessage::Swept(result) => {
                if let Err(error) = result {
                    tracing::warn!(%error, "blobs that nobody names stay until the next start");
                }
                myself.stop(None);
                Ok(())
            }
            // The supervisor starts it again; over its intensity the root ends, loudly: a daemon that cannot read its rows is none.
            RecoveryMessage::Done(Err(error)) => Err(error.into()),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RecoveryMessage>,
        _: SupervisionEvent,
        _: &mut Shared,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

/// As a child of the root.
pub(crate) fn spec(core: &Shared) -> ChildSpec {
    let core = core.clone();
    ChildSpec {
        id: "recovery".to_owned(),
        start: Arc::new(move |parent: ActorCell| {
            let core = core.clone();
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, RecoveryActor, core, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Transient,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "plans once".to_owned(),
        waiting: None,
    }
}

async fn run(core: &Shared) -> Result<bool> {
    let observed = observe::observe(core).await?;
    let plan = plan::plan(&observed);
    // No two decisions touch the same thing, so one that waits for a hung shim holds up nobody.
    let decisions = futures::stream::iter(plan.decisions.iter().map(Ok::<_, Error>));
    let observed = &observed;
    decisions.try_for_each_concurrent(AT_ONCE, |decision| execute::execute(core, observed, decision)).await?;
    let swept = sweep::are_wanted(observed) || sweep::sweep_blobs(core).await?;
    transfers::sweep_secrets(core).await?;
    let count = plan.count();
    if !count.is_empty() {
        tracing::info!(?count, "recovered");
    }
    Ok(swept)
}

/// Whether recovery makes or removes this task: then it has no actor yet.
pub(crate) fn works_on(core: &Shared, task: &TaskRecord) -> bool {
    if task.phase == StoredPhase::Creating {
        // Of this life too: an actor would find no shim yet, and end what is being made.
        return true;
    }
    if !core.recovering.load(Ordering::SeqCst) {
        return false;
    }
    let open: Vec<OperationRecord> = core.store.scan(&key::Key::all()).unwrap_or_default();
    let other_boot = task.boot_id != core.host.boot_id() && !matches!(task.phase, StoredPhase::Stopped(_));
    let taken_up = |operation: &&OperationRecord| {
        operation.id < core.life.first_operation
            && !matches!(operation.status, OperationStatus::Parked { .. })
    };
    let removes = |operation: &OperationRecord| matches!(&operation.intent, Intent::DeleteTask { nonce, .. } if *nonce == task.nonce);
    other_boot || open.iter().filter(taken_up).any(removes)
}

/// Closes a parked operation without doing anything more. A task that it was making goes with it: without its operation nobody could remove it. What lies
/// about on the host is nobody's then, and removed at the daemon's next start.
pub(crate) async fn forget(core: &Shared, id: OperationId) -> Result<()> {
    let stored: Option<OperationRecord> = core.store.get(&key::operation(id))?;
    let operation = stored.ok_or_else(|| Error::not_found(format!("operation {id}")))?;
    if !matches!(operation.status, OperationStatus::Parked { .. }) {
        let error = Error::failed_precondition(format!("operation {id} is not parked: it is under way"));
        return Err(error.with_hint("what is under way ends by itself, or is parked"));
    }
    let mut batch = bosun_storage::batch::Batch::new();
    batch.close_operation(id);
    if let Intent::CreateTask { container, nonce } = &operation.intent {
        let made = crate::task::record(core, &operation.namespace, container)?;
        if made.is_some_and(|record| record.nonce == *nonce && record.phase == StoredPhase::Creating) {
            batch.delete::<TaskRecord>(key::task(&operation.namespace, container));
        }
    }
    core.commit(batch).await?;
    tracing::warn!(operation = %id, kind = operation.intent.name(), "forgotten by a person");
    Ok(())
}

/// Tries a parked operation again, with a clean count.
pub(crate) async fn retry(core: &Shared, id: OperationId) -> Result<()> {
    let stored: Option<OperationRecord> = core.store.get(&key::operation(id))?;
    let operation = stored.ok_or_else(|| Error::not_found(format!("operation {id}")))?;
    let OperationStatus::Parked { cause } = &operation.status else {
        return Err(Error::failed_precondition(format!("operation {id} is not parked")));
    };
    if let Intent::Relaunch { container, .. } = &operation.intent {
        // Not the old attempt once more: what it left is looked at by a new one.
        let mut batch = bosun_storage::batch::Batch::new();
        batch.close_operation(id);
        core.commit(batch).await?;
        let relauncher = crate::relaunch::Relauncher { core, namespace: &operation.namespace, id: container };
        return call::within(None, relauncher.start()).await.map(drop);
    }
    // Whoever asked for something to be made was told that it failed: it may only go back. A removal may only go forward.
    let status = match &operation.intent {
        Intent::PrepareSnapshot { .. }
        | Intent::CreateContainer { .. }
        | Intent::CreateTask { .. }
        | Intent::MakeLayer { .. }
        | Intent::ApplyLayer { .. }
        | Intent::RemapSnapshot { .. } => OperationStatus::Undoing { cause: cause.clone() },
        _ => OperationStatus::Forward,
    };
    if let Intent::DeleteTask { container, .. } = &operation.intent {
        crate::tree::stop_task(core, &operation.namespace, container).await?;
    }
    let operation = OperationRecord { status, attempts: 0, ..operation };
    let mut batch = bosun_storage::batch::Batch::new();
    batch.update_operation(&operation);
    core.commit(batch).await?;
    let observed = observe::observe(core).await?;
    let plan = plan::plan(&plan::Observed { first_of_this_life: None, ..observed.clone() });
    let mine = plan.decisions.into_iter().find(|decision| decision.subject == plan::Subject::Operation(id));
    match mine {
        // The call is done: it is tried.
        Some(decision) => call::within(None, execute::execute(core, &observed, &decision)).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
