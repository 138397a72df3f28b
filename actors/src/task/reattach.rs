//! The first act of a task's actor, on every start: find the shim, or find out what became of the processes. Workers; each ends in one message.

use std::time::Duration;

use bosun_types::shim::{Adoption, Notice, Request, Response};
use bosun_types::{Error, ExecId};
use ractor::ActorRef;

use super::{SHIM_DEADLINE, TaskMessage};
use crate::core::Shared;
use crate::ports::Owner;
use bosun_types::task::TaskRecord;

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
pub(crate) fn ask_state(
    shim: std::sync::Arc<dyn crate::ports::Shim>,
    freezes: u64,
    actor: ActorRef<TaskMessage>,
) {
    tokio::spawn(async move {
        let state = match shim.request(Request::State, SHIM_DEADLINE).await {
            Ok(Response::State(state)) => Ok(state),
            Ok(other) => Err(Error::internal(format!("the shim answered State with {other:?}"))),
            Err(error) => Err(error),
        };
        let _ = actor.send_message(TaskMessage::Known(freezes, state));
    });
}

/// Has the shim forget execs that no row has, then asks it again.
pub(crate) fn forget(
    shim: std::sync::Arc<dyn crate::ports::Shim>,
    execs: Vec<ExecId>,
    freezes: u64,
    actor: ActorRef<TaskMessage>,
) {
    tokio::spawn(async move {
        for id in execs {
            tracing::info!(exec = %id, "an exec that nobody was told of is forgotten");
            if let Err(error) = shim.request(Request::DeleteExec { id }, SHIM_DEADLINE).await {
                let _ = actor.send_message(TaskMessage::Known(freezes, Err(error)));
                return;
            }
        }
        ask_state(shim, freezes, actor);
    });
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
