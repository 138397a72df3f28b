//! A task: the running self of a container. One actor each.
//!
//! **Owns** the task's row, its execs' rows, the connection to its shim, and everyone who waits for an end.
//! **Phases**: see [`phase`]. Init and every exec have one each.
//! **Supervised** by its container's supervisor, transient: it ends normally when the task is deleted.
//! **After a restart** (of the actor, of the daemon: the same code) it reads its rows and reattaches: it connects to the shim in a worker and
//! meanwhile answers from what the rows say, marked as recovering. If there is no shim it finds out what became of the processes, or has another shim take
//! over what lives of a container that is to go on ([`reattach`], [`orphan`]). It never launches anything: that is what [`create`] does, once, before the actor is.
//! **Operations**: `create_task`, `start_process`, `delete_task`, `checkpoint`.
//!
//! A process's exit is an input, not a failure: one commit of {row, event}, then the shim is told that it may forget, then waiters are answered.

mod actor;
mod attach;
mod checkpoint;
mod create;
mod delete;
mod early;
mod hold;
mod orphan;
pub(crate) mod phase;
mod processes;
mod reattach;
mod start;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use bosun_storage::key;
use bosun_types::call::CallId;
use bosun_types::metrics::Metrics;
use bosun_types::operation::OperationRecord;
use bosun_types::shim::{ExitNotice, Notice, Request, Response, ShimState};
use bosun_types::stdio::LogRequest;
use bosun_types::task::{
    ExecRequest, ExitStatus, KillTarget, PidInfo, ProcessIdentity, ProcessInfo, ProcessStatus, StoredPhase,
    TaskRecord,
};
use bosun_types::{ContainerId, Error, ExecId, NamespaceName, OperationId, Result, Timestamp, signal};
use oci_spec::runtime::LinuxResources;
use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::mpsc;

use crate::ask::ask;
use crate::call;
use crate::core::{Core, Shared, blocking};
use crate::directory::Name;

pub use attach::AttachStream;
pub use checkpoint::Begin;

pub(crate) use actor::{rows_of_deletion, spec};
pub(crate) use checkpoint::{DUMP_DEADLINE, recover as recover_checkpoint};
pub(crate) use create::{create, create_as, finish};
pub(crate) use delete::RemoveTask;
pub(crate) use hold::recover as recover_hold;

/// How long a request to a task may take: making and starting included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long a wait may take: the connection's own life bounds it, not the process's.
const WAIT_DEADLINE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a shim may take for one request.
pub(crate) const SHIM_DEADLINE: Duration = Duration::from_secs(30);
/// Requests under way at one task.
const WAITING_MAX: usize = 1024;
/// Waiters of one process.
const WAITERS_MAX: usize = 4096;

/// What a task is told.
pub enum TaskMessage {
    /// Any of the others, for a call with a key.
    For(CallId, Box<TaskMessage>),
    /// What is known of a process, now.
    Info(Option<ExecId>, RpcReplyPort<Result<ProcessInfo>>),
    /// Of every exec.
    Execs(RpcReplyPort<Vec<ProcessInfo>>),
    /// Start init or an exec.
    Start(Option<ExecId>, RpcReplyPort<Result<u32>>),
    /// Answer when it has ended.
    Wait(Option<ExecId>, RpcReplyPort<Result<ExitStatus>>),
    /// Send a signal.
    Kill(KillTarget, u32, RpcReplyPort<Result<()>>),
    /// Register an exec.
    Exec(Box<ExecRequest>, RpcReplyPort<Result<()>>),
    /// Forget an exec.
    DeleteExec(ExecId, RpcReplyPort<Result<Option<ExitStatus>>>),
    /// Remove the task.
    Delete(RpcReplyPort<Result<Option<ExitStatus>>>),
    /// Freeze or thaw.
    Freeze(bool, RpcReplyPort<Result<()>>),
    /// Apply `LinuxResources` to the live cgroup.
    Update(Vec<u8>, RpcReplyPort<Result<()>>),
    /// Something for the shim that changes nothing here: resize, close stdin, pids.
    Pass(Request, RpcReplyPort<Result<Response>>),
    /// Own worker: the shim is connected, or why not.
    Connected(Result<crate::ports::Connected>),
    /// Begin a checkpoint: whether it may, and the intent.
    BeginCheckpoint(Begin, RpcReplyPort<Result<OperationRecord>>),
    /// Begin to hold it frozen: the intent, or `None` for one that does not run.
    BeginHold(RpcReplyPort<Result<Option<OperationRecord>>>),
    /// Freeze or thaw for that checkpoint or hold.
    Hold(OperationId, bool, RpcReplyPort<Result<()>>),
    /// That checkpoint or hold is over.
    EndCheckpoint(OperationId),
    /// Own worker: what the shim holds, asked after so many freezes and thaws.
    Known(u64, Result<ShimState>),
    /// Own worker: the shim reports something.
    Notice(Notice),
    /// Own worker: the connection is gone.
    Disconnected,
    /// Own worker: a new shim has the container, or not.
    TakenOver(Result<ProcessIdentity>),
    /// Own worker: there is no shim; how init ended, if anything tells.
    Lost(Result<Vec<ExitNotice>>),
    /// Own worker: a start is over.
    Started(Option<ExecId>, Box<StartOutcome>),
    /// Own worker: an exec is registered, or not.
    ExecAdded(Box<bosun_types::task::ExecRecord>, Result<()>, RpcReplyPort<Result<()>>),
    /// Own worker: an exec is forgotten by the shim.
    ExecDeleted(ExecId, Result<()>, RpcReplyPort<Result<Option<ExitStatus>>>),
    /// Own worker: freezing or thawing is over.
    Frozen(bool, Result<()>, RpcReplyPort<Result<()>>),
    /// Own worker: removing is over.
    Deleted(Result<()>),
}

/// What came of a start, and its operation.
pub struct StartOutcome {
    operation: bosun_types::operation::OperationRecord,
    result: Result<ProcessIdentity, crate::operation::Failure>,
}

/// What task actors heard last from their shims, for lists that must wait for nobody.
#[derive(Default)]
pub struct Live {
    /// Nonces of tasks that were made in this life of the daemon, until their actors have started.
    made: Mutex<HashSet<String>>,
    confirmed: RwLock<HashMap<(NamespaceName, ContainerId), Option<Timestamp>>>,
}

impl Live {
    fn make(&self, nonce: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(nonce.to_owned());
    }

    /// Once: an actor that starts again does not know what happened meanwhile.
    fn is_made(&self, nonce: &str) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(nonce)
    }

    fn set(&self, namespace: &NamespaceName, container: &ContainerId, at: Option<Timestamp>) {
        self.confirmed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((namespace.clone(), container.clone()), at);
    }

    fn forget(&self, namespace: &NamespaceName, container: &ContainerId) {
        self.confirmed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(namespace.clone(), container.clone()));
    }

    fn get(&self, namespace: &NamespaceName, container: &ContainerId) -> Option<Timestamp> {
        let confirmed = self.confirmed.read().unwrap_or_else(PoisonError::into_inner);
        confirmed.get(&(namespace.clone(), container.clone())).copied().flatten()
    }
}

/// A container's task.
#[derive(Clone)]
pub struct TaskHandle {
    core: Shared,
    namespace: NamespaceName,
    container: ContainerId,
}

/// Output of a container.
pub type LogStream = mpsc::Receiver<Result<bosun_types::stdio::LogRecord>>;

impl TaskMessage {
    /// For that call.
    pub(crate) fn of(self, call: Option<CallId>) -> Self {
        match call {
            Some(call) => Self::For(call, Box::new(self)),
            None => self,
        }
    }

    /// For the call that is at hand, if it has a key.
    pub(crate) fn for_call(self) -> Self {
        self.of(call::current())
    }
}

impl TaskHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName, container: ContainerId) -> Self {
        Self { core, namespace, container }
    }

    /// Its container.
    pub fn container(&self) -> &ContainerId {
        &self.container
    }

    fn actor(&self) -> Result<ActorRef<TaskMessage>> {
        let name = Name::Task(self.namespace.clone(), self.container.clone());
        match self.core.directory.find(&name) {
            Some(actor) if actor.get_status() != ractor::ActorStatus::Stopped => Ok(actor),
            _ => Err(match record(&self.core, &self.namespace, &self.container)? {
                Some(_) => Error::unavailable(format!("task {} is starting or recovering", self.container))
                    .with_hint("ask again"),
                None => {
                    crate::containers::get(&self.core, &self.namespace, &self.container)?;
                    Error::not_found(format!("container {} has no task", self.container))
                }
            }),
        }
    }

    async fn ask<R: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<R>) -> TaskMessage,
        deadline: Duration,
    ) -> Result<R> {
        let actor = self.actor()?;
        let name = Name::Task(self.namespace.clone(), self.container.clone());
        let _place = self.core.directory.admit(&name, WAITING_MAX)?;
        self.ask_admitted(&actor, message, deadline).await
    }

    async fn ask_admitted<R: Send + 'static>(
        &self,
        actor: &ActorRef<TaskMessage>,
        message: impl FnOnce(RpcReplyPort<R>) -> TaskMessage,
        deadline: Duration,
    ) -> Result<R> {
        ask(actor, |reply| message(reply).for_call(), deadline)
            .await
            .map_err(|error| error.context(format!("task {}", self.container)))
    }

    /// Init, as last known.
    pub async fn info(&self) -> Result<ProcessInfo> {
        self.process_info(None).await
    }

    /// An exec, as last known.
    pub async fn exec_info(&self, exec: &ExecId) -> Result<ProcessInfo> {
        self.process_info(Some(exec.clone())).await
    }

    async fn process_info(&self, exec: Option<ExecId>) -> Result<ProcessInfo> {
        self.ask(|reply| TaskMessage::Info(exec, reply), DEADLINE).await?
    }

    /// Every exec.
    pub async fn execs(&self) -> Result<Vec<ProcessInfo>> {
        self.ask(TaskMessage::Execs, DEADLINE).await
    }

    /// Starts init or an exec; gives its pid. Equal starts in flight join.
    pub async fn start(&self, exec: Option<ExecId>) -> Result<u32> {
        self.ask(|reply| TaskMessage::Start(exec, reply), DEADLINE).await?
    }

    /// Waits for the end of init or an exec; before its start, during its life, or after (TSK-12, TSK-13).
    pub async fn wait(&self, exec: Option<ExecId>) -> Result<ExitStatus> {
        // Not a place in the queue: the actor keeps waiters itself, and limits them.
        self.ask_admitted(&self.actor()?, |reply| TaskMessage::Wait(exec, reply), WAIT_DEADLINE).await?
    }

    /// Sends a signal (TSK-19). NotFound when the process has ended.
    pub async fn kill(&self, target: KillTarget, signal: u32) -> Result<()> {
        if !(1..=64).contains(&signal) {
            return Err(
                Error::invalid_argument(format!("signal {signal} does not exist")).with_hint("use 1 to 64")
            );
        }
        if ends(signal) && !matches!(target, KillTarget::Exec(_)) {
            // A person ends it: no failure for its restart policy.
            call::within(None, crate::relaunch::mark(&self.core, &self.namespace, &self.container)).await?;
        }
        self.signal(target, signal).await
    }

    /// The same without a word to the restart policy.
    pub(crate) async fn signal(&self, target: KillTarget, signal: u32) -> Result<()> {
        self.ask(|reply| TaskMessage::Kill(target, signal, reply), DEADLINE).await?
    }

    /// Registers an exec (TSK-22).
    pub async fn exec(&self, request: ExecRequest) -> Result<()> {
        self.ask(|reply| TaskMessage::Exec(Box::new(request), reply), DEADLINE).await?
    }

    /// Forgets an ended or never started exec (TSK-17).
    pub async fn delete_exec(&self, exec: ExecId) -> Result<Option<ExitStatus>> {
        self.ask(|reply| TaskMessage::DeleteExec(exec, reply), DEADLINE).await?
    }

    /// Removes the task; gives how init ended, if it ever ran (TSK-16).
    pub async fn delete(&self) -> Result<Option<ExitStatus>> {
        call::within(None, crate::relaunch::mark(&self.core, &self.namespace, &self.container)).await?;
        self.remove().await
    }

    /// The same without a word to the restart policy.
    pub(crate) async fn remove(&self) -> Result<Option<ExitStatus>> {
        self.ask(TaskMessage::Delete, DEADLINE).await?
    }

    /// Freezes the cgroup (TSK-25).
    pub async fn pause(&self) -> Result<()> {
        self.ask(|reply| TaskMessage::Freeze(true, reply), DEADLINE).await?
    }

    /// Thaws it.
    pub async fn resume(&self) -> Result<()> {
        self.ask(|reply| TaskMessage::Freeze(false, reply), DEADLINE).await?
    }

    /// Sets the terminal's size (TSK-26).
    pub async fn resize(&self, exec: Option<ExecId>, width: u16, height: u16) -> Result<()> {
        self.pass(Request::Resize { exec, width, height }).await.map(drop)
    }

    /// Closes the shim's end of standard input (TSK-27).
    pub async fn close_stdin(&self, exec: Option<ExecId>) -> Result<()> {
        self.pass(Request::CloseStdin { exec }).await.map(drop)
    }

    /// Every process of the container (TSK-28).
    pub async fn pids(&self) -> Result<Vec<PidInfo>> {
        match self.pass(Request::Pids).await? {
            Response::Pids(pids) => Ok(pids),
            other => Err(Error::internal(format!("the shim answered Pids with {other:?}"))),
        }
    }

    /// Applies OCI `LinuxResources` (JSON) to the live cgroup: only what is given changes, and only until the task ends; the
    /// container's spec stays as it is (TSK-29).
    pub async fn update(&self, resources: Vec<u8>) -> Result<()> {
        let malformed = |why: String| {
            Error::invalid_argument(format!("the resources are malformed: {why}"))
                .with_hint("give the `linux.resources` object of an OCI runtime spec")
        };
        // An array would be read as the fields in their order.
        let object: serde_json::Map<_, _> =
            serde_json::from_slice(&resources).map_err(|error| malformed(error.to_string()))?;
        serde_json::from_value::<LinuxResources>(object.into())
            .map_err(|error| malformed(error.to_string()))?;
        self.ask(|reply| TaskMessage::Update(resources, reply), DEADLINE).await?
    }

    /// What its cgroup has used, read now. Asks neither the task's actor nor its shim: a hung one hides nothing. NotFound without a task or without a
    /// cgroup (TSK-30).
    pub async fn metrics(&self) -> Result<Metrics> {
        let this = self.clone();
        blocking(move || sample(&this.core, &this.namespace, &this.container)).await
    }

    async fn pass(&self, request: Request) -> Result<Response> {
        self.ask(|reply| TaskMessage::Pass(request, reply), DEADLINE).await?
    }

    /// Its output from the log file. With `follow` until the process ended and everything was read.
    pub async fn logs(&self, request: LogRequest) -> Result<LogStream> {
        let record = record(&self.core, &self.namespace, &self.container)?;
        let path = match record.and_then(|record| record.stdio.log) {
            Some(log) => PathBuf::from(log.path),
            None => {
                crate::containers::get(&self.core, &self.namespace, &self.container)?;
                let path = log_directory(&self.core, &self.namespace, &self.container).join(LOG_FILE);
                if !path.exists() {
                    return Err(Error::not_found(format!("container {} has no log", self.container)));
                }
                path
            }
        };
        let handle = self.clone();
        let done = Box::pin(async move {
            // Ended, or gone: in both cases nothing more will come.
            while let Err(error) = handle.wait(None).await {
                if error.class != bosun_types::ErrorClass::Unavailable {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(self.core.host.logs(path, request, done))
    }
}

/// Whether a signal is a person's word to end. Others, such as SIGHUP, are for the program to understand.
fn ends(signal: u32) -> bool {
    [signal::KILL, signal::TERM, signal::INT, signal::QUIT].contains(&signal)
}

/// Name of a log file in [`log_directory`].
pub(crate) const LOG_FILE: &str = "log";

/// Where a container's logs are: below the root, so that they outlive a reboot.
pub(crate) fn log_directory(core: &Core, namespace: &NamespaceName, container: &ContainerId) -> PathBuf {
    core.root.join("logs").join(namespace.as_str()).join(container.as_str())
}

/// What the task's cgroup has used. Blocking.
pub(crate) fn sample(core: &Core, namespace: &NamespaceName, container: &ContainerId) -> Result<Metrics> {
    let spec = crate::containers::get(core, namespace, container)?.spec;
    if record(core, namespace, container)?.is_none() {
        return Err(Error::not_found(format!("container {container} has no task")));
    }
    let path =
        cgroup_path(&spec).ok_or_else(|| Error::not_found(format!("container {container} has no cgroup")))?;
    let usage = core.host.usage(&path).map_err(|error| error.context(format!("task {container}")))?;
    Ok(Metrics { container: container.clone(), sampled_at: Timestamp::now(), usage })
}

/// Where the spec puts the container.
fn cgroup_path(spec: &[u8]) -> Option<String> {
    let spec: serde_json::Value = serde_json::from_slice(spec).ok()?;
    Some(spec.pointer("/linux/cgroupsPath")?.as_str()?.to_owned())
}

/// The task's row, if there is one.
pub(crate) fn record(
    core: &Core,
    namespace: &NamespaceName,
    container: &ContainerId,
) -> Result<Option<TaskRecord>> {
    let stored: Option<TaskRecord> = core.store.get(&key::task(namespace, container))?;
    Ok(stored.map(|record| at_home(core, record)))
}

/// A log that is in the daemon's own place is where the root is now: the root may have been moved since.
fn at_home(core: &Core, mut record: TaskRecord) -> TaskRecord {
    let own = log_directory(core, &record.namespace, &record.container).join(LOG_FILE);
    if let (Some(log), Ok(below_root)) = (&mut record.stdio.log, own.strip_prefix(&core.root))
        && Path::new(&log.path).ends_with(below_root)
        && own.exists()
    {
        log.path = own.to_string_lossy().into_owned();
    }
    record
}

/// Every task of a namespace, from rows alone: a hung shim delays nobody's list (TSK-24).
pub(crate) async fn list(core: &Shared, namespace: &NamespaceName) -> Result<Vec<ProcessInfo>> {
    let records: Vec<TaskRecord> = core.store.scan(&key::within(namespace))?;
    Ok(records.iter().map(|record| info(record, core.live.get(namespace, &record.container))).collect())
}

/// What is known of init.
fn info(record: &TaskRecord, confirmed_at: Option<Timestamp>) -> ProcessInfo {
    let (status, exit) = status_of(&record.phase, confirmed_at.is_some());
    ProcessInfo {
        container: record.container.clone(),
        exec: None,
        pid: record.init.map_or(0, |init| init.pid),
        status,
        stdio: record.stdio.clone(),
        exit,
        created_at: record.created_at,
        started_at: record.started_at,
        confirmed_at,
    }
}

/// What is stored, unless nobody has confirmed it since the daemon started: an end is an end, anything else is recovering.
fn status_of(stored: &StoredPhase, confirmed: bool) -> (ProcessStatus, Option<ExitStatus>) {
    match stored {
        StoredPhase::Stopped(exit) => (ProcessStatus::Stopped, Some(exit.clone())),
        StoredPhase::Creating => (ProcessStatus::Creating, None),
        _ if !confirmed => (ProcessStatus::Recovering, None),
        StoredPhase::Created => (ProcessStatus::Created, None),
        StoredPhase::Running => (ProcessStatus::Running, None),
        StoredPhase::Paused => (ProcessStatus::Paused, None),
    }
}
