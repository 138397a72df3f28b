//! Diff: what a snapshot changed becomes a layer in content, and a layer's files become a snapshot's (DIF-*).
//!
//! ```text
//!   diff:   intent ─▶ write_layer (ingest) ─▶ blob durable, one commit: row, intent closed
//!   apply:  intent ─▶ unpack (new directory) ─▶ one commit: the snapshot's row names the new directory, intent closed
//! ```
//!
//! Not an actor: each runs as a worker of its own, to its end, whether its client stays or not; rows go through the writers of content and of
//! snapshots. A crash finds the intent and takes it back: the ingest goes (unless its ref is the caller's), the directory goes. A diff is listed
//! among the transfers, where it can be followed and cancelled.
//!
//! DIF-6, mended: an apply unpacks beside what the snapshot has and takes its place when it is whole, so one that fails leaves the snapshot as it
//! was. Mounts that were asked for before show the old directory: ask again.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::archive::{UnpackOptions, Whiteouts};
use bosun_storage::batch::Batch;
use bosun_storage::compare::{CompareError, Compared, Source, compare_into};
use bosun_storage::compression::Compression;
use bosun_storage::content::Ingest;
use bosun_storage::image::media_type;
use bosun_storage::key;
use bosun_storage::layer::{LayerOutcome, fetch_and_unpack};
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::image::LABEL_UNCOMPRESSED;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::transfer::{TransferKind, TransferState};
use bosun_types::{Error, ErrorClass, LeaseId, NamespaceName, Result, SnapshotKey, Timestamp, labels};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Shared, SharedSnapshotter, blocking};
use crate::namespaces::DEADLINE;
use crate::operation::{self, APPLY_LAYER, Failure, MAKE_LAYER, Operation, Plan};
use crate::task::TaskHandle;
use crate::transfers::{self, Progress};
use crate::writer::write;
use crate::{content, leases, snapshots};

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
        make.progress.end(match &result {
            Ok(_) => TransferState::Done(Vec::new()),
            Err(error) => TransferState::Failed(error.clone()),
        });
        result
    })
    .await
}

/// Unpacks a layer blob into an active snapshot (DIF-1, DIF-2); the answer describes the uncompressed bytes.
pub(crate) async fn apply(
    core: &Shared,
    namespace: &NamespaceName,
    snapshotter: &SharedSnapshotter,
    key: SnapshotKey,
    layer: Descriptor,
) -> Result<Descriptor> {
    if !media_type::is_layer(&layer.media_type) {
        return Err(Error::not_implemented(format!("media type {:?} is no layer", layer.media_type)));
    }
    let blob = content::get(core, namespace, &layer.digest)?;
    if layer.size != blob.size {
        return Err(Error::invalid_argument(format!(
            "layer {}: {} bytes are asked for, the blob has {}",
            layer.digest, layer.size, blob.size
        )));
    }
    // One apply to a snapshot at a time.
    let lock = core.transfers.lock(format!("apply/{namespace}/{}/{key}", snapshotter.name())).await;
    let before = applicable(core, namespace, snapshotter, &key).await?;
    let directory = core.store.next_directory();
    let intent = Intent::ApplyLayer { snapshotter: before.snapshotter.clone(), key, directory };
    let operation = open(core, namespace, intent).await?;
    let apply = ApplyLayer {
        core: core.clone(),
        snapshotter: Arc::clone(snapshotter),
        parents: snapshots::parents_of(core, &before)?,
        before,
        directory,
        layer,
        outcome: Mutex::default(),
    };
    to_its_end(core, async move {
        let _lock = lock;
        perform(&apply.core, &operation, &apply, async { apply.record(&operation).await }).await
    })
    .await
}

/// A snapshot that a layer may be applied to: active, nobody's root, and where a layer is a difference, without changes.
async fn applicable(
    core: &Shared,
    namespace: &NamespaceName,
    snapshotter: &SharedSnapshotter,
    key: &SnapshotKey,
) -> Result<SnapshotRecord> {
    let record = snapshots::get(core, namespace, snapshotter.name(), key)?;
    let refuse = |why: String| Err(Error::failed_precondition(format!("snapshot {key}: {why}")));
    if record.kind != SnapshotKind::Active {
        return refuse("only an active one takes a layer".to_owned());
    }
    let containers: Vec<ContainerRecord> = core.store.scan(&key::within(namespace))?;
    let user = containers.iter().find(|container| {
        container.snapshot_key.as_ref() == Some(key)
            && container.snapshotter.as_deref() == Some(snapshotter.name())
    });
    if let Some(user) = user {
        return refuse(format!("container {} uses it", user.id));
    }
    if snapshotter.supports_independent_layers() {
        let (snapshotter, directory) = (Arc::clone(snapshotter), record.directory);
        if blocking(move || Ok(snapshotter.usage(directory, &[])?)).await?.inodes > 1 {
            return refuse("it has changes of its own".to_owned())
                .map_err(|error: Error| error.with_hint("commit it and prepare one above it"));
        }
    }
    Ok(record)
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

/// Unpacks a layer into the directory of an active snapshot above `parents` (nearest first), durably. Blocking.
pub(crate) fn unpack(
    core: &Core,
    snapshotter: &SharedSnapshotter,
    directory: u64,
    parents: &[u64],
    layer: &Descriptor,
) -> Result<LayerOutcome> {
    let mut options = UnpackOptions::default();
    if snapshotter.supports_independent_layers() {
        options.parents = parents.iter().map(|parent| snapshotter.layer_root(*parent)).collect();
    } else {
        options.whiteouts = Whiteouts::Remove;
    }
    let blob = core.content.open_blob(&layer.digest)?;
    let root = snapshotter.layer_root(directory);
    let outcome = fetch_and_unpack(blob, None, layer, Some((&root, &options)), &|_| ())?;
    snapshotter.sync(directory)?;
    Ok(outcome)
}

/// [`APPLY_LAYER`].
struct ApplyLayer {
    core: Shared,
    snapshotter: SharedSnapshotter,
    parents: Vec<u64>,
    /// The snapshot as it is.
    before: SnapshotRecord,
    directory: u64,
    layer: Descriptor,
    outcome: Mutex<Option<LayerOutcome>>,
}

impl ApplyLayer {
    async fn unpack(&self) -> Result<()> {
        let (core, snapshotter, layer) =
            (self.core.clone(), Arc::clone(&self.snapshotter), self.layer.clone());
        let (parents, before, directory) = (self.parents.clone(), self.before.directory, self.directory);
        let outcome = blocking(move || {
            snapshotter.ensure_no_directory(directory)?;
            // Where a layer is no difference, onto a copy of what the snapshot has.
            let below = if snapshotter.supports_independent_layers() { &parents[..] } else { &[before][..] };
            snapshotter.ensure_directory(directory, below, SnapshotKind::Active)?;
            unpack(&core, &snapshotter, directory, &parents, &layer)
        })
        .await?;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        Ok(())
    }

    async fn record(&self, operation: &OperationRecord) -> Result<Descriptor> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outcome = outcome.ok_or_else(|| Error::internal("a layer is unpacked first"))?;
        let (before, directory, operation) = (self.before.clone(), self.directory, operation.id);
        let snapshotter = Arc::clone(&self.snapshotter);
        write(&self.core, &snapshots::WRITER, DEADLINE, move |core| async move {
            let now = snapshots::get(&core, &before.namespace, &before.snapshotter, &before.key)?;
            if (now.directory, now.kind) != (before.directory, SnapshotKind::Active) {
                return Err(Error::unavailable(format!("snapshot {} was changed in the middle", before.key))
                    .with_hint("try again"));
            }
            let mut batch = Batch::new();
            batch.put(&SnapshotRecord { directory, updated_at: Timestamp::now(), ..now });
            batch.close_operation(operation);
            core.commit(batch).await?;
            let old = before.directory;
            if let Err(error) = blocking(move || Ok(snapshotter.ensure_no_directory(old)?)).await {
                // The apply is done and must not be reported as failed; recovery sweeps what no row names.
                tracing::warn!(%error, old, "a superfluous directory stays");
            }
            Ok(())
        })
        .await?;
        Ok(Descriptor {
            media_type: media_type::OCI_LAYER.to_owned(),
            digest: outcome.diff_id,
            size: outcome.size_plain,
        })
    }
}

impl Operation for ApplyLayer {
    fn plan(&self) -> &'static Plan {
        &APPLY_LAYER
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.unpack())
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        let (snapshotter, directory) = (Arc::clone(&self.snapshotter), self.directory);
        Box::pin(blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)))
    }
}
