//! Pulling: a logged operation that goes on without its client, and again after a crash.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::image;
use bosun_types::content::Descriptor;
use bosun_types::gc::Object;
use bosun_types::image::ImageRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::platform::Platform;
use bosun_types::transfer::{PartStatus, Platforms, PullRequest};
use bosun_types::{Digest, Error, ErrorClass, Result};
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};

use super::documents::{self, Documents};
use super::layers::{self, Layers, Work};
use super::record::{self, Finished};
use super::{logged, schema1};
use crate::core::blocking;
use crate::operation::{Operation, PULL, Plan};

/// Blobs at a time that are fetched and not unpacked.
const OTHERS_AT_ONCE: usize = 4;

pub(super) async fn run(
    work: Work,
    request: PullRequest,
    operation: &OperationRecord,
) -> Result<Vec<ImageRecord>> {
    let core = work.core.clone();
    let snapshotter = request.unpack.as_deref().and_then(|name| core.snapshotter(name).ok());
    let pull = Pull { work: Work { snapshotter, ..work }, request, found: Mutex::default() };
    logged::perform(&core, &pull, pull.record(operation), operation).await
}

/// [`PULL`].
struct Pull {
    work: Work,
    request: PullRequest,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    target: Option<Descriptor>,
    /// Of each platform that is to be usable here.
    images: Option<Arc<Vec<Documents>>>,
    /// What else an index names, with its own children; only where everything is wanted.
    others: Vec<(Descriptor, Vec<Digest>)>,
    layers: Option<Layers>,
}

impl Pull {
    fn set(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn target(&self) -> Result<Descriptor> {
        let target = self.found.lock().unwrap_or_else(PoisonError::into_inner).target.clone();
        target.ok_or_else(|| Error::internal("a pull resolves first"))
    }

    async fn resolve(&self) -> Result<()> {
        let target = self.work.unless_cancelled(self.work.remote()?.repository.resolve()).await?;
        self.set(|found| found.target = Some(target));
        Ok(())
    }

    async fn fetch_documents(&self) -> Result<()> {
        let mut target = self.target()?;
        if schema1::is_schema1(&target) {
            target = schema1::convert(&self.work, &self.request, &target).await?;
            self.set(|found| found.target = Some(target.clone()));
        }
        let (images, others) = match &self.request.platforms {
            Platforms::Host => (vec![self.image(&target, &Platform::host()).await?], Vec::new()),
            Platforms::Only(platforms) => {
                let mut images = Vec::new();
                for platform in platforms {
                    images.push(self.image(&target, platform).await?);
                }
                (images, Vec::new())
            }
            Platforms::All => self.everything(&target).await?,
        };
        self.set(|found| {
            found.images = Some(Arc::new(images));
            found.others = others;
        });
        Ok(())
    }

    async fn image(&self, target: &Descriptor, platform: &Platform) -> Result<Documents> {
        let source = |descriptor, most| -> BoxFuture<'_, Result<Vec<u8>>> {
            Box::pin(self.document(descriptor, most))
        };
        let documents = documents::collect(target, platform, &source).await?;
        self.work.remote()?.learn(documents.manifest.elsewhere.clone());
        Ok(documents)
    }

    /// What this host can run, if there is such an image, and everything else.
    async fn everything(
        &self,
        target: &Descriptor,
    ) -> Result<(Vec<Documents>, Vec<(Descriptor, Vec<Digest>)>)> {
        let lookup = |descriptor: Descriptor| -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
            Box::pin(async move { self.document(descriptor, image::MANIFEST_BYTES_MAX).await.map(Some) })
        };
        let tree = documents::tree(target, &lookup).await?;
        let ours = match self.image(target, &Platform::host()).await {
            Ok(image) => vec![image],
            Err(error) if error.class == ErrorClass::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let known: BTreeSet<Digest> =
            ours.iter().flat_map(Documents::blobs).map(|blob| blob.digest).collect();
        self.work.remote()?.learn(tree.elsewhere);
        let others =
            tree.found.into_iter().filter(|(descriptor, _)| !known.contains(&descriptor.digest)).map(
                |(descriptor, children)| (descriptor, children.iter().map(|child| child.digest).collect()),
            );
        Ok((ours, others.collect()))
    }

    /// A small blob: from content, else from the registry into content.
    async fn document(&self, descriptor: Descriptor, bytes_max: usize) -> Result<Vec<u8>> {
        let kind = if descriptor.media_type.contains("index") || descriptor.media_type.contains("list") {
            "index"
        } else if descriptor.media_type.contains("manifest") {
            "manifest"
        } else {
            "config"
        };
        let part = self.work.progress.part(kind, &descriptor);
        self.work.keep(vec![Object::Blob(descriptor.digest)]).await;
        let content = self.work.core.content.clone();
        if content.has_blob(&descriptor.digest) {
            let bytes = blocking(move || Ok(content.read_blob(&descriptor.digest, bytes_max)?)).await?;
            part.set(PartStatus::Exists);
            return Ok(bytes);
        }
        part.set(PartStatus::Downloading);
        let fetch = self.work.remote()?.repository.fetch_bytes(&descriptor);
        let bytes = self.work.unless_cancelled(fetch).await?;
        let bytes = keep(&self.work, kind, &descriptor, bytes).await?;
        part.set(PartStatus::Done);
        Ok(bytes)
    }

    async fn fetch_layers(&self) -> Result<()> {
        // Repeated, the first pass's locks and directories go first.
        let (images, others) = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.layers = None;
            let images = found.images.clone();
            (images.ok_or_else(|| Error::internal("a pull has its documents first"))?, found.others.clone())
        };
        self.work.remove_made().await?;
        self.work.keep(others.iter().map(|(blob, _)| Object::Blob(blob.digest)).collect()).await;
        let layers = layers::all(&self.work, &images).await?;
        let jobs = others.iter().map(|(blob, _)| {
            let part = self.work.progress.part("other", blob);
            async move { layers::ensure_blob(&self.work, blob, &part).await }
        });
        let jobs: Vec<_> = jobs.collect();
        futures::stream::iter(jobs).buffer_unordered(OTHERS_AT_ONCE).try_collect::<()>().await?;
        self.set(|found| found.layers = Some(layers));
        Ok(())
    }

    async fn record(&self, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
        let target = self.target()?;
        let (images, others, layers) = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            (found.images.take(), std::mem::take(&mut found.others), found.layers.take())
        };
        let documents =
            images.and_then(Arc::into_inner).ok_or_else(|| Error::internal("a pull has its documents"))?;
        let layers = layers.ok_or_else(|| Error::internal("a pull has its layers"))?;
        let finished = Finished {
            names: vec![self.request.reference.image_name()?],
            target,
            labels: self.request.labels.clone(),
            documents,
            others,
            layers,
        };
        record::commit(&self.work, vec![finished], Some(operation.id)).await
    }
}

impl Operation for Pull {
    fn plan(&self) -> &'static Plan {
        &PULL
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.resolve()),
            1 => Box::pin(self.fetch_documents()),
            _ => Box::pin(self.fetch_layers()),
        }
    }

    /// Bytes stay, to be resumed; directories go.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.work.remove_made())
    }
}

/// Makes a small blob be here; gives its bytes back.
pub(super) async fn keep(
    work: &Work,
    kind: &str,
    descriptor: &Descriptor,
    bytes: Vec<u8>,
) -> Result<Vec<u8>> {
    work.keep(vec![Object::Blob(descriptor.digest)]).await;
    let _blob = work.core.transfers.lock(format!("blob/{}", descriptor.digest)).await;
    let (content, descriptor) = (work.core.content.clone(), descriptor.clone());
    let (namespace, reference) = (work.namespace.clone(), format!("{kind}-{}", descriptor.digest));
    blocking(move || {
        if content.has_blob(&descriptor.digest) {
            return Ok(bytes);
        }
        let mut ingest = content.begin(&namespace, &reference, descriptor.size, Some(descriptor.digest))?;
        if ingest.offset() > 0 {
            ingest.restart()?;
        }
        ingest.write(&bytes)?;
        ingest.commit(descriptor.size, Some(&descriptor.digest))?;
        Ok(bytes)
    })
    .await
}
