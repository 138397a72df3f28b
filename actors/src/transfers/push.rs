//! Pushing (REM-16..21): everything that an image names, children first, the target last and under its tag. All of it must be here: half an index is
//! refused by its name and not sent.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::content::ContentStore;
use bosun_storage::image::{self, Parsed, media_type};
use bosun_storage::key;
use bosun_types::content::{ContentRecord, Descriptor};
use bosun_types::gc::Object;
use bosun_types::image::ImageRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::platform::Platform;
use bosun_types::transfer::{PartStatus, PushRequest};
use bosun_types::{Digest, Error, ErrorClass, Result, Timestamp};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

use super::layers::Work;
use super::progress::Part;
use super::{documents, logged, source};
use crate::core::blocking;
use crate::namespaces::DEADLINE;
use crate::operation::{Operation, PUSH, Plan};
use crate::ports::{BlobSource, Pushed};
use crate::writer::write;
use crate::{content, images};

/// Blobs on their way at a time.
const AT_ONCE: usize = 4;
/// Bytes read from a blob at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Missing things that an error names.
const NAMED_MAX: usize = 3;

pub(super) async fn run(
    work: Work,
    request: PushRequest,
    operation: &OperationRecord,
) -> Result<Vec<ImageRecord>> {
    let core = work.core.clone();
    let push = Push { work, request, found: Mutex::default() };
    logged::perform(&core, &push, push.record(operation), operation).await
}

/// [`PUSH`].
struct Push {
    work: Work,
    request: PushRequest,
    found: Mutex<Option<Found>>,
}

#[derive(Clone)]
struct Found {
    image: ImageRecord,
    /// Layers, configs and whatever else is no document.
    blobs: Vec<Descriptor>,
    /// Manifests and indexes in the order of sight, the target first.
    documents: Vec<Descriptor>,
}

impl Push {
    fn found(&self) -> Result<Found> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        found.ok_or_else(|| Error::internal("a push walks first"))
    }

    /// What is to be sent, and whether all of it is here.
    async fn walk(&self) -> Result<()> {
        let (core, namespace) = (&self.work.core, &self.work.namespace);
        let name = match &self.request.image {
            Some(name) => name.clone(),
            None => self.request.reference.image_name()?,
        };
        let image = images::get(core, namespace, &name)?;
        let target = match &self.request.platform {
            None => image.target.clone(),
            Some(platform) => self.choose(&image.target, platform).await?,
        };
        // The name may go meanwhile: what it names stays until it is sent.
        self.work.keep(vec![Object::Blob(target.digest)]).await;
        // What is not here has no children that anyone could see; it is missing itself.
        let lookup = |descriptor: Descriptor| -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
            Box::pin(async move {
                match read(&self.work, &descriptor.digest, image::MANIFEST_BYTES_MAX).await {
                    Err(error) if error.class == ErrorClass::NotFound => Ok(None),
                    read => read.map(Some),
                }
            })
        };
        let tree = documents::tree(&target, &lookup).await?;
        // Who pulls it has the addresses of what may not be given on.
        let is_sent = |it: &Descriptor| {
            self.request.non_distributable || !media_type::is_non_distributable(&it.media_type)
        };
        let all: Vec<Descriptor> =
            tree.found.into_iter().map(|(descriptor, _)| descriptor).filter(is_sent).collect();
        let here = |it: &&Descriptor| content::get(core, namespace, &it.digest).is_ok();
        let missing: Vec<Digest> = all.iter().filter(|it| !here(it)).map(|it| it.digest).collect();
        if !missing.is_empty() {
            return Err(not_here(&image, &target, &missing));
        }
        let (documents, blobs) = all.into_iter().partition(is_document);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Found { image, blobs, documents });
        Ok(())
    }

    /// The manifest for one platform.
    async fn choose(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor> {
        let mut descriptor = target.clone();
        loop {
            let bytes = read(&self.work, &descriptor.digest, image::MANIFEST_BYTES_MAX).await?;
            match image::parse_manifest_or_index(&bytes, &descriptor.media_type)? {
                // A chain of indexes ends: each names the next by its digest.
                Parsed::Index(index) => descriptor = image::choose(&index, platform)?,
                Parsed::Manifest(_) => return Ok(descriptor),
            }
        }
    }

    async fn push_blobs(&self) -> Result<()> {
        let found = self.found()?;
        let jobs = found.blobs.iter().map(|descriptor| {
            let kind = if media_type::is_config(&descriptor.media_type) { "config" } else { "layer" };
            blob(&self.work, descriptor, kind)
        });
        let jobs: Vec<_> = jobs.collect();
        futures::stream::iter(jobs).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Children before parents: in the reverse order of sight.
    async fn push_manifests(&self) -> Result<()> {
        let found = self.found()?;
        for (index, descriptor) in found.documents.iter().enumerate().rev() {
            let object = match index {
                0 => self.request.reference.object()?,
                _ => descriptor.digest.to_string(),
            };
            document(&self.work, descriptor, &object).await?;
        }
        Ok(())
    }

    /// Remembers that this repository has it all, and closes the intent.
    async fn record(&self, operation: &OperationRecord) -> Result<Vec<ImageRecord>> {
        let found = self.found()?;
        let (namespace, id) = (self.work.namespace.clone(), operation.id);
        let reference = self.work.remote()?.reference.clone();
        write(&self.work.core, &content::WRITER, DEADLINE, move |core| async move {
            let mut batch = Batch::new();
            for descriptor in found.blobs.iter().chain(&found.documents) {
                let stored: Option<ContentRecord> =
                    core.store.get(&key::content(&namespace, &descriptor.digest))?;
                let Some(stored) = stored else { continue };
                let mut labels = stored.labels.clone();
                source::add(&mut labels, &reference);
                if labels != stored.labels {
                    batch.put(&ContentRecord { labels, updated_at: Timestamp::now(), ..stored });
                }
            }
            batch.close_operation(id);
            core.commit(batch).await.map(|_| vec![found.image])
        })
        .await
    }
}

impl Operation for Push {
    fn plan(&self) -> &'static Plan {
        &PUSH
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match step {
            0 => Box::pin(self.walk()),
            1 => Box::pin(self.push_blobs()),
            _ => Box::pin(self.push_manifests()),
        }
    }

    /// What a registry was given is its own.
    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn is_document(descriptor: &Descriptor) -> bool {
    media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type)
}

fn not_here(image: &ImageRecord, target: &Descriptor, missing: &[Digest]) -> Error {
    let named: Vec<String> = missing.iter().take(NAMED_MAX).map(Digest::to_string).collect();
    let more = if missing.len() > NAMED_MAX { ", …" } else { "" };
    let (name, count) = (&image.name, missing.len());
    let message = format!("image {name}: {count} of what it names are not here: {}{more}", named.join(", "));
    let hint = if media_type::is_index(&target.media_type) {
        format!("`--platform` pushes one of its images; `bosun pull --all-platforms {name}` fetches the rest")
    } else {
        format!("`bosun pull {name}` fetches what is missing")
    };
    Error::failed_precondition(message).with_hint(hint)
}

/// A small blob that this namespace has.
async fn read(work: &Work, digest: &Digest, most: usize) -> Result<Vec<u8>> {
    content::get(&work.core, &work.namespace, digest)?;
    let (store, digest) = (work.core.content.clone(), *digest);
    blocking(move || Ok(store.read_blob(&digest, most)?)).await
}

/// Makes the repository have a blob of this namespace.
pub(super) async fn blob(work: &Work, descriptor: &Descriptor, kind: &str) -> Result<()> {
    work.check_cancelled()?;
    let record = content::get(&work.core, &work.namespace, &descriptor.digest)?;
    let remote = work.remote()?;
    let part = work.progress.part(kind, descriptor);
    part.set(PartStatus::Uploading);
    let from = source::paths(&record.labels, &remote.reference);
    let failed = Arc::new(Mutex::new(None));
    let bytes = source_of(work.core.content.clone(), descriptor, &part, &failed);
    let pushed = work.unless_cancelled(remote.repository.push_blob(descriptor, bytes, &from)).await;
    part.set(match pushed {
        Ok(Pushed::Exists) => PartStatus::Exists,
        Ok(Pushed::Mounted) => PartStatus::Mounted,
        Ok(Pushed::Uploaded) => PartStatus::Done,
        // Our own blob's failure looks like a failure of the connection.
        Err(error) => {
            return Err(failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error));
        }
    });
    Ok(())
}

/// A blob's bytes from an offset on, each told to the followers.
fn source_of(
    store: ContentStore,
    descriptor: &Descriptor,
    part: &Part,
    failed: &Arc<Mutex<Option<Error>>>,
) -> BlobSource {
    let (digest, part, failed) = (descriptor.digest, part.clone(), Arc::clone(failed));
    Arc::new(move |offset| -> BoxStream<'static, io::Result<Bytes>> {
        let (store, part, failed) = (store.clone(), part.clone(), Arc::clone(&failed));
        let opened = async move {
            let open = blocking(move || Ok(store.open_blob(&digest)?)).await;
            let file = open.map_err(|error| {
                let text = error.to_string();
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                io::Error::other(text)
            })?;
            let mut file = tokio::fs::File::from_std(file);
            file.seek(io::SeekFrom::Start(offset)).await?;
            Ok::<_, io::Error>(ReaderStream::with_capacity(file, CHUNK_BYTES))
        };
        let mut sent = offset;
        futures::stream::once(opened)
            .try_flatten()
            .inspect_ok(move |chunk| {
                sent += chunk.len() as u64;
                part.moved(sent);
            })
            .boxed()
    })
}

/// Puts a manifest or index of this namespace under a tag or its digest, unless it is there.
pub(super) async fn document(work: &Work, descriptor: &Descriptor, object: &str) -> Result<()> {
    work.check_cancelled()?;
    let repository = &work.remote()?.repository;
    let kind = if media_type::is_index(&descriptor.media_type) { "index" } else { "manifest" };
    let part = work.progress.part(kind, descriptor);
    if work.unless_cancelled(repository.has_manifest(object, descriptor)).await? {
        part.set(PartStatus::Exists);
        return Ok(());
    }
    part.set(PartStatus::Uploading);
    let bytes = read(work, &descriptor.digest, image::MANIFEST_BYTES_MAX).await?;
    work.unless_cancelled(repository.push_manifest(object, &descriptor.media_type, bytes)).await?;
    part.set(PartStatus::Done);
    Ok(())
}
