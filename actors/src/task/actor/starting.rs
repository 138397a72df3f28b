//! Starting init and execs: the intent, the worker, the outcome; an exit that came early is recorded with the start and after it.
//!
//! The intent rides with the next commit, at the latest the outcome's (ADR 0027): a start cannot be taken back, and whether it was done is asked of the shim
//! after a restart, with the intent or without. It is there to be seen while a start is under way.

use std::sync::Mutex;

use bosun_storage::batch::Batch;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::task::{ProcessIdentity, StoredPhase};
use bosun_types::{Error, ExecId, Result, Timestamp};
use ractor::{ActorRef, RpcReplyPort};

use super::super::phase::{Input, Phase};
use super::super::start::StartProcess;
use super::super::{StartOutcome, TaskMessage};
use super::TaskData;
use crate::call;
use crate::core::worker;
use crate::operation::{self, Failure};

impl TaskData {
    pub(super) async fn start(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        exec: Option<ExecId>,
        reply: RpcReplyPort<Result<u32>>,
    ) {
        if let Some(process) = self.processes.get_mut(&exec)
            && process.phase == Phase::Starting
        {
            process.starters.push(reply);
            return;
        }
        if let Err(error) = self.begin_start(myself, exec, reply).await {
            error.1.map(|reply| reply.send(Err(error.0)));
        }
    }

    pub(super) async fn begin_start(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        exec: Option<ExecId>,
        reply: RpcReplyPort<Result<u32>>,
    ) -> Result<(), (Error, Option<RpcReplyPort<Result<u32>>>)> {
        let allowed = self.check(exec.as_ref(), &Input::Start, "start");
        let init_lives =
            exec.is_none() || matches!(self.processes[&None].phase, Phase::Created | Phase::Running);
        let (phase, shim) = match (allowed, self.shim()) {
            (Ok(phase), Ok(shim)) if init_lives => (phase, shim),
            (Err(error), _) | (_, Err(error)) => return Err((error, Some(reply))),
            _ => {
                return Err((
                    Error::failed_precondition(format!(
                        "{}: its container does not run",
                        self.what(exec.as_ref())
                    )),
                    Some(reply),
                ));
            }
        };
        let intent = Intent::StartProcess {
            container: self.record.container.clone(),
            nonce: self.record.nonce.clone(),
            exec: exec.clone(),
        };
        let operation = operation::record(&self.core, &self.record.namespace, intent);
        let mut batch = Batch::new();
        batch.open_operation(&operation);
        if let Err(error) = self.core.ride(batch) {
            return Err((error, Some(reply)));
        }
        let process = self.process(exec.as_ref()).map_err(|error| (error, None))?;
        process.phase = phase;
        process.starters.push(reply);
        let actor = myself.clone();
        let checkpoint = crate::checkpoints::restore_directory(&self.core, &self.record.nonce);
        worker(async move {
            let start = StartProcess { shim, exec: exec.clone(), checkpoint, started: Mutex::new(None) };
            let performed = operation::perform(&start).await;
            let result = performed.and_then(|()| start.identity().map_err(Failure::Undone));
            let _ =
                actor.send_message(TaskMessage::Started(exec, Box::new(StartOutcome { operation, result })));
        });
        Ok(())
    }

    /// The outcome of a start: row and event in one commit, with those of an end that came meanwhile; then whoever asked is answered.
    pub(super) async fn started(&mut self, exec: Option<ExecId>, outcome: StartOutcome) -> Result<()> {
        let StartOutcome { operation, result } = outcome;
        let early = self.process(exec.as_ref())?.early_exit.take();
        let identity = match result {
            Ok(identity) => identity,
            Err(failure) => {
                let error = operation::close_failed(&self.core, &operation, failure, |_| ()).await;
                self.tell_starters(exec.as_ref(), &Input::StartFailed, &Err(error))?;
                return match early {
                    Some(exit) => self.exited(exit).await,
                    None => Ok(()),
                };
            }
        };
        let mut batch = Batch::new();
        batch.close_operation(operation.id);
        self.record_start(&mut batch, exec.as_ref(), identity);
        let early = early.map(|exit| self.as_known(exit));
        if let Some(exit) = &early {
            self.record_exit(&mut batch, exec.as_ref(), exit.process, &exit.status);
        }
        call::within(operation.call, self.core.commit(batch)).await?;
        self.tell_starters(exec.as_ref(), &Input::Started, &Ok(identity.pid))?;
        let has_lost_its_shim = self.shim.is_none() && self.processes[&None].phase.exit().is_some();
        match early {
            Some(exit) => {
                let phase = self.check(exec.as_ref(), &Input::Exited(exit.status.clone()), "end")?;
                self.ended(exit, phase)
            }
            None if has_lost_its_shim && self.process(exec.as_ref())?.phase == Phase::Running => {
                self.exited(self.unseen(exec)).await
            }
            None => Ok(()),
        }
    }

    fn tell_starters(&mut self, exec: Option<&ExecId>, input: &Input, answer: &Result<u32>) -> Result<()> {
        let phase = self.check(exec, input, "start")?;
        let process = self.process(exec)?;
        process.phase = phase;
        process.starters.drain(..).for_each(|starter| drop(starter.send(answer.clone())));
        self.refuse_who_waits_for_nothing();
        Ok(())
    }

    pub(super) fn record_start(
        &mut self,
        batch: &mut Batch,
        exec: Option<&ExecId>,
        identity: ProcessIdentity,
    ) {
        let (namespace, container_id) = (self.record.namespace.clone(), self.record.container.clone());
        self.core.host.hold(&self.record.nonce, exec, &identity);
        match exec.and_then(|id| self.execs.get_mut(id)) {
            None => {
                self.record.phase = StoredPhase::Running;
                self.record.started_at = Some(Timestamp::now());
                self.record.init = Some(identity);
                batch
                    .put(&self.record)
                    .publish(&namespace, Event::TaskStart { container_id, pid: identity.pid });
            }
            Some(exec) => {
                exec.phase = StoredPhase::Running;
                exec.identity = Some(identity);
                let event =
                    Event::TaskExecStarted { container_id, exec_id: exec.id.clone(), pid: identity.pid };
                batch.put(exec).publish(&namespace, event);
            }
        }
    }
}
