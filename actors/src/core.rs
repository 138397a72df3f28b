//! What every actor and handle holds: the store, the files, the ports, the directory. Cheap to clone; no state of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bosun_storage::batch::Batch;
use bosun_storage::content::ContentStore;
use bosun_storage::key;
use bosun_storage::snapshotter::Snapshotter;
use bosun_storage::store::Store;
use bosun_types::event::Event;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::{Error, Labels, NamespaceName, OperationId, Result, Timestamp};
use tracing::Instrument as _;

use crate::call;
use crate::directory::Directory;
use crate::ports::{RegistryPort, TaskHost};

/// Everything that is shared.
pub struct Core {
    /// Rows, operation log, events.
    pub store: Store,
    /// Blobs.
    pub content: ContentStore,
    /// Snapshotters by name.
    pub snapshotters: BTreeMap<String, Arc<dyn Snapshotter>>,
    /// The host.
    pub host: Arc<dyn TaskHost>,
    /// Registries.
    pub registry: Arc<dyn RegistryPort>,
    /// Who is where.
    pub directory: Directory,
    /// What survives a reboot; logs are below it.
    pub root: PathBuf,
    /// What does not.
    pub state: PathBuf,
    /// cgroup below which containers are put.
    pub cgroup_parent: String,
    /// CRIU: a name that is looked up in `PATH`, or a path.
    pub criu: String,
    /// When the daemon started.
    pub started_at: Timestamp,
    /// What the store had given out when the daemon started: older things are of an earlier life.
    pub life: Life,
    /// Where the daemon's own work runs: a handle may be called on another runtime, whose end must not end that work.
    pub runtime: tokio::runtime::Handle,
    /// Recovery still works on something.
    pub recovering: AtomicBool,
    /// What task actors heard last, for lists that must not wait for them.
    pub live: crate::task::Live,
    /// Last samples of deleted tasks, for who collects metrics.
    pub samples: crate::samples::LastSamples,
    /// What is between the garbage collector and everybody else.
    pub gc: crate::gc::Gc,
    /// Transfers under way and those that ended lately.
    pub transfers: crate::transfers::Running,
    /// Which group a container is in.
    pub memberships: crate::group::Memberships,
    /// Places for copies of files.
    pub copies: Arc<tokio::sync::Semaphore>,
    /// Git revision; empty when unknown.
    pub revision: String,
}

/// A snapshotter behind its trait.
pub type SharedSnapshotter = Arc<dyn Snapshotter>;

/// Where this life of the daemon begins in numbers that are never given out twice.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// The first operation.
    pub first_operation: OperationId,
    /// The first snapshot directory.
    pub first_directory: u64,
}

impl Life {
    /// To be asked before anything of this life is made.
    pub fn begin(store: &Store) -> Self {
        Self { first_operation: store.next_operation_id(), first_directory: store.next_directory() }
    }
}

/// Shared by all.
pub type Shared = Arc<Core>;

impl Core {
    /// The snapshotter of that name.
    pub fn snapshotter(&self, name: &str) -> Result<Arc<dyn Snapshotter>> {
        self.snapshotters.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.snapshotters.keys().map(String::as_str).collect();
            Error::invalid_argument(format!("snapshotter {name:?} is unknown"))
                .with_hint(format!("there is: {}", known.join(", ")))
        })
    }

    /// NS-2: the first write inside a namespace creates it, in the same commit.
    pub fn ensure_namespace(&self, batch: &mut Batch, name: &NamespaceName) -> Result<()> {
        if self.store.get::<NamespaceRecord>(&key::namespace(name))?.is_some() {
            return Ok(());
        }
        let now = Timestamp::now();
        batch.put(&NamespaceRecord {
            name: name.clone(),
            labels: Labels::new(),
            created_at: now,
            updated_at: now,
        });
        batch.publish(name, Event::NamespaceCreate { name: name.clone(), labels: Labels::new() });
        Ok(())
    }

    /// Commits, with the error as callers see it. What the new rows refer to is kept from the collector until it sees them; waits, some
    /// milliseconds, while it is removing one of these things.
    pub async fn commit(&self, mut batch: Batch) -> Result<bosun_storage::committer::Committed> {
        let _hold = self.gc.barrier.hold(batch.take_touched()).await;
        let removals = batch.removals();
        if let Some(call) = call::current() {
            batch.finish_call(call);
        }
        let committed = self.store.commit(batch).await.map_err(Error::from)?;
        self.gc.changed(self, removals);
        Ok(committed)
    }

    /// Queues a batch for which nobody waits: it becomes durable no later than what is committed after it. For rows without which a restart finds the same.
    pub fn ride(&self, batch: Batch) -> Result<()> {
        self.store.ride(batch).map_err(Error::from)
    }
}

/// Runs work beside the actors, in the span of the call that it is for, so that what it logs, and what it has the shim do, is told with that call's number.
pub(crate) fn worker<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work.in_current_span())
}

/// Runs blocking file work off the actors' threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a worker failed: {error}"))),
    }
}
