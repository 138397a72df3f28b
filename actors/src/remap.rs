//! Snapshots for users of a container's own (CTR-13, CTR-15): the files of an image belong to ids inside; here it is decided how they come to
//! belong to the ids outside.
//!
//! - **By the mount**: the new snapshot has the maps as labels, and its mounts show it through them. Nothing is copied; on disk every file
//!   belongs to whom the image says, also what the container writes.
//! - **On disk**, where kernel or file system cannot: each layer's files are copied once for each map, into a committed snapshot
//!   `<layer>-<uid>-<gid>` with the other owners, and the new snapshot stands on those. A snapshotter whose layers are whole trees needs only
//!   the topmost.
//!
//! A copy is an operation; its row comes with the outcome, so nobody builds on one that is half made. Equal copies wanted at once are made once.
//! Writable snapshots and views stand on a copy alike, and a copy that fails leaves nothing: what the original does wrong there (CTR-15).

use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::snapshotter::Snapshotter;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::spec::SpecRequest;
use bosun_types::user_namespace::{IdMaps, Ownership};
use bosun_types::{Error, ErrorClass, Labels, NamespaceName, Result, SnapshotKey};
use futures::future::BoxFuture;

use crate::core::{Shared, blocking};
use crate::namespaces::DEADLINE;
use crate::operation::{self, Operation, Plan, REMAP_SNAPSHOT};
use crate::snapshots;
use crate::writer::write;

/// What a new snapshot stands on, and the labels it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ground {
    pub parent: Option<SnapshotKey>,
    pub labels: Labels,
}

/// How files come to belong to the mapped users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Mount,
    Disk,
}

fn way(wanted: Ownership, can_idmap: bool) -> Result<Way> {
    match (wanted, can_idmap) {
        (Ownership::Copy, _) | (Ownership::Auto, false) => Ok(Way::Disk),
        (Ownership::Auto | Ownership::Idmap, true) => Ok(Way::Mount),
        (Ownership::Idmap, false) => Err(Error::failed_precondition(
            "this kernel or the snapshotter's file system has no idmapped mounts",
        )
        .with_hint("let the files be copied: ownership auto or copy")),
    }
}

/// The users of its own that a container is to have, whether its spec is built or given whole.
pub(crate) fn users_of(spec: &SpecRequest) -> Result<Option<(IdMaps, Ownership)>> {
    Ok(match spec {
        SpecRequest::Build(options) => match &options.user_namespace {
            Some(users) => Some((users.maps()?, users.ownership)),
            None => None,
        },
        SpecRequest::Json(spec) => {
            bosun_runtime::spec::maps_of(spec)?.map(|maps| (maps, Ownership::default()))
        }
        // Read from the checkpoint, and then asked about as JSON.
        SpecRequest::Checkpoint => None,
    })
}

/// For a new snapshot above `parent`, a committed one.
pub(crate) async fn ground(
    core: &Shared,
    namespace: &NamespaceName,
    snapshotter: &str,
    parent: Option<SnapshotKey>,
    (maps, wanted): (&IdMaps, Ownership),
) -> Result<Ground> {
    let disk = core.snapshotter(snapshotter)?;
    let can_idmap = wanted != Ownership::Copy && core.host.can_idmap(disk.root()).await;
    match (way(wanted, can_idmap)?, parent) {
        (Way::Mount, parent) => Ok(Ground { parent, labels: maps.to_labels() }),
        (Way::Disk, Some(top)) => {
            let parent = Some(copies(core, namespace, &disk, &top, maps).await?);
            Ok(Ground { parent, labels: Labels::new() })
        }
        (Way::Disk, None) => {
            Err(Error::failed_precondition("an image without layers has no files to copy for other users"))
        }
    }
}

/// The copy of `top`, standing on copies of what `top` stands on; makes those that are missing, lowest first.
async fn copies(
    core: &Shared,
    namespace: &NamespaceName,
    disk: &Arc<dyn Snapshotter>,
    top: &SnapshotKey,
    maps: &IdMaps,
) -> Result<SnapshotKey> {
    let mut layers = vec![snapshots::get(core, namespace, disk.name(), top)?];
    while disk.supports_independent_layers()
        && let Some(below) = layers.last().and_then(|layer| layer.parent.clone())
    {
        layers.push(snapshots::get(core, namespace, disk.name(), &below)?);
    }
    let mut parent = None;
    while let Some(layer) = layers.pop() {
        let key = SnapshotKey::new(format!("{}-{}", layer.key, maps.suffix()))?;
        let lock = format!("{namespace}/{}/{key}", disk.name());
        let (worker, disk, maps) = (core.clone(), Arc::clone(disk), maps.clone());
        let copied = key.clone();
        // On the daemon's own runtime: a caller's end must not leave it half made.
        let made = core.runtime.spawn(async move {
            let _one_at_a_time = worker.transfers.lock(lock).await;
            match snapshots::get(&worker, &layer.namespace, disk.name(), &copied) {
                Ok(record) if record.kind == SnapshotKind::Committed => Ok(()),
                Ok(_) => Err(Error::already_exists(format!(
                    "snapshot {copied} is not a copy of {}, but has its name",
                    layer.key
                ))),
                Err(error) if error.class == ErrorClass::NotFound => {
                    make(&worker, &disk, &layer, copied, parent, &maps).await
                }
                Err(error) => Err(error),
            }
        });
        made.await.map_err(|error| Error::internal(format!("copying a snapshot: {error}")))??;
        parent = Some(key);
    }
    parent.ok_or_else(|| Error::internal(format!("snapshot {top} has no layers")))
}

async fn make(
    core: &Shared,
    disk: &Arc<dyn Snapshotter>,
    layer: &SnapshotRecord,
    key: SnapshotKey,
    parent: Option<SnapshotKey>,
    maps: &IdMaps,
) -> Result<()> {
    let kind = SnapshotKind::Committed;
    let (namespace, labels) = (&layer.namespace, Labels::new());
    let record = snapshots::new_record(core, namespace, disk.name(), key.clone(), parent, kind, labels)?;
    let intent =
        Intent::RemapSnapshot { snapshotter: disk.name().to_owned(), key, directory: record.directory };
    let operation = operation::record(core, namespace, intent);
    let mut batch = Batch::new();
    batch.open_operation(&operation);
    core.commit(batch).await?;
    let copy = CopyFiles {
        disk: Arc::clone(disk),
        directory: record.directory,
        from: layer.directory,
        maps: maps.clone(),
        usage: Mutex::new(None),
    };
    tracing::info!(snapshot = %record.key, "copying a layer's files for other users");
    if let Err(failure) = operation::perform(&copy).await {
        return Err(operation::close_failed(core, &operation, failure, |_| ()).await);
    }
    let usage = *copy.usage.lock().unwrap_or_else(PoisonError::into_inner);
    let record = SnapshotRecord { usage, ..record };
    let (id, layer_key) = (operation.id, layer.key.clone());
    let outcome = write(core, &snapshots::WRITER, DEADLINE, move |core| async move {
        // Both were looked at before a long copy.
        snapshots::get(&core, &record.namespace, &record.snapshotter, &layer_key)?;
        snapshots::check_new(&core, &record)?;
        let mut batch = Batch::new();
        let draft = SnapshotKey::new(format!("{}-remap", record.key))?;
        let event = Event::SnapshotCommit {
            snapshotter: record.snapshotter.clone(),
            key: draft,
            name: record.key.clone(),
        };
        batch.put(&record).close_operation(id).publish(&record.namespace, event);
        core.commit(batch).await.map(drop)
    })
    .await;
    match outcome {
        Ok(()) => Ok(()),
        Err(cause) => {
            let failure = match operation::undo_all(&copy).await {
                Ok(()) => operation::Failure::Undone(cause),
                Err(undo) => operation::Failure::Stuck { cause, undo },
            };
            Err(operation::close_failed(core, &operation, failure, |_| ()).await)
        }
    }
}

/// [`REMAP_SNAPSHOT`]: the files, then what must be known and durable before a row names them.
struct CopyFiles {
    disk: Arc<dyn Snapshotter>,
    directory: u64,
    from: u64,
    maps: IdMaps,
    usage: Mutex<Option<Usage>>,
}

impl CopyFiles {
    async fn copy(&self) -> Result<()> {
        let (disk, directory, from, maps) =
            (Arc::clone(&self.disk), self.directory, self.from, self.maps.clone());
        blocking(move || Ok(disk.ensure_remapped(directory, from, &maps)?)).await
    }

    async fn settle(&self) -> Result<()> {
        let (disk, directory) = (Arc::clone(&self.disk), self.directory);
        let usage = blocking(move || {
            disk.sync(directory)?;
            Ok(disk.usage(directory, &[])?)
        });
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage.await?);
        Ok(())
    }
}

impl Operation for CopyFiles {
    fn plan(&self) -> &'static Plan {
        &REMAP_SNAPSHOT
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.copy()),
            _ => Box::pin(self.settle()),
        }
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        let (disk, directory) = (Arc::clone(&self.disk), self.directory);
        match step {
            0 => Box::pin(blocking(move || Ok(disk.ensure_no_directory(directory)?))),
            _ => Box::pin(async { Ok(()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_preferred_and_a_copy_can_be_asked_for() {
        for (wanted, can, expected) in [
            (Ownership::Auto, true, Some(Way::Mount)),
            (Ownership::Auto, false, Some(Way::Disk)),
            (Ownership::Idmap, true, Some(Way::Mount)),
            (Ownership::Idmap, false, None),
            (Ownership::Copy, true, Some(Way::Disk)),
            (Ownership::Copy, false, Some(Way::Disk)),
        ] {
            assert_eq!(way(wanted, can).ok(), expected, "{wanted:?} {can}");
        }
    }
}
