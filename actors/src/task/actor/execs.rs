//! Execs: registered, forgotten.

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::shim::Request;
use bosun_types::task::{ExecRecord, ExecRequest, ExitStatus, StoredPhase};
use bosun_types::{Error, ExecId, Result, Timestamp};
use ractor::{ActorRef, RpcReplyPort};

use super::super::phase::{Input, Phase};
use super::super::processes::Process;
use super::super::{TaskMessage, reattach};
use super::{EXECS_MAX, TaskData, ask_shim};
use crate::call;

impl TaskData {
    pub(super) fn exec(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        request: ExecRequest,
        reply: RpcReplyPort<Result<()>>,
    ) {
        let (record, shim) = match self.draft_exec(request).and_then(|record| Ok((record, self.shim()?))) {
            Ok(drafted) => drafted,
            Err(error) => return drop(reply.send(Err(error))),
        };
        self.execs_changing += 1;
        let (actor, call) = (myself.clone(), call::current());
        let request = Request::AddExec {
            id: record.id.clone(),
            process: record.process.clone(),
            stdio: record.stdio.clone(),
        };
        ask_shim(Ok(shim), request, move |result| {
            let added = TaskMessage::ExecAdded(Box::new(record), result.map(drop), reply);
            let _ = actor.send_message(added.of(call));
        });
    }

    pub(super) fn draft_exec(&self, request: ExecRequest) -> Result<ExecRecord> {
        self.check(None, &Input::Exec, "exec in")?;
        if self.execs.contains_key(&request.id) {
            return Err(Error::already_exists(self.what(Some(&request.id))));
        }
        if self.execs.len() >= EXECS_MAX {
            return Err(Error::resource_exhausted(format!("{} has {EXECS_MAX} execs", self.what(None)))
                .with_hint("delete ended ones"));
        }
        request.stdio.check()?;
        if request.stdio.log_program()?.is_some() {
            return Err(Error::invalid_argument("a logging program is for a task, not for an exec")
                .with_hint("give the exec FIFOs, or `attach:` as its stdin and attach"));
        }
        let container = crate::containers::get(&self.core, &self.record.namespace, &self.record.container)?;
        let process = self.core.host.exec_process(
            &container.spec,
            &request.process,
            request.stdio.terminal,
            self.record.init,
        )?;
        Ok(ExecRecord {
            namespace: self.record.namespace.clone(),
            container: self.record.container.clone(),
            id: request.id,
            process,
            stdio: request.stdio,
            phase: StoredPhase::Created,
            identity: None,
            created_at: Timestamp::now(),
        })
    }

    pub(super) async fn exec_added(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        record: ExecRecord,
        result: Result<()>,
        reply: RpcReplyPort<Result<()>>,
    ) {
        self.execs_changing -= 1;
        let result = match result {
            Err(error) => Err(error),
            Ok(()) if self.execs.contains_key(&record.id) => {
                Err(Error::already_exists(self.what(Some(&record.id))))
            }
            Ok(()) => {
                let mut batch = Batch::new();
                let event = Event::TaskExecAdded {
                    container_id: record.container.clone(),
                    exec_id: record.id.clone(),
                };
                batch.put(&record).publish(&record.namespace, event);
                self.core.commit(batch).await.map(drop)
            }
        };
        match (&result, self.shim.clone()) {
            (Ok(()), _) => {
                self.processes.insert(Some(record.id.clone()), Process::new(Phase::Created));
                self.execs.insert(record.id.clone(), record);
            }
            // The shim may hold it all the same, and would refuse the next one of that id.
            (Err(_), Some(shim)) => reattach::ask_state(shim, self.freezes, myself.clone()),
            (Err(_), None) => {}
        }
        let _ = reply.send(result);
    }

    pub(super) fn delete_exec(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        exec: ExecId,
        reply: RpcReplyPort<Result<Option<ExitStatus>>>,
    ) {
        let allowed = self.check(Some(&exec), &Input::Delete, "delete").map(drop);
        if let Err(error) = allowed {
            return drop(reply.send(Err(error)));
        }
        self.execs_changing += 1;
        let (actor, call) = (myself.clone(), call::current());
        let id = exec.clone();
        match self.shim() {
            Ok(shim) => ask_shim(Ok(shim), Request::DeleteExec { id }, move |result| {
                let deleted = TaskMessage::ExecDeleted(exec, result.map(drop), reply);
                let _ = actor.send_message(deleted.of(call));
            }),
            // Without a shim there is nothing but the row.
            Err(_) => drop(actor.send_message(TaskMessage::ExecDeleted(exec, Ok(()), reply).of(call))),
        }
    }

    pub(super) async fn exec_deleted(
        &mut self,
        exec: ExecId,
        result: Result<()>,
        reply: RpcReplyPort<Result<Option<ExitStatus>>>,
    ) {
        self.execs_changing -= 1;
        let result = match result {
            Err(error) => Err(error),
            Ok(()) => {
                let mut batch = Batch::new();
                batch.delete::<ExecRecord>(key::exec(&self.record.namespace, &self.record.container, &exec));
                let exit = self.processes.get(&Some(exec.clone())).and_then(|process| process.phase.exit());
                batch.answer_call(exit);
                self.core.commit(batch).await.map(drop)
            }
        };
        let answer = result.map(|()| {
            self.execs.remove(&exec);
            self.processes.remove(&Some(exec)).and_then(|process| process.phase.exit().cloned())
        });
        let _ = reply.send(answer);
    }
}
