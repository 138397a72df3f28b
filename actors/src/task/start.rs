//! Starting init or an exec: one request to the shim, which is idempotent there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_types::shim::{Request, Response};
use bosun_types::task::ProcessIdentity;
use bosun_types::{Error, ExecId, Result};
use futures::future::BoxFuture;

use super::{DUMP_DEADLINE, SHIM_DEADLINE};
use crate::checkpoints;
use crate::core::blocking;
use crate::operation::{Operation, Plan, START_PROCESS};
use crate::ports::Shim;

/// [`START_PROCESS`]. A start cannot be taken back; what came of an interrupted one is asked of the shim.
pub(crate) struct StartProcess {
    pub shim: Arc<dyn Shim>,
    pub exec: Option<ExecId>,
    /// What a task is restored from, if it is one that is; removed once it runs.
    pub checkpoint: PathBuf,
    pub started: Mutex<Option<ProcessIdentity>>,
}

impl StartProcess {
    /// Who was started, once it was.
    pub(crate) fn identity(&self) -> Result<ProcessIdentity> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        (*started).ok_or_else(|| Error::internal("a performed start has a process"))
    }

    async fn start(&self) -> Result<()> {
        let restores = self.exec.is_none() && self.checkpoint.exists();
        let deadline = if restores { DUMP_DEADLINE } else { SHIM_DEADLINE };
        match self.shim.request(Request::Start { exec: self.exec.clone() }, deadline).await? {
            Response::Process(identity) => {
                if restores {
                    let files = self.checkpoint.clone();
                    // What stays goes with the task.
                    let _ = blocking(move || checkpoints::ensure_no_directory(&files)).await;
                }
                *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
                Ok(())
            }
            other => Err(Error::internal(format!("the shim answered Start with {other:?}"))),
        }
    }
}

impl Operation for StartProcess {
    fn plan(&self) -> &'static Plan {
        &START_PROCESS
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.start())
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
