//! Ends: one commit of row and event, then the shim may forget, then waiters are answered.

use bosun_storage::batch::Batch;
use bosun_types::event::Event;
use bosun_types::shim::{ExitNotice, Notice, Request};
use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity, StoredPhase};
use bosun_types::{ExecId, Result, Timestamp};
use ractor::ActorRef;

use super::super::phase::{Input, Phase};
use super::super::{TaskMessage, reattach};
use super::{TaskData, ask_shim};

impl TaskData {
    pub(super) async fn notice(&mut self, myself: &ActorRef<TaskMessage>, notice: Notice) -> Result<()> {
        self.confirm();
        match notice {
            Notice::Exited(ExitNotice { exec: Some(exec), .. }) if !self.execs.contains_key(&exec) => {
                // Nobody was told of it, so nobody is told of its end.
                if let Some(shim) = self.shim.clone() {
                    reattach::bury(shim, exec, self.freezes, myself.clone());
                }
                Ok(())
            }
            Notice::Exited(exit) => {
                let process = self.processes.get_mut(&exit.exec);
                if let Some(process) = process
                    && process.phase == Phase::Starting
                {
                    // What the shim itself said stays said.
                    process.early_exit.get_or_insert(exit);
                    return Ok(());
                }
                self.exited(exit).await
            }
            Notice::OutOfMemory { .. } => {
                let mut batch = Batch::new();
                batch.publish(
                    &self.record.namespace,
                    Event::TaskOom { container_id: self.record.container.clone() },
                );
                self.core.commit(batch).await.map(drop)
            }
        }
    }

    /// One commit of row and event; then the shim may forget, and waiters are answered. Repeated, it only acknowledges again.
    pub(super) async fn exited(&mut self, exit: ExitNotice) -> Result<()> {
        let exit = self.as_known(exit);
        let Some(process) = self.processes.get(&exit.exec) else {
            self.acknowledge(exit.exec);
            return Ok(());
        };
        if process.phase.exit().is_some() {
            self.acknowledge(exit.exec);
            return Ok(());
        }
        let phase = self.check(exit.exec.as_ref(), &Input::Exited(exit.status.clone()), "end")?;
        let mut batch = Batch::new();
        if exit.started && process.phase == Phase::Created {
            // Its start was never told: the daemon was killed before it heard of it. Each end has a beginning.
            self.record_start(&mut batch, exit.exec.as_ref(), exit.process);
        }
        self.record_exit(&mut batch, exit.exec.as_ref(), exit.process, &exit.status);
        self.core.commit(batch).await?;
        self.ended(exit, phase)
    }

    /// As true as anybody here knows it.
    pub(super) fn as_known(&self, mut exit: ExitNotice) -> ExitNotice {
        if matches!(exit.status.cause, ExitCause::Unknown(_)) {
            // Somebody here may know what the shim does not: one that took over is nobody's parent.
            let known = self.core.host.end_of(&self.record.nonce, exit.exec.as_ref(), &exit.process);
            exit.status = known.unwrap_or(exit.status);
        }
        exit.status = exit.status.not_before(self.begin_of(exit.exec.as_ref()));
        exit
    }

    /// Its end is durable.
    pub(super) fn ended(&mut self, exit: ExitNotice, phase: Phase) -> Result<()> {
        let process = self.process(exit.exec.as_ref())?;
        process.phase = phase;
        process.answer_waiters(&exit.status);
        self.core.host.release(&self.record.nonce, exit.exec.as_ref());
        if exit.exec.is_none() {
            self.refuse_who_waits_for_nothing();
            crate::relaunch::look(&self.core, &self.record.namespace, &self.record.container);
        }
        self.acknowledge(exit.exec);
        Ok(())
    }

    /// When it began, as far as that is known.
    fn begin_of(&self, exec: Option<&ExecId>) -> Timestamp {
        match exec {
            None => self.record.started_at.unwrap_or(self.record.created_at),
            Some(id) => self.execs.get(id).map_or(Timestamp(0), |exec| exec.created_at),
        }
    }

    pub(super) fn record_exit(
        &mut self,
        batch: &mut Batch,
        exec: Option<&ExecId>,
        identity: ProcessIdentity,
        exit: &ExitStatus,
    ) {
        let (namespace, container_id) = (self.record.namespace.clone(), self.record.container.clone());
        let id = exec.map_or_else(|| container_id.to_string(), ToString::to_string);
        match exec.and_then(|id| self.execs.get_mut(id)) {
            None => {
                self.record.phase = StoredPhase::Stopped(exit.clone());
                batch.put(&self.record);
            }
            Some(exec) => {
                exec.phase = StoredPhase::Stopped(exit.clone());
                batch.put(exec);
            }
        }
        batch
            .publish(&namespace, Event::TaskExit { container_id, id, pid: identity.pid, exit: exit.clone() });
    }

    pub(super) fn acknowledge(&self, exec: Option<ExecId>) {
        ask_shim(self.shim(), Request::AckExit { exec }, |_| ());
    }

    /// There is no shim any more. What neither its records nor the kernel tell ended unseen.
    pub(super) async fn lost(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        result: Result<Vec<ExitNotice>>,
    ) -> Result<()> {
        let ends = match result {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(task = %self.record.container, %error, "what the dead shim left is not cleaned up yet");
                self.early.settle_without_shim(myself);
                reattach::connect_later(self.core.clone(), self.record.clone(), myself.clone());
                return Ok(());
            }
        };
        self.confirm();
        self.early.settle_without_shim(myself);
        let open: Vec<(Option<ExecId>, Phase)> = self
            .processes
            .iter()
            .filter(|(_, process)| process.phase.exit().is_none())
            .map(|(id, process)| (id.clone(), process.phase.clone()))
            .collect();
        // Execs first: init's end is the last of a container.
        for (exec, phase) in open.into_iter().rev() {
            let told = ends.iter().find(|end| end.exec == exec).cloned();
            match (phase, told) {
                // Never started, or nobody knows: the outcome of the start says more.
                (Phase::Created | Phase::Starting, None) if exec.is_some() => {}
                (_, told) => {
                    let end = told.unwrap_or_else(|| self.unseen(exec));
                    self.notice(myself, Notice::Exited(end)).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn unseen(&self, exec: Option<ExecId>) -> ExitNotice {
        let identity = match &exec {
            None => self.record.init,
            Some(id) => self.execs.get(id).and_then(|exec| exec.identity),
        };
        let process = identity.unwrap_or(ProcessIdentity { pid: 0, start_ticks: 0 });
        let cause = ExitCause::Unknown("its shim died".to_owned());
        let status = ExitStatus { cause, exited_at: Timestamp::now() };
        // Nobody says that it was started: its row does, or it was not.
        ExitNotice { exec, process, status, started: false }
    }
}
