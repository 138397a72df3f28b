//! The blobs of a checkpoint: written as files first, recorded with the image in one commit; taken back when that does not come.

use std::path::PathBuf;
use std::sync::Arc;

use bosun_storage::batch::Batch;
use bosun_storage::compare::{Source as Compared, compare_into};
use bosun_storage::compression::Compression;
use bosun_storage::content::Ingest;
use bosun_storage::image::checkpoint::{Checkpoint, config_to_bytes};
use bosun_storage::image::media_type;
use bosun_storage::key;
use bosun_types::checkpoint::{LABEL_CHECKPOINT, MEDIA_CONFIG, MEDIA_CRIU};
use bosun_types::container::{Any, ContainerRecord};
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::event::Event;
use bosun_types::image::{ImageRecord, LABEL_UNCOMPRESSED};
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::platform::Platform;
use bosun_types::{
    ContainerId, Digest, Error, ErrorClass, ImageName, Labels, NamespaceName, Result, Timestamp,
};

use crate::core::{Shared, SharedSnapshotter, blocking};
use crate::diff::Trees;
use crate::namespaces::DEADLINE;
use crate::snapshots;
use crate::writer::write;
use crate::{content, images};

/// How an OCI runtime spec says what it is (ID-12).
const SPEC_TYPE_URL: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// What is stored.
pub(super) struct Source {
    /// CRIU's files.
    pub images: PathBuf,
    /// Whose spec and snapshot.
    pub container: ContainerRecord,
    /// Its image, and what that points at.
    pub base: Option<(ImageName, Descriptor)>,
}

/// Blobs that are on disk and in no row.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The index.
    target: Descriptor,
    /// Each with the labels of its row; the index comes last.
    blobs: Vec<(Descriptor, Labels)>,
    /// What must be here already: the container's image.
    base: Option<Descriptor>,
    /// Those whose row the checkpoint made.
    recorded: Vec<Digest>,
}

/// The ingests of a container's checkpoint; CKP-1 names that of the layer.
fn references(container: &ContainerId) -> [String; 4] {
    ["criu", "config", "rw", "index"].map(|part| format!("checkpoint-{part}-{container}"))
}

/// Writes every blob. Blocking work, on a worker thread.
pub(super) async fn store(core: &Shared, source: Source) -> Result<Stored> {
    let layer = match (&source.container.snapshotter, &source.container.snapshot_key) {
        (Some(snapshotter), Some(key)) => {
            let namespace = &source.container.namespace;
            let right = snapshots::get(core, namespace, snapshotter, key)?;
            let parent = right.parent.as_ref();
            let left = parent.map(|it| snapshots::get(core, namespace, snapshotter, it)).transpose()?;
            Some((Trees { left, right }, core.snapshotter(snapshotter)?))
        }
        _ => None,
    };
    let core = Arc::clone(core);
    blocking(move || write_all(&core, &source, layer)).await
}

fn write_all(core: &Shared, source: &Source, layer: Option<(Trees, SharedSnapshotter)>) -> Result<Stored> {
    let container = &source.container;
    let [criu, config, rw, index] = references(&container.id);
    let begin = |reference: &str| -> Result<Ingest> {
        let mut ingest = core.content.begin(&container.namespace, reference, 0, None)?;
        if ingest.offset() > 0 {
            // Of a daemon that died.
            ingest.restart()?;
        }
        Ok(ingest)
    };
    let bytes = |reference: &str, kind: &str, bytes: &[u8]| -> Result<Descriptor> {
        let mut ingest = begin(reference)?;
        ingest.write(bytes)?;
        committed(ingest, kind)
    };
    let mut files = begin(&criu)?;
    compare_into(Compared::trees(None, &source.images)?, Compression::None, &mut files, &|_| Ok(()))?;
    let mut blobs = vec![(committed(files, MEDIA_CRIU)?, Labels::new())];
    let spec = Any { type_url: SPEC_TYPE_URL.to_owned(), value: container.spec.clone() };
    blobs.push((bytes(&config, MEDIA_CONFIG, &config_to_bytes(&spec)?)?, Labels::new()));
    if let Some((trees, snapshotter)) = layer {
        let mut ingest = begin(&rw)?;
        let made = trees.write_difference(core, &snapshotter, Compression::Gzip, &mut ingest, &|_| Ok(()))?;
        let labels = Labels::from([(LABEL_UNCOMPRESSED.to_owned(), made.diff_id.to_string())]);
        blobs.push((committed(ingest, media_type::OCI_LAYER_GZIP)?, labels));
    }
    let checkpoint = Checkpoint {
        criu: blobs[0].0.clone(),
        config: blobs[1].0.clone(),
        image: source.base.clone(),
        layer: blobs.get(2).map(|(layer, _)| layer.clone()),
    };
    let json = checkpoint.to_json(&Platform::host())?;
    let target = bytes(&index, media_type::OCI_INDEX, &json)?;
    blobs.push((target.clone(), checkpoint.gc_labels()));
    Ok(Stored {
        target,
        blobs,
        base: source.base.as_ref().map(|(_, target)| target.clone()),
        recorded: Vec::new(),
    })
}

fn committed(ingest: Ingest, media_type: &str) -> Result<Descriptor> {
    let blob = ingest.commit(0, None)?;
    Ok(Descriptor { media_type: media_type.to_owned(), digest: blob.digest, size: blob.size })
}

/// One commit: the blobs' rows, the image, the event, and the intent that says so. Done before: nothing is left to do. Gives what was stored, with
/// the rows that are new.
pub(super) async fn record(
    core: &Shared,
    operation: &OperationRecord,
    name: &ImageName,
    stored: Stored,
) -> Result<Stored> {
    let (operation, name) = (operation.clone(), name.clone());
    write(core, &content::WRITER, DEADLINE, move |core| async move {
        write(&core, &images::WRITER, DEADLINE, move |core| async move {
            record_now(&core, operation, name, stored).await
        })
        .await
    })
    .await
}

async fn record_now(
    core: &Shared,
    operation: OperationRecord,
    name: ImageName,
    mut stored: Stored,
) -> Result<Stored> {
    let namespace = operation.namespace.clone();
    if is_recorded(core, &operation)? {
        return Ok(stored);
    }
    if images::get(core, &namespace, &name).is_ok() {
        return Err(taken(&name));
    }
    for part in stored.blobs.iter().map(|(part, _)| part).chain(&stored.base) {
        // Inside the writer that deletes, so it holds until the commit.
        if !core.content.has_blob(&part.digest) {
            return Err(Error::unavailable(format!("blob {} was deleted in the middle", part.digest))
                .with_hint("try again"));
        }
    }
    let now = Timestamp::now();
    let image = ImageRecord {
        namespace: namespace.clone(),
        name: name.clone(),
        target: stored.target.clone(),
        labels: Labels::from([(LABEL_CHECKPOINT.to_owned(), "true".to_owned())]),
        created_at: now,
        updated_at: now,
    };
    image.validate()?;
    let mut batch = Batch::new();
    for (part, labels) in &stored.blobs {
        if content::get(core, &namespace, &part.digest).is_err() {
            stored.recorded.push(part.digest);
        }
        content::put_or_extend(core, &mut batch, content::record_of(&namespace, part, labels.clone()))?;
    }
    images::put(&mut batch, &image, true);
    if let Intent::Checkpoint { container, .. } = &operation.intent {
        let event = Event::TaskCheckpointed { container_id: container.clone(), checkpoint: name.to_string() };
        batch.publish(&namespace, event);
    }
    batch.update_operation(&marked(operation, true));
    core.commit(batch).await?;
    Ok(stored)
}

/// The name of an image that is there is not taken over.
pub(crate) fn taken(name: &ImageName) -> Error {
    Error::already_exists(format!("image {name}"))
        .with_hint("give the checkpoint another name, or remove that image")
}

fn is_recorded(core: &Shared, operation: &OperationRecord) -> Result<bool> {
    let stored = core.store.get::<OperationRecord>(&key::operation(operation.id))?;
    let recorded = |it: &OperationRecord| matches!(it.intent, Intent::Checkpoint { recorded: true, .. });
    Ok(stored.as_ref().is_some_and(recorded))
}

fn marked(mut operation: OperationRecord, is: bool) -> OperationRecord {
    if let Intent::Checkpoint { recorded, .. } = &mut operation.intent {
        *recorded = is;
    }
    operation
}

/// Takes the image back; its blobs are [`remove`]'s business.
pub(super) async fn unrecord(core: &Shared, operation: &OperationRecord, name: &ImageName) -> Result<()> {
    let (operation, name) = (operation.clone(), name.clone());
    write(core, &images::WRITER, DEADLINE, move |core| async move {
        if !is_recorded(&core, &operation)? {
            return Ok(());
        }
        let mut batch = Batch::new();
        if images::get(&core, &operation.namespace, &name).is_ok() {
            batch
                .delete::<ImageRecord>(key::image(&operation.namespace, &name))
                .publish(&operation.namespace, Event::ImageDelete { name });
        }
        batch.update_operation(&marked(operation, false));
        core.commit(batch).await.map(drop)
    })
    .await
}

/// Removes what was written: rows that only this made, and files that no row names.
pub(super) async fn remove(
    core: &Shared,
    container: &ContainerId,
    namespace: &NamespaceName,
    stored: Stored,
) -> Result<()> {
    let owned = namespace.clone();
    write(core, &content::WRITER, DEADLINE, move |core| async move {
        let mut batch = Batch::new();
        for digest in stored.recorded {
            batch
                .delete::<ContentRecord>(key::content(&owned, &digest))
                .publish(&owned, Event::ContentDelete { digest });
        }
        core.commit(batch).await?;
        for (part, _) in stored.blobs {
            if !content::holders(&core, &part.digest)? {
                let files = core.content.clone();
                blocking(move || Ok(files.remove_blob(&part.digest)?)).await?;
            }
        }
        Ok(())
    })
    .await?;
    forget_ingests(core, container, namespace).await
}

/// Bytes of a checkpoint that was not finished.
pub(super) async fn forget_ingests(
    core: &Shared,
    container: &ContainerId,
    namespace: &NamespaceName,
) -> Result<()> {
    let (files, references, namespace) = (core.content.clone(), references(container), namespace.clone());
    blocking(move || {
        for reference in references {
            match files.abort(&namespace, &reference) {
                Err(error) if error.class() != ErrorClass::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    })
    .await
}
