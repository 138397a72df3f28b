//! Freezing and thawing, and removing the task.

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::shim::Request;
use bosun_types::task::{ExecRecord, ExitStatus, StoredPhase, TaskRecord};
use bosun_types::{Error, ExecId, Result};
use ractor::{ActorRef, RpcReplyPort};

use super::super::phase::{Input, Phase};
use super::super::{RemoveTask, TaskMessage, reattach};
use super::TaskData;
use crate::call;
use crate::core::worker;
use crate::directory::Name;
use crate::operation::{self, Failure};

impl TaskData {
    pub(super) fn freeze(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        freeze: bool,
        reply: RpcReplyPort<Result<()>>,
    ) {
        let (input, verb, request) = if freeze {
            (Input::Pause, "pause", Request::Pause)
        } else {
            (Input::Resume, "resume", Request::Resume)
        };
        let allowed = self.check(None, &input, verb).and_then(|_| self.refuse_in_checkpoint(verb));
        let allowed = allowed.and_then(|()| self.shim());
        let shim = match allowed {
            Ok(shim) => shim,
            Err(error) => return self.recall(error, move |known| drop(reply.send(known.map(drop)))),
        };
        let (actor, call) = (myself.clone(), call::current());
        self.ask_once(Ok(shim), request, move |result| {
            let _ = actor.send_message(TaskMessage::Frozen(freeze, result.map(drop), reply).of(call));
        });
    }

    pub(super) async fn frozen(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        freeze: bool,
        result: Result<()>,
        reply: RpcReplyPort<Result<()>>,
    ) {
        self.freezes += 1;
        let input = if freeze { Input::Paused } else { Input::Resumed };
        let result = match result.and_then(|()| self.check(None, &input, "pause")) {
            Err(error) => Err(error),
            Ok(phase) => self.record_freeze(freeze, phase).await,
        };
        if let (Err(_), Some(shim)) = (&result, self.shim.clone()) {
            // It may be frozen, or thawed, all the same: what is told is what is.
            reattach::ask_state(shim, self.freezes, myself.clone());
        }
        let _ = reply.send(result);
    }

    pub(super) async fn record_freeze(&mut self, freeze: bool, phase: Phase) -> Result<()> {
        let container_id = self.record.container.clone();
        let (stored, event) = if freeze {
            (StoredPhase::Paused, Event::TaskPaused { container_id })
        } else {
            (StoredPhase::Running, Event::TaskResumed { container_id })
        };
        if phase.exit().is_none() && self.processes[&None].phase != phase {
            self.record.phase = stored;
            let mut batch = Batch::new();
            batch.put(&self.record).publish(&self.record.namespace, event);
            self.core.commit(batch).await?;
            self.process(None)?.phase = phase;
        }
        Ok(())
    }

    pub(super) async fn delete(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        reply: RpcReplyPort<Result<Option<ExitStatus>>>,
    ) {
        if self.delete_operation.is_some() {
            self.deleting.push(reply);
            return;
        }
        let phase = match self.check(None, &Input::Delete, "delete") {
            Ok(phase) => phase,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let intent =
            Intent::DeleteTask { container: self.record.container.clone(), nonce: self.record.nonce.clone() };
        let operation = operation::record(&self.core, &self.record.namespace, intent);
        let mut batch = Batch::new();
        batch.open_operation(&operation);
        if let Err(error) = self.core.commit(batch).await {
            return drop(reply.send(Err(error)));
        }
        if let Some(init) = self.processes.get_mut(&None) {
            init.phase = phase;
        }
        self.deleting.push(reply);
        self.delete_operation = Some(operation);
        let (actor, removal) =
            (myself.clone(), RemoveTask { core: self.core.clone(), record: self.record.clone() });
        worker(async move {
            let result = operation::persist(&removal).await;
            let _ = actor.send_message(TaskMessage::Deleted(result));
        });
    }

    pub(super) async fn deleted(&mut self, myself: &ActorRef<TaskMessage>, result: Result<()>) {
        let Some(operation) = self.delete_operation.take() else { return };
        let exit = self.processes.get(&None).and_then(|init| init.phase.exit().cloned());
        let result = match result {
            Ok(()) => {
                let done = self.record_deletion(operation.id, exit.clone());
                call::within(operation.call.clone(), done).await
            }
            Err(cause) => {
                Err(operation::close_failed(&self.core, &operation, Failure::Undone(cause), |_| ()).await)
            }
        };
        if result.is_ok() {
            // Before the answer: who is answered finds the name free.
            let (namespace, container) = (self.record.namespace.clone(), self.record.container.clone());
            self.core.live.forget(&namespace, &container);
            crate::relaunch::look(&self.core, &namespace, &container);
            self.core.directory.remove(&Name::Task(namespace, container));
            let gone = Error::not_found(format!("{} was deleted", self.what(None)));
            self.processes.values_mut().for_each(|process| process.refuse_waiters(&gone));
            myself.stop(None);
        } else if let Ok(phase) = self.check(None, &Input::DeleteFailed, "delete")
            && let Some(init) = self.processes.get_mut(&None)
        {
            init.phase = phase;
        }
        let answer = result.map(|()| exit);
        self.deleting.drain(..).for_each(|reply| drop(reply.send(answer.clone())));
    }

    pub(super) async fn record_deletion(
        &mut self,
        operation: bosun_types::OperationId,
        exit: Option<ExitStatus>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        batch.answer_call(exit.as_ref());
        rows_of_deletion(&mut batch, &self.record, self.execs.keys(), exit);
        batch.close_operation(operation);
        self.core.commit(batch).await.map(drop)
    }
}

/// What a deleted task takes away, and its event.
pub(crate) fn rows_of_deletion<'a>(
    batch: &mut Batch,
    record: &TaskRecord,
    execs: impl Iterator<Item = &'a ExecId>,
    exit: Option<ExitStatus>,
) {
    let (namespace, container) = (&record.namespace, &record.container);
    batch.delete::<TaskRecord>(key::task(namespace, container));
    for exec in execs {
        batch.delete::<ExecRecord>(key::exec(namespace, container, exec));
    }
    let event = Event::TaskDelete {
        container_id: container.clone(),
        pid: record.init.map_or(0, |init| init.pid),
        exit,
    };
    batch.publish(namespace, event);
}
