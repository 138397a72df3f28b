//! Importing an archive (IEX-2..6), and unpacking what is already here: the same layers code on local blobs.

use std::collections::BTreeSet;
use std::sync::Arc;

use bosun_storage::batch::Batch;
use bosun_storage::image::closure::{ClosureError, Member, Platforms, closure};
use bosun_storage::image::import::{ImportOptions, Imported, ImportedImage, read_archive};
use bosun_storage::image::media_type;
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::platform::Platform;
use bosun_types::transfer::{ImportRequest, TransferKind, TransferState};
use bosun_types::{Digest, Error, ErrorClass, ImageName, Labels, LeaseId, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::channel::{ChannelReader, pump};
use super::documents::{self, Documents};
use super::layers::{self, Work};
use super::record::{self, Finished};
use super::{Added, TransferHandle};
use crate::core::{Shared, blocking};
use crate::{content, images, leases};

/// Chunks between the client and the reader.
const CHUNKS_WAITING: usize = 16;

/// Starts the worker.
pub(crate) fn start(
    core: &Shared,
    namespace: &NamespaceName,
    lease: Option<LeaseId>,
    request: ImportRequest,
    bytes: mpsc::Receiver<Bytes>,
) -> Result<TransferHandle> {
    leases::extend(core, &mut Batch::new(), namespace, lease.as_ref(), [])?;
    if let Some(snapshotter) = &request.unpack {
        core.snapshotter(snapshotter)?;
    }
    let id = core.store.next_transfer();
    let Added::New(handle, progress) =
        core.transfers.add(id, namespace, (TransferKind::Import, "archive"), None, None)?
    else {
        return Err(Error::internal("an import joins nothing"));
    };
    let snapshotter = request.unpack.as_deref().map(|name| core.snapshotter(name)).transpose()?;
    let cancel = handle.cancel.clone();
    let (core, namespace) = (core.clone(), namespace.clone());
    let work = Work {
        core,
        namespace,
        snapshotter,
        remote: None,
        progress: progress.clone(),
        cancel,
        made: Arc::default(),
        lease,
        kept: Arc::default(),
    };
    work.core.runtime.clone().spawn(async move {
        let state = match run(&work, &request, bytes).await {
            Ok(images) => TransferState::Done(images),
            Err(error) => TransferState::Failed(error),
        };
        progress.end(state);
    });
    Ok(handle)
}

async fn run(work: &Work, request: &ImportRequest, bytes: mpsc::Receiver<Bytes>) -> Result<Vec<ImageRecord>> {
    // Digests are known only when the bytes are here: until the rows are, no blob's file is removed.
    let importing = work.core.gc.barrier.importing();
    let imported = read(work, request, bytes).await;
    let result = match &imported {
        Err(error) => Err(error.clone()),
        Ok(imported) => finish(work, request, imported).await,
    };
    drop(importing);
    if result.is_err() {
        work.remove_made().await?;
    }
    work.let_go();
    // Also after a success: platforms that nobody asked for have no row.
    let written = imported.map(|imported| imported.blobs).unwrap_or_default();
    let unrecorded = written.iter().map(|blob| blob.digest);
    let unrecorded = unrecorded.filter(|digest| content::get(&work.core, &work.namespace, digest).is_err());
    crate::gc::remove_files(&work.core, unrecorded.collect()).await?;
    result
}

/// The archive into blobs.
async fn read(work: &Work, request: &ImportRequest, bytes: mpsc::Receiver<Bytes>) -> Result<Imported> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    tokio::spawn(pump(bytes, sender, work.cancel.clone()));
    let (work, base_name) = (work.clone(), request.base_name.clone());
    blocking(move || {
        let known = |digest: &Digest| content::get(&work.core, &work.namespace, digest).is_ok();
        let progress = |bytes| work.progress.passed(bytes);
        let options = ImportOptions { base_name: base_name.as_deref(), known: &known, progress: &progress };
        Ok(read_archive(ChannelReader::new(receiver), &work.core.content, &work.namespace, &options)?)
    })
    .await
}

async fn finish(work: &Work, request: &ImportRequest, imported: &Imported) -> Result<Vec<ImageRecord>> {
    let mut recorded = Vec::new();
    for image in &imported.images {
        let names = names_of(image, request)?;
        let (documents, others) = parts_of(work, request, image).await?;
        let layers = layers::all(work, &documents).await?;
        let (target, labels) = (image.target.clone(), Labels::new());
        // Images of one archive share layers: each is committed, so that the next finds them, and its locks are free.
        recorded.extend(
            record::commit(work, vec![Finished { names, target, labels, documents, others, layers }], None)
                .await?,
        );
    }
    Ok(recorded)
}

/// The names of the archive, and with `digests` one by digest.
fn names_of(image: &ImportedImage, request: &ImportRequest) -> Result<Vec<ImageName>> {
    let mut names = image.names.clone();
    if request.digests {
        let bases: Vec<&str> = match &request.base_name {
            Some(base) => vec![base.as_str()],
            None => image.names.iter().map(|name| repository_of(name.as_str())).collect(),
        };
        for base in bases {
            let name = ImageName::new(format!("{base}@{}", image.target.digest))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// A name without tag and digest.
fn repository_of(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(['@', ':']).map_or(name, |at| &name[..last + at])
}

/// What is unpacked of an image, and what else of it is kept: a checkpoint has files that are no layers, and an index other platforms.
async fn parts_of(
    work: &Work,
    request: &ImportRequest,
    image: &ImportedImage,
) -> Result<(Vec<Documents>, Vec<(Descriptor, Vec<Digest>)>)> {
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let wanted =
        if request.all_platforms { Platforms::All } else { Platforms::These(vec![platform.clone()]) };
    let (content, target) = (work.core.content.clone(), image.target.clone());
    let members = blocking(move || {
        let has = |digest: &Digest| content.has_blob(digest);
        let read = |digest: &Digest, most: usize| content.read_blob(digest, most);
        closure(&target, &wanted, &has, &read).map_err(|error| match error {
            ClosureError::Image(error) => Error::from(error),
            ClosureError::Read(error) => Error::from(error),
            error @ ClosureError::Missing { .. } => {
                Error::failed_precondition(format!("image archive: {error}"))
            }
        })
    })
    .await?;
    let is_image =
        |member: &Member| member.kind == "config" && media_type::is_config(&member.descriptor.media_type);
    let documents = if members.iter().any(is_image) {
        match local_documents(work, &image.target, &platform).await {
            // Of all platforms this host's need not be one.
            Err(error) if request.all_platforms && error.class == ErrorClass::NotFound => Vec::new(),
            documents => whole(work, request, documents?)?.into_iter().collect(),
        }
    } else {
        Vec::new()
    };
    let unpacked: BTreeSet<Digest> =
        documents.iter().flat_map(Documents::blobs).map(|blob| blob.digest).collect();
    let others = members.into_iter().filter(|member| !unpacked.contains(&member.descriptor.digest));
    Ok((documents, others.map(|member| (member.descriptor, member.children)).collect()))
}

/// An image of which a layer was left out, because it may not be given on, can be kept and not be unpacked.
fn whole(work: &Work, request: &ImportRequest, documents: Documents) -> Result<Option<Documents>> {
    let is_absent = |layer: &&Descriptor| !work.core.content.has_blob(&layer.digest);
    match documents.manifest.layers.iter().find(is_absent) {
        None => Ok(Some(documents)),
        Some(_) if request.unpack.is_none() => Ok(None),
        Some(layer) => Err(Error::failed_precondition(format!(
            "image archive: layer {} may not be given on and is not in it",
            layer.digest
        ))
        .with_hint("import it without unpacking, and then pull it")),
    }
}

/// From content only. What an archive does not hold, and its manifest needs, is an error that names it.
pub(crate) async fn local_documents(
    work: &Work,
    target: &Descriptor,
    platform: &Platform,
) -> Result<Documents> {
    let content = work.core.content.clone();
    documents::collect(target, platform, &move |descriptor, bytes_max| {
        let content = content.clone();
        Box::pin(blocking(move || Ok(content.read_blob(&descriptor.digest, bytes_max)?)))
    })
    .await
}

/// Unpacks an image that is recorded; nothing to do is the usual case and costs a few reads.
pub(crate) async fn unpack_recorded(
    core: &Shared,
    namespace: &NamespaceName,
    name: &ImageName,
    snapshotter: &str,
) -> Result<()> {
    let target = images::get(core, namespace, name)?.target;
    unpack_target(core, namespace, &target, snapshotter).await.map_err(|error| match error.class {
        ErrorClass::NotFound => error
            .context(format!("image {name}"))
            .with_hint(format!("`bosun pull {name}` fetches what is missing")),
        _ => error.context(format!("image {name}")),
    })
}

/// The same for a target that is here.
pub(crate) async fn unpack_target(
    core: &Shared,
    namespace: &NamespaceName,
    target: &Descriptor,
    snapshotter: &str,
) -> Result<()> {
    let work = Work::local(core, namespace, Some(core.snapshotter(snapshotter)?));
    let documents = local_documents(&work, target, &Platform::host()).await?;
    if documents.chain.last().is_none_or(|top| work.is_unpacked(top).unwrap_or(false)) {
        return Ok(());
    }
    let result = unpack_local(&work, target.clone(), documents).await;
    if result.is_err() {
        work.remove_made().await?;
    }
    result
}

async fn unpack_local(work: &Work, target: Descriptor, documents: Documents) -> Result<()> {
    let documents = vec![documents];
    let layers = layers::all(work, &documents).await?;
    let (names, others) = (Vec::new(), Vec::new());
    let finished = Finished { names, target, labels: Labels::new(), documents, others, layers };
    record::commit(work, vec![finished], None).await.map(drop)
}
