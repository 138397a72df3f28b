//! `Transfers`, `Transfer`, `ProgressCursor`.

use std::rc::Rc;

use bosun_actors::transfers::{TransferHandle, TransfersHandle};
use bosun_protocol::Wire;
use bosun_protocol::convert::transfer::read_credential;
use bosun_protocol::convert::{length, write_list};
use bosun_protocol::transfer_capnp::{progress_cursor, transfer, transfers};
use bosun_types::transfer::{
    ExportRequest, ImportRequest, ObjectRequest, PullRequest, PushRequest, TransferKind, TransferProgress,
    TransferState,
};
use bosun_types::{ErrorClass, ImageName};
use capnp_rpc::new_client;
use tokio::sync::{mpsc, watch};

use crate::connection::{Fault, Held, about};
use crate::cursor::Lent;
use crate::page::{Wanted, paged};
use crate::reply;
use crate::sink::{Sink, send_all};

/// Chunks of an import on their way to the transfer.
const CHUNKS_WAITING_MAX: usize = 4;
/// About what a part takes in a message.
const PART_BYTES: usize = 256;

type Done = Result<(), capnp::Error>;

pub(crate) struct Transfers {
    held: Held,
    handle: TransfersHandle,
}

impl Transfers {
    pub(crate) fn new(held: Held, handle: TransfersHandle) -> Self {
        Self { held, handle }
    }
}

/// Begins a transfer: reads its request and the credential beside it, and answers with its capability. One that was done for an earlier try is shown as it ended.
macro_rules! begin {
    ($self:ident, $params:ident, $results:ident, $name:literal, $request:ty, $begin:ident, $kind:expr, $image:expr) => {{
        let held = Held::new(&$self.held)?;
        let handle = $self.handle.clone();
        let request = <$request>::read($params.get()?.get_request()?);
        let (ended, before) = ($self.handle.clone(), request.clone());
        let known = async move |_| {
            let request = before?;
            let image: Option<ImageName> = $image(&request);
            ended.done($kind, &request.reference.to_string(), image.as_ref()).await
        };
        let work = async move {
            let given = $params.get()?.get_request()?;
            let credential = read_credential(given.has_credential(), given.get_credential())?;
            let request = request?;
            about(&request.reference);
            Ok(handle.$begin(request, credential).await?)
        };
        let outcome = $self.held.once($name, work, known).await?;
        reply!($results, outcome, |handle, out| {
            out.set_id(handle.id());
            out.set_transfer(new_client(Transfer { held, handle }));
        })
    }};
}

fn pulled(request: &PullRequest) -> Option<ImageName> {
    request.reference.image_name().ok()
}

fn pushed(request: &PushRequest) -> Option<ImageName> {
    request.image.clone().or_else(|| request.reference.image_name().ok())
}

/// An object alone is no image.
fn no_image(_: &ObjectRequest) -> Option<ImageName> {
    None
}

impl transfers::Server for Transfers {
    async fn pull(
        self: Rc<Self>,
        params: transfers::PullParams,
        mut results: transfers::PullResults,
    ) -> Done {
        begin!(self, params, results, "transfer.pull", PullRequest, pull, TransferKind::Pull, pulled)
    }

    async fn push(
        self: Rc<Self>,
        params: transfers::PushParams,
        mut results: transfers::PushResults,
    ) -> Done {
        begin!(self, params, results, "transfer.push", PushRequest, push, TransferKind::Push, pushed)
    }

    async fn fetch_object(
        self: Rc<Self>,
        params: transfers::FetchObjectParams,
        mut results: transfers::FetchObjectResults,
    ) -> Done {
        begin!(
            self,
            params,
            results,
            "transfer.fetch_object",
            ObjectRequest,
            fetch_object,
            TransferKind::FetchObject,
            no_image
        )
    }

    async fn push_object(
        self: Rc<Self>,
        params: transfers::PushObjectParams,
        mut results: transfers::PushObjectResults,
    ) -> Done {
        begin!(
            self,
            params,
            results,
            "transfer.push_object",
            ObjectRequest,
            push_object,
            TransferKind::PushObject,
            no_image
        )
    }

    async fn import_archive(
        self: Rc<Self>,
        params: transfers::ImportArchiveParams,
        mut results: transfers::ImportArchiveResults,
    ) -> Done {
        let (held, sink_held) = (Held::new(&self.held)?, Held::new(&self.held)?);
        let handle = self.handle.clone();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let work = async move {
            let request = ImportRequest::read(params.get()?.get_request()?)?;
            Ok(handle.import(request, receiver).await?)
        };
        let outcome = self.held.call("transfer.import", work).await?;
        reply!(results, outcome, |handle, out| {
            out.set_id(handle.id());
            let abandoned = handle.clone();
            let sink = Sink::new(sink_held, sender, async move {
                if let Err(error) = abandoned.cancel().await {
                    tracing::debug!(%error, "an import that its client left was not cancelled");
                }
            });
            out.set_sink(new_client(sink));
            out.set_transfer(new_client(Transfer { held, handle }));
        })
    }

    async fn export_archive(
        self: Rc<Self>,
        params: transfers::ExportArchiveParams,
        mut results: transfers::ExportArchiveResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let params = params.get()?;
            let request = ExportRequest::read(params.get_request()?)?;
            let sink = params.get_sink()?;
            let (transfer, bytes) = handle.export(&request).await?;
            Ok((transfer, bytes, sink))
        };
        let outcome = self.held.call("transfer.export", work).await?;
        reply!(results, outcome, |(handle, bytes, sink), out| {
            let whole = handle.clone();
            tokio::task::spawn_local(send_all(bytes, sink, async move { whole.wait().await.is_ok() }));
            out.set_id(handle.id());
            out.set_transfer(new_client(Transfer { held, handle }));
        })
    }

    async fn list(
        self: Rc<Self>,
        params: transfers::ListParams,
        mut results: transfers::ListResults,
    ) -> Done {
        let handle = self.handle.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(
                handle.list().await,
                &wanted,
                |progress| format!("{:020}", progress.id),
                |progress| progress.parts.len() * PART_BYTES + 512,
            )
        };
        let outcome = self.held.call("transfer.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_transfers(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn get(self: Rc<Self>, params: transfers::GetParams, mut results: transfers::GetResults) -> Done {
        let held = Held::new(&self.held)?;
        let handle = self.handle.clone();
        let work = async move {
            let id = params.get()?.get_id();
            Ok(handle.get(id).await?)
        };
        let outcome = self.held.call("transfer.get", work).await?;
        reply!(results, outcome, |handle, out| out.set_transfer(new_client(Transfer { held, handle })))
    }
}

struct Transfer {
    held: Held,
    handle: TransferHandle,
}

impl transfer::Server for Transfer {
    async fn progress(
        self: Rc<Self>,
        _: transfer::ProgressParams,
        mut results: transfer::ProgressResults,
    ) -> Done {
        self.handle.progress().write(results.get().init_progress());
        Ok(())
    }

    async fn watch(self: Rc<Self>, _: transfer::WatchParams, mut results: transfer::WatchResults) -> Done {
        let held = Held::new(&self.held)?;
        let mut states = self.handle.watch();
        states.mark_changed();
        results.get().set_cursor(new_client(Cursor { held, states: Lent::new(states) }));
        Ok(())
    }

    async fn wait(self: Rc<Self>, _: transfer::WaitParams, mut results: transfer::WaitResults) -> Done {
        let handle = self.handle.clone();
        let outcome = self.held.wait("transfer.wait", async move { Ok(handle.wait().await?) }).await?;
        reply!(results, outcome, |images, out| write_list(&images, out.init_images(length(&images))))
    }

    async fn cancel(self: Rc<Self>, _: transfer::CancelParams, mut results: transfer::CancelResults) -> Done {
        let (handle, again) = (self.handle.clone(), self.held.is_again());
        let work = async move {
            match handle.cancel().await {
                // The first try has cancelled it.
                Err(error) if again && error.class == ErrorClass::FailedPrecondition => Ok(()),
                cancelled => Ok(cancelled?),
            }
        };
        let outcome = self.held.call("transfer.cancel", work).await?;
        reply!(results, outcome)
    }
}

struct Cursor {
    held: Held,
    states: Lent<watch::Receiver<TransferProgress>>,
}

impl progress_cursor::Server for Cursor {
    async fn next(
        self: Rc<Self>,
        _: progress_cursor::NextParams,
        mut results: progress_cursor::NextResults,
    ) -> Done {
        let work = async {
            let mut states = self.states.borrow()?;
            let states = states.get();
            if states.changed().await.is_err() {
                return Ok((None, true));
            }
            let progress = states.borrow_and_update().clone();
            let end = !matches!(progress.state, TransferState::Running);
            Ok::<_, Fault>((Some(progress), end))
        };
        let outcome = self.held.wait("transfer.watch", work).await?;
        reply!(results, outcome, |(progress, end), out| {
            out.set_end(end);
            if let Some(progress) = progress {
                progress.write(out.init_progress());
            }
        })
    }
}
