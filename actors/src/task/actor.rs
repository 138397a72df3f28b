//! The task's actor: takes one message at a time, decides by [`super::phase`], commits, and leaves every effect to a worker.

mod checkpointing;
mod ending;
mod execs;
mod removing;
mod shim;
mod starting;

pub(crate) use removing::rows_of_deletion;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bosun_storage::key;
use bosun_types::shim::{Request, Response};
use bosun_types::task::{
    ExecRecord, ExitStatus, KillTarget, OnShimDeath, ProcessInfo, StoredPhase, TaskRecord,
};
use bosun_types::{ContainerId, Error, ErrorClass, ExecId, NamespaceName, OperationId, Result, Timestamp};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::early::Early;
use super::phase::{Input, Phase, next, refusal};
use super::processes::{Process, Processes, exec_info, from_rows};
use super::{SHIM_DEADLINE, TaskMessage, WAIT_DEADLINE, info, reattach};
use crate::call;
use crate::core::{Shared, worker};
use crate::directory::Name;
use crate::operation::{self, Plan};
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
    /// Requests to the shim to register or forget an exec whose outcome is not in the rows yet.
    execs_changing: usize,
    /// When the shim was heard last; `None`: not since this actor started.
    confirmed_at: Option<Timestamp>,
    /// Callers of the delete in flight, with its operation.
    deleting: Vec<RpcReplyPort<Result<Option<ExitStatus>>>>,
    delete_operation: Option<bosun_types::operation::OperationRecord>,
    /// The checkpoint under way.
    checkpoint: Option<OperationId>,
    /// Freezes and thaws so far: what the shim said it holds before one is old.
    freezes: u64,
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
        // What this daemon made it knows; anything else its shim has to confirm. Not by the clock, which may have been set back.
        let is_new = record.phase == StoredPhase::Created && core.live.is_made(&record.nonce);
        let confirmed_at = is_new.then_some(record.created_at);
        core.live.set(&namespace, &container, confirmed_at);
        core.directory.set(Name::Task(namespace, container), myself.get_cell());
        let processes = from_rows(&record, &execs);
        hold(&core, &record, &execs);
        let execs = execs.into_iter().map(|exec| (exec.id.clone(), exec)).collect();
        let checkpoint = checkpointing::under_way(&core, &record)?;
        reattach::connect(core.clone(), record.clone(), myself);
        Ok(TaskData {
            core,
            record,
            execs,
            processes,
            shim: None,
            early: Early::new(),
            execs_changing: 0,
            confirmed_at,
            deleting: Vec::new(),
            delete_operation: None,
            checkpoint,
            freezes: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskMessage>,
        message: TaskMessage,
        data: &mut TaskData,
    ) -> Result<(), ActorProcessingErr> {
        let (call, message) = match message {
            TaskMessage::For(call, message) => (Some(call), *message),
            message => (None, message),
        };
        call::within(call, data.act(&myself, message)).await
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
    async fn act(
        &mut self,
        myself: &ActorRef<TaskMessage>,
        message: TaskMessage,
    ) -> Result<(), ActorProcessingErr> {
        let Some(message) = self.early.keep(message) else { return Ok(()) };
        match message {
            // A message is for one call.
            TaskMessage::For(_, message) => return Box::pin(self.act(myself, *message)).await,
            TaskMessage::Info(exec, reply) => drop(reply.send(self.info(exec.as_ref()))),
            TaskMessage::Execs(reply) => drop(reply.send(self.exec_infos())),
            TaskMessage::Start(exec, reply) => self.start(myself, exec, reply).await,
            TaskMessage::Wait(exec, reply) => self.wait(exec, reply),
            TaskMessage::Kill(target, signal, reply) => self.kill(target, signal, reply),
            TaskMessage::Exec(request, reply) => self.exec(myself, *request, reply),
            TaskMessage::DeleteExec(exec, reply) => self.delete_exec(myself, exec, reply),
            TaskMessage::Delete(reply) => self.delete(myself, reply).await,
            TaskMessage::Freeze(freeze, reply) => self.freeze(myself, freeze, reply),
            TaskMessage::Update(resources, reply) => self.update(resources, reply),
            TaskMessage::Pass(request, reply) => self.pass(request, reply),
            TaskMessage::Connected(result) => self.connected(myself, result),
            TaskMessage::BeginCheckpoint(begin, reply) => {
                let _ = reply.send(self.begin_checkpoint(begin).await);
            }
            TaskMessage::BeginHold(reply) => drop(reply.send(self.begin_hold().await)),
            TaskMessage::Hold(id, freeze, reply) => self.hold(myself, id, freeze, reply),
            TaskMessage::EndCheckpoint(id) => self.end_checkpoint(id),
            TaskMessage::Known(asked, result) => self.known(myself, asked, result).await?,
            TaskMessage::Notice(notice) => self.notice(myself, notice).await?,
            TaskMessage::Disconnected => self.disconnected(myself),
            TaskMessage::TakenOver(result) => self.taken_over(myself, result).await?,
            TaskMessage::Lost(result) => self.lost(myself, result).await?,
            TaskMessage::Started(exec, outcome) => self.started(exec, *outcome).await?,
            TaskMessage::ExecAdded(record, result, reply) => {
                self.exec_added(myself, *record, result, reply).await
            }
            TaskMessage::ExecDeleted(exec, result, reply) => self.exec_deleted(exec, result, reply).await,
            TaskMessage::Frozen(freeze, result, reply) => self.frozen(myself, freeze, result, reply).await,
            TaskMessage::Deleted(result) => self.deleted(myself, result).await,
        }
        Ok(())
    }

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
            let why = match self.core.host.live_shim(&self.record.nonce) {
                Some(_) => "its shim does not answer",
                None if self.record.on_shim_death == OnShimDeath::Adopt => {
                    "its shim died, and no new one has taken it over yet"
                }
                None => "its shim died, and what it left is not cleaned up yet",
            };
            Error::unavailable(format!("{}: {why}", self.what(None))).with_hint("ask again")
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
        let never = self.never_runs(exec.as_ref());
        match self.process(exec.as_ref()) {
            Ok(_) if never.is_some() => drop(never.map(|error| reply.send(Err(error)))),
            Ok(process) => process.wait(reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Why nobody need wait for an exec: it was not started before its container ended.
    fn never_runs(&self, exec: Option<&ExecId>) -> Option<Error> {
        let is_created =
            self.processes.get(&exec.cloned()).is_some_and(|process| process.phase == Phase::Created);
        (exec.is_some() && is_created && self.processes[&None].phase.exit().is_some()).then(|| {
            let message = format!("{} has not run, and its container has ended", self.what(exec));
            Error::failed_precondition(message).with_hint("delete it")
        })
    }

    fn refuse_who_waits_for_nothing(&mut self) {
        for exec in self.processes.keys().cloned().collect::<Vec<_>>() {
            if let Some(error) = self.never_runs(exec.as_ref())
                && let Ok(process) = self.process(exec.as_ref())
            {
                process.refuse_waiters(&error);
            }
        }
    }

    fn kill(&self, target: KillTarget, signal: u32, reply: RpcReplyPort<Result<()>>) {
        let exec = match &target {
            KillTarget::Exec(exec) => Some(exec.clone()),
            KillTarget::Init | KillTarget::All => None,
        };
        let allowed = self.check(exec.as_ref(), &Input::Kill, "kill");
        if exec.is_some() && matches!(allowed, Ok(Phase::Created)) {
            // TSK-20: there is no process yet that could get it.
            return drop(reply.send(Ok(())));
        }
        let call = call::current();
        let has_ended = matches!(&allowed, Err(error) if error.class == ErrorClass::NotFound);
        // It may be this very call that ended it, before the daemon was killed: the shim knows.
        let allowed = match (has_ended && call.is_some(), self.shim()) {
            (true, Ok(shim)) => Ok(shim),
            (_, shim) => allowed.and(shim),
        };
        ask_shim(allowed, Request::Kill { target, signal, call }, move |result| {
            drop(reply.send(result.map(drop)))
        });
    }

    fn update(&self, resources: Vec<u8>, reply: RpcReplyPort<Result<()>>) {
        let allowed = self.check(None, &Input::Update, "update").and_then(|_| self.shim());
        self.ask_once(allowed, Request::Update { resources }, move |result| {
            drop(reply.send(result.map(drop)))
        });
    }

    fn pass(&self, request: Request, reply: RpcReplyPort<Result<Response>>) {
        self.ask_once(self.shim(), request, move |result| drop(reply.send(result)));
    }

    /// Sends a request to the shim for the call at hand, which remembers that it was done: there is no commit that could.
    fn ask_once(
        &self,
        allowed: Result<Arc<dyn Shim>>,
        request: Request,
        then: impl FnOnce(Result<Response>) + Send + 'static,
    ) {
        match (call::current(), allowed) {
            (None, allowed) => ask_shim(allowed, request, then),
            (Some(_), Err(refusal)) => self.recall(refusal, then),
            (Some(call), Ok(shim)) => {
                ask_shim(Ok(shim), Request::Once { call, request: Box::new(request) }, then);
            }
        }
    }

    /// What is refused now may have been done by this very call, before the daemon was killed: the shim knows.
    fn recall(&self, refusal: Error, then: impl FnOnce(Result<Response>) + Send + 'static) {
        match (call::current(), self.shim()) {
            (Some(call), Ok(shim)) => {
                ask_shim(Ok(shim), Request::Recall { call }, move |known| then(known.map_err(|_| refusal)));
            }
            _ => then(Err(refusal)),
        }
    }
}

/// What runs is held from the start on: its shim may be dead already, or die before it is known.
fn hold(core: &Shared, task: &TaskRecord, execs: &[ExecRecord]) {
    let runs = |phase: &StoredPhase| matches!(phase, StoredPhase::Running | StoredPhase::Paused);
    if let Some(init) = task.init.filter(|_| runs(&task.phase)) {
        core.host.hold(&task.nonce, None, &init);
    }
    for exec in execs.iter().filter(|exec| runs(&exec.phase)) {
        if let Some(process) = &exec.identity {
            core.host.hold(&task.nonce, Some(&exec.id), process);
        }
    }
}

/// A request with the crash points of its verb, if it is one that changes something.
async fn asked(shim: &dyn Shim, request: Request, deadline: Duration) -> Result<Response> {
    match plan_of(&request) {
        None => shim.request(request, deadline).await,
        Some(plan) => operation::ask(plan, || shim.request(request.clone(), deadline)).await,
    }
}

/// Those of a task's requests that have no operation of their own.
fn plan_of(request: &Request) -> Option<&'static Plan> {
    match request {
        Request::Kill { .. } => Some(&operation::KILL),
        Request::Pause => Some(&operation::PAUSE),
        Request::Resume => Some(&operation::RESUME),
        Request::Update { .. } => Some(&operation::UPDATE),
        Request::Resize { .. } => Some(&operation::RESIZE),
        Request::CloseStdin { .. } => Some(&operation::CLOSE_STDIN),
        Request::AddExec { .. } => Some(&operation::ADD_EXEC),
        Request::DeleteExec { .. } => Some(&operation::DELETE_EXEC),
        Request::Once { request, .. } => plan_of(request),
        // Steps of operations; what changes nothing; what may not be done twice.
        Request::Create(_)
        | Request::CreateFromDump { .. }
        | Request::Start { .. }
        | Request::Dump(_)
        | Request::Delete
        | Request::Shutdown
        | Request::Attach { .. }
        | Request::State
        | Request::Pids
        | Request::AckExit { .. }
        | Request::Recall { .. }
        | Request::WriteStdin { .. } => None,
    }
}

/// Sends a request to the shim in a worker; a refusal is told at once. What came of one whose answer was lost is asked of the shim ([`shim`]).
fn ask_shim(
    shim: Result<Arc<dyn Shim>>,
    request: Request,
    then: impl FnOnce(Result<Response>) + Send + 'static,
) {
    match shim {
        Err(error) => then(Err(error)),
        Ok(shim) => {
            // How long a write takes is the process's affair; answered too early, it would be written twice.
            let is_write = |request: &Request| matches!(request, Request::WriteStdin { .. });
            let is_long = match &request {
                Request::Once { request, .. } => is_write(request),
                request => is_write(request),
            };
            let deadline = if is_long { WAIT_DEADLINE } else { SHIM_DEADLINE };
            worker(async move { then(asked(&*shim, request, deadline).await) });
        }
    }
}
