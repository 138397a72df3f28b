//! Content: blobs as each namespace sees them (CON-*). Rows go through the writer; bytes never go through a mailbox: the handle reads and writes
//! files on worker threads, a chunk at a time.
//!
//! Order of durability: the blob's file and its directory entry are synced before the row that names it commits. A crash between leaves a
//! file without a row, which recovery removes.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bosun_storage::batch::Batch;
use bosun_storage::content::Ingest;
use bosun_storage::key;
use bosun_types::content::{ContentRecord, Descriptor, Finding, IngestStatus};
use bosun_types::event::Event;
use bosun_types::gc::Object;
use bosun_types::lease::LeaseResource;
use bosun_types::{Digest, Error, Labels, LeaseId, NamespaceName, Result, Timestamp, labels};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::core::{Core, Shared, blocking};
use crate::directory::Name;
use crate::gc::barrier::Hold;
use crate::leases;
use crate::mask::Mask;
use crate::namespaces::DEADLINE;
use crate::transfers::source;
use crate::writer::{revise, write};

/// The writer.
pub(crate) const WRITER: Name = Name::Service("content");
/// Largest chunk of a read (CON-8), in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for a slow reader.
const CHUNKS_WAITING: usize = 4;
/// Longest ingest ref in bytes.
const REFERENCE_BYTES_MAX: usize = 4096;

/// A namespace's content.
#[derive(Clone)]
pub struct ContentHandle {
    core: Shared,
    namespace: NamespaceName,
    lease: Option<LeaseId>,
}

/// Bytes of a blob, in order.
pub type ByteStream = mpsc::Receiver<Result<Bytes>>;

impl ContentHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName, lease: Option<LeaseId>) -> Self {
        Self { core, namespace, lease }
    }

    /// One blob; NotFound when this namespace does not have it, even if the file exists (CON-4).
    pub async fn info(&self, digest: &Digest) -> Result<ContentRecord> {
        get(&self.core, &self.namespace, digest)
    }

    /// All blobs, by digest.
    pub async fn list(&self) -> Result<Vec<ContentRecord>> {
        Ok(self.core.store.scan(&key::within(&self.namespace))?)
    }

    /// CON-5: paths `labels`, `labels.<key>`; none replaces all.
    pub async fn update_labels(
        &self,
        digest: &Digest,
        given: Labels,
        paths: Vec<String>,
    ) -> Result<ContentRecord> {
        let (namespace, digest) = (self.namespace.clone(), *digest);
        revise(&self.core, &WRITER, key::content(&namespace, &digest), DEADLINE, move |core| async move {
            let mut record = get(&core, &namespace, &digest)?;
            Mask::parse("content", &paths, &[])?.labels(&mut record.labels, &given);
            labels::validate(&record.labels)?;
            record.updated_at = Timestamp::now();
            let mut batch = Batch::new();
            batch.put(&record);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
    }

    /// CON-7: the row goes; the file goes when no namespace has the blob.
    pub async fn delete(&self, digest: &Digest) -> Result<()> {
        let (namespace, digest, lease) = (self.namespace.clone(), *digest, self.lease.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            get(&core, &namespace, &digest)?;
            let mut batch = Batch::new();
            batch
                .delete::<ContentRecord>(key::content(&namespace, &digest))
                .publish(&namespace, Event::ContentDelete { digest });
            leases::drop_entry(&mut batch, &namespace, lease.as_ref(), &leases::blob(&digest));
            core.commit(batch).await.map(drop)
        })
        .await?;
        // A crash before this leaves a file without a row, which recovery removes.
        crate::gc::remove_files(&self.core, vec![digest]).await
    }

    /// Bytes from `offset`; `size` 0 means to the end; beyond the end is OutOfRange (CON-8).
    pub async fn read(&self, digest: &Digest, offset: u64, size: u64) -> Result<ByteStream> {
        let record = get(&self.core, &self.namespace, digest)?;
        if offset > record.size {
            return Err(Error::out_of_range(format!(
                "offset {offset} is beyond the {} bytes of {digest}",
                record.size
            )));
        }
        let rest = record.size - offset;
        let mut left = if size == 0 { rest } else { size.min(rest) };
        let (content, digest) = (self.core.content.clone(), *digest);
        let mut file = blocking(move || {
            let mut file = content.open_blob(&digest)?;
            file.seek(SeekFrom::Start(offset))
                .map_err(|error| Error::data_loss(format!("blob {digest}: {error}")))?;
            Ok(file)
        })
        .await?;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        tokio::task::spawn_blocking(move || {
            while left > 0 {
                let want = left.min(CHUNK_BYTES as u64);
                let mut chunk = Vec::new();
                let chunk = match file.by_ref().take(want).read_to_end(&mut chunk) {
                    Ok(0) => Err(Error::data_loss(format!("blob {digest} is shorter than recorded"))),
                    Ok(_) => Ok(Bytes::from(chunk)),
                    Err(error) => Err(Error::data_loss(format!("blob {digest}: {error}"))),
                };
                left -= chunk.as_ref().map_or(left, |bytes| bytes.len() as u64);
                if sender.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Opens or resumes an ingest (CON-9, CON-11, CON-14). AlreadyExists when the expected blob is here already.
    pub async fn writer(
        &self,
        reference: String,
        total: u64,
        expected: Option<Digest>,
    ) -> Result<ContentWriter> {
        if reference.is_empty() || reference.len() > REFERENCE_BYTES_MAX {
            return Err(Error::invalid_argument(format!(
                "an ingest needs a ref of 1 to {REFERENCE_BYTES_MAX} bytes"
            )));
        }
        // What is here, or is another namespace's and shared, stays until this one is committed.
        let wanted = expected.map(|digest| (self.namespace.clone(), Object::Blob(digest)));
        let hold = self.core.gc.barrier.hold(wanted.into_iter().collect()).await;
        if self.lease.is_some() {
            let found = expected.filter(|digest| get(&self.core, &self.namespace, digest).is_ok());
            let resource = match found {
                Some(digest) => leases::blob(&digest),
                None => LeaseResource::Ingest(reference.clone()),
            };
            let mut batch = Batch::new();
            leases::extend(&self.core, &mut batch, &self.namespace, self.lease.as_ref(), [resource])?;
            self.core.commit(batch).await?;
        }
        let (core, namespace, named) = (self.core.clone(), self.namespace.clone(), reference.clone());
        let ingest = blocking(move || open(&core, &namespace, &named, total, expected)).await?;
        Ok(ContentWriter {
            core: self.core.clone(),
            namespace: self.namespace.clone(),
            lease: self.lease.clone(),
            reference,
            ingest: Arc::new(Mutex::new(Some(ingest))),
            _hold: Arc::new(hold),
        })
    }

    /// Whether a blob is what was committed; with `repair` a damaged one is fetched again. Goes on to its end when the caller leaves.
    pub async fn verify(&self, digest: Digest, repair: bool) -> Result<Finding> {
        let (core, namespace) = (self.core.clone(), self.namespace.clone());
        let work = async move { crate::scrub::blob(&core, &namespace, digest, repair).await };
        crate::diff::to_its_end(&self.core, work).await
    }

    /// One unfinished write (CON-21).
    pub async fn status(&self, reference: &str) -> Result<IngestStatus> {
        let (content, namespace, reference) =
            (self.core.content.clone(), self.namespace.clone(), reference.to_owned());
        blocking(move || Ok(content.status(&namespace, &reference)?)).await
    }

    /// Unfinished writes (CON-21).
    pub async fn statuses(&self) -> Result<Vec<IngestStatus>> {
        let (content, namespace) = (self.core.content.clone(), self.namespace.clone());
        blocking(move || Ok(content.statuses(&namespace)?)).await
    }

    /// Forgets an unfinished write (CON-20).
    pub async fn abort(&self, reference: &str) -> Result<()> {
        let (content, namespace, reference) =
            (self.core.content.clone(), self.namespace.clone(), reference.to_owned());
        let given = LeaseResource::Ingest(reference.clone());
        blocking(move || Ok(content.abort(&namespace, &reference)?)).await?;
        release(&self.core, &self.namespace, self.lease.as_ref(), &given).await
    }
}

/// One open ingest. Dropped without a commit, its bytes stay for a resume (CON-22).
#[derive(Clone)]
pub struct ContentWriter {
    core: Shared,
    namespace: NamespaceName,
    lease: Option<LeaseId>,
    reference: String,
    ingest: Arc<Mutex<Option<Ingest>>>,
    /// Keeps the blob that was promised.
    _hold: Arc<Hold>,
}

impl ContentWriter {
    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Ingest) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (core, namespace, ingest) = (self.core.clone(), self.namespace.clone(), Arc::clone(&self.ingest));
        blocking(move || {
            let mut guard = ingest.lock().unwrap_or_else(PoisonError::into_inner);
            let open = guard.as_mut().ok_or_else(closed)?;
            match open.expected() {
                // CON-14: somebody else has committed what this one promises.
                Some(digest) if get(&core, &namespace, &digest).is_ok() => {
                    guard.take().map_or(Ok(()), Ingest::abort)?;
                    Err(Error::already_exists(format!("blob {digest}")))
                }
                _ => act(open),
            }
        })
        .await
    }

    fn take(&self) -> Result<Ingest> {
        self.ingest.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(closed)
    }

    /// Where it stands. AlreadyExists when the blob it promises has come to be here (CON-14).
    pub async fn status(&self) -> Result<IngestStatus> {
        self.with(|ingest| Ok(ingest.status())).await
    }

    /// Writes at `offset`: the current one, or 0 to begin again (CON-13). Gives the new offset.
    pub async fn write(&self, offset: u64, bytes: Bytes) -> Result<u64> {
        self.with(move |ingest| {
            if offset == 0 && ingest.offset() > 0 {
                ingest.restart()?;
            }
            if offset != ingest.offset() {
                return Err(Error::out_of_range(format!(
                    "write at {offset}, but the ingest is at {}",
                    ingest.offset()
                )));
            }
            ingest.write(&bytes)?;
            Ok(ingest.offset())
        })
        .await
    }

    /// Checks size and digest, makes it durable, records it (CON-12, CON-16, CON-17).
    pub async fn commit(&self, size: u64, expected: Option<Digest>, labels: Labels) -> Result<ContentRecord> {
        labels::validate(&labels)?;
        if let Some(lease) = &self.lease {
            leases::get(&self.core, &self.namespace, lease)?;
        }
        let ingest = self.take()?;
        let (namespace, lease) = (self.namespace.clone(), self.lease.clone());
        let written = LeaseResource::Ingest(self.reference.clone());
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let blob = blocking(move || Ok(ingest.commit(size, expected.as_ref())?)).await?;
            let mut batch = Batch::new();
            leases::extend(&core, &mut batch, &namespace, lease.as_ref(), [leases::blob(&blob.digest)])?;
            leases::drop_entry(&mut batch, &namespace, lease.as_ref(), &written);
            if get(&core, &namespace, &blob.digest).is_ok() {
                // In this writer, so it is not collected before the lease has it.
                core.commit(batch).await?;
                return Err(Error::already_exists(format!("blob {}", blob.digest)));
            }
            let descriptor = Descriptor { media_type: String::new(), digest: blob.digest, size: blob.size };
            let record = record_of(&namespace, &descriptor, labels);
            core.ensure_namespace(&mut batch, &namespace)?;
            put(&mut batch, &record);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
    }

    /// Forgets it with its bytes.
    pub async fn abort(&self) -> Result<()> {
        let ingest = self.take()?;
        blocking(move || Ok(ingest.abort()?)).await?;
        let given = LeaseResource::Ingest(self.reference.clone());
        release(&self.core, &self.namespace, self.lease.as_ref(), &given).await
    }
}

/// A new or resumed ingest; one without bytes when another namespace has what it promises (CON-19).
fn open(
    core: &Core,
    namespace: &NamespaceName,
    reference: &str,
    total: u64,
    expected: Option<Digest>,
) -> Result<Ingest> {
    let content = &core.content;
    let Some(digest) = expected else { return Ok(content.begin(namespace, reference, total, None)?) };
    if get(core, namespace, &digest).is_ok() {
        // CON-14: what was written so far is of no use. It may be there or not.
        let _ = content.abort(namespace, reference);
        return Err(Error::already_exists(format!("blob {digest}")));
    }
    let fits = |record: &ContentRecord| total == 0 || total == record.size;
    if found_in(core, &digest)?.is_some_and(|record| fits(&record)) && content.has_blob(&digest) {
        return Ok(content.begin_shared(namespace, reference, total, digest)?);
    }
    Ok(content.begin(namespace, reference, total, expected)?)
}

async fn release(
    core: &Shared,
    namespace: &NamespaceName,
    lease: Option<&LeaseId>,
    resource: &LeaseResource,
) -> Result<()> {
    let mut batch = Batch::new();
    leases::drop_entry(&mut batch, namespace, lease, resource);
    if batch.is_empty() { Ok(()) } else { core.commit(batch).await.map(drop) }
}

fn closed() -> Error {
    Error::failed_precondition("the writer is closed")
}

/// One record, or NotFound.
pub(crate) fn get(core: &Core, namespace: &NamespaceName, digest: &Digest) -> Result<ContentRecord> {
    core.store
        .get(&key::content(namespace, digest))?
        .ok_or_else(|| Error::not_found(format!("blob {digest}")))
}

/// Whether any namespace has the blob.
pub(crate) fn holders(core: &Core, digest: &Digest) -> Result<bool> {
    Ok(found_in(core, digest)?.is_some())
}

/// The blob as some namespace sees it.
fn found_in(core: &Core, digest: &Digest) -> Result<Option<ContentRecord>> {
    for namespace in crate::namespaces::list(core)? {
        if let Some(record) = core.store.get(&key::content(&namespace.name, digest))? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// A new record.
pub(crate) fn record_of(namespace: &NamespaceName, descriptor: &Descriptor, labels: Labels) -> ContentRecord {
    let now = Timestamp::now();
    ContentRecord {
        namespace: namespace.clone(),
        digest: descriptor.digest,
        size: descriptor.size,
        labels,
        created_at: now,
        updated_at: now,
    }
}

/// The row and its event.
pub(crate) fn put(batch: &mut Batch, record: &ContentRecord) {
    batch
        .put(record)
        .publish(&record.namespace, Event::ContentCreate { digest: record.digest, size: record.size });
}

/// A new row, or labels added to the one that is there.
pub(crate) fn put_or_extend(core: &Core, batch: &mut Batch, record: ContentRecord) -> Result<()> {
    match core.store.get::<ContentRecord>(&key::content(&record.namespace, &record.digest))? {
        None => put(batch, &record),
        Some(mut old) if source::adds(&old.labels, &record.labels) => {
            source::merge(&mut old.labels, record.labels);
            old.updated_at = Timestamp::now();
            batch.put(&old);
        }
        Some(_) => {}
    }
    Ok(())
}
