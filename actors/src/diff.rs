//! Diff: what a snapshot changed becomes a layer in content, and a layer's files become a snapshot's (DIF-*).
//!
//! ```text
//!   diff:   intent ─▶ write_layer (ingest) ─▶ blob durable, one commit: row, intent closed
//!   apply:  intent ─▶ unpack (new directory) ─▶ one commit: the snapshot's row names the new directory, intent closed
//! ```
//!
//! Not an actor: each runs as a worker of its own, to its end, whether its client stays or not; rows go through the writers of content and of
//! snapshots. A crash finds the intent and takes it back: the ingest goes (unless its ref is the caller's), the directory goes. Both are listed
//! among the transfers, where they can be followed and cancelled.
//!
//! DIF-6, mended: an apply unpacks beside what the snapshot has and takes its place when it is whole, so one that fails leaves the snapshot as it
//! was ([`apply`]). Mounts that were asked for before show the old directory: ask again.

mod apply;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::compare::{CompareError, Compared, Source, compare_into};
use bosun_storage::compression::Compression;
use bosun_storage::content::Ingest;
use bosun_storage::image::media_type;
use bosun_types::content::Descriptor;
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::image::LABEL_UNCOMPRESSED;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::transfer::{TransferKind, TransferState};
use bosun_types::{Error, ErrorClass, LeaseId, NamespaceName, Result, Timestamp, labels};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::core::{Shared, SharedSnapshotter, blocking};
use crate::namespaces::DEADLINE;
use crate::operation::{self, Failure, MAKE_LAYER, Operation, Plan};
use crate::task::TaskHandle;
use crate::transfers::{self, Progress};
use crate::writer::write;
use crate::{content, leases, snapshots};

pub(crate) use apply::{apply, unpack};

/// Bytes of randomness in a ref of our own.
const REFERENCE_RANDOM_BYTES: usize = 8;

/// What `right` has and `left` has not, as a blob (DIF-3, DIF-4).
pub(crate) async fn diff(
    core: &Shared,
    namespace: &NamespaceName,
    lease: Option<LeaseId>,
    snapshotter: &SharedSnapshotter,
    request: DiffRequest,
) -> Result<LayerDiff> {
    labels::validate(&request.labels)?;
    let compression = media_type::compression_of_new_layer(&request.media_type).ok_or_else(|| {
        Error::not_implemented(format!("a layer of media type {:?} is not made", request.media_type))
            .with_hint(format!("OCI layers are: {}, with +gzip or +zstd", media_type::OCI_LAYER))
    })?;
    let right = snapshots::get(core, namespace, snapshotter.name(), &request.right)?;
    let left = match request.left.as_ref().or(right.parent.as_ref()) {
        Some(key) => Some(snapshots::get(core, namespace, snapshotter.name(), key)?),
        None => None,
    };
    let (reference, keep) = match request.reference.clone() {
        Some(reference) => (reference, true),
        None => (own_reference()?, false),
    };
    let (core, namespace, snapshotter) = (core.clone(), namespace.clone(), Arc::clone(snapshotter));
    to_its_end(&core.clone(), async move {
        let subject = format!("{}/{}", snapshotter.name(), request.right);
        let (progress, cancel) = transfers::follow(&core, &namespace, TransferKind::Diff, &subject)?;
        let trees = Trees { left, right };
        let made = Mutex::default();
        let make = MakeLayer {
            core,
            namespace,
            lease,
            snapshotter,
            trees,
            compression,
            reference,
            keep,
            progress,
            cancel,
            made,
        };
        let result = match &request.freeze {
            None => make.run(&request).await,
            Some(container) => {
                let task = TaskHandle::new(make.core.clone(), make.namespace.clone(), container.clone());
                task.frozen_during(make.run(&request)).await
            }
        };
        tell_end(&make.progress, &result);
        result
    })
    .await
}

/// Tells the followers.
fn tell_end<T>(progress: &Progress, result: &Result<T>) {
    progress.end(match result {
        Ok(_) => TransferState::Done(Vec::new()),
        Err(error) => TransferState::Failed(error.clone()),
    });
}

fn own_reference() -> Result<String> {
    let mut bytes = [0u8; REFERENCE_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
    Ok(format!("{}-{:016x}", Timestamp::now().0, u64::from_ne_bytes(bytes)))
}

async fn open(core: &Shared, namespace: &NamespaceName, intent: Intent) -> Result<OperationRecord> {
    let operation = operation::record(core, namespace, intent);
    let mut batch = Batch::new();
    batch.open_operation(&operation);
    core.commit(batch).await?;
    Ok(operation)
}

/// On the daemon's own runtime: a client that leaves does not end it.
pub(crate) async fn to_its_end<T: Send + 'static>(
    core: &Shared,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ended = core.runtime.spawn(work).await;
    ended.unwrap_or_else(|error| Err(Error::internal(format!("a worker failed: {error}"))))
}

/// The steps, then the commit; a failure of either takes everything back.
async fn perform<T>(
    core: &Shared,
    operation: &OperationRecord,
    steps: &dyn Operation,
    record: impl Future<Output = Result<T>>,
) -> Result<T> {
    if let Err(failure) = operation::perform(steps).await {
        return Err(operation::close_failed(core, operation, failure, |_| ()).await);
    }
    match record.await {
        Ok(done) => Ok(done),
        Err(error) => {
            let failure = match operation::undo_all(steps).await {
                Ok(()) => Failure::Undone(error),
                Err(undo) => Failure::Stuck { cause: error, undo },
            };
            Err(operation::close_failed(core, operation, failure, |_| ()).await)
        }
    }
}

/// Removes an ingest of a diff, unless its ref is the caller's; none there is success.
pub(crate) async fn ensure_no_ingest(
    core: &Shared,
    namespace: &NamespaceName,
    reference: &str,
    keep: bool,
) -> Result<()> {
    if keep {
        return Ok(());
    }
    let (store, namespace, reference) = (core.content.clone(), namespace.clone(), reference.to_owned());
    blocking(move || match store.abort(&namespace, &reference).map_err(Error::from) {
        Err(error) if error.class != ErrorClass::NotFound => Err(error),
        _ => Ok(()),
    })
    .await
}

/// What is compared.
#[derive(Clone)]
pub(crate) struct Trees {
    pub left: Option<SnapshotRecord>,
    pub right: SnapshotRecord,
}

impl Trees {
    /// Whether the right one's own directory is the difference already.
    fn is_child(&self) -> bool {
        self.right.kind != SnapshotKind::View
            && self.right.parent.as_ref() == self.left.as_ref().map(|left| &left.key)
    }

    /// Writes what the right one has and the left one has not as a layer. Blocking.
    pub(crate) fn write_difference(
        &self,
        core: &Shared,
        snapshotter: &SharedSnapshotter,
        compression: Compression,
        ingest: &mut Ingest,
        progress: &dyn Fn(u64) -> io::Result<()>,
    ) -> Result<Compared> {
        ingest.restart()?;
        if snapshotter.supports_independent_layers() && self.is_child() {
            let upper = Source::overlay(&snapshotter.layer_root(self.right.directory))?;
            match compare_into(upper, compression, ingest, progress) {
                Err(CompareError::Partial { path, attribute }) => {
                    tracing::info!(path, attribute, "the writable directory is not the whole difference");
                }
                other => return Ok(other?),
            }
            ingest.restart()?;
        }
        let source = self.mounted(core, snapshotter)?;
        Ok(compare_into(source, compression, ingest, progress)?)
    }

    /// Both as they are seen when mounted.
    fn mounted(&self, core: &Shared, snapshotter: &SharedSnapshotter) -> Result<Source> {
        let open = |record: &SnapshotRecord| {
            let parents = snapshots::parents_of(core, record)?;
            core.host.open_mounts(&snapshotter.mounts(record.directory, &parents, record.kind)?)
        };
        Ok(Source::Trees { lower: self.left.as_ref().map(open).transpose()?, upper: open(&self.right)? })
    }
}

/// [`MAKE_LAYER`].
struct MakeLayer {
    core: Shared,
    namespace: NamespaceName,
    /// Holds the layer.
    lease: Option<LeaseId>,
    snapshotter: SharedSnapshotter,
    trees: Trees,
    compression: Compression,
    reference: String,
    keep: bool,
    progress: Progress,
    cancel: CancellationToken,
    made: Mutex<Option<(Ingest, Compared)>>,
}

impl MakeLayer {
    fn take(&self) -> Option<(Ingest, Compared)> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn run(&self, request: &DiffRequest) -> Result<LayerDiff> {
        let intent = Intent::MakeLayer {
            snapshotter: self.snapshotter.name().to_owned(),
            key: request.right.clone(),
            reference: self.reference.clone(),
            keep: self.keep,
        };
        let operation = open(&self.core, &self.namespace, intent).await?;
        perform(&self.core, &operation, self, async { self.record(request, &operation).await }).await
    }

    async fn write_layer(&self) -> Result<()> {
        // Repeated, the first one's lock goes first.
        drop(self.take());
        let (core, namespace, reference) =
            (self.core.clone(), self.namespace.clone(), self.reference.clone());
        let (snapshotter, trees, compression) =
            (Arc::clone(&self.snapshotter), self.trees.clone(), self.compression);
        let (progress, cancel) = (self.progress.clone(), self.cancel.clone());
        let made = blocking(move || {
            let mut ingest = core.content.begin(&namespace, &reference, 0, None)?;
            let passed = |bytes| {
                progress.passed(bytes);
                if cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
            };
            let compared = trees.write_difference(&core, &snapshotter, compression, &mut ingest, &passed)?;
            Ok((ingest, compared))
        })
        .await;
        let made = match made {
            Err(_) if self.cancel.is_cancelled() => Err(Error::cancelled("the diff was cancelled")),
            made => made,
        }?;
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(())
    }

    async fn record(&self, request: &DiffRequest, operation: &OperationRecord) -> Result<LayerDiff> {
        let (ingest, compared) = self.take().ok_or_else(|| Error::internal("a layer is written first"))?;
        let media_type = match request.media_type.as_str() {
            "" => media_type::OCI_LAYER_GZIP,
            given => given,
        };
        let layer =
            Descriptor { media_type: media_type.to_owned(), digest: compared.digest, size: compared.size };
        let mut labels = request.labels.clone();
        if self.compression != Compression::None {
            labels.insert(LABEL_UNCOMPRESSED.to_owned(), compared.diff_id.to_string());
        }
        let record = content::record_of(&self.namespace, &layer, labels);
        let (namespace, operation, lease) = (self.namespace.clone(), operation.id, self.lease.clone());
        write(&self.core, &content::WRITER, DEADLINE, move |core| async move {
            blocking(move || Ok(ingest.commit(compared.size, Some(&compared.digest))?)).await?;
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &namespace)?;
            content::put_or_extend(&core, &mut batch, record)?;
            let made = [leases::blob(&compared.digest)];
            leases::extend(&core, &mut batch, &namespace, lease.as_ref(), made)?;
            batch.close_operation(operation);
            core.commit(batch).await?;
            Ok(LayerDiff { layer, diff_id: compared.diff_id })
        })
        .await
    }
}

impl Operation for MakeLayer {
    fn plan(&self) -> &'static Plan {
        &MAKE_LAYER
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.write_layer())
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        drop(self.take());
        Box::pin(ensure_no_ingest(&self.core, &self.namespace, &self.reference, self.keep))
    }
}
