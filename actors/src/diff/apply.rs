//! Apply: a layer's files become an active snapshot's, all of them or none (DIF-1, DIF-2, DIF-6).
//!
//! Owns nothing: the intent is the record of it, the new directory is named by no row until the commit, and goes when the apply fails, is
//! cancelled, or is found open after a crash.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::archive::{UnpackOptions, Whiteouts};
use bosun_storage::batch::Batch;
use bosun_storage::image::media_type;
use bosun_storage::key;
use bosun_storage::layer::{LayerOutcome, fetch_and_unpack};
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::transfer::{PartStatus, TransferKind};
use bosun_types::{Error, NamespaceName, Result, SnapshotKey, Timestamp};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{open, perform, tell_end, to_its_end};
use crate::core::{Core, Shared, SharedSnapshotter, blocking};
use crate::namespaces::DEADLINE;
use crate::operation::{APPLY_LAYER, Operation, Plan};
use crate::transfers::{self, Part};
use crate::writer::write;
use crate::{content, snapshots};

/// Unpacks a layer blob into an active snapshot; the answer describes the uncompressed bytes.
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
    let (core, namespace, snapshotter) = (core.clone(), namespace.clone(), Arc::clone(snapshotter));
    to_its_end(&core.clone(), async move {
        let subject = format!("{}/{key}", snapshotter.name());
        // One apply to a snapshot at a time.
        let _lock = core.transfers.lock(format!("apply/{namespace}/{subject}")).await;
        let before = applicable(&core, &namespace, &snapshotter, &key).await?;
        let parents = snapshots::parents_of(&core, &before)?;
        let (progress, cancel) = transfers::follow(&core, &namespace, TransferKind::Apply, &subject)?;
        let apply = ApplyLayer {
            directory: core.store.next_directory(),
            part: progress.part("layer", &layer),
            outcome: Mutex::default(),
            core,
            snapshotter,
            parents,
            before,
            layer,
            cancel,
        };
        let result = apply.run().await;
        tell_end(&progress, &result);
        result
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

/// A layer's bytes, until nobody wants them any more.
struct Wanted<R> {
    inner: R,
    cancel: CancellationToken,
}

impl<R: Read> Read for Wanted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.inner.read(buffer)
    }
}

/// Unpacks a layer into the directory of an active snapshot above `parents` (nearest first), durably. Blocking.
pub(crate) fn unpack(
    core: &Core,
    snapshotter: &SharedSnapshotter,
    directory: u64,
    parents: &[u64],
    layer: &Descriptor,
    progress: &(dyn Fn(u64) + Sync),
    cancel: &CancellationToken,
) -> Result<LayerOutcome> {
    let mut options = UnpackOptions::default();
    if snapshotter.supports_independent_layers() {
        options.parents = parents.iter().map(|parent| snapshotter.layer_root(*parent)).collect();
    } else {
        options.whiteouts = Whiteouts::Remove;
    }
    let blob = Wanted { inner: core.content.open_blob(&layer.digest)?, cancel: cancel.clone() };
    let root = snapshotter.layer_root(directory);
    let outcome = fetch_and_unpack(blob, None, layer, Some((&root, &options)), progress)?;
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
    part: Part,
    cancel: CancellationToken,
    outcome: Mutex<Option<LayerOutcome>>,
}

impl ApplyLayer {
    async fn run(&self) -> Result<Descriptor> {
        let (snapshotter, key) = (self.before.snapshotter.clone(), self.before.key.clone());
        let intent = Intent::ApplyLayer { snapshotter, key, directory: self.directory };
        let operation = open(&self.core, &self.before.namespace, intent).await?;
        perform(&self.core, &operation, self, async { self.record(&operation).await }).await
    }

    async fn unpack(&self) -> Result<()> {
        let (core, snapshotter, layer) =
            (self.core.clone(), Arc::clone(&self.snapshotter), self.layer.clone());
        let (parents, before, directory) = (self.parents.clone(), self.before.directory, self.directory);
        let (part, cancel) = (self.part.clone(), self.cancel.clone());
        part.set(PartStatus::Unpacking);
        let outcome = blocking(move || {
            snapshotter.ensure_no_directory(directory)?;
            // Where a layer is no difference, onto a copy of what the snapshot has.
            let below = if snapshotter.supports_independent_layers() { &parents[..] } else { &[before][..] };
            snapshotter.ensure_directory(directory, below, SnapshotKind::Active)?;
            unpack(&core, &snapshotter, directory, &parents, &layer, &|bytes| part.moved(bytes), &cancel)
        })
        .await;
        let outcome = match outcome {
            Err(_) if self.cancel.is_cancelled() => Err(Error::cancelled("the apply was cancelled")),
            outcome => outcome,
        }?;
        self.part.set(PartStatus::Done);
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
