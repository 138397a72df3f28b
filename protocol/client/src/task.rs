//! Tasks and processes.

use std::ops::Deref;

use bosun_protocol::convert::read_list;
use bosun_protocol::{Wire, task_capnp};
use bosun_types::checkpoint::CheckpointRequest;
use bosun_types::image::ImageRecord;
use bosun_types::metrics::Metrics;
use bosun_types::stdio::{
    AttachFrom, AttachRecord, AttachRequest, LogRecord, LogRequest, STDIN_WRITE_BYTES_MAX,
};
use bosun_types::task::{ExecRequest, ExitStatus, PidInfo, ProcessInfo, ProcessStatus};
use bosun_types::{ContainerId, ErrorClass, ExecId, NamespaceName, Result, Timestamp};

use crate::driver::Driver;
use crate::failure::{Failure, answer, results};
use crate::incoming::{Feed, Incoming, follow};
use crate::run::{Running, run_exec};
use crate::session::Session;

/// The signal that nobody can refuse.
const SIGKILL: u32 = 9;

/// One process of a container: init or an exec. Whether it exists shows at the first call.
///
/// ```no_run
#[doc = include_str!("../examples/tour/process.rs")]
/// ```
#[derive(Clone)]
pub struct Process {
    driver: Driver,
    namespace: NamespaceName,
    container: ContainerId,
    exec: Option<ExecId>,
}

/// One call on the process's capability: `$request` is made from `$process`, `$results` are its results.
macro_rules! on_process {
    ($self:ident.$how:ident, |$process:ident, $results:ident| $request:expr => $value:expr) => {{
        let this = $self.address();
        $self
            .driver
            .$how(move |session| {
                let (namespace, container, exec) = this.clone();
                async move {
                    let $process = session.scope(&namespace).process(&container, exec.as_ref());
                    answer!($results, $request);
                    Ok($value)
                }
            })
            .await
    }};
}

impl Process {
    fn address(&self) -> (NamespaceName, ContainerId, Option<ExecId>) {
        (self.namespace.clone(), self.container.clone(), self.exec.clone())
    }

    /// Its container's id.
    pub fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Its exec id; `None` for init.
    pub fn exec_id(&self) -> Option<&ExecId> {
        self.exec.as_ref()
    }

    /// Its state, from the last known record: never waits for the shim.
    pub async fn info(&self) -> Result<ProcessInfo> {
        on_process!(self.call, |process, results| process.info_request() =>
            ProcessInfo::read(results.get_info()?)?)
    }

    /// Its state alone.
    pub async fn status(&self) -> Result<ProcessStatus> {
        Ok(self.info().await?.status)
    }

    /// Its pid on the host; 0 before it is made.
    pub async fn pid(&self) -> Result<u32> {
        Ok(self.info().await?.pid)
    }

    /// Ends it by SIGKILL (for init every process of the container) unless it has ended, waits for that, and removes it (TSK-18). One that never ran is
    /// removed, and `None`.
    pub async fn kill_and_delete(&self) -> Result<Option<ExitStatus>> {
        if self.status().await? != ProcessStatus::Created || self.exec.is_none() {
            match self.kill(SIGKILL, self.exec.is_none()).await {
                // It has ended meanwhile.
                Err(error)
                    if !matches!(error.class, ErrorClass::NotFound | ErrorClass::FailedPrecondition) =>
                {
                    return Err(error);
                }
                _ => {}
            }
            self.wait().await?;
        }
        self.delete().await
    }

    /// Starts it; its pid.
    pub async fn start(&self) -> Result<u32> {
        on_process!(self.change, |process, results| process.start_request() => results.get_pid())
    }

    /// Its exit status, as soon as there is one. Goes on when the daemon restarts.
    pub async fn wait(&self) -> Result<ExitStatus> {
        on_process!(self.wait_through_recovery, |process, results| process.wait_request() =>
            ExitStatus::read(results.get_exit()?)?)
    }

    /// Sends a signal. `all`: to every process of the container; for init only.
    pub async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        on_process!(self.change, |process, _results| {
            let mut request = process.kill_request();
            request.get().set_signal(signal);
            request.get().set_all(all);
            request
        } => ())
    }

    /// Removes it once it has ended, or was never started; for init, the task. `None`: never started.
    pub async fn delete(&self) -> Result<Option<ExitStatus>> {
        on_process!(self.change, |process, results| process.delete_request() =>
            if results.has_exit() { Some(ExitStatus::read(results.get_exit()?)?) } else { None })
    }

    /// Gives its terminal a new size in characters.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        on_process!(self.change, |process, _results| {
            let mut request = process.resize_request();
            request.get().set_width(width);
            request.get().set_height(height);
            request
        } => ())
    }

    /// Lets it read end-of-file on its standard input.
    pub async fn close_stdin(&self) -> Result<()> {
        on_process!(self.change, |process, _results| process.close_stdin_request() => ())
    }

    /// Its output live, from where the request says, until it has ended and everything was read; over restarts of the daemon, without a gap or a byte
    /// twice as long as the shim keeps what is written meanwhile (else [`AttachRecord::Missed`] says how much it was). Dropping it detaches.
    pub async fn attach(&self, request: AttachRequest) -> Result<Incoming<AttachRecord>> {
        follow(&self.driver, Output { process: self.clone(), request }).await
    }

    /// Writes to its standard input, which must be [`STDIN_ATTACH`](bosun_types::stdio::STDIN_ATTACH); returns when its pipe has taken all, however long it does
    /// not read. Each byte once, over restarts of the daemon too.
    pub async fn write_stdin(&self, bytes: Vec<u8>) -> Result<()> {
        for piece in bytes.chunks(STDIN_WRITE_BYTES_MAX) {
            let (namespace, container, exec) = self.address();
            let piece = piece.to_vec();
            let written = self.driver.change_and_wait(move |session| async move {
                let process = session.scope(&namespace).process(&container, exec.as_ref());
                let mut request = process.write_stdin_request();
                request.get().set_bytes(&piece);
                answer!(_results, request);
                Ok(())
            });
            written.await?;
        }
        Ok(())
    }
}

/// A container that runs, or is about to, or has run. Whether it exists shows at the first call.
///
/// ```no_run
#[doc = include_str!("../examples/tour/task.rs")]
/// ```
#[derive(Clone)]
pub struct Task {
    init: Process,
}

/// One call on the task's capability.
macro_rules! on_task {
    ($self:ident.$how:ident, |$task:ident, $results:ident| $request:expr => $value:expr) => {{
        let (namespace, container, _) = $self.init.address();
        $self
            .init
            .driver
            .$how(move |session| async move {
                let $task = session.scope(&namespace).task(&container);
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

/// The verbs of a process are a task's too, and speak of its init.
impl Deref for Task {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.init
    }
}

impl Task {
    pub(crate) fn new(driver: Driver, namespace: NamespaceName, container: ContainerId) -> Self {
        Self { init: Process { driver, namespace, container, exec: None } }
    }

    /// Its first process.
    pub fn init(&self) -> &Process {
        &self.init
    }

    /// An exec that exists.
    ///
    /// # Errors
    /// NotFound.
    pub async fn load_process(&self, exec: ExecId) -> Result<Process> {
        let process = self.process(exec);
        process.info().await?;
        Ok(process)
    }

    /// An exec, by id; whether it exists shows at the first call.
    pub fn process(&self, exec: ExecId) -> Process {
        Process { exec: Some(exec), ..self.init.clone() }
    }

    /// Registers a further process; start it through what this returns.
    pub async fn exec(&self, request: ExecRequest) -> Result<Process> {
        let id = request.id.clone();
        on_task!(self.change, |task, _results| {
            let mut call = task.exec_request();
            request.write(call.get().init_request());
            call
        } => ())?;
        Ok(self.process(id))
    }

    /// Registers a further process, starts it and begins to wait for it, in one round trip.
    pub async fn run_exec(&self, request: ExecRequest) -> Result<Running> {
        let process = self.process(request.id.clone());
        let (namespace, container, _) = self.init.address();
        run_exec(&self.init.driver, namespace, container, request, process).await
    }

    /// Its execs.
    pub async fn execs(&self) -> Result<Vec<ProcessInfo>> {
        on_task!(self.call, |task, results| task.execs_request() => read_list(results.get_infos())?)
    }

    /// Freezes every process.
    pub async fn pause(&self) -> Result<()> {
        on_task!(self.change, |task, _results| task.pause_request() => ())
    }

    /// Thaws them.
    pub async fn resume(&self) -> Result<()> {
        on_task!(self.change, |task, _results| task.resume_request() => ())
    }

    /// Every process of the container.
    pub async fn pids(&self) -> Result<Vec<PidInfo>> {
        on_task!(self.call, |task, results| task.pids_request() => read_list(results.get_pids())?)
    }

    /// Applies OCI `LinuxResources` (JSON) to the live cgroup: what is not given stays, and the container's spec too (TSK-29).
    pub async fn update(&self, resources: Vec<u8>) -> Result<()> {
        on_task!(self.change, |task, _results| {
            let mut request = task.update_request();
            request.get().set_resources(&resources);
            request
        } => ())
    }

    /// What its cgroup has used, read now; while the task exists, also after its end. Never waits for the shim.
    pub async fn metrics(&self) -> Result<Metrics> {
        on_task!(self.call, |task, results| task.metrics_request() => Metrics::read(results.get_metrics()?)?)
    }

    /// Stores it as an image (CKP-1): it goes on as it was, or ends if asked to. As long as it takes; the daemon goes on with it when this is
    /// dropped.
    ///
    /// # Errors
    /// AlreadyExists when the image's name is taken, FailedPrecondition when it does not run or execs do.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<ImageRecord> {
        on_task!(self.change_and_wait, |task, results| {
            let mut call = task.checkpoint_request();
            request.write(call.get().init_request());
            call
        } => ImageRecord::read(results.get_record()?)?)
    }

    /// Its log. With `follow` it goes on until the task has ended, over restarts of the daemon.
    pub async fn logs(&self, request: LogRequest) -> Result<Incoming<LogRecord>> {
        let (namespace, container, _) = self.init.address();
        follow(&self.init.driver, Logs { namespace, container, request, read_up_to: None }).await
    }
}

struct Output {
    process: Process,
    request: AttachRequest,
}

impl Feed for Output {
    type Item = AttachRecord;
    type Cursor = task_capnp::attach_cursor::Client;

    async fn open(&mut self, session: &Session) -> Result<Self::Cursor, Failure> {
        let (namespace, container, exec) = self.process.address();
        let process = session.scope(&namespace).process(&container, exec.as_ref());
        let mut call = process.attach_request();
        self.request.write(call.get().init_request());
        answer!(results, call);
        // After a lost connection: from here.
        self.request.from = AttachFrom::Position(results.get_position());
        Ok(results.get_cursor()?)
    }

    async fn next(&mut self, cursor: &Self::Cursor) -> Result<(Vec<AttachRecord>, bool), Failure> {
        let response = cursor.next_request().send().promise.await?;
        let results = results!(response);
        let records: Vec<AttachRecord> = read_list(results.get_records())?;
        if let AttachFrom::Position(position) = &mut self.request.from {
            *position += records.iter().map(AttachRecord::length).sum::<u64>();
        }
        Ok((records, results.get_end()))
    }
}

struct Logs {
    namespace: NamespaceName,
    container: ContainerId,
    request: LogRequest,
    read_up_to: Option<Timestamp>,
}

impl Feed for Logs {
    type Item = LogRecord;
    type Cursor = task_capnp::log_cursor::Client;

    async fn open(&mut self, session: &Session) -> Result<Self::Cursor, Failure> {
        // After a lost connection: from the record after the last one seen.
        if let Some(Timestamp(last)) = self.read_up_to {
            self.request.since = Some(Timestamp(last + 1));
            self.request.tail_lines = None;
        }
        let mut call = session.scope(&self.namespace).task(&self.container).logs_request();
        self.request.write(call.get().init_request());
        answer!(results, call);
        Ok(results.get_cursor()?)
    }

    async fn next(&mut self, cursor: &Self::Cursor) -> Result<(Vec<LogRecord>, bool), Failure> {
        let response = cursor.next_request().send().promise.await?;
        let results = results!(response);
        let records: Vec<LogRecord> = read_list(results.get_records())?;
        self.read_up_to = records.last().map(|record| record.at).or(self.read_up_to);
        Ok((records, results.get_end()))
    }
}
