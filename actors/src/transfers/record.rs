//! The last commit of a transfer: blobs, snapshots and images appear together, or not at all.

use bosun_storage::batch::Batch;
use bosun_storage::key;
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::event::Event;
use bosun_types::image::{ImageRecord, LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT, LABEL_UNCOMPRESSED};
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::{Digest, ImageName, Labels, OperationId, Result, SnapshotKey, Timestamp};

use super::documents::Documents;
use super::layers::{Layers, Unpacked, Work};
use crate::core::{Shared, blocking};
use crate::namespaces::DEADLINE;
use crate::writer::write;
use crate::{content, images, snapshots};

/// One image of a transfer.
pub(crate) struct Finished {
    /// Its names; none when only its layers were wanted.
    pub names: Vec<ImageName>,
    /// What the names point at.
    pub target: Descriptor,
    /// Labels of the image's rows.
    pub labels: Labels,
    /// Its documents.
    pub documents: Documents,
    /// Its layers; the locks inside are held until the commit is done.
    pub layers: Layers,
}

/// Commits everything in one batch, in the writers of snapshots, content and images: always in this order, so that nobody waits in a circle.
pub(crate) async fn commit(
    work: &Work,
    finished: Vec<Finished>,
    operation: Option<OperationId>,
) -> Result<Vec<ImageRecord>> {
    let work = work.clone();
    write(&work.core.clone(), &snapshots::WRITER, DEADLINE, move |core| async move {
        write(&core, &content::WRITER, DEADLINE, move |core| async move {
            write(&core, &images::WRITER, DEADLINE, move |core| async move {
                commit_now(&core, &work, finished, operation).await
            })
            .await
        })
        .await
    })
    .await
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
        for record in blobs(work, image)? {
            if seen.insert(record.digest) {
                put_blob(core, &mut batch, record)?;
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
    if let Some(operation) = operation {
        batch.close_operation(operation);
    }
    core.commit(batch).await?;
    // Ours, but another's snapshot of the same chain was first.
    if let Some(snapshotter) = work.snapshotter.clone()
        && !superfluous.is_empty()
    {
        blocking(move || {
            superfluous.into_iter().try_for_each(|directory| Ok(snapshotter.ensure_no_directory(directory)?))
        })
        .await?;
    }
    Ok(recorded)
}

/// The rows of an image's blobs, with the labels that keep what they point at (IMG-11, IMG-20, CON-25).
fn blobs(work: &Work, image: &Finished) -> Result<Vec<ContentRecord>> {
    let documents = &image.documents;
    let mut records = Vec::new();
    for (descriptor, children) in &documents.parents {
        let labels = children
            .iter()
            .enumerate()
            .map(|(index, child)| (format!("{LABEL_GC_REF_CONTENT}.{index}"), child.to_string()));
        records.push(content::record_of(&work.namespace, descriptor, labels.collect()));
    }
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
    Ok(records)
}

/// A new row, or labels added to the one that is there.
fn put_blob(core: &Shared, batch: &mut Batch, record: ContentRecord) -> Result<()> {
    match core.store.get::<ContentRecord>(&key::content(&record.namespace, &record.digest))? {
        None => content::put(batch, &record),
        Some(mut old) if record.labels.iter().any(|(label, value)| old.labels.get(label) != Some(value)) => {
            old.labels.extend(record.labels);
            old.updated_at = Timestamp::now();
            batch.put(&old);
        }
        Some(_) => {}
    }
    Ok(())
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
