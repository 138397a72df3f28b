//! Starting a container again, as an operation: the ended task goes, a new one with the same streams comes, and is started. Its steps are the
//! task's own operations, each logged by itself; this one says that they belong together, so that nothing stops half way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosun_types::relaunch::{Attempt, Heritage};
use bosun_types::signal;
use bosun_types::stdio::{STDIN_ATTACH, Stdio};
use bosun_types::task::{KillTarget, StoredPhase, TaskRecord, TaskRequest};
use bosun_types::{ContainerId, Error, ErrorClass, NamespaceName, Result};
use futures::future::BoxFuture;

use crate::core::Shared;
use crate::directory::Name;
use crate::operation::{Operation, Plan, RELAUNCH};
use crate::task::{self, TaskHandle};
use crate::writer::write;

/// How long a step waits for a task's actor that starts or restarts.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// [`RELAUNCH`].
pub(super) struct Relaunch {
    pub core: Shared,
    pub namespace: NamespaceName,
    pub container: ContainerId,
    pub attempt: Attempt,
    /// Of the last task; `None`: it is the first, and has the daemon's log file.
    pub heritage: Option<Heritage>,
    pub pid: Arc<Mutex<u32>>,
}

impl Relaunch {
    fn record(&self) -> Result<Option<TaskRecord>> {
        task::record(&self.core, &self.namespace, &self.container)
    }

    fn task(&self) -> TaskHandle {
        TaskHandle::new(self.core.clone(), self.namespace.clone(), self.container.clone())
    }

    async fn remove_task(&self) -> Result<()> {
        let is_old = |record: &TaskRecord| Some(&record.nonce) == self.attempt.old.as_ref();
        if self.record()?.as_ref().is_none_or(|record| !is_old(record)) {
            return Ok(());
        }
        let task = self.task();
        gone(patiently(|| task.remove()).await.map(drop))
    }

    async fn create_task(&self) -> Result<()> {
        if self.record()?.is_some_and(|record| record.nonce == self.attempt.nonce) {
            return Ok(());
        }
        let request = TaskRequest {
            stdio: self.heritage.as_ref().map(|it| streams_after(&it.stdio)).unwrap_or_default(),
            log_to_file: self.heritage.is_none(),
            no_pivot_root: false,
            on_shim_death: self.heritage.as_ref().map(|it| it.on_shim_death).unwrap_or_default(),
            // It begins anew, not where a checkpoint was.
            checkpoint: None,
        };
        let (namespace, id, nonce) =
            (self.namespace.clone(), self.container.clone(), self.attempt.nonce.clone());
        let name = Name::Container(namespace.clone(), id.clone());
        write(&self.core, &name, task::DEADLINE, move |core| async move {
            task::create_as(&core, namespace, id, request, nonce).await
        })
        .await
    }

    async fn start_task(&self) -> Result<()> {
        let record = self.record()?.filter(|record| record.nonce == self.attempt.nonce);
        match record {
            None => Err(Error::failed_precondition(format!(
                "container {}: its task was removed before it was started",
                self.container
            ))),
            // Started, and perhaps ended already.
            Some(record) if record.started_at.is_some() => {
                self.note(record.init.map_or(0, |init| init.pid));
                Ok(())
            }
            Some(_) => {
                let task = self.task();
                let pid = patiently(|| task.start(None)).await?;
                self.note(pid);
                Ok(())
            }
        }
    }

    fn note(&self, pid: u32) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    /// What was started is ended: whoever asked was told that it failed.
    async fn end(&self) -> Result<()> {
        let Some(record) = self.record()?.filter(|record| record.nonce == self.attempt.nonce) else {
            return Ok(());
        };
        if matches!(record.phase, StoredPhase::Running | StoredPhase::Paused) {
            let task = self.task();
            gone(patiently(|| task.signal(KillTarget::All, signal::KILL)).await)?;
            gone(patiently(|| task.wait(None)).await.map(drop))?;
        }
        Ok(())
    }

    async fn remove_new(&self) -> Result<()> {
        if self.record()?.is_none_or(|record| record.nonce != self.attempt.nonce) {
            return Ok(());
        }
        let task = self.task();
        gone(patiently(|| task.remove()).await.map(drop))
    }
}

/// Its absence is what we want.
fn gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        result => result,
    }
}

/// Asks again while the task's actor is not there yet.
async fn patiently<T, W: Future<Output = Result<T>>>(ask: impl Fn() -> W) -> Result<T> {
    let begin = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.class == ErrorClass::Unavailable && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

impl Operation for Relaunch {
    fn plan(&self) -> &'static Plan {
        &RELAUNCH
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.remove_task()),
            1 => Box::pin(self.create_task()),
            _ => Box::pin(self.start_task()),
        }
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            // The old task had ended: nothing of it is wanted back.
            0 => Box::pin(async { Ok(()) }),
            1 => Box::pin(self.remove_new()),
            _ => Box::pin(self.end()),
        }
    }
}

/// The streams of a task that comes after one with these: FIFOs were of a client that has gone with its end, all else stays.
fn streams_after(stdio: &Stdio) -> Stdio {
    let stays = |stream: &Option<String>| {
        stream.clone().filter(|stream| {
            stream == STDIN_ATTACH || stream.contains("://") || std::path::Path::new(stream).is_file()
        })
    };
    Stdio {
        stdin: stays(&stdio.stdin),
        stdout: stays(&stdio.stdout),
        stderr: stays(&stdio.stderr),
        ..stdio.clone()
    }
}
