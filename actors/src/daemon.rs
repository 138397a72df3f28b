//! The daemon as one value: starts the tree, hands out handles, stops everything in order.
//!
//! ```text
//! root                rest_for_one
//! ├─ services         one_for_one: writers of namespaces, images, content, snapshots, leases; the collector
//! ├─ recovery         transient: plans once, executes, ends
//! ├─ namespaces       dynamic (see `tree`)
//! ├─ edge             attached by the daemon binary; started after all of these, stopped before them
//! └─ metrics          attached too, where an address for it is configured
//! ```
//!
//! The committer is a thread of the store, not an actor: it must outlive every actor that may still commit, and it has no state that a restart
//! could give back (a failed database is reopened by itself).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bosun_storage::content::ContentStore;
use bosun_storage::key::Key;
use bosun_storage::snapshotter::Snapshotter;
use bosun_storage::store::{Store, StoreHealth};
use bosun_types::container::ContainerRecord;
use bosun_types::gc::Collection;
use bosun_types::metrics::Metrics;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::{OperationRecord, OperationStatus};
use bosun_types::task::{StoredPhase, TaskRecord};
use bosun_types::tree::{DaemonStatus, PartRecord, TreeNode};
use bosun_types::{Labels, NamespaceName, OperationId, Result, Timestamp};

use crate::attached::{self, StartAttached};
use crate::audit::AuditHandle;
use crate::call::CallsHandle;
use crate::core::{Core, Life, Shared};
use crate::directory::Directory;
use crate::events::EventsHandle;
use crate::gc::{self, Gc, ScheduleOptions};
use crate::namespaces::{self, NamespaceHandle};
use crate::ports::{RegistryPort, TaskHost};
use crate::sockets::SocketsHandle;
use crate::supervisor::{ChildSpec, Flags, Intensity, Strategy, Supervisor, spawn, supervisor_spec};
use crate::{content, cursors, images, leases, parts, recovery, snapshots, tree, writer};

/// What a daemon is made of.
pub struct DaemonOptions {
    /// What survives a reboot.
    pub root: PathBuf,
    /// What does not.
    pub state: PathBuf,
    /// cgroup below which containers are put.
    pub cgroup_parent: String,
    /// CRIU: a name that is looked up in `PATH`, or a path.
    pub criu: String,
    /// Git revision; empty when unknown.
    pub revision: String,
    /// Rows.
    pub store: Store,
    /// Blobs.
    pub content: ContentStore,
    /// Snapshotters.
    pub snapshotters: Vec<Arc<dyn Snapshotter>>,
    /// The host.
    pub host: Arc<dyn TaskHost>,
    /// Registries.
    pub registry: Arc<dyn RegistryPort>,
    /// When garbage is collected.
    pub gc: ScheduleOptions,
}

/// A running daemon; cheap to clone.
#[derive(Clone)]
pub struct Daemon {
    core: Shared,
    root: Supervisor,
}

impl Daemon {
    /// Starts the tree. It serves at once; recovery goes on behind.
    pub async fn start(options: DaemonOptions) -> Result<Self> {
        let snapshotters: BTreeMap<String, Arc<dyn Snapshotter>> = options
            .snapshotters
            .into_iter()
            .map(|snapshotter| (snapshotter.name().to_owned(), snapshotter))
            .collect();
        let core: Shared = Arc::new(Core {
            life: Life::begin(&options.store),
            memberships: crate::group::Memberships::read(&options.store),
            runtime: tokio::runtime::Handle::current(),
            store: options.store,
            content: options.content,
            snapshotters,
            host: options.host,
            registry: options.registry,
            directory: Directory::default(),
            root: options.root,
            state: options.state,
            cgroup_parent: options.cgroup_parent,
            criu: options.criu,
            started_at: Timestamp::now(),
            recovering: AtomicBool::new(true),
            live: crate::task::Live::default(),
            samples: crate::samples::LastSamples::default(),
            gc: Gc::new(options.gc),
            transfers: crate::transfers::Running::default(),
            copies: crate::copies::limit(),
            revision: options.revision,
        });
        let flags = Flags {
            strategy: Strategy::RestForOne,
            intensity: Intensity::new(2, 60),
            dynamic: false,
            name: "root".to_owned(),
        };
        let children = vec![services_spec(&core), tree::namespaces_spec(&core), recovery::spec(&core)];
        let root = spawn(flags, children, None).await?;
        Ok(Self { core, root })
    }

    /// Hangs one more child in, last: the edge. Its failure is its own; it is started again.
    pub async fn attach(&self, id: &str, start: StartAttached) -> Result<()> {
        self.root.start_child(attached::spec(id, start)).await.map(drop)
    }

    /// Stops every actor in reverse order, then closes the store. Containers go on.
    pub async fn shutdown(&self) -> Result<()> {
        self.root.shutdown().await?;
        let store = self.core.store.clone();
        crate::core::blocking(move || {
            store.close();
            Ok(())
        })
        .await
    }

    /// Resolves when the tree has ended: after [`Self::shutdown`], or because the root gave up. The root has no supervisor: the process has to
    /// end, and whoever supervises processes starts it again.
    pub async fn ended(&self) {
        // Without a time limit it cannot time out.
        let _ = self.root.cell().wait(None).await;
    }

    /// Tasks whose shim is of an older release than this daemon, and of a newer one.
    pub fn shims_of_other_releases(&self) -> (u32, u32) {
        let skew = bosun_runtime::shim::skew();
        (skew.older, skew.newer)
    }

    /// The daemon at a glance.
    pub async fn status(&self) -> Result<DaemonStatus> {
        let core = &self.core;
        let tasks: Vec<TaskRecord> = core.store.scan(&Key::all())?;
        let operations = self.operations().await?;
        let parked = operations
            .iter()
            .filter(|operation| matches!(operation.status, OperationStatus::Parked { .. }))
            .count();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: core.revision.clone(),
            pid: std::process::id(),
            started_at: core.started_at,
            recovering: core.recovering.load(Ordering::SeqCst),
            read_only: match core.store.health() {
                StoreHealth::Writable => None,
                StoreHealth::ReadOnly { why } => Some(why),
            },
            root: core.root.to_string_lossy().into_owned(),
            state: core.state.to_string_lossy().into_owned(),
            containers: count(core.store.scan::<ContainerRecord>(&Key::all())?.len()),
            tasks_live: count(
                tasks.iter().filter(|task| !matches!(task.phase, StoredPhase::Stopped(_))).count(),
            ),
            operations_open: count(operations.len() - parked),
            operations_parked: count(parked),
            event_sequence: core.store.event_head(),
        })
    }

    /// The live supervision tree.
    pub async fn tree(&self) -> Result<TreeNode> {
        let mut root = self.root.tree().await?;
        crate::tree::annotate(&self.core, &mut root)?;
        Ok(root)
    }

    /// Tries a parked actor again.
    pub async fn retry_actor(&self, path: &str) -> Result<()> {
        tree::retry(&self.core, path).await
    }

    /// Every namespace.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceRecord>> {
        namespaces::list(&self.core)
    }

    /// NS-1.
    pub async fn create_namespace(&self, name: NamespaceName, labels: Labels) -> Result<NamespaceRecord> {
        namespaces::create(&self.core, name, labels).await
    }

    /// NS-5.
    pub async fn update_namespace(
        &self,
        name: NamespaceName,
        labels: Labels,
        replace: bool,
    ) -> Result<NamespaceRecord> {
        namespaces::update(&self.core, name, labels, replace).await
    }

    /// NS-6.
    pub async fn delete_namespace(&self, name: NamespaceName) -> Result<()> {
        namespaces::delete(&self.core, name).await
    }

    /// One namespace; it need not exist yet (NS-2).
    pub fn namespace(&self, name: NamespaceName) -> NamespaceHandle {
        NamespaceHandle::new(self.core.clone(), name)
    }

    /// Operations that are under way or parked.
    pub async fn operations(&self) -> Result<Vec<OperationRecord>> {
        Ok(self.core.store.scan(&Key::all())?)
    }

    /// Closes a parked operation without doing anything more for it. FailedPrecondition unless it is parked.
    pub async fn forget_operation(&self, id: OperationId) -> Result<()> {
        recovery::forget(&self.core, id).await
    }

    /// Tries a parked operation again.
    pub async fn retry_operation(&self, id: OperationId) -> Result<()> {
        recovery::retry(&self.core, id).await
    }

    /// What every container has used, read now; of those deleted since the last call their last sample, from the second call on (MET-6). Waits for no
    /// shim.
    pub async fn samples(&self) -> Result<Vec<(NamespaceName, Metrics)>> {
        crate::samples::all(&self.core).await
    }

    /// Calls with idempotency keys. To be asked once: equal calls take turns in what this gives.
    pub fn calls(&self) -> CallsHandle {
        CallsHandle::new(self.core.clone())
    }

    /// SYS-10: snapshotters, runtimes and the rest, with why one cannot be used.
    pub async fn parts(&self) -> Result<Vec<PartRecord>> {
        parts::all(&self.core).await
    }

    /// Who did what.
    pub fn audit(&self) -> AuditHandle {
        AuditHandle::new(self.core.store.clone())
    }

    /// Sockets that yield one namespace each.
    pub fn sockets(&self) -> SocketsHandle {
        SocketsHandle::new(self.core.clone())
    }

    /// Where the files of those sockets are.
    pub fn socket_directory(&self) -> PathBuf {
        self.core.state.join("sockets")
    }

    /// GC-9: collects garbage in all namespaces, and says what went. Waits for a collection that begins after the call, up to
    /// [`gc::COLLECT_DEADLINE`].
    pub async fn collect_garbage(&self) -> Result<Collection> {
        gc::collect(&self.core).await
    }

    /// What [`Self::collect_garbage`] would remove now.
    pub async fn find_garbage(&self) -> Result<Collection> {
        gc::dry_run(&self.core).await
    }

    /// Events of all namespaces.
    pub fn events(&self) -> EventsHandle {
        EventsHandle::new(self.core.clone())
    }
}

fn services_spec(core: &Shared) -> ChildSpec {
    let flags = Flags {
        strategy: Strategy::OneForOne,
        intensity: Intensity::new(5, 30),
        dynamic: false,
        name: "services".to_owned(),
    };
    let shared = core.clone();
    supervisor_spec(
        flags,
        Arc::new(move || {
            vec![
                writer::spec(&shared, "namespaces", namespaces::WRITER),
                writer::spec(&shared, "images", images::WRITER),
                writer::spec(&shared, "content", content::WRITER),
                writer::spec(&shared, "snapshots", snapshots::WRITER),
                writer::spec(&shared, "leases", leases::WRITER),
                gc::spec(&shared),
                writer::spec(&shared, "cursors", cursors::WRITER),
            ]
        }),
    )
}
