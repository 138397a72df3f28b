//! The last commit of a transfer: blobs, snapshots and images appear together, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::event::Event;
use bosun_types::gc::Object;
use bosun_types::image::{ImageRecord, LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT, LABEL_UNCOMPRESSED};
use bosun_types::lease::LeaseResource;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::{Digest, Error, ImageName, Labels, OperationId, Result, SnapshotKey, Timestamp};
use tokio::sync::oneshot;

use super::documents::Documents;
use super::layers::{Layers, Unpacked, Work};
use super::source;
use crate::core::{Shared, blocking};
use crate::namespaces::DEADLINE;
use crate::writer::write;
use crate::{content, images, leases, snapshots};

/// One image of a transfer.
pub(crate) struct Finished {
    /// Its names; none when only its layers were wanted.
    pub names: Vec<ImageName>,
    /// What the names point at.
    pub target: Descriptor,
    /// Labels of the image's rows.
    pub labels: Labels,
    /// Its documents, of each platform that was wanted.
    pub documents: Vec<Documents>,
    /// What else its indexes name, each with its own children: fetched, not unpacked.
    pub others: Vec<(Descriptor, Vec<Digest>)>,
    /// Its layers; the locks inside are held until the commit is done.
    pub layers: Layers,
}

/// Commits everything in one batch, in the writers of snapshots, content and images: always in this order, so that nobody waits in a circle.
pub(crate) async fn commit(
    work: &Work,
    finished: Vec<Finished>,
    operation: Option<OperationId>,
) -> Result<Vec<ImageRecord>> {
    let (told, outcome) = oneshot::channel();
    let begun = Arc::new(AtomicBool::new(false));
    let (job, begin) = (work.clone(), Arc::clone(&begun));
    let asked = write(&work.core, &snapshots::WRITER, DEADLINE, move |core| async move {
        write(&core, &content::WRITER, DEADLINE, move |core| async move {
            write(&core, &images::WRITER, DEADLINE, move |core| async move {
                if begin.swap(true, Ordering::SeqCst) {
                    return Err(Error::cancelled("nobody waits for this commit any more"));
                }
                // Told beside as well: the writers between here and the caller may give up waiting.
                let result = commit_now(&core, &job, finished, operation).await;
                let _ = told.send(result.clone());
                result
            })
            .await
        })
        .await
    })
    .await;
    match asked {
        // The writers go on when their caller's deadline passes. What has not begun must not begin now, for its directories are about to be
        // removed; what has begun says itself how it ended.
        Err(error) if begun.swap(true, Ordering::SeqCst) => outcome.await.unwrap_or(Err(error)),
        asked => asked,
    }
}

async fn commit_now(
    core: &Shared,
    work: &Work,
    finished: Vec<Finished>,
    operation: Option<OperationId>,
) -> Result<Vec<ImageRecord>> {
    let mut batch = Batch::new();
    core.ensure_namespace(&mut batch, &work.namespace)?;
    let mut recorded = Vec::new();
    let mut superfluous = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for image in &finished {
        for record in blobs(work, image) {
            if seen.insert(record.digest) {
                content::put_or_extend(core, &mut batch, record)?;
            }
        }
        for unpacked in &image.layers.unpacked {
            put_snapshot(core, work, &mut batch, unpacked, &mut superfluous)?;
        }
        for name in &image.names {
            let old = images::get(core, &work.namespace, name).ok();
            let now = Timestamp::now();
            let record = ImageRecord {
                namespace: work.namespace.clone(),
                name: name.clone(),
                target: image.target.clone(),
                labels: image.labels.clone(),
                created_at: old.as_ref().map_or(now, |old| old.created_at),
                updated_at: now,
            };
            record.validate()?;
            images::put(&mut batch, &record, old.is_none());
            recorded.push(record);
        }
    }
    for image in &finished {
        leases::extend(core, &mut batch, &work.namespace, work.lease.as_ref(), of_lease(work, image))?;
    }
    if let Some(operation) = operation {
        batch.close_operation(operation);
    }
    check_there(core, work, &finished)?;
    core.commit(batch).await?;
    // Ours, but another's snapshot of the same chain was first.
    if let Some(snapshotter) = work.snapshotter.clone()
        && !superfluous.is_empty()
    {
        let removed = blocking(move || {
            superfluous.into_iter().try_for_each(|directory| Ok(snapshotter.ensure_no_directory(directory)?))
        })
        .await;
        // The commit is done and must not be reported as failed; recovery sweeps what no row names.
        if let Err(error) = removed {
            tracing::warn!(%error, "a superfluous layer directory stays");
        }
    }
    Ok(recorded)
}

/// LSE-5: all of an image, made now or found.
fn of_lease(work: &Work, image: &Finished) -> Vec<LeaseResource> {
    let others = image.others.iter().map(|(blob, _)| blob);
    let blobs = image.documents.iter().flat_map(Documents::blobs).chain(others);
    let blobs = blobs.map(|blob| Object::Blob(blob.digest));
    let chains = image.documents.iter().flat_map(|documents| work.snapshots(&documents.chain));
    blobs.chain(chains).map(LeaseResource::Object).collect()
}

/// What was found earlier and therefore not made again may have been deleted since. Inside the writers that delete, so it holds until the commit.
fn check_there(core: &Shared, work: &Work, finished: &[Finished]) -> Result<()> {
    let gone = |what: String| {
        Err(Error::unavailable(format!("{what} was deleted in the middle")).with_hint("try again"))
    };
    for image in finished {
        let others = image.others.iter().map(|(descriptor, _)| descriptor);
        for blob in image.documents.iter().flat_map(Documents::blobs).chain(others) {
            if !core.content.has_blob(&blob.digest) {
                return gone(format!("blob {}", blob.digest));
            }
        }
        for chain in image.documents.iter().flat_map(|documents| &documents.chain) {
            let ours = image.layers.unpacked.iter().any(|unpacked| unpacked.chain == *chain);
            if !ours && !work.is_unpacked(chain)? {
                return gone(format!("snapshot {chain}"));
            }
        }
    }
    Ok(())
}

/// The rows of an image's blobs, with the labels that keep what they point at (IMG-11, IMG-20, CON-25).
fn blobs(work: &Work, image: &Finished) -> Vec<ContentRecord> {
    let mut records: Vec<ContentRecord> =
        image.documents.iter().flat_map(|documents| blobs_of(work, documents)).collect();
    records.extend(image.others.iter().map(|(descriptor, children)| parent(work, descriptor, children)));
    if let Some(remote) = &work.remote {
        records.iter_mut().for_each(|record| source::add(&mut record.labels, &remote.reference));
    }
    records
}

fn parent(work: &Work, descriptor: &Descriptor, children: &[Digest]) -> ContentRecord {
    let labels = children
        .iter()
        .enumerate()
        .map(|(index, child)| (format!("{LABEL_GC_REF_CONTENT}.{index}"), child.to_string()));
    content::record_of(&work.namespace, descriptor, labels.collect())
}

fn blobs_of(work: &Work, documents: &Documents) -> Vec<ContentRecord> {
    let mut records: Vec<ContentRecord> =
        documents.parents.iter().map(|(descriptor, children)| parent(work, descriptor, children)).collect();
    let mut labels = Labels::new();
    if let (Some(snapshotter), Some(top)) = (&work.snapshotter, documents.chain.last()) {
        labels.insert(format!("{LABEL_GC_REF_SNAPSHOT}.{}", snapshotter.name()), top.to_string());
    }
    records.push(content::record_of(&work.namespace, &documents.manifest.config, labels));
    for (layer, diff_id) in documents.manifest.layers.iter().zip(&documents.config.diff_ids) {
        let labels = if layer.digest == *diff_id {
            Labels::new()
        } else {
            Labels::from([(LABEL_UNCOMPRESSED.to_owned(), diff_id.to_string())])
        };
        records.push(content::record_of(&work.namespace, layer, labels));
    }
    records
}

fn put_snapshot(
    core: &Shared,
    work: &Work,
    batch: &mut Batch,
    unpacked: &Unpacked,
    superfluous: &mut Vec<u64>,
) -> Result<()> {
    let Some(snapshotter) = &work.snapshotter else { return Ok(()) };
    let name_of = |chain: &Digest| SnapshotKey::new(chain.to_string());
    let name = name_of(&unpacked.chain)?;
    if core.store.get::<SnapshotRecord>(&key::snapshot(&work.namespace, snapshotter.name(), &name))?.is_some()
    {
        superfluous.push(unpacked.directory);
        return Ok(());
    }
    let now = Timestamp::now();
    let record = SnapshotRecord {
        namespace: work.namespace.clone(),
        snapshotter: snapshotter.name().to_owned(),
        key: name.clone(),
        parent: unpacked.parent.as_ref().map(name_of).transpose()?,
        kind: SnapshotKind::Committed,
        directory: unpacked.directory,
        labels: Labels::new(),
        usage: Some(unpacked.usage),
        created_at: now,
        updated_at: now,
    };
    let key = SnapshotKey::new(format!("extract-{} {name}", unpacked.directory))?;
    batch.put(&record).publish(
        &work.namespace,
        Event::SnapshotCommit { snapshotter: record.snapshotter.clone(), key, name },
    );
    Ok(())
}
