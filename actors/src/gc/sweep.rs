//! Carries a collection out: batch by batch, each one job in the writer of what it removes, then its files, as a logged operation.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::content::{ContentRecord, IngestStatus};
use bosun_types::event::Event;
use bosun_types::gc::{Collection, Object, REPORTED_MAX};
use bosun_types::lease::LeaseRecord;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::{Digest, Error, ErrorClass, LeaseId, NamespaceName, Result, Timestamp};
use futures::future::BoxFuture;

use super::graph::{Graph, Node, Remains};
use super::view::view;
use crate::core::{Core, Shared, blocking};
use crate::namespaces::DEADLINE;
use crate::operation::{self, COLLECT, Operation, Plan};
use crate::writer::write;
use crate::{content, leases, namespaces, snapshots};

/// Objects whose rows go in one commit: some milliseconds of a writer's time.
const BATCH: usize = 512;
/// Blob files that go in one job of the content writer, which syncs once.
const FILES_AT_ONCE: usize = 256;

/// Collects in every namespace.
pub(super) async fn run(core: &Shared) -> Result<Collection> {
    remove_files(core, core.gc.barrier.deferred()).await?;
    let content = core.content.clone();
    let mut ingests = blocking(move || Ok(content.ingests()?)).await?;
    let mut total = Collection::default();
    for namespace in namespaces::list(core)? {
        let (mine, others) = ingests.into_iter().partition(|(owner, _)| *owner == namespace.name);
        ingests = others;
        total.add(one(core, &namespace.name, mine).await?);
    }
    // Their namespaces came into being with nothing but them.
    total.ingests += forget_stale(core, ingests, &BTreeSet::new()).await?;
    Ok(total)
}

/// What a collection would remove from a namespace now. Blocking.
pub(super) fn plan(core: &Core, namespace: &NamespaceName) -> Result<Collection> {
    let view = view(core, namespace, Timestamp::now())?;
    let mut would = Collection { examined: view.graph.len() as u64, ..Collection::default() };
    for at in view.graph.garbage(&view.graph.mark()) {
        count(&mut would, namespace, view.graph.node(at));
    }
    would.leases = view.dead_leases.len() as u64;
    let ingests = core.content.statuses(namespace)?;
    would.ingests =
        ingests.iter().filter(|ingest| is_stale(core, ingest, &view.leased_ingests)).count() as u64;
    Ok(would)
}

fn count(collection: &mut Collection, namespace: &NamespaceName, node: &Node) {
    let (number, bytes) = match node.object {
        Object::Blob(_) => (&mut collection.blobs, &mut collection.blob_bytes),
        Object::Snapshot { .. } => (&mut collection.snapshots, &mut collection.snapshot_bytes),
    };
    *number += 1;
    *bytes += node.size;
    if collection.objects.len() < REPORTED_MAX {
        collection.objects.push((namespace.clone(), node.object.clone()));
    }
}

async fn one(
    core: &Shared,
    namespace: &NamespaceName,
    ingests: Vec<(NamespaceName, IngestStatus)>,
) -> Result<Collection> {
    // Before the look: from here on nothing that becomes wanted is missed.
    let _collecting = core.gc.barrier.begin();
    let (looker, name) = (core.clone(), namespace.clone());
    let (view, remains) = blocking(move || {
        let view = view(&looker, &name, Timestamp::now())?;
        let graph: Arc<Graph> = Arc::new(view.graph);
        Ok(((view.dead_leases, view.leased_ingests, graph.len()), Remains::of(&graph)))
    })
    .await?;
    let (dead_leases, leased_ingests, examined) = view;
    let mut total = Collection { examined: examined as u64, ..Collection::default() };
    total.leases = end_leases(core, namespace, dead_leases).await?;
    total.ingests = forget_stale(core, ingests, &leased_ingests).await?;
    let remains = Arc::new(Mutex::new(remains));
    loop {
        let is_blob = remains.lock().unwrap_or_else(PoisonError::into_inner).next_is_blob();
        let Some(is_blob) = is_blob else { return Ok(total) };
        let writer = if is_blob { content::WRITER } else { snapshots::WRITER };
        let (chosen, name) = (Arc::clone(&remains), namespace.clone());
        let removed =
            write(core, &writer, DEADLINE, move |core| async move { batch(&core, &name, &chosen).await })
                .await?;
        if let Some((operation, removed)) = removed {
            finish(core, &operation).await?;
            total.add(removed);
        }
    }
}

/// In the writer of what is removed: the rows go, with the intent to remove their files.
async fn batch(
    core: &Shared,
    namespace: &NamespaceName,
    remains: &Mutex<Remains>,
) -> Result<Option<(OperationRecord, Collection)>> {
    let mut nodes = HashMap::new();
    let condemned = core.gc.barrier.condemn(|shaded| {
        let mut remains = remains.lock().unwrap_or_else(PoisonError::into_inner);
        remains.rescue(shaded.iter().filter(|(of, _)| of == namespace).map(|(_, object)| object));
        let chosen = remains.take(BATCH);
        let things = chosen.iter().map(|node| (namespace.clone(), node.object.clone())).collect();
        nodes.extend(chosen.into_iter().map(|node| (node.object.clone(), node)));
        things
    });
    let (mut rows, mut removed) = (Batch::new(), Collection::default());
    let (mut directories, mut blobs) = (Vec::new(), Vec::new());
    for (_, object) in &condemned.things {
        let Some(node) = nodes.get(object) else { continue };
        let found = match object {
            Object::Blob(digest) => {
                remove_blob_row(core, namespace, digest, &mut rows)?.then(|| blobs.push(*digest))
            }
            Object::Snapshot { snapshotter, key } => {
                let row: Option<SnapshotRecord> =
                    core.store.get(&key::snapshot(namespace, snapshotter, key))?;
                // One of the same key that was made meanwhile is another.
                row.filter(|row| row.directory == node.directory).map(|row| {
                    snapshots::drop_row(&mut rows, &row);
                    let event = Event::SnapshotRemove { snapshotter: row.snapshotter.clone(), key: row.key };
                    rows.publish(namespace, event);
                    directories.push((row.snapshotter, row.directory));
                })
            }
        };
        if found.is_some() {
            count(&mut removed, namespace, node);
        }
    }
    if directories.is_empty() && blobs.is_empty() {
        return Ok(None);
    }
    let operation = operation::record(core, namespace, Intent::Collect { directories, blobs });
    rows.open_operation(&operation);
    // Not through the barrier, which would count it as somebody's deletion.
    core.store.commit(rows).await?;
    Ok(Some((operation, removed)))
}

fn remove_blob_row(
    core: &Core,
    namespace: &NamespaceName,
    digest: &Digest,
    rows: &mut Batch,
) -> Result<bool> {
    let key = key::content(namespace, digest);
    let is_there = core.store.get::<ContentRecord>(&key)?.is_some();
    if is_there {
        rows.delete::<ContentRecord>(key).publish(namespace, Event::ContentDelete { digest: *digest });
    }
    Ok(is_there)
}

/// The rows are gone for everyone: files that do not go are parked, not told.
async fn finish(core: &Shared, operation: &OperationRecord) -> Result<()> {
    let Some(removal) = RemoveGarbage::of(core, &operation.intent) else { return Ok(()) };
    if let Err(cause) = operation::persist(&removal).await {
        return operation::park(core, operation, cause).await;
    }
    let mut closing = Batch::new();
    closing.close_operation(operation.id);
    core.store.commit(closing).await?;
    Ok(())
}

/// [`COLLECT`]: only forward.
pub(crate) struct RemoveGarbage {
    core: Shared,
    directories: Vec<(String, u64)>,
    blobs: Vec<Digest>,
}

impl RemoveGarbage {
    /// From its intent.
    pub(crate) fn of(core: &Shared, intent: &Intent) -> Option<Self> {
        let Intent::Collect { directories, blobs } = intent else { return None };
        Some(Self { core: core.clone(), directories: directories.clone(), blobs: blobs.clone() })
    }

    async fn remove_directories(&self) -> Result<()> {
        let (core, directories) = (self.core.clone(), self.directories.clone());
        blocking(move || {
            directories.iter().try_for_each(|(snapshotter, directory)| {
                Ok(core.snapshotter(snapshotter)?.ensure_no_directory(*directory)?)
            })
        })
        .await
    }
}

impl Operation for RemoveGarbage {
    fn plan(&self) -> &'static Plan {
        &COLLECT
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.remove_directories()),
            _ => Box::pin(remove_files(&self.core, self.blobs.clone())),
        }
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Removes blob files that no namespace has and no work in flight wants. In the writer of content: a commit that names one of them comes before
/// and keeps it, or after and sees that it is gone.
pub(crate) async fn remove_files(core: &Shared, digests: Vec<Digest>) -> Result<()> {
    for some in digests.chunks(FILES_AT_ONCE) {
        let some = some.to_vec();
        write(core, &content::WRITER, DEADLINE, move |core| async move {
            let condemned = core.gc.barrier.condemn_files(&some);
            let store = core.clone();
            let files = condemned.files.clone();
            blocking(move || {
                let mut unnamed = Vec::new();
                for digest in files {
                    if !content::holders(&store, &digest)? {
                        unnamed.push(digest);
                    }
                }
                Ok(store.content.remove_blobs(&unnamed)?)
            })
            .await
        })
        .await?;
    }
    Ok(())
}

/// LSE-7: those that have expired, and what a deletion that was cut off left.
async fn end_leases(core: &Shared, namespace: &NamespaceName, dead: BTreeSet<LeaseId>) -> Result<u64> {
    let mut ended = 0;
    for id in dead {
        let namespace = namespace.clone();
        ended += write(core, &leases::WRITER, DEADLINE, move |core| async move {
            // The same id may have been taken again meanwhile.
            let stored: Option<LeaseRecord> = core.store.get(&key::lease(&namespace, &id))?;
            if stored.is_some_and(|lease| !lease.is_expired(Timestamp::now())) {
                return Ok(0);
            }
            tracing::info!(lease = %id, %namespace, "a lease has expired");
            leases::remove(&core, &namespace, &id).await.map(|()| 1)
        })
        .await?;
    }
    Ok(ended)
}

fn is_stale(core: &Core, ingest: &IngestStatus, leased: &BTreeSet<String>) -> bool {
    let rests = Timestamp::now().0.saturating_sub(ingest.updated_at.0);
    let expiry = i64::try_from(core.gc.options.ingest_expiry.as_nanos()).unwrap_or(i64::MAX);
    rests > expiry && !leased.contains(&ingest.reference)
}

/// CON-22: unfinished writes that no lease holds and nobody came back to.
async fn forget_stale(
    core: &Shared,
    ingests: Vec<(NamespaceName, IngestStatus)>,
    leased: &BTreeSet<String>,
) -> Result<u64> {
    let stale: Vec<_> = ingests.into_iter().filter(|(_, ingest)| is_stale(core, ingest, leased)).collect();
    let content = core.content.clone();
    blocking(move || {
        let mut forgotten = 0;
        for (namespace, ingest) in stale {
            match content.abort(&namespace, &ingest.reference).map_err(Error::from) {
                Ok(()) => forgotten += 1,
                // Somebody has just come back to it, or has ended it.
                Err(error) if matches!(error.class, ErrorClass::Unavailable | ErrorClass::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(forgotten)
    })
    .await
}
