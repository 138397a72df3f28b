//! Snapshots: rows of every snapshotter, and their directories (SNP-3..10, SNP-23).
//!
//! A row and its directory cannot disagree: the row is written with the intent before the directory is made, and goes with the intent
//! before the directory is removed; recovery finishes what a crash left open. Directory numbers are never used again.

use std::sync::Arc;

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_storage::snapshotter::Snapshotter;
use bosun_types::content::{Descriptor, Finding};
use bosun_types::diff::{DiffRequest, LayerDiff};
use bosun_types::event::Event;
use bosun_types::mount::Mount;
use bosun_types::operation::Intent;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord, Usage};
use bosun_types::user_namespace::IdMaps;
use bosun_types::{Error, Labels, LeaseId, NamespaceName, Result, SnapshotKey, Timestamp, labels};
use futures::future::BoxFuture;

use crate::core::{Core, Shared, blocking};
use crate::directory::Name;
use crate::leases;
use crate::mask::Mask;
use crate::namespaces::DEADLINE;
use crate::operation::{self, Operation, PREPARE_SNAPSHOT, Plan, REMOVE_SNAPSHOT};
use crate::writer::{revise, write};

/// The writer.
pub(crate) const WRITER: Name = Name::Service("snapshots");
/// Layers of one mount: what overlayfs takes of lower directories with room to spare.
const DEPTH_MAX: usize = 500;

/// A namespace's snapshots of one snapshotter.
#[derive(Clone)]
pub struct SnapshotsHandle {
    core: Shared,
    namespace: NamespaceName,
    lease: Option<LeaseId>,
    snapshotter: Arc<dyn Snapshotter>,
}

impl SnapshotsHandle {
    pub(crate) fn new(
        core: Shared,
        namespace: NamespaceName,
        lease: Option<LeaseId>,
        snapshotter: &str,
    ) -> Result<Self> {
        let snapshotter = core.snapshotter(snapshotter)?;
        Ok(Self { core, namespace, lease, snapshotter })
    }

    /// A writable snapshot above `parent`; gives its mounts (SNP-4).
    pub async fn prepare(
        &self,
        key: SnapshotKey,
        parent: Option<SnapshotKey>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        self.make(SnapshotKind::Active, key, parent, labels).await
    }

    /// A read-only look at `parent` (SNP-4).
    pub async fn view(
        &self,
        key: SnapshotKey,
        parent: Option<SnapshotKey>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        self.make(SnapshotKind::View, key, parent, labels).await
    }

    async fn make(
        &self,
        kind: SnapshotKind,
        key: SnapshotKey,
        parent: Option<SnapshotKey>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        labels::validate(&labels)?;
        let (namespace, snapshotter, lease) =
            (self.namespace.clone(), Arc::clone(&self.snapshotter), self.lease.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let record = new_record(&core, &namespace, snapshotter.name(), key, parent, kind, labels)?;
            let shown = mounts(&core, &record)?;
            let parents = parents_of(&core, &record)?;
            let intent = Intent::PrepareSnapshot {
                snapshotter: record.snapshotter.clone(),
                key: record.key.clone(),
                directory: record.directory,
            };
            let operation = operation::record(&core, &namespace, intent);
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &namespace)?;
            batch.open_operation(&operation).put(&record);
            let made = [leases::snapshot(&record.snapshotter, &record.key)];
            leases::extend(&core, &mut batch, &namespace, lease.as_ref(), made)?;
            core.commit(batch).await?;
            let directory = MakeDirectory {
                snapshotter: Arc::clone(&snapshotter),
                directory: record.directory,
                parents,
                kind,
            };
            if let Err(failure) = operation::perform(&directory).await {
                return Err(operation::close_failed(&core, &operation, failure, |batch| {
                    drop_row(batch, &record)
                })
                .await);
            }
            let mut batch = Batch::new();
            batch.close_operation(operation.id);
            publish_prepare(&mut batch, &record);
            core.commit(batch).await?;
            Ok(shown)
        })
        .await
    }

    /// The mounts of an active snapshot or a view (SNP-5).
    pub async fn mounts(&self, key: &SnapshotKey) -> Result<Vec<Mount>> {
        mounts(&self.core, &get(&self.core, &self.namespace, self.snapshotter.name(), key)?)
    }

    /// Makes an active snapshot immutable under a new name; its data is durable first (SNP-6).
    pub async fn commit(&self, name: SnapshotKey, key: SnapshotKey, labels: Labels) -> Result<()> {
        labels::validate(&labels)?;
        let (namespace, snapshotter, lease) =
            (self.namespace.clone(), Arc::clone(&self.snapshotter), self.lease.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let active = get(&core, &namespace, snapshotter.name(), &key)?;
            if active.kind != SnapshotKind::Active {
                return Err(Error::failed_precondition(format!("snapshot {key} is not active")));
            }
            refuse_taken(&core, &namespace, snapshotter.name(), &name)?;
            let (directory, parents) = (active.directory, parents_of(&core, &active)?);
            let worker = Arc::clone(&snapshotter);
            let usage = blocking(move || {
                worker.sync(directory)?;
                Ok(worker.usage(directory, &parents)?)
            })
            .await?;
            let now = Timestamp::now();
            let committed = SnapshotRecord {
                key: name.clone(),
                kind: SnapshotKind::Committed,
                labels,
                usage: Some(usage),
                created_at: now,
                updated_at: now,
                ..active.clone()
            };
            let mut batch = Batch::new();
            drop_row(&mut batch, &active);
            let (before, after) =
                (leases::snapshot(snapshotter.name(), &key), leases::snapshot(snapshotter.name(), &name));
            leases::drop_entry(&mut batch, &namespace, lease.as_ref(), &before);
            leases::extend(&core, &mut batch, &namespace, lease.as_ref(), [after])?;
            batch
                .put(&committed)
                .publish(&namespace, Event::SnapshotCommit { snapshotter: active.snapshotter, key, name });
            core.commit(batch).await?;
            Ok(())
        })
        .await
    }

    /// Removes one without children; the directory goes with it (SNP-7).
    pub async fn remove(&self, key: SnapshotKey) -> Result<()> {
        let (namespace, snapshotter, lease) =
            (self.namespace.clone(), Arc::clone(&self.snapshotter), self.lease.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let record = removable(&core, &namespace, snapshotter.name(), &key)?;
            let intent = Intent::RemoveSnapshot {
                snapshotter: record.snapshotter.clone(),
                key: key.clone(),
                directory: record.directory,
            };
            let operation = operation::record(&core, &namespace, intent);
            let mut batch = Batch::new();
            batch.open_operation(&operation);
            drop_row(&mut batch, &record);
            let held = leases::snapshot(&record.snapshotter, &key);
            leases::drop_entry(&mut batch, &namespace, lease.as_ref(), &held);
            batch.publish(&namespace, Event::SnapshotRemove { snapshotter: record.snapshotter.clone(), key });
            core.commit(batch).await?;
            // From here on it is gone for everyone; the directory is recovery's business if we do not get to it.
            finish_removal(&core, &operation, RemoveDirectory { snapshotter, directory: record.directory })
                .await
        })
        .await
    }

    /// One record (SNP-8).
    pub async fn stat(&self, key: &SnapshotKey) -> Result<SnapshotRecord> {
        get(&self.core, &self.namespace, self.snapshotter.name(), key)
    }

    /// All records, by key.
    pub async fn list(&self) -> Result<Vec<SnapshotRecord>> {
        Ok(self.core.store.scan(&key::snapshots_of(&self.namespace, self.snapshotter.name()))?)
    }

    /// SNP-9: paths `labels`, `labels.<key>`; none replaces all.
    pub async fn update_labels(
        &self,
        key: &SnapshotKey,
        given: Labels,
        paths: Vec<String>,
    ) -> Result<SnapshotRecord> {
        let (namespace, name, key) =
            (self.namespace.clone(), self.snapshotter.name().to_owned(), key.clone());
        let row = key::snapshot(&namespace, &name, &key);
        revise(&self.core, &WRITER, row, DEADLINE, move |core| async move {
            let mut record = get(&core, &namespace, &name, &key)?;
            Mask::parse("snapshot", &paths, &[])?.labels(&mut record.labels, &given);
            labels::validate(&record.labels)?;
            IdMaps::from_labels(&record.labels)?;
            record.updated_at = Timestamp::now();
            let mut batch = Batch::new();
            batch.put(&record);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
    }

    /// Whether a layer's files are what its blob says; with `repair` those that are not are mended, also under running containers. Goes on to its end
    /// when the caller leaves. NotFound when no image here explains it.
    pub async fn verify(&self, key: SnapshotKey, repair: bool) -> Result<Finding> {
        let (core, namespace) = (self.core.clone(), self.namespace.clone());
        let snapshotter = Arc::clone(&self.snapshotter);
        let work = async move { crate::scrub::layer(&core, &namespace, &snapshotter, key, repair).await };
        crate::diff::to_its_end(&self.core, work).await
    }

    /// What one snapshot changed becomes a layer blob (DIF-3, DIF-4).
    pub async fn diff(&self, request: DiffRequest) -> Result<LayerDiff> {
        crate::diff::diff(&self.core, &self.namespace, self.lease.clone(), &self.snapshotter, request).await
    }

    /// A layer blob's files become those of an active snapshot without changes of its own; all of them, or on a failure none (DIF-1, DIF-6). Gives
    /// what the uncompressed bytes are. Mounts asked for before are not the snapshot's any more.
    pub async fn apply(&self, key: SnapshotKey, layer: Descriptor) -> Result<Descriptor> {
        crate::diff::apply(&self.core, &self.namespace, &self.snapshotter, key, layer).await
    }

    /// Disk use of it alone: stored for a committed one, measured now for others (SNP-10).
    pub async fn usage(&self, key: &SnapshotKey) -> Result<Usage> {
        let record = get(&self.core, &self.namespace, self.snapshotter.name(), key)?;
        match record.usage {
            Some(usage) => Ok(usage),
            None => {
                let snapshotter = Arc::clone(&self.snapshotter);
                let parents = parents_of(&self.core, &record)?;
                blocking(move || Ok(snapshotter.usage(record.directory, &parents)?)).await
            }
        }
    }
}

/// One record, or NotFound.
pub(crate) fn get(
    core: &Core,
    namespace: &NamespaceName,
    snapshotter: &str,
    key: &SnapshotKey,
) -> Result<SnapshotRecord> {
    core.store
        .get(&key::snapshot(namespace, snapshotter, key))?
        .ok_or_else(|| Error::not_found(format!("snapshot {key} of {snapshotter}")))
}

fn refuse_taken(core: &Core, namespace: &NamespaceName, snapshotter: &str, key: &SnapshotKey) -> Result<()> {
    match core.store.get::<SnapshotRecord>(&key::snapshot(namespace, snapshotter, key))? {
        Some(_) => Err(Error::already_exists(format!("snapshot {key} of {snapshotter}"))),
        None => Ok(()),
    }
}

/// A new record, checked: the key is free, the parent exists and is committed.
pub(crate) fn new_record(
    core: &Core,
    namespace: &NamespaceName,
    snapshotter: &str,
    key: SnapshotKey,
    parent: Option<SnapshotKey>,
    kind: SnapshotKind,
    labels: Labels,
) -> Result<SnapshotRecord> {
    let now = Timestamp::now();
    let directory = core.store.next_directory();
    let (namespace, snapshotter) = (namespace.clone(), snapshotter.to_owned());
    let record = SnapshotRecord {
        namespace,
        snapshotter,
        key,
        parent,
        kind,
        directory,
        labels,
        usage: None,
        created_at: now,
        updated_at: now,
    };
    check_new(core, &record)?;
    Ok(record)
}

/// Its key is free, its parent exists and is committed.
pub(crate) fn check_new(core: &Core, record: &SnapshotRecord) -> Result<()> {
    let (namespace, snapshotter, key) = (&record.namespace, &record.snapshotter, &record.key);
    refuse_taken(core, namespace, snapshotter, key)?;
    if let Some(parent) = &record.parent
        && get(core, namespace, snapshotter, parent)?.kind != SnapshotKind::Committed
    {
        return Err(Error::invalid_argument(format!("parent {parent} of snapshot {key} is not committed")));
    }
    Ok(())
}

/// Directories of the parents, nearest first.
pub(crate) fn parents_of(core: &Core, record: &SnapshotRecord) -> Result<Vec<u64>> {
    let mut parents = Vec::new();
    let mut next = record.parent.clone();
    while let Some(key) = next {
        if parents.len() >= DEPTH_MAX {
            return Err(Error::resource_exhausted(format!(
                "snapshot {} is more than {DEPTH_MAX} deep",
                record.key
            )));
        }
        let parent = get(core, &record.namespace, &record.snapshotter, &key)?;
        parents.push(parent.directory);
        next = parent.parent;
    }
    Ok(parents)
}

/// Mounts of a record; a committed one has none (SNP-5).
pub(crate) fn mounts(core: &Core, record: &SnapshotRecord) -> Result<Vec<Mount>> {
    if record.kind == SnapshotKind::Committed {
        return Err(Error::failed_precondition(format!(
            "snapshot {} is committed: it cannot be mounted",
            record.key
        ))
        .with_hint("prepare or view a snapshot above it"));
    }
    let parents = parents_of(core, record)?;
    let mut mounts =
        core.snapshotter(&record.snapshotter)?.mounts(record.directory, &parents, record.kind)?;
    if let Some(maps) = IdMaps::from_labels(&record.labels)? {
        mounts.iter_mut().for_each(|mount| mount.options.extend(maps.to_mount_words()));
    }
    Ok(mounts)
}

/// A record that has no children, or why it may not go.
pub(crate) fn removable(
    core: &Core,
    namespace: &NamespaceName,
    snapshotter: &str,
    key: &SnapshotKey,
) -> Result<SnapshotRecord> {
    let record = get(core, namespace, snapshotter, key)?;
    // Only what is committed becomes a parent: a container's own snapshot goes without a look at all others.
    if record.kind != SnapshotKind::Committed {
        return Ok(record);
    }
    let siblings: Vec<SnapshotRecord> = core.store.scan(&key::snapshots_of(namespace, snapshotter))?;
    match siblings.iter().find(|other| other.parent.as_ref() == Some(key)) {
        Some(child) => {
            Err(Error::failed_precondition(format!("cannot remove snapshot {key} with child {}", child.key)))
        }
        None => Ok(record),
    }
}

/// Takes the row away.
pub(crate) fn drop_row(batch: &mut Batch, record: &SnapshotRecord) {
    batch.delete::<SnapshotRecord>(key::snapshot(&record.namespace, &record.snapshotter, &record.key));
}

/// SNP-23: of a view nothing is told.
pub(crate) fn publish_prepare(batch: &mut Batch, record: &SnapshotRecord) {
    if record.kind == SnapshotKind::View {
        return;
    }
    let (snapshotter, key, parent) = (record.snapshotter.clone(), record.key.clone(), record.parent.clone());
    batch.publish(&record.namespace, Event::SnapshotPrepare { snapshotter, key, parent });
}

/// Removes the directory and closes the operation. The snapshot is gone for everyone already: a directory that does not go is parked, not told.
pub(crate) async fn finish_removal(
    core: &Shared,
    operation: &bosun_types::operation::OperationRecord,
    removal: RemoveDirectory,
) -> Result<()> {
    if let Err(cause) = operation::persist(&removal).await {
        return operation::park(core, operation, cause).await;
    }
    let mut batch = Batch::new();
    batch.close_operation(operation.id);
    core.commit(batch).await.map(drop)
}

/// [`PREPARE_SNAPSHOT`].
pub(crate) struct MakeDirectory {
    pub snapshotter: Arc<dyn Snapshotter>,
    pub directory: u64,
    pub parents: Vec<u64>,
    pub kind: SnapshotKind,
}

impl Operation for MakeDirectory {
    fn plan(&self) -> &'static Plan {
        &PREPARE_SNAPSHOT
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        let (snapshotter, directory, parents, kind) =
            (Arc::clone(&self.snapshotter), self.directory, self.parents.clone(), self.kind);
        Box::pin(blocking(move || Ok(snapshotter.ensure_directory(directory, &parents, kind)?)))
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        let (snapshotter, directory) = (Arc::clone(&self.snapshotter), self.directory);
        Box::pin(blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)))
    }
}

/// [`REMOVE_SNAPSHOT`]: only forward; a removal that was said is never taken back.
pub(crate) struct RemoveDirectory {
    pub snapshotter: Arc<dyn Snapshotter>,
    pub directory: u64,
}

impl Operation for RemoveDirectory {
    fn plan(&self) -> &'static Plan {
        &REMOVE_SNAPSHOT
    }

    fn forward(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        let (snapshotter, directory) = (Arc::clone(&self.snapshotter), self.directory);
        Box::pin(blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)))
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
