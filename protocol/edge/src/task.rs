//! `Task`, `Process`, `AttachCursor`, `LogCursor`.

use std::rc::Rc;

use bosun_actors::task::{LogStream, TaskHandle};
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_parsed, write_list};
use bosun_protocol::task_capnp::{attach_cursor, log_cursor, process, task};
use bosun_types::call::CallRecord;
use bosun_types::checkpoint::CheckpointRequest;
use bosun_types::stdio::{AttachRecord, AttachRequest, LogRecord, LogRequest};
use bosun_types::task::{ExecRequest, KillTarget, ProcessStatus};
use bosun_types::{Error, ErrorClass, ExecId};
use capnp_rpc::new_client;
use tokio::sync::mpsc;

use crate::connection::{Held, about, nothing};
use crate::cursor::{Lent, Source, batch};
use crate::reply;

/// About what a record of output takes in a message beside its bytes.
const RECORD_BYTES: usize = 40;

type Done = Result<(), capnp::Error>;

/// A terminal's width or height.
fn characters(count: u32) -> Result<u16, Error> {
    u16::try_from(count)
        .map_err(|_| Error::invalid_argument(format!("a terminal of {count} characters is too large")))
}

/// Init with the rest of the task's methods, or an exec.
pub(crate) struct Task {
    held: Held,
    handle: TaskHandle,
    exec: Option<ExecId>,
}

impl Task {
    pub(crate) fn new(held: Held, handle: TaskHandle) -> Self {
        Self { held, handle, exec: None }
    }

    fn process(&self, held: Held, exec: ExecId) -> process::Client {
        new_client(Self { held: held.about(&exec), handle: self.handle.clone(), exec: Some(exec) })
    }

    fn parts(&self) -> (TaskHandle, Option<ExecId>) {
        (self.handle.clone(), self.exec.clone())
    }
}

/// A process that a call has started.
#[derive(Clone)]
struct Started {
    handle: TaskHandle,
    exec: Option<ExecId>,
}

impl Started {
    async fn pid(self) -> Result<u32, Error> {
        let info = match &self.exec {
            None => self.handle.info().await?,
            Some(exec) => self.handle.exec_info(exec).await?,
        };
        let runs = matches!(info.status, ProcessStatus::Running | ProcessStatus::Paused);
        // An exec that has ended has run; init may have been killed before its start.
        let ran = info.started_at.is_some() || (self.exec.is_some() && info.status == ProcessStatus::Stopped);
        if runs || ran { Ok(info.pid) } else { Err(Error::failed_precondition("it was not started")) }
    }
}

impl process::Server for Task {
    async fn info(self: Rc<Self>, _: process::InfoParams, mut results: process::InfoResults) -> Done {
        let (handle, exec) = self.parts();
        let work = async move {
            Ok(match &exec {
                None => handle.info().await?,
                Some(exec) => handle.exec_info(exec).await?,
            })
        };
        let outcome = self.held.call("process.info", work).await?;
        reply!(results, outcome, |info, out| info.write(out.init_info()))
    }

    async fn start(self: Rc<Self>, _: process::StartParams, mut results: process::StartResults) -> Done {
        let (handle, exec) = self.parts();
        let started = Started { handle: handle.clone(), exec: exec.clone() };
        let (again, before) = (self.held.is_again(), started.clone());
        let work = async move {
            match handle.start(exec).await {
                // The first call started it, and was cut off before that was recorded.
                Err(error) if again && error.class == ErrorClass::FailedPrecondition => {
                    Ok(before.pid().await.map_err(|_| error)?)
                }
                started => Ok(started?),
            }
        };
        let outcome = self.held.once("process.start", work, async move |_| started.pid().await).await?;
        reply!(results, outcome, |pid, out| out.set_pid(pid))
    }

    async fn wait(self: Rc<Self>, _: process::WaitParams, mut results: process::WaitResults) -> Done {
        let (handle, exec) = self.parts();
        let outcome = self.held.wait("process.wait", async move { Ok(handle.wait(exec).await?) }).await?;
        reply!(results, outcome, |exit, out| exit.write(out.init_exit()))
    }

    async fn kill(self: Rc<Self>, params: process::KillParams, mut results: process::KillResults) -> Done {
        let (handle, exec) = self.parts();
        let work = async move {
            let params = params.get()?;
            let target = match (exec, params.get_all()) {
                (None, false) => KillTarget::Init,
                (None, true) => KillTarget::All,
                (Some(exec), false) => KillTarget::Exec(exec),
                (Some(_), true) => {
                    return Err(Error::invalid_argument("`all` is for init, not for an exec").into());
                }
            };
            Ok(handle.kill(target, params.get_signal()).await?)
        };
        let outcome = self.held.once("process.kill", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn delete(self: Rc<Self>, _: process::DeleteParams, mut results: process::DeleteResults) -> Done {
        let (handle, exec) = self.parts();
        let work = async move {
            Ok(match exec {
                None => handle.delete().await?,
                Some(exec) => handle.delete_exec(exec).await?,
            })
        };
        let known = async |record: CallRecord| Ok(record.exit);
        let outcome = self.held.once("process.delete", work, known).await?;
        reply!(results, outcome, |exit, out| {
            if let Some(exit) = exit {
                exit.write(out.init_exit());
            }
        })
    }

    async fn resize(
        self: Rc<Self>,
        params: process::ResizeParams,
        mut results: process::ResizeResults,
    ) -> Done {
        let (handle, exec) = self.parts();
        let work = async move {
            let params = params.get()?;
            let (width, height) = (characters(params.get_width())?, characters(params.get_height())?);
            Ok(handle.resize(exec, width, height).await?)
        };
        let outcome = self.held.once("process.resize", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn close_stdin(
        self: Rc<Self>,
        _: process::CloseStdinParams,
        mut results: process::CloseStdinResults,
    ) -> Done {
        let (handle, exec) = self.parts();
        let work = async move { Ok(handle.close_stdin(exec).await?) };
        let outcome = self.held.once("process.close_stdin", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn attach(
        self: Rc<Self>,
        params: process::AttachParams,
        mut results: process::AttachResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let (handle, exec) = self.parts();
        let work = async move {
            let request = AttachRequest::read(params.get()?.get_request()?)?;
            Ok(handle.attach(exec, request).await?)
        };
        let outcome = self.held.call("process.attach", work).await?;
        reply!(results, outcome, |attached, out| {
            out.set_position(attached.position);
            let records = Lent::new(Output(attached.records));
            out.set_cursor(new_client(Attachment { held, records }));
        })
    }

    async fn write_stdin(
        self: Rc<Self>,
        params: process::WriteStdinParams,
        mut results: process::WriteStdinResults,
    ) -> Done {
        let (handle, exec) = self.parts();
        let work = async move {
            let bytes = params.get()?.get_bytes()?.to_vec();
            Ok(handle.write_stdin(exec, bytes).await?)
        };
        let outcome = self.held.feed("process.write_stdin", work).await?;
        reply!(results, outcome)
    }
}

impl task::Server for Task {
    async fn exec(self: Rc<Self>, params: task::ExecParams, mut results: task::ExecResults) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let request = ExecRequest::read(params.get()?.get_request()?);
        let id = request.clone().map(|request| request.id);
        let work = async move {
            let request = request?;
            let id = request.id.clone();
            about(&id);
            handle.exec(request).await?;
            Ok(id)
        };
        let outcome = self.held.once("task.exec", work, async move |_| id).await?;
        reply!(results, outcome, |id, out| out.set_process(Task::process(&self, held, id)))
    }

    async fn process(self: Rc<Self>, params: task::ProcessParams, mut results: task::ProcessResults) -> Done {
        let held = Held::new(&self.held)?;
        let outcome: Result<ExecId, Error> = read_parsed(params.get()?.get_exec());
        reply!(results, outcome, |id, out| out.set_process(Task::process(&self, held, id)), else set_process)
    }

    async fn execs(self: Rc<Self>, _: task::ExecsParams, mut results: task::ExecsResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("task.execs", async move { Ok(handle.execs().await?) }).await?;
        reply!(results, outcome, |infos, out| write_list(&infos, out.init_infos(length(&infos))))
    }

    async fn pause(self: Rc<Self>, _: task::PauseParams, mut results: task::PauseResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.once("task.pause", async move { Ok(handle.pause().await?) }, nothing).await?;
        reply!(results, outcome)
    }

    async fn resume(self: Rc<Self>, _: task::ResumeParams, mut results: task::ResumeResults) -> Done {
        let handle = self.handle.clone();
        let outcome =
            self.held.once("task.resume", async move { Ok(handle.resume().await?) }, nothing).await?;
        reply!(results, outcome)
    }

    async fn pids(self: Rc<Self>, _: task::PidsParams, mut results: task::PidsResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("task.pids", async move { Ok(handle.pids().await?) }).await?;
        reply!(results, outcome, |pids, out| write_list(&pids, out.init_pids(length(&pids))))
    }

    async fn update(self: Rc<Self>, params: task::UpdateParams, mut results: task::UpdateResults) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let resources = params.get()?.get_resources()?.to_vec();
            Ok(handle.update(resources).await?)
        };
        let outcome = self.held.once("task.update", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn metrics(self: Rc<Self>, _: task::MetricsParams, mut results: task::MetricsResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("task.metrics", async move { Ok(handle.metrics().await?) }).await?;
        reply!(results, outcome, |metrics, out| metrics.write(out.init_metrics()))
    }

    async fn checkpoint(
        self: Rc<Self>,
        params: task::CheckpointParams,
        mut results: task::CheckpointResults,
    ) -> Done {
        let handle = self.handle.clone();
        let request = CheckpointRequest::read(params.get()?.get_request()?);
        let (made, name) = (self.handle.clone(), request.clone().map(|request| request.image));
        let known = async move |record: CallRecord| made.checkpointed(name?, &record).await;
        let work = async move { Ok(handle.checkpoint(request?).await?) };
        let outcome = self.held.once("task.checkpoint", work, known).await?;
        reply!(results, outcome, |image, out| image.write(out.init_record()))
    }

    async fn logs(self: Rc<Self>, params: task::LogsParams, mut results: task::LogsResults) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let request = LogRequest::read(params.get()?.get_request()?)?;
            Ok(handle.logs(request).await?)
        };
        let outcome = self.held.call("task.logs", work).await?;
        reply!(results, outcome, |stream, out| {
            out.set_cursor(new_client(Logs { held, stream: Lent::new(Lines(stream)) }));
        })
    }
}

struct Output(mpsc::Receiver<Result<AttachRecord, Error>>);

impl Source for Output {
    type Item = AttachRecord;

    async fn next(&mut self) -> Result<Option<AttachRecord>, Error> {
        self.0.recv().await.transpose()
    }

    fn bytes(record: &AttachRecord) -> usize {
        match record {
            AttachRecord::Output { bytes, .. } => bytes.len() + RECORD_BYTES,
            AttachRecord::Missed(_) => RECORD_BYTES,
        }
    }
}

struct Attachment {
    held: Held,
    records: Lent<Output>,
}

impl attach_cursor::Server for Attachment {
    async fn next(
        self: Rc<Self>,
        params: attach_cursor::NextParams,
        mut results: attach_cursor::NextResults,
    ) -> Done {
        let max = params.get()?.get_max();
        let work = async {
            let mut records = self.records.borrow()?;
            batch(records.get(), max).await
        };
        let outcome = self.held.wait("process.attach.next", work).await?;
        reply!(results, outcome, |batch, out| {
            out.set_end(batch.end);
            write_list(&batch.items, out.init_records(length(&batch.items)));
        })
    }
}

struct Lines(LogStream);

impl Source for Lines {
    type Item = LogRecord;

    async fn next(&mut self) -> Result<Option<LogRecord>, Error> {
        self.0.recv().await.transpose()
    }

    fn bytes(record: &LogRecord) -> usize {
        record.bytes.len() + RECORD_BYTES
    }
}

struct Logs {
    held: Held,
    stream: Lent<Lines>,
}

impl log_cursor::Server for Logs {
    async fn next(
        self: Rc<Self>,
        params: log_cursor::NextParams,
        mut results: log_cursor::NextResults,
    ) -> Done {
        let max = params.get()?.get_max();
        let work = async {
            let mut stream = self.stream.borrow()?;
            batch(stream.get(), max).await
        };
        let outcome = self.held.wait("task.logs.next", work).await?;
        reply!(results, outcome, |batch, out| {
            out.set_end(batch.end);
            write_list(&batch.items, out.init_records(length(&batch.items)));
        })
    }
}
