//! `Containers` and `Container`.

use std::rc::Rc;

use bosun_actors::containers::{ContainerHandle, ContainersHandle, DeleteOptions};
use bosun_actors::copies::CopyHandle;
use bosun_protocol::Wire;
use bosun_protocol::container_capnp::{container, containers, copy};
use bosun_protocol::convert::{length, read_parsed, read_text, read_texts, write_list};
use bosun_types::container::ContainerRecord;
use bosun_types::copy::{CopyIn, CopyOut};
use bosun_types::relaunch::{RestartPolicy, StopRequest};
use bosun_types::spec::{ContainerRequest, SpecOptions};
use bosun_types::task::TaskRequest;
use bosun_types::{ContainerId, Error};
use capnp_rpc::new_client;
use tokio::sync::mpsc;

use crate::connection::{Held, about, nothing};
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;
use crate::sink::{Sink, send_all};
use crate::task::Task;

/// Chunks of a copy on their way to the container.
const CHUNKS_WAITING_MAX: usize = 4;

pub(crate) struct Containers {
    held: Held,
    handle: ContainersHandle,
}

impl Containers {
    pub(crate) fn new(held: Held, handle: ContainersHandle) -> Self {
        Self { held, handle }
    }
}

type Done = Result<(), capnp::Error>;

/// About what a record takes in a message.
fn record_bytes(record: &ContainerRecord) -> usize {
    let extensions: usize = record
        .extensions
        .iter()
        .map(|(key, any)| key.len() + any.type_url.len() + any.value.len() + 64)
        .sum();
    record.spec.len() + label_bytes(&record.labels) + extensions + 512
}

impl containers::Server for Containers {
    async fn create(
        self: Rc<Self>,
        params: containers::CreateParams,
        mut results: containers::CreateResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let request = ContainerRequest::read(params.get()?.get_request()?);
        let made = request.clone().map(|request| self.handle.get(request.id));
        let work = async move {
            let request = request?;
            about(&request.id);
            Ok(handle.create(request).await?)
        };
        let known = async move |_| made?.record().await;
        let outcome = self.held.once("container.create", work, known).await?;
        reply!(results, outcome, |record, out| {
            let made = self.handle.get(record.id.clone());
            record.write(out.reborrow().init_record());
            out.set_container(new_client(Container { held: held.about(&record.id), handle: made }));
        })
    }

    async fn list(
        self: Rc<Self>,
        params: containers::ListParams,
        mut results: containers::ListResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(handle.list().await, &wanted, |record| record.id.to_string(), record_bytes)
        };
        let outcome = self.held.call("container.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn build_spec(
        self: Rc<Self>,
        params: containers::BuildSpecParams,
        mut results: containers::BuildSpecResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let options = SpecOptions::read(params.get_options()?)?;
            Ok(handle.build_spec(read_parsed(params.get_id())?, options).await?)
        };
        let outcome = self.held.call("container.build_spec", work).await?;
        reply!(results, outcome, |spec, out| out.set_spec(&spec))
    }

    async fn get(self: Rc<Self>, params: containers::GetParams, mut results: containers::GetResults) -> Done {
        let held = Held::new(&self.held)?;
        let outcome: Result<ContainerId, Error> = read_parsed(params.get()?.get_id());
        reply!(results, outcome, |id, out| {
            out.set_container(new_client(Container { held: held.about(&id), handle: self.handle.get(id) }));
        }, else set_container)
    }
}

pub(crate) struct Container {
    held: Held,
    handle: ContainerHandle,
}

impl container::Server for Container {
    async fn record(
        self: Rc<Self>,
        _: container::RecordParams,
        mut results: container::RecordResults,
    ) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.call("container.record", async move { Ok(handle.record().await?) }).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn update(
        self: Rc<Self>,
        params: container::UpdateParams,
        mut results: container::UpdateResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let record = ContainerRecord::read(params.get_record()?)?;
            Ok(handle.update(record, read_texts(params.get_paths())?).await?)
        };
        let made = self.handle.clone();
        let outcome = self.held.once("container.update", work, async move |_| made.record().await).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete(
        self: Rc<Self>,
        params: container::DeleteParams,
        mut results: container::DeleteResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let snapshot = params.get()?.get_snapshot();
            Ok(handle.delete(DeleteOptions { snapshot }).await?)
        };
        let outcome = self.held.once("container.delete", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn create_task(
        self: Rc<Self>,
        params: container::CreateTaskParams,
        mut results: container::CreateTaskResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let request = TaskRequest::read(params.get()?.get_request()?)?;
            let task = handle.create_task(request).await?;
            let info = task.info().await?;
            Ok((task, info))
        };
        let made = self.handle.task();
        let known = async move |_| {
            let info = made.info().await?;
            Ok((made, info))
        };
        let outcome = self.held.once("task.create", work, known).await?;
        reply!(results, outcome, |(task, info), out| {
            info.write(out.reborrow().init_info());
            out.set_task(new_client(Task::new(held, task)));
        })
    }

    async fn start(self: Rc<Self>, _: container::StartParams, mut results: container::StartResults) -> Done {
        let handle = self.handle.clone();
        let begun = self.handle.clone();
        let work = async move { Ok(handle.start().await?) };
        let outcome = self.held.once("container.start", work, async move |_| begun.started().await).await?;
        reply!(results, outcome, |pid, out| out.set_pid(pid))
    }

    async fn stop(
        self: Rc<Self>,
        params: container::StopParams,
        mut results: container::StopResults,
    ) -> Done {
        let handle = self.handle.clone();
        let request = StopRequest::read(params.get()?.get_request()?);
        let (begun, before) = (self.handle.clone(), request.clone());
        let known = async move |_| begun.stopped(before?).await;
        let work = async move { Ok(handle.stop(request?).await?) };
        let outcome = self.held.once("container.stop", work, known).await?;
        reply!(results, outcome, |exit, out| {
            if let Some(exit) = exit {
                exit.write(out.init_exit());
            }
        })
    }

    async fn restart(
        self: Rc<Self>,
        params: container::RestartParams,
        mut results: container::RestartResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let request = StopRequest::read(params.get()?.get_request()?)?;
            Ok(handle.restart(request).await?)
        };
        let begun = self.handle.clone();
        let outcome = self.held.once("container.restart", work, async move |_| begun.started().await).await?;
        reply!(results, outcome, |pid, out| out.set_pid(pid))
    }

    async fn relaunch(
        self: Rc<Self>,
        _: container::RelaunchParams,
        mut results: container::RelaunchResults,
    ) -> Done {
        let handle = self.handle.clone();
        let outcome =
            self.held.call("container.relaunch", async move { Ok(handle.relaunch().await?) }).await?;
        reply!(results, outcome, |info, out| {
            if let Some(info) = info {
                info.write(out.init_info());
            }
        })
    }

    async fn set_restart_policy(
        self: Rc<Self>,
        params: container::SetRestartPolicyParams,
        mut results: container::SetRestartPolicyResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let policy = RestartPolicy::read(params.get()?.get_policy()?)?;
            Ok(handle.set_restart_policy(policy).await?)
        };
        let outcome = self.held.once("container.set_restart_policy", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn task(self: Rc<Self>, _: container::TaskParams, mut results: container::TaskResults) -> Done {
        let task = Task::new(Held::new(&self.held)?, self.handle.task());
        results.get().set_task(new_client(task));
        Ok(())
    }

    async fn stat_path(
        self: Rc<Self>,
        params: container::StatPathParams,
        mut results: container::StatPathResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            Ok(handle.stat_path(read_text(params.get_path())?, params.get_follow()).await?)
        };
        let outcome = self.held.call("container.stat_path", work).await?;
        reply!(results, outcome, |info, out| info.write(out.init_info()))
    }

    async fn copy_out(
        self: Rc<Self>,
        params: container::CopyOutParams,
        mut results: container::CopyOutResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let request = CopyOut::read(params.get_request()?)?;
            let sink = params.get_sink()?;
            let (copy, bytes) = handle.copy_out(request).await?;
            Ok((copy, bytes, sink))
        };
        let outcome = self.held.call("container.copy_out", work).await?;
        reply!(results, outcome, |(handle, bytes, sink), out| {
            let whole = handle.clone();
            tokio::task::spawn_local(send_all(bytes, sink, async move { whole.wait().await.is_ok() }));
            out.set_copy(new_client(Copy { held, handle }));
        })
    }

    async fn copy_in(
        self: Rc<Self>,
        params: container::CopyInParams,
        mut results: container::CopyInResults,
    ) -> Done {
        let (held, sink_held) = (Held::new(&self.held)?, Held::new(&self.held)?);
        let handle = self.handle.clone();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let work = async move {
            let request = CopyIn::read(params.get()?.get_request()?)?;
            Ok(handle.copy_in(request, receiver).await?)
        };
        let outcome = self.held.call("container.copy_in", work).await?;
        reply!(results, outcome, |handle, out| {
            let abandoned = handle.clone();
            out.set_sink(new_client(Sink::new(sink_held, sender, async move { abandoned.cancel() })));
            out.set_copy(new_client(Copy { held, handle }));
        })
    }
}

struct Copy {
    held: Held,
    handle: CopyHandle,
}

impl copy::Server for Copy {
    async fn wait(self: Rc<Self>, _: copy::WaitParams, mut results: copy::WaitResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.wait("copy.wait", async move { Ok(handle.wait().await?) }).await?;
        reply!(results, outcome, |copied, out| copied.write(out.init_copied()))
    }
}
