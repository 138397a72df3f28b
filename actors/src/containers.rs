//! Containers: records with their snapshots (CTR-*). A container is metadata; its running self is its task.
//!
//! Creating and deleting are operations, since a record and its snapshot's directory must come and go together. They go through the namespace's
//! writer, so that an id is taken once. In the tree each container is a supervisor (rest_for_one) over its own writer and its task.

mod from_checkpoint;
mod parent;
mod running;

use bosun_storage::batch::Batch;
use bosun_storage::image::ImageProcess;
use bosun_storage::key;
use bosun_types::container::ContainerRecord;
use bosun_types::content::Descriptor;
use bosun_types::event::Event;
use bosun_types::operation::Intent;
use bosun_types::relaunch::{RestartPolicy, STOP_SIGNAL_LABEL};
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind, SnapshotRecord};
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::task::TaskRequest;
use bosun_types::{ContainerId, Error, LeaseId, NamespaceName, Result, SnapshotKey, Timestamp, labels};
use futures::future::BoxFuture;

use crate::call;
use crate::core::{Core, Shared, blocking};
use crate::directory::Name;
use crate::leases;
use crate::mask::Mask;
use crate::namespaces::DEADLINE;
use crate::operation::{self, CREATE_CONTAINER, DELETE_CONTAINER, Operation, Plan};
use crate::ports::{RootPath, SpecInput};
use crate::snapshots::{self, MakeDirectory};
use crate::task::TaskHandle;
use crate::writer::write;
use crate::{relaunch, spec_source, tree};
use parent::{Parent, parent_of};

/// A namespace's containers.
#[derive(Clone)]
pub struct ContainersHandle {
    core: Shared,
    namespace: NamespaceName,
    lease: Option<LeaseId>,
}

impl ContainersHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName, lease: Option<LeaseId>) -> Self {
        Self { core, namespace, lease }
    }

    /// Makes a container, with its snapshot when its root is an image (CTR-3, CTR-14). AlreadyExists when the id is taken.
    pub async fn create(&self, request: ContainerRequest) -> Result<ContainerRecord> {
        labels::validate(&request.labels)?;
        // Most containers are run at once.
        self.core.host.expect_container();
        let (namespace, lease) = (self.namespace.clone(), self.lease.clone());
        // An image that is not unpacked yet takes long: not under the writer. What it commits is not what was called for.
        let ground = async {
            let parent = parent_of(&self.core, &namespace, &request).await?;
            tree::ensure_namespace(&self.core, &namespace).await?;
            Ok::<_, Error>(parent)
        };
        let parent = call::within(None, ground).await?;
        let name = Name::Namespace(namespace.clone());
        write(&self.core, &name, DEADLINE, move |core| async move {
            create(&core, namespace, request, parent, lease).await
        })
        .await
    }

    /// All records, by id.
    pub async fn list(&self) -> Result<Vec<ContainerRecord>> {
        Ok(self.core.store.scan(&key::within(&self.namespace))?)
    }

    /// The OCI spec that a container of this id gets by these options, without an image. Nothing is made.
    pub async fn build_spec(&self, id: ContainerId, options: SpecOptions) -> Result<Vec<u8>> {
        let input = SpecInput {
            namespace: self.namespace.clone(),
            id,
            cgroup_parent: self.core.cgroup_parent.clone(),
            options,
            process: None,
            root: RootPath::Unknown,
        };
        self.core.host.build_spec(input).await
    }

    /// A container by id; whether it exists shows with the first call.
    pub fn get(&self, id: ContainerId) -> ContainerHandle {
        ContainerHandle { core: self.core.clone(), namespace: self.namespace.clone(), id }
    }
}

/// One container.
#[derive(Clone)]
pub struct ContainerHandle {
    pub(crate) core: Shared,
    pub(crate) namespace: NamespaceName,
    pub(crate) id: ContainerId,
}

/// What goes with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Its snapshot too (CTR-12).
    pub snapshot: bool,
}

impl ContainerHandle {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its record.
    pub async fn record(&self) -> Result<ContainerRecord> {
        get(&self.core, &self.namespace, &self.id)
    }

    /// CTR-7, CTR-8: paths `labels`, `labels.<k>`, `spec`, `extensions`, `extensions.<k>`, `image`, `snapshotkey`; none replaces all of them.
    pub async fn update(&self, given: ContainerRecord, paths: Vec<String>) -> Result<ContainerRecord> {
        let stored = get(&self.core, &self.namespace, &self.id)?;
        let before = RestartPolicy::from_labels(&stored.labels)?;
        let wanted = updated(stored, given.clone(), &paths)?;
        wanted.validate()?;
        match RestartPolicy::from_labels(&wanted.labels)? {
            // First the policy: a call is done with its last commit.
            Some(policy) if before != Some(policy) => {
                call::within(None, self.relauncher().set_policy(policy)).await?;
            }
            _ => {}
        }
        self.replace(given, paths).await
    }

    async fn replace(&self, given: ContainerRecord, paths: Vec<String>) -> Result<ContainerRecord> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        write(&self.core, &self.writer(), DEADLINE, move |core| async move {
            let stored = get(&core, &namespace, &id)?;
            let record = updated(stored, given, &paths)?;
            record.validate()?;
            RestartPolicy::from_labels(&record.labels)?;
            let mut batch = Batch::new();
            let event = Event::ContainerUpdate {
                id: id.clone(),
                image: record.image.clone(),
                labels: record.labels.clone(),
                snapshot_key: record.snapshot_key.clone(),
            };
            batch.put(&record).publish(&namespace, event);
            core.commit(batch).await?;
            Ok(record)
        })
        .await
        .map_err(|error| self.missing_or(error))
    }

    /// Removes it. FailedPrecondition while it has a task, a stopped one too (CTR-11).
    pub async fn delete(&self, options: DeleteOptions) -> Result<()> {
        get(&self.core, &self.namespace, &self.id)?;
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        let name = Name::Namespace(namespace.clone());
        write(
            &self.core,
            &name,
            DEADLINE,
            move |core| async move { delete(&core, namespace, id, options).await },
        )
        .await
    }

    /// Makes its task, held before exec (TSK-5). AlreadyExists when there is one (TSK-7).
    pub async fn create_task(&self, request: TaskRequest) -> Result<TaskHandle> {
        let (namespace, id) = (self.namespace.clone(), self.id.clone());
        get(&self.core, &namespace, &id)?;
        self.core.host.expect_container();
        write(&self.core, &self.writer(), DEADLINE, move |core| async move {
            crate::task::create(&core, namespace, id, request).await
        })
        .await
        .map_err(|error| self.missing_or(error))?;
        Ok(self.task())
    }

    /// Its task; whether there is one shows with the first call.
    pub fn task(&self) -> TaskHandle {
        TaskHandle::new(self.core.clone(), self.namespace.clone(), self.id.clone())
    }

    fn writer(&self) -> Name {
        Name::Container(self.namespace.clone(), self.id.clone())
    }

    /// A container that went while we asked is not found, not restarting.
    fn missing_or(&self, error: Error) -> Error {
        get(&self.core, &self.namespace, &self.id).err().unwrap_or(error)
    }
}

/// One record, or NotFound.
pub(crate) fn get(core: &Core, namespace: &NamespaceName, id: &ContainerId) -> Result<ContainerRecord> {
    core.store
        .get(&key::container(namespace, id))?
        .ok_or_else(|| Error::not_found(format!("container {id} in namespace {namespace}")))
}

async fn create(
    core: &Shared,
    namespace: NamespaceName,
    request: ContainerRequest,
    mut parent: Parent,
    lease: Option<LeaseId>,
) -> Result<ContainerRecord> {
    let request = from_checkpoint::settled(core, &namespace, request, &mut parent)?;
    let id = request.id.clone();
    if get(core, &namespace, &id).is_ok() {
        return Err(Error::already_exists(format!("container {id} in namespace {namespace}"))
            .with_hint(format!("`bosun rm {id}` removes it")));
    }
    let snapshotter = request.snapshotter.clone().unwrap_or_else(|| SNAPSHOTTER_DEFAULT.to_owned());
    let mut record = draft(&namespace, &request);
    if let Some(signal) = parent.process.as_ref().and_then(|process| process.stop_signal.clone()) {
        record.labels.entry(STOP_SIGNAL_LABEL.to_owned()).or_insert(signal);
    }
    let snapshot = match &request.root {
        RootRequest::Image { key } | RootRequest::ImageView { key } => {
            let key = key.clone().map_or_else(|| SnapshotKey::new(id.as_str()), Ok)?;
            Some(snapshots::new_record(
                core,
                &namespace,
                &snapshotter,
                key,
                parent.ground.parent,
                kind_of(&request.root),
                parent.ground.labels,
            )?)
        }
        RootRequest::Snapshot(key) => {
            snapshots::mounts(core, &snapshots::get(core, &namespace, &snapshotter, key)?)?;
            record.snapshot_key = Some(key.clone());
            record.snapshotter = Some(snapshotter.clone());
            None
        }
        RootRequest::Directory(_) | RootRequest::FromSpec => None,
    };
    if let Some(snapshot) = &snapshot {
        record.snapshot_key = Some(snapshot.key.clone());
        record.snapshotter = Some(snapshotter.clone());
    }
    let (key, directory) = snapshot.as_ref().map_or_else(
        || (SnapshotKey::new(id.as_str()), 0),
        |snapshot| (Ok(snapshot.key.clone()), snapshot.directory),
    );
    let intent = Intent::CreateContainer { container: id.clone(), snapshotter, key: key?, directory };
    // Before the intent is logged: what is refused here leaves nothing open.
    let policy = relaunch::first_record(&namespace, &id, request.restart, &request.labels)?;
    let mut creation =
        CreateContainer::new(core, record, snapshot.clone(), request.spec, request.root, parent.process)?;
    creation.layer = parent.layer;
    let operation = operation::record(core, &namespace, intent);
    let mut batch = Batch::new();
    core.ensure_namespace(&mut batch, &namespace)?;
    batch.open_operation(&operation);
    if let Some(snapshot) = &snapshot {
        batch.put(snapshot);
        let made = [leases::snapshot(&snapshot.snapshotter, &snapshot.key)];
        leases::extend(core, &mut batch, &namespace, lease.as_ref(), made)?;
    }
    core.commit(batch).await?;
    if let Err(failure) = operation::perform(&creation).await {
        let undo_row =
            |batch: &mut Batch| snapshot.iter().for_each(|snapshot| snapshots::drop_row(batch, snapshot));
        return Err(operation::close_failed(core, &operation, failure, undo_row).await);
    }
    let record = creation.finished()?;
    let mut batch = Batch::new();
    batch.close_operation(operation.id).put(&record);
    if let Some(policy) = &policy {
        batch.put(policy);
    }
    snapshot.iter().for_each(|snapshot| snapshots::publish_prepare(&mut batch, snapshot));
    let event = Event::ContainerCreate {
        id: id.clone(),
        image: record.image.clone(),
        runtime: record.runtime.name.clone(),
    };
    batch.publish(&namespace, event);
    core.commit(batch).await?;
    tree::start_container(core, &namespace, &id).await?;
    Ok(record)
}

fn kind_of(root: &RootRequest) -> SnapshotKind {
    match root {
        RootRequest::ImageView { .. } => SnapshotKind::View,
        _ => SnapshotKind::Active,
    }
}

fn draft(namespace: &NamespaceName, request: &ContainerRequest) -> ContainerRecord {
    let now = Timestamp::now();
    ContainerRecord {
        namespace: namespace.clone(),
        id: request.id.clone(),
        labels: request.labels.clone(),
        image: request.image.clone(),
        runtime: request.runtime.clone(),
        spec: Vec::new(),
        snapshotter: None,
        snapshot_key: None,
        extensions: request.extensions.clone(),
        created_at: now,
        updated_at: now,
    }
}

/// [`CREATE_CONTAINER`]: the snapshot's directory, with what a checkpointed container had written; then the spec (which may look users up in it).
struct CreateContainer {
    core: Shared,
    record: ContainerRecord,
    directory: Option<MakeDirectory>,
    snapshot: Option<SnapshotRecord>,
    spec: SpecRequest,
    root: RootRequest,
    process: Option<ImageProcess>,
    layer: Option<Descriptor>,
    built: std::sync::Mutex<Option<Vec<u8>>>,
}

impl CreateContainer {
    fn new(
        core: &Shared,
        record: ContainerRecord,
        snapshot: Option<SnapshotRecord>,
        spec: SpecRequest,
        root: RootRequest,
        process: Option<ImageProcess>,
    ) -> Result<Self> {
        let directory = match &snapshot {
            None => None,
            Some(snapshot) => Some(MakeDirectory {
                snapshotter: core.snapshotter(&snapshot.snapshotter)?,
                directory: snapshot.directory,
                parents: snapshots::parents_of(core, snapshot)?,
                kind: snapshot.kind,
            }),
        };
        Ok(Self {
            core: core.clone(),
            record,
            directory,
            snapshot,
            spec,
            root,
            process,
            layer: None,
            built: std::sync::Mutex::new(None),
        })
    }

    /// The record with its spec, checked.
    fn finished(&self) -> Result<ContainerRecord> {
        let spec =
            self.built.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().unwrap_or_default();
        let record = ContainerRecord { spec, ..self.record.clone() };
        record.validate()?;
        Ok(record)
    }

    async fn apply_layer(&self) -> Result<()> {
        match (&self.snapshot, &self.layer) {
            (Some(snapshot), Some(layer)) => from_checkpoint::apply(&self.core, snapshot, layer).await,
            _ => Ok(()),
        }
    }

    async fn build_spec(&self) -> Result<()> {
        let mounts = match (&self.snapshot, &self.record.snapshot_key, &self.record.snapshotter) {
            (Some(snapshot), ..) => snapshots::mounts(&self.core, snapshot)?,
            (None, Some(key), Some(snapshotter)) => snapshots::mounts(
                &self.core,
                &snapshots::get(&self.core, &self.record.namespace, snapshotter, key)?,
            )?,
            _ => Vec::new(),
        };
        let spec = spec_source::build(
            &self.core,
            &self.record,
            &self.spec,
            &self.root,
            self.process.clone(),
            mounts,
        )
        .await?;
        let record = ContainerRecord { spec: spec.clone(), ..self.record.clone() };
        record.validate()?;
        *self.built.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(spec);
        Ok(())
    }
}

impl Operation for CreateContainer {
    fn plan(&self) -> &'static Plan {
        &CREATE_CONTAINER
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match (step, &self.directory) {
            (0, Some(directory)) => directory.forward(0),
            (0, None) => Box::pin(async { Ok(()) }),
            (1, _) => Box::pin(self.apply_layer()),
            _ => Box::pin(self.build_spec()),
        }
    }

    fn undo(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        match (step, &self.directory) {
            (0, Some(directory)) => directory.undo(0),
            _ => Box::pin(async { Ok(()) }),
        }
    }
}

async fn delete(
    core: &Shared,
    namespace: NamespaceName,
    id: ContainerId,
    options: DeleteOptions,
) -> Result<()> {
    let record = get(core, &namespace, &id)?;
    if crate::task::record(core, &namespace, &id)?.is_some() {
        return Err(Error::failed_precondition(format!(
            "container {id}: cannot delete a container with a task"
        ))
        .with_hint(format!("`bosun rm --force {id}` ends it first")));
    }
    if let Some(group) = crate::group::of_container(core, &namespace, &id) {
        return Err(Error::failed_precondition(format!("container {id} is in group {group}"))
            .with_hint(format!("`bosun group rm {group}` first")));
    }
    relaunch::retire(core, &namespace, &id).await?;
    let (node, of) = (namespace.clone(), id.clone());
    let deleted = delete_retired(core, namespace, record, options).await;
    if deleted.is_err() {
        relaunch::unretire(core, &node, &of);
    }
    deleted
}

async fn delete_retired(
    core: &Shared,
    namespace: NamespaceName,
    record: ContainerRecord,
    options: DeleteOptions,
) -> Result<()> {
    let id = record.id.clone();
    if crate::task::record(core, &namespace, &id)?.is_some() {
        return Err(Error::failed_precondition(format!("container {id} was started meanwhile")));
    }
    let snapshot = match (&record.snapshotter, &record.snapshot_key) {
        (Some(snapshotter), Some(key)) if options.snapshot => {
            match snapshots::removable(core, &namespace, snapshotter, key) {
                Ok(snapshot) => Some(snapshot),
                // Removed by hand before: nothing to do.
                Err(error) if error.class == bosun_types::ErrorClass::NotFound => None,
                Err(error) => return Err(error),
            }
        }
        _ => None,
    };
    let (snapshotter, key, directory) = match &snapshot {
        Some(snapshot) => (snapshot.snapshotter.clone(), snapshot.key.clone(), snapshot.directory),
        None => (String::new(), SnapshotKey::new(id.as_str())?, 0),
    };
    let operation = operation::record(
        core,
        &namespace,
        Intent::DeleteContainer { container: id.clone(), snapshotter, key, directory },
    );
    let mut batch = Batch::new();
    batch.open_operation(&operation).delete::<ContainerRecord>(key::container(&namespace, &id));
    relaunch::drop_row(&mut batch, &namespace, &id);
    if let Some(snapshot) = &snapshot {
        snapshots::drop_row(&mut batch, snapshot);
        batch.publish(
            &namespace,
            Event::SnapshotRemove { snapshotter: snapshot.snapshotter.clone(), key: snapshot.key.clone() },
        );
    }
    batch.publish(&namespace, Event::ContainerDelete { id: id.clone() });
    core.commit(batch).await?;
    tree::stop_container(core, &namespace, &id).await?;
    let removal = RemoveContainer {
        core: core.clone(),
        namespace,
        id,
        snapshot: snapshot.map(|snapshot| (snapshot.snapshotter, snapshot.directory)),
    };
    finish_delete(core, &operation, &removal).await
}

/// Runs [`DELETE_CONTAINER`] and closes it. The container is gone for everyone already: files that do not go are parked, not told.
async fn finish_delete(
    core: &Shared,
    operation: &bosun_types::operation::OperationRecord,
    removal: &RemoveContainer,
) -> Result<()> {
    if let Err(cause) = operation::persist(removal).await {
        return operation::park(core, operation, cause).await;
    }
    let mut batch = Batch::new();
    batch.close_operation(operation.id);
    core.commit(batch).await.map(drop)
}

/// [`DELETE_CONTAINER`]: only forward.
pub(crate) struct RemoveContainer {
    pub core: Shared,
    pub namespace: NamespaceName,
    pub id: ContainerId,
    /// Snapshotter and directory.
    pub snapshot: Option<(String, u64)>,
}

impl Operation for RemoveContainer {
    fn plan(&self) -> &'static Plan {
        &DELETE_CONTAINER
    }

    fn forward(&self, step: usize) -> BoxFuture<'_, Result<()>> {
        let (core, snapshot) = (self.core.clone(), self.snapshot.clone());
        let logs = crate::task::log_directory(&self.core, &self.namespace, &self.id);
        Box::pin(blocking(move || match (step, snapshot) {
            (0, Some((snapshotter, directory))) => {
                Ok(core.snapshotter(&snapshotter)?.ensure_no_directory(directory)?)
            }
            (0, None) => Ok(()),
            _ => match std::fs::remove_dir_all(&logs) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
                    bosun_types::error::class_of_io(&error),
                    format!("logs {}: {error}", logs.display()),
                )),
                _ => Ok(()),
            },
        }))
    }

    fn undo(&self, _: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// CTR-7, CTR-8.
fn updated(mut stored: ContainerRecord, given: ContainerRecord, paths: &[String]) -> Result<ContainerRecord> {
    let mask =
        Mask::parse("container", paths, &["spec", "extensions", "extensions.", "image", "snapshotkey"])?;
    if paths.is_empty()
        && (given.snapshotter != stored.snapshotter || given.runtime.name != stored.runtime.name)
    {
        return Err(Error::invalid_argument(format!(
            "container {}: snapshotter and runtime name are immutable",
            stored.id
        )));
    }
    mask.labels(&mut stored.labels, &given.labels);
    if mask.has("spec") {
        stored.spec = given.spec;
    }
    if mask.has("image") {
        stored.image = given.image;
    }
    if mask.has("snapshotkey") {
        stored.snapshot_key = given.snapshot_key;
    }
    for name in mask.keys("extensions") {
        match given.extensions.get(name) {
            Some(extension) => stored.extensions.insert(name.to_owned(), extension.clone()),
            None => stored.extensions.remove(name),
        };
    }
    if mask.has("extensions") {
        stored.extensions = given.extensions;
    }
    stored.updated_at = Timestamp::now();
    Ok(stored)
}
