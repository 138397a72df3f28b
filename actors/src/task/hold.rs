//! Holding a task frozen while something reads its files: what is read belongs together, and the task goes on afterwards whatever happens.
//!
//! ```text
//!   intent ─▶ freeze ─▶ work ─▶ thawed, intent closed
//!                │ a failure, or a crash of the daemon at any instant: thawed, intent closed
//! ```
//!
//! Driven by the worker that does the work; the task's actor takes the freezing and thawing as messages and refuses meanwhile those of others. One
//! that was paused before stays so.

use bosun_storage::batch::Batch;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::{Error, ErrorClass, Result};
use futures::future::BoxFuture;

use super::checkpoint::there;
use super::{DEADLINE, TaskHandle, TaskMessage};
use crate::core::Shared;
use crate::operation::{self, Failure, HOLD_TASK, Operation, Plan};

impl TaskHandle {
    /// Does `work` while the task is frozen; of one that does not run there is nothing to freeze.
    pub(crate) async fn frozen_during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = match self.ask(TaskMessage::BeginHold, DEADLINE).await.and_then(|answer| answer) {
            Err(error) if error.class == ErrorClass::NotFound => None,
            begun => begun?,
        };
        let Some(operation) = begun else { return work.await };
        let hold = HoldTask { task: self.clone(), operation: operation.clone() };
        let result = self.frozen_by(&hold, work).await;
        self.end_checkpoint(&operation);
        result
    }

    async fn frozen_by<T>(&self, hold: &HoldTask, work: impl Future<Output = Result<T>>) -> Result<T> {
        let operation = &hold.operation;
        if let Err(failure) = operation::perform(hold).await {
            return Err(operation::close_failed(&self.core, operation, failure, |_| ()).await);
        }
        let result = work.await;
        if let Err(undo) = operation::undo_all(hold).await {
            let failure = Failure::Stuck { cause: undo.clone(), undo };
            return Err(operation::close_failed(&self.core, operation, failure, |_| ()).await);
        }
        let mut batch = Batch::new();
        batch.close_operation(operation.id);
        self.core.commit(batch).await?;
        result
    }
}

/// [`HOLD_TASK`].
struct HoldTask {
    task: TaskHandle,
    operation: OperationRecord,
}

impl HoldTask {
    async fn set(&self, freeze: bool) -> Result<()> {
        let Intent::HoldTask { frozen: false, .. } = self.operation.intent else { return Ok(()) };
        match self.task.hold(&self.operation, freeze).await {
            // It has ended meanwhile.
            Err(error) if error.class == ErrorClass::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Operation for HoldTask {
    fn plan(&self) -> &'static Plan {
        &HOLD_TASK
    }

    fn forward(&self, _step: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.set(true))
    }

    fn undo(&self, _step: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.set(false))
    }
}

/// Recovery: what it was frozen for is over.
pub(crate) async fn recover(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let Intent::HoldTask { container, nonce, .. } = operation.intent.clone() else {
        return Err(Error::internal(format!("{} holds no task", operation.intent.name())));
    };
    if !there(core, &operation.namespace, &container, &nonce)? {
        return Ok(());
    }
    let task = TaskHandle::new(core.clone(), operation.namespace.clone(), container.clone());
    let thawed = HoldTask { task: task.clone(), operation: operation.clone() }.set(false).await;
    task.end_checkpoint(operation);
    // It may have been deleted meanwhile.
    if there(core, &operation.namespace, &container, &nonce)? { thawed } else { Ok(()) }
}
