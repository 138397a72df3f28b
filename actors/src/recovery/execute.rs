//! Carries decisions out, one by one. Thin: what to do was decided; what is done here are the operations' own steps, and commits.

use std::sync::Arc;
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::shim::{Request, Response, ShimPhase};
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::task::{ExecRecord, ExitCause, ExitStatus, StoredPhase, TaskRecord};
use bosun_types::{Error, Result, Timestamp};

use super::guarded::{in_writer, remove_container, undo_snapshot};
use super::plan::{ATTEMPTS_MAX, Action, Decision, MACHINE_RESTARTED, Observed, Subject};
use crate::call;
use crate::core::{Shared, blocking};
use crate::directory::Name;
use crate::gc::RemoveGarbage;
use crate::operation;
use crate::ports::Owner;
use crate::snapshots::{self, RemoveDirectory};
use crate::task::{self, RemoveTask, SHIM_DEADLINE};
use crate::{transfers, tree};

/// Before a second try; longer before the third.
const PAUSE: Duration = Duration::from_millis(500);

/// Carries one decision out. An error is one of the store; what fails on the host is counted and, in the end, parked.
pub(crate) async fn execute(core: &Shared, observed: &Observed, decision: &Decision) -> Result<()> {
    point(&format!("recovery.{}.before", word(&decision.action)))?;
    match &decision.subject {
        Subject::Operation(id) => {
            let Some(operation) = observed.operations.iter().find(|operation| operation.id == *id) else {
                return Ok(());
            };
            tracing::info!(operation = %id, kind = operation.intent.name(), action = word(&decision.action), decision.reason, "recovering");
            on_operation(core, operation, &decision.action).await?;
        }
        Subject::Task(namespace, container) => {
            let found = observed
                .tasks
                .iter()
                .find(|task| task.namespace == *namespace && task.container == *container);
            if let (Some(task), Action::EndUnknown) = (found, &decision.action) {
                end_unknown(core, task).await?;
            }
        }
        Subject::TaskDirectory(nonce) if decision.action == Action::Remove => {
            tracing::warn!(nonce, decision.reason, "removing a task directory and what runs in it");
            report(remove_task_directory(core, nonce).await, "a task directory");
        }
        Subject::CheckpointDirectory(nonce) if decision.action == Action::Remove => {
            tracing::info!(nonce, decision.reason, "removing a directory of checkpoints");
            let directory = crate::checkpoints::directory(core, nonce);
            let removed = blocking(move || crate::checkpoints::ensure_no_directory(&directory)).await;
            report(removed, "a directory of checkpoints");
        }
        Subject::SnapshotDirectory(snapshotter, directory) if decision.action == Action::Remove => {
            tracing::info!(snapshotter, directory, decision.reason, "removing a snapshot directory");
            let (snapshotter, directory) = (core.snapshotter(snapshotter)?, *directory);
            report(
                blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)).await,
                "a snapshot directory",
            );
        }
        Subject::Snapshot(namespace, snapshotter, key) => {
            if decision.action == Action::Remake {
                let row = snapshots::get(core, namespace, snapshotter, key)?;
                report(remake(core, row).await, "a snapshot directory");
            } else {
                tracing::error!(%namespace, snapshotter, %key, decision.reason, "a snapshot is lost; pull or build its image again");
            }
        }
        Subject::TaskDirectory(_) | Subject::CheckpointDirectory(_) | Subject::SnapshotDirectory(..) => {}
    }
    point(&format!("recovery.{}.after", word(&decision.action)))
}

fn point(name: &str) -> Result<()> {
    bosun_faults::point(name).map_err(|fault| Error::internal(fault.to_string()))
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::RollForward => "roll_forward",
        Action::Undo => "undo",
        Action::AskShim => "ask_shim",
        Action::Close => "close",
        Action::Remake => "remake",
        Action::Resume => "resume",
        Action::Adopt => "adopt",
        Action::EndUnknown => "end_unknown",
        Action::Park(_) => "park",
        Action::Remove => "remove",
        Action::Leave => "leave",
    }
}

/// What lies about and does not go now is found again at the next start.
fn report(result: Result<()>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} stays for now");
    }
}

async fn on_operation(core: &Shared, operation: &OperationRecord, action: &Action) -> Result<()> {
    match action {
        Action::Leave | Action::Adopt | Action::EndUnknown | Action::Remove | Action::Remake => Ok(()),
        Action::Close => close(core, operation, |_| ()).await,
        Action::Resume => {
            let counted = count_try(core, operation).await?;
            match transfers::resume(core, counted.clone()).await {
                Ok(()) => Ok(()),
                Err(error) => park(core, &counted, error.context("recovery")).await,
            }
        }
        Action::Park(cause) if operation.status == (OperationStatus::Parked { cause: cause.clone() }) => {
            Ok(())
        }
        Action::Park(cause) => park(core, operation, cause.clone()).await,
        Action::RollForward | Action::Undo | Action::AskShim => {
            let counted = count_try(core, operation).await?;
            work(core, counted, action).await
        }
    }
}

/// Tries until it is done, or was tried too often: a busy host deserves a second look.
async fn work(core: &Shared, mut operation: OperationRecord, action: &Action) -> Result<()> {
    let mut failures = 0;
    loop {
        let (worker, tried, action) = (core.clone(), operation.clone(), action.clone());
        let done = isolated(async move {
            match action {
                Action::RollForward => call::within(tried.call.clone(), roll_forward(&worker, &tried)).await,
                Action::Undo => undo(&worker, &tried).await,
                _ => ask_shim(&worker, &tried).await,
            }
        });
        let Err(error) = done.await else { return Ok(()) };
        if core.store.get::<OperationRecord>(&key::operation(operation.id))?.is_none() {
            // It failed behind its closing commit: that stands, and an open intent beside it would do it twice.
            report(Err(error), "what comes after a closed operation");
            return Ok(());
        }
        failures += 1;
        if failures >= ATTEMPTS_MAX {
            return park(core, &operation, error.context("recovery")).await;
        }
        tracing::warn!(operation = %operation.id, failures, %error, "recovery failed; once more");
        tokio::time::sleep(PAUSE * failures).await;
        operation = count_try(core, &operation).await?;
    }
}

/// A panic is an error like others: one poisoned row must not keep recovery from the rest.
pub(crate) async fn isolated<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text");
            Err(Error::internal(format!("a panic: {text}")))
        }
        Err(_) => Err(Error::unavailable("the daemon is stopping")),
    }
}

/// Before a try, so that one that kills the daemon counts too (I11).
async fn count_try(core: &Shared, operation: &OperationRecord) -> Result<OperationRecord> {
    let counted = OperationRecord { attempts: operation.attempts + 1, ..operation.clone() };
    let mut batch = Batch::new();
    batch.update_operation(&counted);
    core.commit(batch).await?;
    Ok(counted)
}

/// Parks it. A task whose removal was given up gets its actor back: it is shown, and can be removed by hand.
async fn park(core: &Shared, operation: &OperationRecord, cause: Error) -> Result<()> {
    operation::park(core, operation, cause).await?;
    if let Intent::DeleteTask { container, nonce } = &operation.intent
        && let Some(record) = task::record(core, &operation.namespace, container)?
        && record.nonce == *nonce
    {
        report(tree::start_task(core, &operation.namespace, container).await, "a task without its actor");
    }
    Ok(())
}

pub(super) async fn close(
    core: &Shared,
    operation: &OperationRecord,
    rows: impl FnOnce(&mut Batch),
) -> Result<()> {
    let mut batch = Batch::new();
    rows(&mut batch);
    batch.close_operation(operation.id);
    core.commit(batch).await.map(drop)
}

/// Removals that were begun.
async fn roll_forward(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let namespace = operation.namespace.clone();
    match operation.intent.clone() {
        Intent::RemoveSnapshot { snapshotter, directory, .. } => {
            operation::persist(&RemoveDirectory { snapshotter: core.snapshotter(&snapshotter)?, directory })
                .await?;
            close(core, operation, |_| ()).await
        }
        Intent::Collect { .. } => {
            if let Some(removal) = RemoveGarbage::of(core, &operation.intent) {
                operation::persist(&removal).await?;
            }
            close(core, operation, |_| ()).await
        }
        Intent::DeleteContainer { container, snapshotter, directory, .. } => {
            let snapshot = (directory > 0).then_some((snapshotter, directory));
            let operation = operation.clone();
            in_writer(core, Name::Namespace(namespace.clone()), move |core| async move {
                remove_container(&core, namespace, container, snapshot).await?;
                close(&core, &operation, |_| ()).await
            })
            .await
        }
        Intent::DeleteTask { container, nonce } => {
            // By nonce: the container may have a new task by now.
            let found = task::record(core, &namespace, &container)?.filter(|record| record.nonce == nonce);
            let Some(record) = found else {
                remove_task_directory(core, &nonce).await?;
                return close(core, operation, |_| ()).await;
            };
            let exit = exit_of(core, &record);
            operation::persist(&RemoveTask { core: core.clone(), record: record.clone() }).await?;
            let execs: Vec<ExecRecord> = core.store.scan(&key::execs_of(&namespace, &container))?;
            close(core, operation, |batch| {
                publish_unseen_exit(batch, &record, exit.as_ref());
                let exit = exit.or_else(|| stored_exit(&record));
                batch.answer_call(exit.as_ref());
                task::rows_of_deletion(batch, &record, execs.iter().map(|exec| &exec.id), exit);
            })
            .await?;
            crate::relaunch::look(core, &namespace, &container);
            Ok(())
        }
        Intent::Checkpoint { .. } => {
            task::recover_checkpoint(core, operation).await?;
            close(core, operation, |_| ()).await
        }
        other => Err(Error::internal(format!("{} is not rolled forward", other.name()))),
    }
}

fn stored_exit(record: &TaskRecord) -> Option<ExitStatus> {
    match &record.phase {
        StoredPhase::Stopped(exit) => Some(exit.clone()),
        _ => None,
    }
}

/// An end that the shim recorded and no commit has: it must not go with the directory unheard.
fn exit_of(core: &Shared, record: &TaskRecord) -> Option<ExitStatus> {
    if matches!(record.phase, StoredPhase::Stopped(_) | StoredPhase::Created) {
        return None;
    }
    let records = core.host.exit_records(&record.nonce).unwrap_or_default();
    records.into_iter().find(|exit| exit.exec.is_none()).map(|exit| exit.status)
}

fn publish_unseen_exit(batch: &mut Batch, record: &TaskRecord, exit: Option<&ExitStatus>) {
    if let Some(exit) = exit {
        let (container_id, id) = (record.container.clone(), record.container.to_string());
        let pid = record.init.map_or(0, |init| init.pid);
        batch.publish(&record.namespace, Event::TaskExit { container_id, id, pid, exit: exit.clone() });
    }
}

/// What was being made, and whose caller heard nothing.
async fn undo(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let namespace = operation.namespace.clone();
    match operation.intent.clone() {
        Intent::CreateContainer { directory: 0, .. }
        | Intent::StartProcess { .. }
        | Intent::Pull { .. }
        | Intent::Push { .. }
        | Intent::FetchObject { .. }
        | Intent::PushObject { .. } => close(core, operation, |_| ()).await,
        Intent::PrepareSnapshot { snapshotter, directory, .. }
        | Intent::RemapSnapshot { snapshotter, directory, .. }
        | Intent::CreateContainer { snapshotter, directory, .. } => {
            let operation = operation.clone();
            in_writer(core, snapshots::WRITER, move |core| async move {
                undo_snapshot(&core, &operation, snapshotter, directory).await
            })
            .await
        }
        Intent::MakeLayer { reference, keep, .. } => {
            crate::diff::ensure_no_ingest(core, &namespace, &reference, keep).await?;
            close(core, operation, |_| ()).await
        }
        Intent::ApplyLayer { snapshotter, directory, .. } => {
            let snapshotter = core.snapshotter(&snapshotter)?;
            blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)).await?;
            close(core, operation, |_| ()).await
        }
        Intent::CreateTask { container, nonce } => {
            let owner = Owner { namespace: namespace.clone(), container: container.clone() };
            let record = task::record(core, &namespace, &container)?.filter(|record| record.nonce == nonce);
            core.host.clean_up(&nonce, &owner, record.as_ref()).await?;
            let host = Arc::clone(&core.host);
            let files = crate::checkpoints::directory(core, &nonce);
            blocking(move || {
                crate::checkpoints::ensure_no_directory(&files)?;
                host.ensure_no_directory(&nonce)
            })
            .await?;
            close(core, operation, |batch| {
                if record.is_some() {
                    batch.delete::<TaskRecord>(key::task(&namespace, &container));
                }
            })
            .await
        }
        Intent::Checkpoint { .. } => {
            task::recover_checkpoint(core, operation).await?;
            close(core, operation, |_| ()).await
        }
        Intent::HoldTask { .. } => {
            task::recover_hold(core, operation).await?;
            close(core, operation, |_| ()).await
        }
        other => Err(Error::internal(format!("{} is not taken back", other.name()))),
    }
}

/// A task whose making was cut off, but whose shim lives: made, or taken back.
async fn ask_shim(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let Intent::CreateTask { container, nonce } = &operation.intent else {
        return Err(Error::internal(format!("{} has no shim to ask", operation.intent.name())));
    };
    let record = task::record(core, &operation.namespace, container)?.filter(|record| record.nonce == *nonce);
    let state = match core.host.connect(nonce).await {
        Ok((shim, _notices)) => shim.request(Request::State, SHIM_DEADLINE).await,
        Err(error) => Err(error),
    };
    match (record, state) {
        (Some(record), Ok(Response::State(state))) => match state.init {
            ShimPhase::Created(init) => {
                let record = TaskRecord { shim: core.host.live_shim(nonce), init: Some(init), ..record };
                call::within(operation.call.clone(), task::finish(core, record, operation.id)).await
            }
            _ => undo(core, operation).await,
        },
        _ => undo(core, operation).await,
    }
}

/// F30: the machine was restarted, and with it everything that ran.
async fn end_unknown(core: &Shared, found: &TaskRecord) -> Result<()> {
    let stored = task::record(core, &found.namespace, &found.container)?;
    let Some(record) = stored.as_ref().filter(|record| *record == found) else { return Ok(()) };
    let exit =
        ExitStatus { cause: ExitCause::Unknown(MACHINE_RESTARTED.to_owned()), exited_at: Timestamp::now() };
    let mut batch = Batch::new();
    if record.phase == StoredPhase::Created {
        // It never ran: nothing ended but its making.
        tracing::info!(task = %record.container, "a created task did not outlive the machine's restart");
    }
    let ended = TaskRecord { phase: StoredPhase::Stopped(exit.clone()), ..record.clone() };
    batch.put(&ended);
    publish_unseen_exit(&mut batch, record, Some(&exit));
    let execs: Vec<ExecRecord> = core.store.scan(&key::execs_of(&record.namespace, &record.container))?;
    for exec in execs.into_iter().filter(|exec| exec.phase == StoredPhase::Running) {
        let event = Event::TaskExit {
            container_id: record.container.clone(),
            id: exec.id.to_string(),
            pid: exec.identity.map_or(0, |identity| identity.pid),
            exit: exit.clone(),
        };
        batch.put(&ExecRecord { phase: StoredPhase::Stopped(exit.clone()), ..exec });
        batch.publish(&record.namespace, event);
    }
    core.commit(batch).await?;
    tree::start_task(core, &record.namespace, &record.container).await?;
    crate::relaunch::look(core, &record.namespace, &record.container);
    Ok(())
}

/// A task directory that no row and no operation knows: what runs in it is ended first.
async fn remove_task_directory(core: &Shared, nonce: &str) -> Result<()> {
    if let Some(owner) = core.host.owner(nonce)? {
        core.host.clean_up(nonce, &owner, None).await?;
    }
    let (host, nonce) = (Arc::clone(&core.host), nonce.to_owned());
    blocking(move || host.ensure_no_directory(&nonce)).await
}

async fn remake(core: &Shared, row: SnapshotRecord) -> Result<()> {
    let (snapshotter, parents) = (core.snapshotter(&row.snapshotter)?, snapshots::parents_of(core, &row)?);
    blocking(move || Ok(snapshotter.ensure_directory(row.directory, &parents, row.kind)?)).await
}
