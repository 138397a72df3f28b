//! Scrub: blobs against their digests, layers' directories against their blobs; and their repair.
//!
//! A damaged blob is fetched again from where its labels say it came from, or from the images that keep it, and takes the damaged one's place by a
//! rename: readers have the old bytes or the new ones. A damaged layer is mended file by file the same way, from a fresh unpack of its blob, so that
//! running containers keep their mounts (ADR 0022). Neither is an operation: a crash leaves an unfinished write, or a directory that no row
//! names, which go by themselves, and the next scrub finds what is left.

use std::sync::Arc;

use bosun_storage::scrub::{differences, mend};
use bosun_types::content::{ContentRecord, Descriptor, Finding};
use bosun_types::gc::Object;
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::snapshot::SnapshotKind;
use bosun_types::{Digest, Error, ErrorClass, NamespaceName, Result, SnapshotKey};
use futures::StreamExt as _;

use crate::core::{Shared, SharedSnapshotter, blocking};
use crate::namespaces::DEADLINE;
use crate::ports::{Access, RepositoryPort};
use crate::transfers::{self, Documents, Work};
use crate::writer::write;
use crate::{content, snapshots};

/// Differences told of one layer at most.
const TOLD_MAX: usize = 100;
/// Looks after a repair before it is given up.
const TRIES_MAX: usize = 2;

/// Looks at one blob; with `repair` a damaged one is fetched again.
pub(crate) async fn blob(
    core: &Shared,
    namespace: &NamespaceName,
    digest: Digest,
    repair: bool,
) -> Result<Finding> {
    let _hold = core.gc.barrier.hold(vec![(namespace.clone(), Object::Blob(digest))]).await;
    let record = content::get(core, namespace, &digest)?;
    let Some(damage) = damage_of(core, &record).await? else { return Ok(Finding::default()) };
    tracing::error!(%digest, damage, "a blob is damaged");
    if !repair {
        return Ok(Finding { damage: vec![damage], repaired: false });
    }
    let mut failure = None;
    for reference in sources(core, namespace, &record).await? {
        match fetch_again(core, namespace, &record, &reference).await {
            Ok(()) => return Ok(Finding { damage: vec![damage], repaired: true }),
            Err(error) => failure = Some(error.context(&reference)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::failed_precondition(format!("blob {digest}: {damage}, and nothing says where it came from"))
            .with_hint("pull or import its image again")
    }))
}

/// What is wrong with a blob's file.
async fn damage_of(core: &Shared, record: &ContentRecord) -> Result<Option<String>> {
    let (content, digest, size) = (core.content.clone(), record.digest, record.size);
    blocking(move || match content.hash_blob(&digest).map_err(Error::from) {
        Ok((actual, bytes)) if actual == digest && bytes == size => Ok(None),
        Ok((actual, bytes)) => Ok(Some(format!("its {bytes} bytes have digest {actual}"))),
        Err(error) if error.class == ErrorClass::NotFound => Ok(Some("its file is missing".to_owned())),
        Err(error) => Err(error),
    })
    .await
}

/// Repositories that had it: by its labels, else by the names of the images that keep it.
async fn sources(core: &Shared, namespace: &NamespaceName, record: &ContentRecord) -> Result<Vec<Reference>> {
    let mut found = transfers::repositories(&record.labels);
    if found.is_empty() {
        let chains = crate::gc::why(core, namespace, Object::Blob(record.digest)).await?;
        let names = chains.iter().filter(|chain| chain.root.kind == "image").map(|chain| &chain.root.id);
        found.extend(names.filter_map(|name| name.parse::<Reference>().ok()));
    }
    let digest = Some(record.digest);
    Ok(found.into_iter().map(|reference| Reference { tag: None, digest, ..reference }).collect())
}

async fn fetch_again(
    core: &Shared,
    namespace: &NamespaceName,
    record: &ContentRecord,
    reference: &Reference,
) -> Result<()> {
    let (registry, asked) = (Arc::clone(&core.registry), reference.clone());
    let repository: Arc<dyn RepositoryPort> =
        blocking(move || registry.repository(&asked, &Access::default())).await?;
    let found = repository.find(&record.digest).await?;
    let (content, owner, digest) = (core.content.clone(), namespace.clone(), record.digest);
    let mut ingest = blocking(move || {
        let mut ingest = content.begin(&owner, &format!("repair-{digest}"), 0, Some(digest))?;
        ingest.restart()?;
        Ok(ingest)
    })
    .await?;
    // Registries give manifests and indexes in another place than blobs.
    let mut stream = if ["manifest", "index"].iter().any(|word| found.media_type.contains(word)) {
        let bytes = repository.fetch_bytes(&found).await?;
        futures::stream::once(async move { Ok(bytes.into()) }).boxed()
    } else {
        repository.fetch(&found, 0).await?.stream
    };
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        ingest = blocking(move || {
            ingest.write(&chunk)?;
            Ok(ingest)
        })
        .await?;
    }
    let (namespace, size) = (namespace.clone(), record.size);
    // In the writer, so that a file never appears of which the row has gone.
    write(core, &content::WRITER, DEADLINE, move |core| async move {
        content::get(&core, &namespace, &digest)?;
        blocking(move || Ok(ingest.commit(size, Some(&digest))?)).await.map(drop)
    })
    .await
}

/// Looks at one layer; with `repair` a damaged one is mended. NotFound when no image here explains what is to be in it.
pub(crate) async fn layer(
    core: &Shared,
    namespace: &NamespaceName,
    snapshotter: &SharedSnapshotter,
    key: SnapshotKey,
    repair: bool,
) -> Result<Finding> {
    let this = Object::Snapshot { snapshotter: snapshotter.name().to_owned(), key: key.clone() };
    let _hold = core.gc.barrier.hold(vec![(namespace.clone(), this)]).await;
    let record = snapshots::get(core, namespace, snapshotter.name(), &key)?;
    if record.kind != SnapshotKind::Committed {
        return Err(Error::failed_precondition(format!(
            "snapshot {key} is not committed: its files may change"
        )));
    }
    let _one_at_a_time = core.transfers.lock(format!("{namespace}/{}/{key}", snapshotter.name())).await;
    let work = Work::local(core, namespace, Some(Arc::clone(snapshotter)));
    let (documents, index) = explain(&work, &key).await?;
    let mut finding = Finding::default();
    for _ in 0..TRIES_MAX {
        let looked = look(&work, &documents, index, record.directory, repair).await;
        work.remove_made().await?;
        let damage = looked?;
        if damage.is_empty() {
            finding.repaired = !finding.damage.is_empty();
            return Ok(finding);
        }
        if finding.damage.is_empty() {
            tracing::error!(snapshot = %key, count = damage.len(), first = damage[0], "a layer is damaged");
            finding.damage = damage;
        }
        if !repair {
            return Ok(finding);
        }
    }
    Err(Error::data_loss(format!("snapshot {key}: {} is wrong again after its repair", finding.damage[0]))
        .with_hint("look at the disk"))
}

/// One comparison with a fresh unpack; with `repair` what differs is mended.
async fn look(
    work: &Work,
    documents: &Documents,
    index: usize,
    actual: u64,
    repair: bool,
) -> Result<Vec<String>> {
    let fresh = transfers::unpack_again(work, documents, index).await?;
    let Some(snapshotter) = work.snapshotter.clone() else { return Ok(Vec::new()) };
    blocking(move || {
        let (fresh, root) = (snapshotter.layer_root(fresh), snapshotter.layer_root(actual));
        let found = differences(&fresh, &root)?;
        if repair && !found.is_empty() {
            mend(&fresh, &root, &found)?;
            snapshotter.sync(actual)?;
        }
        Ok(found.iter().take(TOLD_MAX).map(ToString::to_string).collect())
    })
    .await
}

/// The image, and the place in it, of the layer that a snapshot is.
async fn explain(work: &Work, key: &SnapshotKey) -> Result<(Documents, usize)> {
    let images: Vec<ImageRecord> = work.core.store.scan(&bosun_storage::key::within(&work.namespace))?;
    for ImageRecord { target, .. } in images {
        // One that is not whole, or for another machine, explains nothing; others may.
        if let Ok(documents) = documents_of(work, &target).await
            && let Some(index) = documents.chain.iter().position(|chain| chain.to_string() == key.as_str())
        {
            return Ok((documents, index));
        }
    }
    Err(Error::not_found(format!("snapshot {key}: no image here says what is to be in it")))
}

async fn documents_of(work: &Work, target: &Descriptor) -> Result<Documents> {
    transfers::local_documents(work, target, &Platform::host()).await
}
