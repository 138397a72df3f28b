//! Recovery: what a daemon that was killed left half done is finished, taken back, adopted or shown; never guessed.
//!
//! ```text
//!   host, then store ──observe──▶ Observed ──plan (pure)──▶ Plan ──execute──▶ done, or parked
//! ```
//!
//! The host is looked at first and the store after it: every effect has its intent committed before it, so what the host shows and the
//! store does not explain is nobody's. The other order would take a task that is being made for rubbish.
//!
//! **Supervised** by the root, transient: it plans once, executes, ends. The API is served meanwhile: what recovery works on has no actor until
//! it is done, and its callers are told to ask again. **Survives** nothing, needs nothing: a crash in the middle of it leaves the operations
//! that it had not closed, and the next daemon plans anew. Each try is counted in the operation's row before it begins; the third failure parks it.

mod execute;
mod observe;
pub mod plan;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bosun_storage::key;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::task::{StoredPhase, TaskRecord};
use bosun_types::{Error, OperationId, Result};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::core::Shared;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};

struct RecoveryActor;

/// What recovery is told.
enum RecoveryMessage {
    /// Own worker: everything is done.
    Done(Result<()>),
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
            let result = run(&worker).await;
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
            RecoveryMessage::Done(Ok(())) => {
                core.recovering.store(false, Ordering::SeqCst);
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

async fn run(core: &Shared) -> Result<()> {
    let observed = observe::observe(core).await?;
    let plan = plan::plan(&observed);
    for decision in &plan.decisions {
        execute::execute(core, &observed, decision).await?;
    }
    sweep_blobs(core, &observed).await?;
    let count = plan.count();
    if !count.is_empty() {
        tracing::info!(?count, "recovered");
    }
    Ok(())
}

/// Blobs that no row names are what a transfer that failed with the daemon left. A pull that is resumed wants them; then they stay until the
/// next start. What this life of the daemon wrote is not looked at.
async fn sweep_blobs(core: &Shared, observed: &plan::Observed) -> Result<()> {
    if observed.operations.iter().any(|operation| matches!(operation.intent, Intent::Pull { .. })) {
        return Ok(());
    }
    let core = core.clone();
    crate::core::blocking(move || {
        let rows: Vec<bosun_types::content::ContentRecord> = core.store.scan(&key::Key::all())?;
        let named: std::collections::BTreeSet<_> = rows.iter().map(|row| row.digest).collect();
        for digest in core.content.list_blobs()?.into_iter().filter(|digest| !named.contains(digest)) {
            let written =
                core.content.open_blob(&digest).ok().and_then(|file| file.metadata().ok()?.modified().ok());
            let age = written.and_then(|written| written.duration_since(std::time::UNIX_EPOCH).ok());
            if age
                .is_some_and(|age| i64::try_from(age.as_nanos()).is_ok_and(|nanos| nanos < core.started_at.0))
            {
                tracing::info!(%digest, "removing a blob that no row names");
                core.content.remove_blob(&digest)?;
            }
        }
        Ok(())
    })
    .await
}

/// Whether recovery makes or removes this task: then it has no actor yet.
pub(crate) fn works_on(core: &Shared, task: &TaskRecord) -> bool {
    if !core.recovering.load(Ordering::SeqCst) {
        return false;
    }
    let open: Vec<OperationRecord> = core.store.scan(&key::Key::all()).unwrap_or_default();
    let other_boot = task.boot_id != core.host.boot_id() && !matches!(task.phase, StoredPhase::Stopped(_));
    let old = |operation: &&OperationRecord| operation.id < core.life.first_operation;
    other_boot
        || open.iter().filter(old).any(|operation| match &operation.intent {
            Intent::CreateTask { nonce, .. } | Intent::DeleteTask { nonce, .. } => *nonce == task.nonce,
            _ => false,
        })
}

/// Tries a parked operation again, with a clean count.
pub(crate) async fn retry(core: &Shared, id: OperationId) -> Result<()> {
    let stored: Option<OperationRecord> = core.store.get(&key::operation(id))?;
    let operation = stored.ok_or_else(|| Error::not_found(format!("operation {id}")))?;
    if !matches!(operation.status, OperationStatus::Parked { .. }) {
        return Err(Error::failed_precondition(format!("operation {id} is not parked")));
    }
    let operation = OperationRecord { status: OperationStatus::Forward, attempts: 0, ..operation };
    let mut batch = bosun_storage::batch::Batch::new();
    batch.update_operation(&operation);
    core.commit(batch).await?;
    let observed = observe::observe(core).await?;
    let plan = plan::plan(&plan::Observed { first_of_this_life: None, ..observed.clone() });
    let mine = plan.decisions.into_iter().find(|decision| decision.subject == plan::Subject::Operation(id));
    match mine {
        Some(decision) => execute::execute(core, &observed, &decision).await,
        None => Ok(()),
    }
}
