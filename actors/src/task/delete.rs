//! Removing a task: the container in the OCI runtime, the shim, the directory. Only forward: each step is right whatever is left.

use std::sync::Arc;

use bosun_types::shim::Request;
use bosun_types::task::TaskRecord;
use bosun_types::{ErrorClass, Result};
use futures::future::BoxFuture;

use super::SHIM_DEADLINE;
use crate::checkpoints;
use crate::core::{Shared, blocking};
use crate::operation::{DELETE_TASK, Operation, Plan};
use crate::ports::Owner;

/// [`DELETE_TASK`].
pub(crate) struct RemoveTask {
    pub core: Shared,
    pub record: TaskRecord,
}

impl RemoveTask {
    fn owner(&self) -> Owner {
        Owner { namespace: self.record.namespace.clone(), container: self.record.container.clone() }
    }

    /// By the shim, while there is one; without it, the next step does it.
    async fn delete_process(&self) -> Result<()> {
        crate::samples::keep_last(&self.core, &self.record).await;
        let shim = match self.core.host.connect(&self.record.nonce).await {
            Ok((shim, _notices)) => shim,
            Err(_) => return Ok(()),
        };
        match shim.request(Request::Delete, SHIM_DEADLINE).await {
            // A shim that is gone or hangs is ended by the next step, with everything it held.
            Ok(_) => Ok(()),
            Err(error) if matches!(error.class, ErrorClass::Unavailable | ErrorClass::DeadlineExceeded) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn end_shim(&self) -> Result<()> {
        if let Ok((shim, _notices)) = self.core.host.connect(&self.record.nonce).await {
            let _ = shim.request(Request::Shutdown, SHIM_DEADLINE).await;
        }
        self.core.host.clean_up(&self.record.nonce, &self.owner(), Some(&self.record)).await.map(drop)
    }
}

impl Operation for RemoveTask {
    fn plan(&self) -> &'static Plan {
        &DELETE_TASK
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.delete_process()),
            1 => Box::pin(self.end_shim()),
            _ => {
                let (host, nonce) = (Arc::clone(&self.core.host), self.record.nonce.clone());
                let files = checkpoints::directory(&self.core, &nonce);
                Box::pin(blocking(move || {
                    checkpoints::ensure_no_directory(&files)?;
                    host.ensure_no_directory(&nonce)
                }))
            }
        }
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
