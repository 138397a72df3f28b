//! Leases: clients keep what they work on until something refers to it (LSE-1..7).
//!
//! A lease's row and the rows of what it holds are in two tables, so that one may hold many things. Deleting takes the lease's own row first:
//! from then on it holds nothing, and entries that a crash leaves without their lease go with the next collection.

use std::time::{SystemTime, UNIX_EPOCH};

use bosun_storage::batch::Batch;
use bosun_storage::image::digest_of;
use bosun_storage::key;
use bosun_types::call::CallId;
use bosun_types::gc::Object;
use bosun_types::lease::{LeaseEntry, LeaseRecord, LeaseResource};
use bosun_types::{Error, Labels, LeaseId, NamespaceName, Result, Timestamp};

use crate::call;
use crate::core::{Core, Shared};
use crate::directory::Name;
use crate::namespaces::DEADLINE;
use crate::writer::write;
use crate::{content, snapshots};

/// The writer.
pub(crate) const WRITER: Name = Name::Service("leases");
/// Entries that go in one commit.
const ENTRIES_AT_ONCE: usize = 1_000;

/// A namespace's leases.
#[derive(Clone)]
pub struct LeasesHandle {
    core: Shared,
    namespace: NamespaceName,
}

impl LeasesHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName) -> Self {
        Self { core, namespace }
    }

    /// LSE-1: without an id it gets one of its own. AlreadyExists when the id is taken.
    pub async fn create(&self, id: Option<LeaseId>, labels: Labels) -> Result<LeaseRecord> {
        let id = match (id, call::current()) {
            (Some(id), _) => id,
            (None, Some(call)) => id_of(&call)?,
            (None, None) => new_id()?,
        };
        let record =
            LeaseRecord { namespace: self.namespace.clone(), id, labels, created_at: Timestamp::now() };
        record.validate()?;
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            let key = key::lease(&record.namespace, &record.id);
            if core.store.get::<LeaseRecord>(&key)?.is_some() {
                return Err(Error::already_exists(format!("lease {}", record.id)));
            }
            let mut batch = Batch::new();
            core.ensure_namespace(&mut batch, &record.namespace)?;
            batch.put(&record);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
    }

    /// What such a call made, which was done before; with the id that it gave, or the call's own.
    pub async fn made(&self, id: Option<LeaseId>, call: &CallId) -> Result<LeaseRecord> {
        get(&self.core, &self.namespace, &id.map_or_else(|| id_of(call), Ok)?)
    }

    /// LSE-2: its absence is success. What it alone held goes with the next collection.
    pub async fn delete(&self, id: LeaseId) -> Result<()> {
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move { remove(&core, &namespace, &id).await })
            .await
    }

    /// LSE-7: after a deletion; answers when what the lease alone held is gone.
    pub async fn collect(&self) -> Result<()> {
        crate::gc::collect(&self.core).await.map(drop)
    }

    /// LSE-3: all of them, by id; expired ones too, until a collection takes them.
    pub async fn list(&self) -> Result<Vec<LeaseRecord>> {
        Ok(self.core.store.scan(&key::within(&self.namespace))?)
    }

    /// What one holds.
    pub async fn resources(&self, id: &LeaseId) -> Result<Vec<LeaseResource>> {
        get(&self.core, &self.namespace, id)?;
        let entries: Vec<LeaseEntry> = self.core.store.scan(&key::lease_entries_of(&self.namespace, id))?;
        Ok(entries.into_iter().map(|entry| entry.resource).collect())
    }

    /// Lets it hold something that is there; again is success.
    pub async fn add(&self, id: LeaseId, resource: LeaseResource) -> Result<()> {
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            // First held, then looked for: what is there now is not taken away before the commit.
            let object = match &resource {
                LeaseResource::Object(object) => Some((namespace.clone(), object.clone())),
                LeaseResource::Ingest(_) => None,
            };
            let _hold = core.gc.barrier.hold(object.into_iter().collect()).await;
            match &resource {
                LeaseResource::Object(Object::Blob(digest)) => drop(content::get(&core, &namespace, digest)?),
                LeaseResource::Object(Object::Snapshot { snapshotter, key }) => {
                    drop(snapshots::get(&core, &namespace, snapshotter, key)?);
                }
                LeaseResource::Ingest(_) => {}
            }
            let mut batch = Batch::new();
            extend(&core, &mut batch, &namespace, Some(&id), [resource])?;
            core.commit(batch).await.map(drop)
        })
        .await
    }

    /// Lets it go of something; its absence is success.
    pub async fn remove(&self, id: LeaseId, resource: LeaseResource) -> Result<()> {
        let namespace = self.namespace.clone();
        write(&self.core, &WRITER, DEADLINE, move |core| async move {
            get(&core, &namespace, &id)?;
            let mut batch = Batch::new();
            drop_entry(&mut batch, &namespace, Some(&id), &resource);
            core.commit(batch).await.map(drop)
        })
        .await
    }
}

/// One record, or NotFound (LSE-4).
pub(crate) fn get(core: &Core, namespace: &NamespaceName, id: &LeaseId) -> Result<LeaseRecord> {
    core.store
        .get(&key::lease(namespace, id))?
        .ok_or_else(|| Error::not_found(format!("lease {id} does not exist")))
}

/// LSE-4, LSE-5: adds to the lease under which a call is made. NotFound when it is gone or has expired: what the caller means to keep would not be
/// kept.
pub(crate) fn extend(
    core: &Core,
    batch: &mut Batch,
    namespace: &NamespaceName,
    lease: Option<&LeaseId>,
    resources: impl IntoIterator<Item = LeaseResource>,
) -> Result<()> {
    let Some(id) = lease else { return Ok(()) };
    if get(core, namespace, id)?.is_expired(Timestamp::now()) {
        return Err(Error::not_found(format!("lease {id} does not exist: it has expired")));
    }
    for resource in resources {
        batch.put(&LeaseEntry { namespace: namespace.clone(), lease: id.clone(), resource });
    }
    Ok(())
}

/// LSE-5: what is removed under a lease is no longer held by it.
pub(crate) fn drop_entry(
    batch: &mut Batch,
    namespace: &NamespaceName,
    lease: Option<&LeaseId>,
    resource: &LeaseResource,
) {
    if let Some(id) = lease {
        batch.delete::<LeaseEntry>(key::lease_entry(namespace, id, resource));
    }
}

/// A snapshot as a lease holds it.
pub(crate) fn snapshot(snapshotter: &str, key: &bosun_types::SnapshotKey) -> LeaseResource {
    LeaseResource::Object(Object::Snapshot { snapshotter: snapshotter.to_owned(), key: key.clone() })
}

/// A blob as a lease holds it.
pub(crate) fn blob(digest: &bosun_types::Digest) -> LeaseResource {
    LeaseResource::Object(Object::Blob(*digest))
}

/// In the writer: the lease, then what it held, some at a time.
pub(crate) async fn remove(core: &Shared, namespace: &NamespaceName, id: &LeaseId) -> Result<()> {
    let entries: Vec<LeaseEntry> = core.store.scan(&key::lease_entries_of(namespace, id))?;
    let mut batch = Batch::new();
    batch.delete::<LeaseRecord>(key::lease(namespace, id));
    let mut chunks = entries.chunks(ENTRIES_AT_ONCE).peekable();
    while let Some(chunk) = chunks.next() {
        for entry in chunk {
            batch.delete::<LeaseEntry>(key::lease_entry(namespace, id, &entry.resource));
        }
        if chunks.peek().is_some() {
            // A call is done with its last commit.
            call::within(None, core.commit(std::mem::take(&mut batch))).await?;
        }
    }
    core.commit(batch).await.map(drop)
}

/// The id of the lease that a call with a key makes without naming one: the same when it is repeated.
fn id_of(call: &CallId) -> Result<LeaseId> {
    let digest = digest_of(call.key.as_str().as_bytes());
    LeaseId::new(format!("call-{}", &digest.hex()[..24]))
}

/// LSE-1: nanoseconds, and three random bytes in the URL form of base 64.
fn new_id() -> Result<LeaseId> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let random = getrandom::u32().map_err(|error| Error::internal(format!("no random bytes: {error}")))?;
    let digit = |place: u32| char::from(DIGITS[(random >> (6 * place)) as usize % DIGITS.len()]);
    LeaseId::new(format!("{nanoseconds}-{}", (0..4).map(digit).collect::<String>()))
}
