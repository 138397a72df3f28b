//! Create, start and wait in one round trip: every call is sent before the first answer is back.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_protocol::{Wire, task_capnp};
use bosun_types::spec::ContainerRequest;
use bosun_types::task::{ExecRequest, ExitStatus, TaskRequest};
use bosun_types::{ContainerId, Error, NamespaceName, Result};
use tokio::sync::oneshot;

use crate::driver::Driver;
use crate::failure::{Failure, results};
use crate::session::{Place, Session};
use crate::task::{Process, Task};

/// A container to make and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// The container.
    pub container: ContainerRequest,
    /// Its task.
    pub task: TaskRequest,
}

/// A process that was started, with its wait under way.
pub struct Running {
    process: Process,
    pid: u32,
    exit: oneshot::Receiver<Result<ExitStatus, Failure>>,
}

impl Running {
    /// The process: for [`crate::Namespace::run`] the container's init.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its pid on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status. Goes on when the daemon restarts.
    pub async fn wait(self) -> Result<ExitStatus> {
        match self.exit.await {
            Ok(Ok(exit)) => Ok(exit),
            Ok(Err(Failure::Answer(error))) => Err(error),
            // The connection went: ask again on a new one.
            Ok(Err(Failure::Lost(_))) | Err(_) => self.process.wait().await,
        }
    }
}

/// Taken by the first try. One on a new connection leaves the wait to [`Running::wait`].
type Exit = Arc<Mutex<Option<oneshot::Sender<Result<ExitStatus, Failure>>>>>;

fn exit_of_the_first_try() -> (Exit, oneshot::Receiver<Result<ExitStatus, Failure>>) {
    let (sender, receiver) = oneshot::channel();
    (Arc::new(Mutex::new(Some(sender))), receiver)
}

pub(crate) async fn run(driver: &Driver, namespace: &Place, request: RunRequest) -> Result<Running> {
    let (exit_sender, exit) = exit_of_the_first_try();
    let id = request.container.id.clone();
    let scope_name = namespace.clone();
    let pid = driver
        .change(move |session| async move { run_all(&session, &scope_name, request, exit_sender).await })
        .await?;
    let process = Task::new(driver.clone(), namespace.name.clone(), id).init().clone();
    Ok(Running { process, pid, exit })
}

async fn run_all(
    session: &Rc<Session>,
    namespace: &Place,
    request: RunRequest,
    exit: Exit,
) -> Result<u32, Failure> {
    let mut create = session.scope(namespace).containers.create_request();
    request.container.write(create.get().init_request());
    let create = create.send();
    let mut create_task = create.pipeline.get_container().create_task_request();
    request.task.write(create_task.get().init_request());
    let create_task = create_task.send();
    let process: task_capnp::process::Client =
        capnp::capability::FromClientHook::cast_to(create_task.pipeline.get_task());
    let start = process.start_request().send();
    let wait = process.wait_request().send();
    // Everything is on its way. Answers are taken in order, so that the first failure is the one reported: those behind it
    // fail only because it did.
    let response = create.promise.await?;
    results!(response);
    let response = create_task.promise.await?;
    results!(response);
    finish(start, wait, exit).await
}

pub(crate) async fn run_exec(
    driver: &Driver,
    namespace: NamespaceName,
    container: ContainerId,
    request: ExecRequest,
    process: Process,
) -> Result<Running> {
    let (exit_sender, exit) = exit_of_the_first_try();
    let pid = driver
        .change(move |session| async move {
            let mut call = session.scope(&namespace).task(&container).exec_request();
            request.write(call.get().init_request());
            let exec = call.send();
            let process = exec.pipeline.get_process();
            let start = process.start_request().send();
            let wait = process.wait_request().send();
            let response = exec.promise.await?;
            results!(response);
            finish(start, wait, exit_sender).await
        })
        .await?;
    Ok(Running { process, pid, exit })
}

type Started = capnp::capability::RemotePromise<task_capnp::process::start_results::Owned>;
type Waited = capnp::capability::RemotePromise<task_capnp::process::wait_results::Owned>;

/// Takes the pid; leaves the wait to a task of its own that ends when nobody waits any more.
async fn finish(start: Started, wait: Waited, exit: Exit) -> Result<u32, Failure> {
    // Taken before anything can go wrong: should the connection be lost, the reader is told.
    let exit = exit.lock().unwrap_or_else(PoisonError::into_inner).take();
    let response = start.promise.await?;
    let pid = results!(response).get_pid();
    let Some(mut exit) = exit else { return Ok(pid) };
    tokio::task::spawn_local(async move {
        let outcome = tokio::select! {
            () = exit.closed() => return,
            outcome = exit_of(wait) => outcome,
        };
        // Nobody waits any more.
        let _ = exit.send(outcome);
    });
    Ok(pid)
}

async fn exit_of(wait: Waited) -> Result<ExitStatus, Failure> {
    let response = wait.promise.await?;
    let results = results!(response);
    ExitStatus::read(results.get_exit()?).map_err(Error::into)
}
