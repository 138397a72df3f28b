//! The actor's part in a checkpoint and in holding a task frozen: it says whether one may begin, logs the intent, and freezes and thaws for it and
//! for nobody else.

use bosun_storage::batch::Batch;
use bosun_types::operation::{Intent, OperationRecord, OperationStatus};
use bosun_types::shim::Request;
use bosun_types::task::TaskRecord;
use bosun_types::{Error, ErrorClass, OperationId, Result};
use ractor::{ActorRef, RpcReplyPort};

use super::super::TaskMessage;
use super::super::checkpoint::{Begin, DUMP_DEADLINE, taken};
use super::super::phase::{Input, Phase};
use super::TaskData;
use crate::core::{Shared, worker};
use crate::{images, operation};

/// The checkpoint or hold under way that an earlier actor of this task began.
pub(super) fn under_way(core: &Shared, task: &TaskRecord) -> Result<Option<OperationId>> {
    let open: Vec<OperationRecord> = core.store.scan(&bosun_storage::key::Key::all())?;
    let ours = |it: &&OperationRecord| {
        matches!(&it.intent, Intent::Checkpoint { nonce, .. } | Intent::HoldTask { nonce, .. } if *nonce == task.nonce)
            && !matches!(it.status, OperationStatus::Parked { .. })
    };
    Ok(open.iter().find(ours).map(|it| it.id))
}

impl TaskData {
    pub(super) async fn begin_checkpoint(&mut self, begin: Begin) -> Result<OperationRecord> {
        let phase = self.check(None, &Input::Checkpoint, "checkpoint")?;
        self.refuse_in_checkpoint("checkpoint")?;
        let runs = |phase: &Phase| matches!(phase, Phase::Starting | Phase::Running);
        let exec = self.processes.iter().find_map(|(id, it)| id.as_ref().filter(|_| runs(&it.phase)));
        if let Some(exec) = exec {
            let text = format!("{}: exec {exec} runs, and cannot be part of a checkpoint", self.what(None));
            return Err(Error::failed_precondition(text).with_hint("let it end, or kill it, first"));
        }
        if images::get(&self.core, &self.record.namespace, &begin.image).is_ok() {
            return Err(taken(&begin.image));
        }
        let intent = Intent::Checkpoint {
            container: self.record.container.clone(),
            nonce: self.record.nonce.clone(),
            image: begin.image,
            frozen: phase == Phase::Paused,
            exit: begin.exit,
            recorded: false,
        };
        self.open(intent).await
    }

    pub(super) async fn begin_hold(&mut self) -> Result<Option<OperationRecord>> {
        self.refuse_in_checkpoint("freeze")?;
        let frozen = match self.check(None, &Input::Hold, "freeze") {
            Ok(phase) => phase == Phase::Paused,
            // One that has not begun, or has ended, changes nothing.
            Err(error) if matches!(error.class, ErrorClass::FailedPrecondition | ErrorClass::NotFound) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (container, nonce) = (self.record.container.clone(), self.record.nonce.clone());
        self.open(Intent::HoldTask { container, nonce, frozen }).await.map(Some)
    }

    async fn open(&mut self, intent: Intent) -> Result<OperationRecord> {
        let operation = operation::record(&self.core, &self.record.namespace, intent);
        let mut batch = Batch::new();
        batch.open_operation(&operation);
        self.core.commit(batch).await?;
        self.checkpoint = Some(operation.id);
        Ok(operation)
    }

    /// Freezes or thaws for the checkpoint or hold `id`. Unlike for others it may be so already.
    pub(super) fn hold(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        id: OperationId,
        freeze: bool,
        reply: RpcReplyPort<Result<()>>,
    ) {
        if self.checkpoint.is_some_and(|it| it != id) {
            return drop(reply.send(Err(Error::internal("it is held by somebody else"))));
        }
        let allowed = self.check(None, &Input::Hold, if freeze { "freeze" } else { "thaw" });
        let shim = match allowed.and_then(|_| self.shim()) {
            Ok(shim) => shim,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let actor = myself.clone();
        let request = if freeze { Request::Pause } else { Request::Resume };
        worker(async move {
            let result = shim.request(request, DUMP_DEADLINE).await;
            let _ = actor.send_message(TaskMessage::Frozen(freeze, result.map(drop), reply));
        });
    }

    pub(super) fn end_checkpoint(&mut self, id: OperationId) {
        if self.checkpoint == Some(id) {
            self.checkpoint = None;
        }
    }

    /// Nobody else freezes or thaws it meanwhile.
    pub(super) fn refuse_in_checkpoint(&self, verb: &str) -> Result<()> {
        match self.checkpoint {
            None => Ok(()),
            Some(_) => Err(Error::failed_precondition(format!(
                "{}: cannot {verb} it while a checkpoint is made or its files are committed",
                self.what(None)
            ))
            .with_hint("wait until that is done")),
        }
    }
}
