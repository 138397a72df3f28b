//! The first act of a task's actor, on every start: find the shim, or find out what became of the processes. Workers; each ends in one message.

use std::sync::Arc;
use std::time::Duration;

use bosun_types::shim::{Adoption, Notice, Request, Response};
use bosun_types::task::{KillTarget, TaskRecord};
use bosun_types::{Error, ErrorClass, ExecId, Result, signal};
use ractor::ActorRef;

use super::processes::Stranger;
use super::{SHIM_DEADLINE, TaskMessage};
use crate::core::Shared;
use crate::ports::{Owner, Shim};

/// Between two tries at a shim that lives but does not answer.
const RETRY: Duration = Duration::from_millis(500);

/// Connects to the shim; tells the actor.
pub(crate) fn connect(core: Shared, record: TaskRecord, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        let connected = core.host.connect(&record.nonce).await;
        let _ = actor.send_message(TaskMessage::Connected(connected));
    });
}

/// A shim that hangs: others are served meanwhile, and it is tried again.
pub(crate) fn connect_later(core: Shared, record: TaskRecord, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        tokio::time::sleep(RETRY).await;
        connect(core, record, actor);
    });
}

/// Passes the shim's notices on, and tells the actor when the connection is gone.
pub(crate) fn follow(mut notices: tokio::sync::mpsc::Receiver<Notice>, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        while let Some(notice) = notices.recv().await {
            if actor.send_message(TaskMessage::Notice(notice)).is_err() {
                return;
            }
        }
        let _ = actor.send_message(TaskMessage::Disconnected);
    });
}

/// Asks the shim for everything it knows.
pub(crate) fn ask_state(shim: Arc<dyn Shim>, freezes: u64, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        let state = match shim.request(Request::State, SHIM_DEADLINE).await {
            Ok(Response::State(state)) => Ok(state),
            Ok(other) => Err(Error::internal(format!("the shim answered State with {other:?}"))),
            Err(error) => Err(error),
        };
        let _ = actor.send_message(TaskMessage::Known(freezes, state));
    });
}

/// Ends execs that no row has. Those that run are killed: their ends are notices, and lead to [`bury`]. When all are gone, or while the rest is dying, the
/// shim is asked again.
pub(crate) fn end_strangers(
    shim: Arc<dyn Shim>,
    strangers: Vec<Stranger>,
    freezes: u64,
    actor: ActorRef<TaskMessage>,
) {
    tokio::spawn(async move {
        let mut all_forgotten = true;
        for stranger in strangers {
            let ended = match stranger {
                Stranger::Still(id) => {
                    tracing::info!(exec = %id, "an exec that nobody was told of is forgotten");
                    forget(&*shim, id).await
                }
                Stranger::Running(id) => {
                    tracing::warn!(exec = %id, "an exec that nobody was told of is killed");
                    all_forgotten = false;
                    let (target, signal) = (KillTarget::Exec(id), signal::KILL);
                    match shim.request(Request::Kill { target, signal, call: None }, SHIM_DEADLINE).await {
                        // It was quicker.
                        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
                        killed => killed.map(drop),
                    }
                }
            };
            if let Err(error) = ended {
                let _ = actor.send_message(TaskMessage::Known(freezes, Err(error)));
                return;
            }
        }
        if all_forgotten {
            ask_state(shim, freezes, actor);
        }
    });
}

/// The shim forgets an exec that has ended and that no row has; then it is asked again.
pub(crate) fn bury(shim: Arc<dyn Shim>, exec: ExecId, freezes: u64, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        if let Err(error) = forget(&*shim, exec).await {
            tracing::warn!(%error, "an ended exec that nobody was told of stays with the shim");
        }
        ask_state(shim, freezes, actor);
    });
}

async fn forget(shim: &dyn Shim, id: ExecId) -> Result<()> {
    shim.request(Request::AckExit { exec: Some(id.clone()) }, SHIM_DEADLINE).await?;
    shim.request(Request::DeleteExec { id }, SHIM_DEADLINE).await.map(drop)
}

/// There is no shim, and the container goes on: a new shim takes it over.
pub(crate) fn take_over(
    core: Shared,
    record: TaskRecord,
    adoption: Option<Adoption>,
    actor: ActorRef<TaskMessage>,
) {
    tokio::spawn(async move {
        let owner = Owner { namespace: record.namespace.clone(), container: record.container.clone() };
        let taken = match adoption {
            Some(adoption) => core.host.take_over(&owner, &record, adoption).await,
            None => Err(Error::internal("a running task without its init")),
        };
        let _ = actor.send_message(TaskMessage::TakenOver(taken));
    });
}

/// There is no shim: what is left of the container is ended, and how its processes ended is taken from the shim's records or asked of the kernel. The task's directory stays until the task is deleted.
pub(crate) fn find_out(core: Shared, record: TaskRecord, actor: ActorRef<TaskMessage>) {
    tokio::spawn(async move {
        let owner = Owner { namespace: record.namespace.clone(), container: record.container.clone() };
        let lost = core.host.clean_up(&record.nonce, &owner, Some(&record)).await;
        let _ = actor.send_message(TaskMessage::Lost(lost));
    });
}
