//! Making a checkpoint (CKP-1): the task is frozen, dumped, stored, recorded as an image, and let go.
//!
//! ```text
//!   intent ─▶ pause ─▶ dump ─▶ store ─▶ record ─▶ release ─▶ intent closed
//!                                         │ one commit: image, blobs, event, and the intent says `recorded`
//!      a failure or a crash before it: the task goes on as it was, nothing is left
//!      a crash after it: only `release` is left, and is done
//! ```
//!
//! A worker drives it, not the task's actor: that takes the freezing and thawing as messages, as from everyone, and refuses meanwhile those of
//! others. `release` thaws, or with `exit` kills: a process ends only when its image is there.

mod store;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::call::{CallId, CallRecord};
use bosun_types::checkpoint::{CheckpointRequest, DumpOptions, default_name, default_repository};
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::shim::{DumpRequest, Request};
use bosun_types::task::{KillTarget, TaskRecord};
use bosun_types::{ContainerId, Error, ErrorClass, ImageName, NamespaceName, Result, Timestamp};
use futures::future::BoxFuture;

use super::{DEADLINE, TaskHandle, TaskMessage};
use crate::call;
use crate::core::{Shared, blocking};
use crate::operation::{self, CHECKPOINT, Operation, Plan};
use crate::{checkpoints, images};

use store::Stored;
pub(crate) use store::taken;

/// How long a checkpoint, or a dump alone, may take: it writes the container's memory, twice.
pub(crate) const DUMP_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long the end of a killed task is waited for.
const END_WAIT: Duration = Duration::from_secs(30);
/// Between two tries at an actor that restarts, two looks at an init that begins.
const RETRY: Duration = Duration::from_millis(50);
/// Tries: with [`RETRY`] longer than either takes.
const TRIES_MAX: u32 = 200;
const SIGKILL: u32 = 9;

/// What the task's actor is asked to begin.
pub struct Begin {
    /// Name of the image.
    pub image: ImageName,
    /// End the task afterwards.
    pub exit: bool,
}

impl TaskHandle {
    /// Stores the task as an image (CKP-1); it goes on as it was, or ends if asked to. It goes on when its caller leaves.
    /// AlreadyExists: the image's name is taken. FailedPrecondition: it does not run, or execs do.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<ImageRecord> {
        request.dump.check()?;
        let image = request.image.map_or_else(|| default_name(&self.container, Timestamp::now()), Ok)?;
        let (this, exit, options) = (self.clone(), request.exit, request.dump);
        let call = call::current();
        let work =
            self.core.runtime.spawn(async move { this.make_checkpoint(call, image, exit, options).await });
        work.await.map_err(|error| Error::internal(format!("the checkpoint's worker: {error}")))?
    }

    /// What a call made that was done before: under the name that it gave, or under the newest of those that it might have got.
    pub async fn checkpointed(&self, name: Option<ImageName>, call: &CallRecord) -> Result<ImageRecord> {
        if let Some(name) = name {
            return images::get(&self.core, &self.namespace, &name);
        }
        let images: Vec<ImageRecord> = self.core.store.scan(&key::within(&self.namespace))?;
        let own = format!("{}:", default_repository(&self.container));
        let made =
            images.into_iter().filter(|it| it.name.as_str().starts_with(&own) && it.created_at <= call.at);
        made.max_by_key(|it| it.created_at)
            .ok_or_else(|| Error::not_found("the checkpoint was removed since"))
    }

    /// Only the commits that log it and close it are the call's.
    async fn make_checkpoint(
        &self,
        call: Option<CallId>,
        image: ImageName,
        exit: bool,
        options: DumpOptions,
    ) -> Result<ImageRecord> {
        let container = crate::containers::get(&self.core, &self.namespace, &self.container)?;
        let base = match &container.image {
            Some(name) => Some((name.clone(), images::get(&self.core, &self.namespace, name)?.target)),
            None => None,
        };
        let begin = Begin { image, exit };
        let begun = self.ask(|reply| TaskMessage::BeginCheckpoint(begin, reply), DEADLINE);
        let operation = call::within(call, begun).await??;
        let result = self.perform_checkpoint(&operation, container, base, options).await;
        self.end_checkpoint(&operation);
        result
    }

    async fn perform_checkpoint(
        &self,
        operation: &OperationRecord,
        container: ContainerRecord,
        base: Option<(ImageName, Descriptor)>,
        options: DumpOptions,
    ) -> Result<ImageRecord> {
        let record = super::record(&self.core, &self.namespace, &self.container)?
            .ok_or_else(|| Error::not_found(format!("container {} has no task", self.container)))?;
        let work = MakeCheckpoint {
            task: self.clone(),
            record,
            container,
            operation: operation.clone(),
            base,
            options,
            stored: Mutex::default(),
        };
        if let Err(failure) = operation::perform(&work).await {
            return Err(operation::close_failed(&self.core, operation, failure, |_| ()).await);
        }
        let mut batch = Batch::new();
        batch.close_operation(operation.id);
        call::within(operation.call.clone(), self.core.commit(batch)).await?;
        images::get(&self.core, &self.namespace, work.image()?.0)
    }

    /// The actor may pass on what others ask again. It finds that out itself when it restarts.
    pub(crate) fn end_checkpoint(&self, operation: &OperationRecord) {
        if let Ok(actor) = self.actor() {
            let _ = actor.send_message(TaskMessage::EndCheckpoint(operation.id));
        }
    }

    /// Freezes or thaws for a checkpoint or a hold; what has ended need not be.
    pub(super) async fn hold(&self, operation: &OperationRecord, freeze: bool) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            // A thaw waits for the end of a dump that is under way.
            let asked = self.ask(|reply| TaskMessage::Hold(operation.id, freeze, reply), DUMP_DEADLINE).await;
            match asked.and_then(|result| result) {
                Err(error) if may_change(&error, freeze) && tries < TRIES_MAX => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) if error.class == ErrorClass::NotFound && !freeze => return Ok(()),
                result => return result,
            }
        }
    }

    /// The last step: thawed, or ended.
    async fn release(&self, operation: &OperationRecord) -> Result<()> {
        let Intent::Checkpoint { frozen, exit, .. } = operation.intent else { return Ok(()) };
        if !exit {
            return if frozen { Ok(()) } else { self.hold(operation, false).await };
        }
        let ended = |error: &Error| error.class == ErrorClass::NotFound;
        match self.kill(KillTarget::Init, SIGKILL).await {
            Err(error) if !ended(&error) => return Err(error),
            _ => {}
        }
        // Killed it is; that it is not heard of at once is no failure.
        if tokio::time::timeout(END_WAIT, self.wait(None)).await.is_err() {
            tracing::warn!(task = %self.container, "the end of a checkpointed task has not been heard of yet");
        }
        Ok(())
    }
}

/// The actor restarts; or the shim knows of an end, and the actor will.
fn may_change(error: &Error, freeze: bool) -> bool {
    error.class == ErrorClass::Unavailable || (!freeze && error.class == ErrorClass::FailedPrecondition)
}

/// [`CHECKPOINT`].
struct MakeCheckpoint {
    task: TaskHandle,
    record: TaskRecord,
    container: ContainerRecord,
    operation: OperationRecord,
    /// The container's image, and what it points at.
    base: Option<(ImageName, Descriptor)>,
    options: DumpOptions,
    stored: Mutex<Option<Stored>>,
}

impl MakeCheckpoint {
    fn core(&self) -> &Shared {
        &self.task.core
    }

    fn image(&self) -> Result<(&ImageName, bool)> {
        match &self.operation.intent {
            Intent::Checkpoint { image, frozen, .. } => Ok((image, *frozen)),
            other => Err(Error::internal(format!("{} is no checkpoint", other.name()))),
        }
    }

    fn stored(&self) -> Option<Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A copy of the shim, which init is for a moment after its start, cannot be stored: it waits until that is over.
    async fn pause(&self) -> Result<()> {
        if let (Some(shim), Some(init)) = (self.record.shim, self.record.init) {
            for _ in 0..TRIES_MAX {
                if self.core().host.has_begun(&shim, &init) {
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        self.task.hold(&self.operation, true).await
    }

    async fn dump(&self) -> Result<()> {
        let directory = checkpoints::dump_directory(self.core(), &self.record.nonce);
        let request = DumpRequest {
            criu: self.core().criu.clone(),
            directory: directory.to_string_lossy().into_owned(),
            options: self.options.clone(),
        };
        let (shim, _notices) = self.core().host.connect(&self.record.nonce).await?;
        blocking(move || checkpoints::ensure_directory(&directory)).await?;
        shim.request(Request::Dump(request), DUMP_DEADLINE).await.map(drop)
    }

    async fn store(&self) -> Result<()> {
        let directory = checkpoints::dump_directory(self.core(), &self.record.nonce);
        let source = store::Source {
            images: directory.join("images"),
            container: self.container.clone(),
            base: self.base.clone(),
        };
        let stored = store::store(self.core(), source).await?;
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
        Ok(())
    }

    async fn record(&self) -> Result<()> {
        let stored = self.stored().ok_or_else(|| Error::internal("a checkpoint without its blobs"))?;
        let stored = store::record(self.core(), &self.operation, self.image()?.0, stored).await?;
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(stored);
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        self.task.release(&self.operation).await?;
        self.remove_directory().await
    }

    async fn remove_directory(&self) -> Result<()> {
        let directory = checkpoints::dump_directory(self.core(), &self.record.nonce);
        blocking(move || checkpoints::ensure_no_directory(&directory)).await
    }

    async fn take_back_blobs(&self) -> Result<()> {
        match self.stored() {
            Some(stored) => {
                store::remove(self.core(), &self.container.id, &self.record.namespace, stored).await
            }
            None => store::forget_ingests(self.core(), &self.container.id, &self.record.namespace).await,
        }
    }
}

impl Operation for MakeCheckpoint {
    fn plan(&self) -> &'static Plan {
        &CHECKPOINT
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.pause()),
            1 => Box::pin(self.dump()),
            2 => Box::pin(self.store()),
            3 => Box::pin(self.record()),
            _ => Box::pin(self.release()),
        }
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match step {
                0 if !self.image()?.1 => self.task.hold(&self.operation, false).await,
                1 => self.remove_directory().await,
                2 => self.take_back_blobs().await,
                3 => store::unrecord(self.core(), &self.operation, self.image()?.0).await,
                _ => Ok(()),
            }
        })
    }
}

/// Recovery: the image is there, and the task is still to be let go; or there is none, and it goes on as it was.
pub(crate) async fn recover(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let Intent::Checkpoint { container, nonce, frozen, recorded, .. } = operation.intent.clone() else {
        return Err(Error::internal(format!("{} is no checkpoint", operation.intent.name())));
    };
    let namespace = &operation.namespace;
    if there(core, namespace, &container, &nonce)? {
        let task = TaskHandle::new(core.clone(), namespace.clone(), container.clone());
        let done = match recorded {
            true => task.release(operation).await,
            false if frozen => Ok(()),
            false => task.hold(operation, false).await,
        };
        task.end_checkpoint(operation);
        // It may have been deleted meanwhile.
        if there(core, namespace, &container, &nonce)? {
            done?;
        }
    }
    if !recorded {
        store::forget_ingests(core, &container, namespace).await?;
    }
    let directory = checkpoints::dump_directory(core, &nonce);
    blocking(move || checkpoints::ensure_no_directory(&directory)).await
}

pub(super) fn there(
    core: &Shared,
    namespace: &NamespaceName,
    container: &ContainerId,
    nonce: &str,
) -> Result<bool> {
    Ok(super::record(core, namespace, container)?.is_some_and(|record| record.nonce == nonce))
}
