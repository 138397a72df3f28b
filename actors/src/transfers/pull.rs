//! Pulling: a logged operation that goes on without its client, and again after a crash.

use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::platform::Platform;
use bosun_types::transfer::{PartStatus, PullRequest, TransferState};
use bosun_types::{Error, NamespaceName, Result};
use futures::future::BoxFuture;

use super::documents::{self, Documents};
use super::layers::{self, Layers, Remote, Work};
use super::progress::Progress;
use super::record::{self, Finished};
use super::{Added, TransferHandle};
use crate::core::{Shared, blocking};
use crate::operation::{self, Operation, PULL, Plan};

/// Logs the intent and starts the worker, or joins the equal pull that runs.
pub(crate) async fn start(
    core: &Shared,
    namespace: &NamespaceName,
    request: PullRequest,
) -> Result<TransferHandle> {
    bosun_types::labels::validate(&request.labels)?;
    request.reference.object()?;
    if let Some(snapshotter) = &request.unpack {
        core.snapshotter(snapshotter)?;
    }
    let id = core.store.next_transfer();
    let (handle, progress) =
        match core.transfers.add(id, namespace, Some(&request), &request.reference.to_string())? {
            Added::Joined(handle) => return Ok(handle),
            Added::New(handle, progress) => (handle, progress),
        };
    let operation =
        operation::record(core, namespace, Intent::Pull { transfer: id, request: request.clone() });
    let mut batch = Batch::new();
    batch.open_operation(&operation);
    if let Err(error) = core.commit(batch).await {
        progress.end(TransferState::Failed(error.clone()));
        return Err(error);
    }
    spawn(core, namespace, request, operation, &handle, progress);
    Ok(handle)
}

/// An open intent found after a crash: run again from the start, on what is there.
pub(crate) async fn resume(core: &Shared, operation: OperationRecord) -> Result<()> {
    let Intent::Pull { transfer, request } = operation.intent.clone() else {
        return Err(Error::internal(format!("{} is no pull", operation.id)));
    };
    let namespace = operation.namespace.clone();
    match core.transfers.add(transfer, &namespace, Some(&request), &request.reference.to_string())? {
        // A client asked for the same again before we got here: that one does it, and this intent is over.
        Added::Joined(_) => {
            let mut batch = Batch::new();
            batch.close_operation(operation.id);
            core.commit(batch).await.map(drop)
        }
        Added::New(handle, progress) => {
            spawn(core, &namespace, request, operation, &handle, progress);
            Ok(())
        }
    }
}

fn spawn(
    core: &Shared,
    namespace: &NamespaceName,
    request: PullRequest,
    operation: OperationRecord,
    handle: &TransferHandle,
    progress: Progress,
) {
    let runtime = core.runtime.clone();
    let (core, namespace, cancel) = (core.clone(), namespace.clone(), handle.cancel.clone());
    runtime.spawn(async move {
        let remote = Remote { reference: request.reference.clone(), plain_http: request.plain_http };
        let snapshotter = request.unpack.as_deref().and_then(|name| core.snapshotter(name).ok());
        let work = Work {
            core: core.clone(),
            namespace,
            snapshotter,
            remote: Some(remote),
            progress: progress.clone(),
            cancel,
            made: Arc::default(),
        };
        let state = match run(work, request, &operation).await {
            Ok(images) => TransferState::Done(images),
            Err(error) => TransferState::Failed(error),
        };
        progress.end(state);
    });
}

async fn run(work: Work, request: PullRequest, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
    let core = work.core.clone();
    let pull = Pull { work, request, found: Mutex::default() };
    if let Err(failure) = operation::perform(&pull).await {
        return Err(operation::close_failed(&core, operation, failure, |_| ()).await);
    }
    match pull.record(operation).await {
        Ok(images) => Ok(images),
        Err(error) => {
            // Nothing of the commit is there: take back what it would have named.
            let failure = match operation::undo_all(&pull).await {
                Ok(()) => operation::Failure::Undone(error),
                Err(undo) => operation::Failure::Stuck { cause: error, undo },
            };
            Err(operation::close_failed(&core, operation, failure, |_| ()).await)
        }
    }
}

/// [`PULL`].
struct Pull {
    work: Work,
    request: PullRequest,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    target: Option<Descriptor>,
    documents: Option<Arc<Documents>>,
    layers: Option<Layers>,
}

impl Pull {
    fn set(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn target(&self) -> Result<Descriptor> {
        let target = self.found.lock().unwrap_or_else(PoisonError::into_inner).target.clone();
        target.ok_or_else(|| Error::internal("a pull resolves first"))
    }

    async fn resolve(&self) -> Result<()> {
        let resolve = self.work.core.registry.resolve(&self.request.reference, self.request.plain_http);
        let target = self.work.unless_cancelled(resolve).await?;
        self.set(|found| found.target = Some(target));
        Ok(())
    }

    async fn fetch_documents(&self) -> Result<()> {
        let platform = self.request.platform.clone().unwrap_or_else(Platform::host);
        let documents = documents::collect(&self.target()?, &platform, &|descriptor, most| {
            Box::pin(self.document(descriptor, most))
        })
        .await?;
        self.set(|found| found.documents = Some(Arc::new(documents)));
        Ok(())
    }

    /// A small blob: from content, else from the registry into content.
    async fn document(&self, descriptor: Descriptor, bytes_max: usize) -> Result<Vec<u8>> {
        let kind = if descriptor.media_type.contains("index") || descriptor.media_type.contains("list") {
            "index"
        } else if descriptor.media_type.contains("manifest") {
            "manifest"
        } else {
            "config"
        };
        let part = self.work.progress.part(kind, &descriptor);
        let content = self.work.core.content.clone();
        if content.has_blob(&descriptor.digest) {
            let bytes = blocking(move || Ok(content.read_blob(&descriptor.digest, bytes_max)?)).await?;
            part.set(PartStatus::Exists);
            return Ok(bytes);
        }
        part.set(PartStatus::Downloading);
        let (registry, request) = (&self.work.core.registry, &self.request);
        let fetch = registry.fetch_bytes(&request.reference, &descriptor, request.plain_http);
        let bytes = self.work.unless_cancelled(fetch).await?;
        let _blob = self.work.core.transfers.lock(format!("blob/{}", descriptor.digest)).await;
        let (namespace, reference) = (self.work.namespace.clone(), format!("{kind}-{}", descriptor.digest));
        let bytes = blocking(move || {
            if content.has_blob(&descriptor.digest) {
                return Ok(bytes);
            }
            let mut ingest =
                content.begin(&namespace, &reference, descriptor.size, Some(descriptor.digest))?;
            if ingest.offset() > 0 {
                ingest.restart()?;
            }
            ingest.write(&bytes)?;
            ingest.commit(descriptor.size, Some(&descriptor.digest))?;
            Ok(bytes)
        })
        .await?;
        part.set(PartStatus::Done);
        Ok(bytes)
    }

    async fn fetch_layers(&self) -> Result<()> {
        // Repeated, the first pass's locks and directories go first.
        let documents = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.layers = None;
            found.documents.clone().ok_or_else(|| Error::internal("a pull has its documents first"))?
        };
        self.work.remove_made().await?;
        let layers = layers::all(&self.work, &documents).await?;
        self.set(|found| found.layers = Some(layers));
        Ok(())
    }

    async fn record(&self, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
        let target = self.target()?;
        let (documents, layers) = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            (found.documents.take(), found.layers.take())
        };
        let documents =
            documents.and_then(Arc::into_inner).ok_or_else(|| Error::internal("a pull has its documents"))?;
        let layers = layers.ok_or_else(|| Error::internal("a pull has its layers"))?;
        let finished = Finished {
            names: vec![self.request.reference.image_name()?],
            target,
            labels: self.request.labels.clone(),
            documents,
            layers,
        };
        record::commit(&self.work, vec![finished], Some(operation.id)).await
    }
}

impl Operation for Pull {
    fn plan(&self) -> &'static Plan {
        &PULL
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.resolve()),
            1 => Box::pin(self.fetch_documents()),
            _ => Box::pin(self.fetch_layers()),
        }
    }

    /// Bytes stay, to be resumed; directories go.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.work.remove_made())
    }
}
