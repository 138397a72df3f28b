//! Making a task: its row and intent, its directory, its shim, the container held before exec; then its actor, whose first act is to reattach.

use std::sync::{Arc, Mutex, PoisonError};

use bosun_runtime::task_directory;
use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::event::Event;
use bosun_types::mount::Mount;
use bosun_types::operation::Intent;
use bosun_types::shim::{CreateRequest, Request, Response, RestoreRequest};
use bosun_types::stdio::{LogTarget, Stdio};
use bosun_types::task::{OnShimDeath, ProcessIdentity, StoredPhase, TaskRecord, TaskRequest};
use bosun_types::{ContainerId, Error, NamespaceName, OperationId, Result, Timestamp};
use futures::future::BoxFuture;

use super::{LOG_FILE, SHIM_DEADLINE, log_directory};
use crate::core::{Core, Shared, blocking};
use crate::operation::{self, CREATE_TASK, Operation, Plan};
use crate::ports::Owner;
use crate::{checkpoints, containers, snapshots, tree};

/// In the container's writer: one at a time.
pub(crate) async fn create(
    core: &Shared,
    namespace: NamespaceName,
    id: ContainerId,
    request: TaskRequest,
) -> Result<()> {
    create_as(core, namespace, id, request, task_directory::new_nonce()?).await
}

/// The same, under a nonce that the caller has drawn and remembers.
pub(crate) async fn create_as(
    core: &Shared,
    namespace: NamespaceName,
    id: ContainerId,
    request: TaskRequest,
    nonce: String,
) -> Result<()> {
    let container = containers::get(core, &namespace, &id)?;
    if super::record(core, &namespace, &id)?.is_some() {
        return Err(Error::already_exists(format!("container {id} has a task")).with_hint("delete it first"));
    }
    request.stdio.check()?;
    check_policy(&request)?;
    let stdio = with_log(core, &namespace, &id, &request);
    let record = TaskRecord {
        namespace: namespace.clone(),
        container: id.clone(),
        nonce,
        boot_id: core.host.boot_id(),
        shim: None,
        init: None,
        stdio,
        runtime: container.runtime.name.clone(),
        phase: StoredPhase::Creating,
        created_at: Timestamp::now(),
        started_at: None,
        on_shim_death: request.on_shim_death,
    };
    let checkpoint = match &request.checkpoint {
        Some(from) => Some(checkpoints::criu_part(core, &namespace, from).await?),
        None => None,
    };
    // Before the intent is logged: what is refused here leaves nothing open.
    let mut creation = CreateTask::new(core, container, record.clone(), request.no_pivot_root)?;
    creation.checkpoint = checkpoint;
    let operation = operation::record(
        core,
        &namespace,
        Intent::CreateTask { container: id.clone(), nonce: record.nonce.clone() },
    );
    let mut batch = Batch::new();
    batch.open_operation(&operation).put(&record);
    core.commit(batch).await?;
    if let Err(failure) = operation::perform(&creation).await {
        let gone = |batch: &mut Batch| {
            batch.delete::<TaskRecord>(key::task(&namespace, &id));
        };
        return Err(operation::close_failed(core, &operation, failure, gone).await);
    }
    creation.finish(operation.id).await
}

/// What nobody could do later is refused now.
fn check_policy(request: &TaskRequest) -> Result<()> {
    if request.on_shim_death == OnShimDeath::Adopt && request.stdio.terminal {
        return Err(Error::invalid_argument(
            "a container with a terminal cannot outlive its shim: the terminal goes with it",
        )
        .with_hint("run it without a terminal, or leave the policy at kill"));
    }
    Ok(())
}

fn with_log(core: &Core, namespace: &NamespaceName, id: &ContainerId, request: &TaskRequest) -> Stdio {
    let mut stdio = request.stdio.clone();
    if request.log_to_file {
        let log = stdio.log.get_or_insert_with(LogTarget::default);
        if log.path.is_empty() {
            let path = log_directory(core, namespace, id).join(LOG_FILE);
            log.path = path.to_string_lossy().into_owned();
        }
    }
    stdio
}

/// [`CREATE_TASK`].
pub(crate) struct CreateTask {
    core: Shared,
    container: ContainerRecord,
    record: TaskRecord,
    mounts: Vec<Mount>,
    no_pivot_root: bool,
    /// CRIU's files, which the start restores.
    checkpoint: Option<Descriptor>,
    made: Arc<Mutex<Made>>,
}

#[derive(Default, Clone, Copy)]
struct Made {
    shim: Option<ProcessIdentity>,
    init: Option<ProcessIdentity>,
}

impl CreateTask {
    /// From the rows: what the first try and recovery both start with.
    pub(crate) fn new(
        core: &Shared,
        container: ContainerRecord,
        record: TaskRecord,
        no_pivot_root: bool,
    ) -> Result<Self> {
        let mounts = match (&container.snapshotter, &container.snapshot_key) {
            (Some(snapshotter), Some(key)) => {
                snapshots::mounts(core, &snapshots::get(core, &container.namespace, snapshotter, key)?)?
            }
            _ => Vec::new(),
        };
        let (core, made) = (core.clone(), Arc::default());
        Ok(Self { core, container, record, mounts, no_pivot_root, checkpoint: None, made })
    }

    fn owner(&self) -> Owner {
        Owner { namespace: self.record.namespace.clone(), container: self.record.container.clone() }
    }

    fn made(&self) -> Made {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Made)) {
        change(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn make_directory(&self) -> Result<()> {
        let (host, owner) = (Arc::clone(&self.core.host), self.owner());
        let (nonce, spec) = (self.record.nonce.clone(), self.container.spec.clone());
        let runtime = self.record.runtime.clone();
        let logs = self
            .record
            .stdio
            .log
            .as_ref()
            .map(|_| log_directory(&self.core, &self.record.namespace, &self.record.container));
        blocking(move || {
            if let Some(logs) = logs {
                let made = std::fs::create_dir_all(&logs);
                made.map_err(|error| {
                    Error::new(
                        bosun_types::error::class_of_io(&error),
                        format!("log directory {}: {error}", logs.display()),
                    )
                })?;
            }
            host.ensure_directory(&nonce, &owner, &spec, &runtime)
        })
        .await
    }

    async fn unpack_checkpoint(&self) -> Result<()> {
        match &self.checkpoint {
            Some(part) => checkpoints::unpack(&self.core, &self.record.nonce, part).await,
            None => Ok(()),
        }
    }

    async fn spawn_shim(&self) -> Result<()> {
        let shim = self.core.host.ensure_shim(&self.record.nonce, &self.owner()).await?;
        self.set(|made| made.shim = Some(shim));
        Ok(())
    }

    async fn create_process(&self) -> Result<()> {
        let (shim, _notices) = self.core.host.connect(&self.record.nonce).await?;
        let request = CreateRequest {
            id: self.record.container.to_string(),
            runtime: self.record.runtime.clone(),
            rootfs: self.mounts.clone(),
            stdio: self.record.stdio.clone(),
            no_pivot_root: self.no_pivot_root,
            adoptable: self.record.on_shim_death == OnShimDeath::Adopt,
        };
        let request = match &self.checkpoint {
            None => Request::Create(request),
            Some(_) => {
                let directory = checkpoints::restore_directory(&self.core, &self.record.nonce);
                let directory = directory.to_string_lossy().into_owned();
                let from = RestoreRequest { criu: self.core.criu.clone(), directory };
                Request::CreateFromDump { request: Box::new(request), from }
            }
        };
        match shim.request(request, SHIM_DEADLINE).await? {
            Response::Process(init) => {
                self.set(|made| made.init = Some(init));
                Ok(())
            }
            other => Err(Error::internal(format!("the shim answered Create with {other:?}"))),
        }
    }

    /// Ends what was started, and removes what was made of it.
    async fn end_shim(&self) -> Result<()> {
        self.core.host.clean_up(&self.record.nonce, &self.owner(), Some(&self.record)).await.map(drop)
    }

    /// The outcome: row, event, intent closed; then the actor.
    async fn finish(&self, operation: OperationId) -> Result<()> {
        let made = self.made();
        let record = TaskRecord { shim: made.shim, init: made.init, ..self.record.clone() };
        finish(&self.core, record, operation).await
    }
}

/// A made task becomes one: its row, event and closed intent in one commit; then its actor. Recovery ends here too.
pub(crate) async fn finish(core: &Shared, record: TaskRecord, operation: OperationId) -> Result<()> {
    let record = TaskRecord { phase: StoredPhase::Created, ..record };
    let event = Event::TaskCreate {
        container_id: record.container.clone(),
        bundle: core.host.directory(&record.nonce),
        pid: record.init.map_or(0, |init| init.pid),
        io: record.stdio.clone(),
    };
    let mut batch = Batch::new();
    batch.put(&record).close_operation(operation).publish(&record.namespace, event);
    core.commit(batch).await?;
    core.live.make(&record.nonce);
    tree::start_task(core, &record.namespace, &record.container).await
}

impl Operation for CreateTask {
    fn plan(&self) -> &'static Plan {
        &CREATE_TASK
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.make_directory()),
            1 => Box::pin(self.unpack_checkpoint()),
            2 => Box::pin(self.spawn_shim()),
            _ => Box::pin(self.create_process()),
        }
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            // The shim holds the container: ending it is the undo of both.
            2 | 3 => Box::pin(self.end_shim()),
            1 => {
                let directory = checkpoints::directory(&self.core, &self.record.nonce);
                Box::pin(blocking(move || checkpoints::ensure_no_directory(&directory)))
            }
            _ => {
                let (host, nonce) = (Arc::clone(&self.core.host), self.record.nonce.clone());
                Box::pin(blocking(move || host.ensure_no_directory(&nonce)))
            }
        }
    }
}
