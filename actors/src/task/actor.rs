//! The task's actor: takes one message at a time, decides by [`super::phase`], commits, and leaves every effect to a worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::shim::{ExitNotice, Notice, Request, Response, ShimPhase, ShimState};
use bosun_types::task::{
    ExecRecord, ExecRequest, ExitCause, ExitStatus, KillTarget, ProcessIdentity, ProcessInfo, StoredPhase,
    TaskRecord,
};
use bosun_types::{ContainerId, Error, ExecId, NamespaceName, Result, Timestamp};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::early::Early;
use super::phase::{Input, Phase, next, refusal};
use super::processes::{Process, Processes, exec_info, from_rows};
use super::start::StartProcess;
use super::{RemoveTask, SHIM_DEADLINE, StartOutcome, TaskMessage, info, reattach};
use crate::core::Shared;
use crate::directory::Name;
use crate::operation::{self, Failure};
use crate::ports::Shim;
use crate::supervisor::{ChildSpec, RestartType, WORKER_SHUTDOWN};

/// Execs of one task.
const EXECS_MAX: usize = 1024;

struct TaskActor;

struct TaskArguments {
    core: Shared,
    namespace: NamespaceName,
    container: ContainerId,
}

struct TaskData {
    core: Shared,
    record: TaskRecord,
    execs: BTreeMap<ExecId, ExecRecord>,
    processes: Processes,
    shim: Option<Arc<dyn Shim>>,
    early: Early,
    /// When the shim was heard last; `None`: not since this actor started.
    confirmed_at: Option<Timestamp>,
    /// Callers of the delete in flight, with its operation.
    deleting: Vec<RpcReplyPort<Result<Option<ExitStatus>>>>,
    delete_operation: Option<bosun_types::operation::OperationRecord>,
}

/// A task as a child of its container.
pub(crate) fn spec(core: &Shared, namespace: &NamespaceName, container: &ContainerId) -> ChildSpec {
    let (core, namespace, container) = (core.clone(), namespace.clone(), container.clone());
    let waiting = core.directory.waiting(&Name::Task(namespace.clone(), container.clone()));
    ChildSpec {
        id: "task".to_owned(),
        start: Arc::new(move |parent: ActorCell| {
            let arguments = TaskArguments {
                core: core.clone(),
                namespace: namespace.clone(),
                container: container.clone(),
            };
            Box::pin(async move {
                let spawned = Actor::spawn_linked(None, TaskActor, arguments, parent).await;
                Ok(spawned.map_err(|error| Error::internal(error.to_string()))?.0.get_cell())
            })
        }),
        restart: RestartType::Transient,
        shutdown: WORKER_SHUTDOWN,
        supervisor: false,
        detail: "task".to_owned(),
        waiting: Some(waiting),
    }
}

impl Actor for TaskActor {
    type Msg = TaskMessage;
    type State = TaskData;
    type Arguments = TaskArguments;

    /// Reattaches, never launches.
    async fn pre_start(
        &self,
        myself: ActorRef<TaskMessage>,
        arguments: TaskArguments,
    ) -> Result<TaskData, ActorProcessingErr> {
        let TaskArguments { core, namespace, container } = arguments;
        let record = super::record(&core, &namespace, &container)?
            .ok_or_else(|| Error::not_found(format!("task {container}")))?;
        let execs: Vec<ExecRecord> =
            core.store.scan(&key::execs_of(&namespace, &container)).map_err(Error::from)?;
        core.live.set(&namespace, &container, None);
        core.directory.set(Name::Task(namespace, container), myself.get_cell());
        let processes = from_rows(&record, &execs);
        let execs = execs.into_iter().map(|exec| (exec.id.clone(), exec)).collect();
        reattach::connect(core.clone(), record.clone(), myself);
        Ok(TaskData {
            core,
            record,
            execs,
            processes,
            shim: None,
            early: Early::new(),
            confirmed_at: None,
            deleting: Vec::new(),
            delete_operation: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskMessage>,
        message: TaskMessage,
        data: &mut TaskData,
    ) -> Result<(), ActorProcessingErr> {
        let Some(message) = data.early.keep(message) else { return Ok(()) };
        match message {
            TaskMessage::Info(exec, reply) => drop(reply.send(data.info(exec.as_ref()))),
            TaskMessage::Execs(reply) => drop(reply.send(data.exec_infos())),
            TaskMessage::Start(exec, reply) => data.start(&myself, exec, reply).await,
            TaskMessage::Wait(exec, reply) => data.wait(exec, reply),
            TaskMessage::Kill(target, signal, reply) => data.kill(target, signal, reply),
            TaskMessage::Exec(request, reply) => data.exec(&myself, *request, reply),
            TaskMessage::DeleteExec(exec, reply) => data.delete_exec(&myself, exec, reply),
            TaskMessage::Delete(reply) => data.delete(&myself, reply).await,
            TaskMessage::Freeze(freeze, reply) => data.freeze(&myself, freeze, reply),
            TaskMessage::Pass(request, reply) => data.pass(request, reply),
            TaskMessage::Connected(result) => data.connected(&myself, result),
            TaskMessage::Known(result) => data.known(&myself, result).await?,
            TaskMessage::Notice(notice) => data.notice(notice).await?,
            TaskMessage::Disconnected => data.disconnected(&myself),
            TaskMessage::Lost(result) => data.lost(&myself, result).await?,
            TaskMessage::Started(exec, outcome) => data.started(exec, outcome).await?,
            TaskMessage::ExecAdded(record, result, reply) => data.exec_added(*record, result, reply).await,
            TaskMessage::ExecDeleted(exec, result, reply) => data.exec_deleted(exec, result, reply).await,
            TaskMessage::Frozen(freeze, result, reply) => data.frozen(freeze, result, reply).await,
            TaskMessage::Deleted(result) => data.deleted(&myself, result).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<TaskMessage>,
        _: SupervisionEvent,
        _: &mut TaskData,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children; written out because ractor's default would end it with any.
        Ok(())
    }
}

/// Answering and asking.
impl TaskData {
    fn what(&self, exec: Option<&ExecId>) -> String {
        match exec {
            None => format!("task {}", self.record.container),
            Some(exec) => format!("exec {exec} of task {}", self.record.container),
        }
    }

    fn process(&mut self, exec: Option<&ExecId>) -> Result<&mut Process> {
        let what = self.what(exec);
        self.processes.get_mut(&exec.cloned()).ok_or_else(|| Error::not_found(what))
    }

    /// Whether the input is allowed now.
    fn check(&self, exec: Option<&ExecId>, input: &Input, verb: &str) -> Result<Phase> {
        let process = self.processes.get(&exec.cloned()).ok_or_else(|| Error::not_found(self.what(exec)))?;
        next(&process.phase, input).map_err(|denied| refusal(denied, verb, &self.what(exec), &process.phase))
    }

    fn shim(&self) -> Result<Arc<dyn Shim>> {
        let error = || {
            Error::unavailable(format!("{}: its shim has not answered yet", self.what(None)))
                .with_hint("ask again")
        };
        self.shim.clone().ok_or_else(error)
    }

    fn info(&self, exec: Option<&ExecId>) -> Result<ProcessInfo> {
        let init = &self.processes[&None];
        match exec {
            None => {
                let mut known = info(&self.record, self.confirmed_at);
                known.exit = init.phase.exit().cloned();
                Ok(known)
            }
            Some(id) => match (self.execs.get(id), self.processes.get(&Some(id.clone()))) {
                (Some(exec), Some(process)) => Ok(exec_info(exec, process, &init.phase, self.confirmed_at)),
                _ => Err(Error::not_found(self.what(exec))),
            },
        }
    }

    fn exec_infos(&self) -> Vec<ProcessInfo> {
        self.execs.keys().filter_map(|id| self.info(Some(id)).ok()).collect()
    }

    fn wait(&mut self, exec: Option<ExecId>, reply: RpcReplyPort<Result<ExitStatus>>) {
        match self.process(exec.as_ref()) {
            Ok(process) => process.wait(reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn kill(&self, target: KillTarget, signal: u32, reply: RpcReplyPort<Result<()>>) {
        let exec = match &target {
            KillTarget::Exec(exec) => Some(exec.clone()),
            KillTarget::Init | KillTarget::All => None,
        };
        let allowed = self.check(exec.as_ref(), &Input::Kill, "kill").and_then(|_| self.shim());
        ask_shim(allowed, Request::Kill { target, signal }, move |result| drop(reply.send(result.map(drop))));
    }

    fn pass(&self, request: Request, reply: RpcReplyPort<Result<Response>>) {
        ask_shim(self.shim(), request, move |result| drop(reply.send(result)));
    }
}

/// Sends a request to the shim in a worker; a refusal is told at once.
fn ask_shim(
    shim: Result<Arc<dyn Shim>>,
    request: Request,
    then: impl FnOnce(Result<Response>) + Send + 'static,
) {
    match shim {
        Err(error) => then(Err(error)),
        Ok(shim) => drop(tokio::spawn(async move { then(shim.request(request, SHIM_DEADLINE).await) })),
    }
}

/// Starting.
impl TaskData {
    async fn start(
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

    async fn begin_start(
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
        if let Err(error) = self.core.commit(batch).await {
            return Err((error, Some(reply)));
        }
        let process = self.process(exec.as_ref()).map_err(|error| (error, None))?;
        process.phase = phase;
        process.starters.push(reply);
        let actor = myself.clone();
        tokio::spawn(async move {
            let start = StartProcess { shim, exec: exec.clone(), started: Mutex::new(None) };
            let performed = operation::perform(&start).await;
            let result = performed.and_then(|()| start.identity().map_err(Failure::Undone));
            let _ = actor.send_message(TaskMessage::Started(exec, StartOutcome { operation, result }));
        });
        Ok(())
    }

    /// The outcome of a start: row and event in one commit, then whoever asked, then an exit that came early.
    async fn started(&mut self, exec: Option<ExecId>, outcome: StartOutcome) -> Result<()> {
        let input = if outcome.result.is_ok() { Input::Started } else { Input::StartFailed };
        let phase = self.check(exec.as_ref(), &input, "start")?;
        let answer = match outcome.result {
            Ok(identity) => {
                let mut batch = Batch::new();
                batch.close_operation(outcome.operation.id);
                self.record_start(&mut batch, exec.as_ref(), identity);
                self.core.commit(batch).await?;
                Ok(identity.pid)
            }
            Err(failure) => {
                Err(operation::close_failed(&self.core, &outcome.operation, failure, |_| ()).await)
            }
        };
        let process = self.process(exec.as_ref())?;
        process.phase = phase;
        process.starters.drain(..).for_each(|starter| drop(starter.send(answer.clone())));
        match process.early_exit.take() {
            Some(exit) => self.exited(exit).await,
            None => Ok(()),
        }
    }

    fn record_start(&mut self, batch: &mut Batch, exec: Option<&ExecId>, identity: ProcessIdentity) {
        let (namespace, container_id) = (self.record.namespace.clone(), self.record.container.clone());
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

/// Ends.
impl TaskData {
    async fn notice(&mut self, notice: Notice) -> Result<()> {
        self.confirm();
        match notice {
            Notice::Exited(exit) => {
                let process = self.processes.get_mut(&exit.exec);
                if let Some(process) = process
                    && process.phase == Phase::Starting
                {
                    process.early_exit = Some(exit);
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
    async fn exited(&mut self, exit: ExitNotice) -> Result<()> {
        let Some(process) = self.processes.get(&exit.exec) else {
            self.acknowledge(exit.exec);
            return Ok(());
        };
        if process.phase.exit().is_none() {
            let phase = self.check(exit.exec.as_ref(), &Input::Exited(exit.status.clone()), "end")?;
            let mut batch = Batch::new();
            self.record_exit(&mut batch, exit.exec.as_ref(), exit.process, &exit.status);
            self.core.commit(batch).await?;
            let process = self.process(exit.exec.as_ref())?;
            process.phase = phase;
            process.answer_waiters(&exit.status);
        }
        self.acknowledge(exit.exec);
        Ok(())
    }

    fn record_exit(
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

    fn acknowledge(&self, exec: Option<ExecId>) {
        ask_shim(self.shim(), Request::AckExit { exec }, |_| ());
    }

    /// There is no shim any more. What has not ended by a record ended unseen, or as the kernel says.
    async fn lost(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        result: Result<Option<ExitStatus>>,
    ) -> Result<()> {
        let init = match result {
            Ok(init) => init,
            Err(error) => {
                tracing::warn!(task = %self.record.container, %error, "what the dead shim left is not cleaned up yet");
                self.early.settle(myself);
                reattach::connect_later(self.core.clone(), self.record.clone(), myself.clone());
                return Ok(());
            }
        };
        self.confirm();
        self.early.settle(myself);
        let unseen = || ExitStatus {
            cause: ExitCause::Unknown("its shim died".to_owned()),
            exited_at: Timestamp::now(),
        };
        let open: Vec<Option<ExecId>> = self
            .processes
            .iter()
            .filter(|(_, process)| process.phase.exit().is_none())
            .map(|(id, _)| id.clone())
            .collect();
        // Execs first: init's end is the last of a container.
        for exec in open.into_iter().rev() {
            let never_started = exec.is_some()
                && self.processes.get(&exec).is_some_and(|process| process.phase == Phase::Created);
            if never_started {
                continue;
            }
            let status = if exec.is_none() { init.clone().unwrap_or_else(unseen) } else { unseen() };
            let identity = match &exec {
                None => self.record.init,
                Some(id) => self.execs.get(id).and_then(|exec| exec.identity),
            };
            let process = identity.unwrap_or(ProcessIdentity { pid: 0, start_ticks: 0 });
            self.exited(ExitNotice { exec, process, status }).await?;
        }
        Ok(())
    }
}

/// The shim.
impl TaskData {
    fn confirm(&mut self) {
        self.confirmed_at = Some(Timestamp::now());
        self.core.live.set(&self.record.namespace, &self.record.container, self.confirmed_at);
    }

    fn connected(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        result: Result<(Arc<dyn Shim>, tokio::sync::mpsc::Receiver<Notice>)>,
    ) {
        match result {
            Ok((shim, notices)) => {
                reattach::follow(notices, myself.clone());
                reattach::ask_state(Arc::clone(&shim), myself.clone());
                self.shim = Some(shim);
                self.early.settle(myself);
            }
            Err(error) if self.core.host.live_shim(&self.record.nonce).is_some() => {
                tracing::warn!(task = %self.record.container, %error, "the shim lives but does not answer");
                self.early.settle(myself);
                reattach::connect_later(self.core.clone(), self.record.clone(), myself.clone());
            }
            Err(_) => reattach::find_out(self.core.clone(), self.record.clone(), myself.clone()),
        }
    }

    /// What the shim holds and the rows do not say yet: a start whose outcome was lost. Exits come as notices.
    async fn known(&mut self, myself: &ActorRef<TaskMessage>, result: Result<ShimState>) -> Result<()> {
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(task = %self.record.container, %error, "the shim does not say what it holds");
                return Ok(());
            }
        };
        let _ = myself;
        self.confirm();
        let processes = std::iter::once((None, state.init))
            .chain(state.execs.into_iter().map(|(id, phase)| (Some(id), phase)));
        for (exec, held) in processes {
            let known = self.processes.get(&exec).map(|process| process.phase.clone());
            let running = match held {
                ShimPhase::Running(identity)
                | ShimPhase::Paused(identity)
                | ShimPhase::Exited(identity, _) => Some(identity),
                ShimPhase::Registered | ShimPhase::Created(_) | ShimPhase::Deleted => None,
            };
            if let (Some(Phase::Created), Some(identity)) = (known, running) {
                let mut batch = Batch::new();
                self.record_start(&mut batch, exec.as_ref(), identity);
                self.core.commit(batch).await?;
                self.process(exec.as_ref())?.phase = Phase::Running;
            }
        }
        Ok(())
    }

    fn disconnected(&mut self, myself: &ActorRef<TaskMessage>) {
        self.shim = None;
        if self.delete_operation.is_none() {
            self.early.begin();
            reattach::connect(self.core.clone(), self.record.clone(), myself.clone());
        }
    }
}

/// Execs.
impl TaskData {
    fn exec(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        request: ExecRequest,
        reply: RpcReplyPort<Result<()>>,
    ) {
        let (record, shim) = match self.draft_exec(request).and_then(|record| Ok((record, self.shim()?))) {
            Ok(drafted) => drafted,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let actor = myself.clone();
        let request = Request::AddExec {
            id: record.id.clone(),
            process: record.process.clone(),
            stdio: record.stdio.clone(),
        };
        ask_shim(Ok(shim), request, move |result| {
            let _ = actor.send_message(TaskMessage::ExecAdded(Box::new(record), result.map(drop), reply));
        });
    }

    fn draft_exec(&self, request: ExecRequest) -> Result<ExecRecord> {
        self.check(None, &Input::Exec, "exec in")?;
        if self.execs.contains_key(&request.id) {
            return Err(Error::already_exists(self.what(Some(&request.id))));
        }
        if self.execs.len() >= EXECS_MAX {
            return Err(Error::resource_exhausted(format!("{} has {EXECS_MAX} execs", self.what(None)))
                .with_hint("delete ended ones"));
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

    async fn exec_added(&mut self, record: ExecRecord, result: Result<()>, reply: RpcReplyPort<Result<()>>) {
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
        if result.is_ok() {
            self.processes.insert(Some(record.id.clone()), Process::new(Phase::Created));
            self.execs.insert(record.id.clone(), record);
        }
        let _ = reply.send(result);
    }

    fn delete_exec(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        exec: ExecId,
        reply: RpcReplyPort<Result<Option<ExitStatus>>>,
    ) {
        let allowed = self.check(Some(&exec), &Input::Delete, "delete").map(drop);
        if let Err(error) = allowed {
            return drop(reply.send(Err(error)));
        }
        let actor = myself.clone();
        let id = exec.clone();
        match self.shim() {
            Ok(shim) => ask_shim(Ok(shim), Request::DeleteExec { id }, move |result| {
                let _ = actor.send_message(TaskMessage::ExecDeleted(exec, result.map(drop), reply));
            }),
            // Without a shim there is nothing but the row.
            Err(_) => drop(actor.send_message(TaskMessage::ExecDeleted(exec, Ok(()), reply))),
        }
    }

    async fn exec_deleted(
        &mut self,
        exec: ExecId,
        result: Result<()>,
        reply: RpcReplyPort<Result<Option<ExitStatus>>>,
    ) {
        let result = match result {
            Err(error) => Err(error),
            Ok(()) => {
                let mut batch = Batch::new();
                batch.delete::<ExecRecord>(key::exec(&self.record.namespace, &self.record.container, &exec));
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

/// Freezing, removing.
impl TaskData {
    fn freeze(&mut self, myself: &ActorRef<TaskMessage>, freeze: bool, reply: RpcReplyPort<Result<()>>) {
        let (input, verb, request) = if freeze {
            (Input::Pause, "pause", Request::Pause)
        } else {
            (Input::Resume, "resume", Request::Resume)
        };
        let allowed = self.check(None, &input, verb).and_then(|_| self.shim());
        let shim = match allowed {
            Ok(shim) => shim,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let actor = myself.clone();
        ask_shim(Ok(shim), request, move |result| {
            let _ = actor.send_message(TaskMessage::Frozen(freeze, result.map(drop), reply));
        });
    }

    async fn frozen(&mut self, freeze: bool, result: Result<()>, reply: RpcReplyPort<Result<()>>) {
        let input = if freeze { Input::Paused } else { Input::Resumed };
        let result = match result.and_then(|()| self.check(None, &input, "pause")) {
            Err(error) => Err(error),
            Ok(phase) => self.record_freeze(freeze, phase).await,
        };
        let _ = reply.send(result);
    }

    async fn record_freeze(&mut self, freeze: bool, phase: Phase) -> Result<()> {
        let container_id = self.record.container.clone();
        let (stored, event) = if freeze {
            (StoredPhase::Paused, Event::TaskPaused { container_id })
        } else {
            (StoredPhase::Running, Event::TaskResumed { container_id })
        };
        if phase.exit().is_none() {
            self.record.phase = stored;
            let mut batch = Batch::new();
            batch.put(&self.record).publish(&self.record.namespace, event);
            self.core.commit(batch).await?;
            self.process(None)?.phase = phase;
        }
        Ok(())
    }

    async fn delete(
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
        tokio::spawn(async move {
            let result = operation::persist(&removal).await;
            let _ = actor.send_message(TaskMessage::Deleted(result));
        });
    }

    async fn deleted(&mut self, myself: &ActorRef<TaskMessage>, result: Result<()>) {
        let Some(operation) = self.delete_operation.take() else { return };
        let exit = self.processes.get(&None).and_then(|init| init.phase.exit().cloned());
        let result = match result {
            Ok(()) => self.record_deletion(operation.id, exit.clone()).await,
            Err(cause) => {
                Err(operation::close_failed(&self.core, &operation, Failure::Undone(cause), |_| ()).await)
            }
        };
        if result.is_ok() {
            // Before the answer: who is answered finds the name free.
            let (namespace, container) = (self.record.namespace.clone(), self.record.container.clone());
            self.core.live.forget(&namespace, &container);
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

    async fn record_deletion(
        &mut self,
        operation: bosun_types::OperationId,
        exit: Option<ExitStatus>,
    ) -> Result<()> {
        let mut batch = Batch::new();
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
