//! Namespaces: the record, and what each holds (NS-1..9).

use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::key::{self, Key};
use bosun_types::container::ContainerRecord;
use bosun_types::content::ContentRecord;
use bosun_types::event::{CursorRecord, Event};
use bosun_types::gc::{Chain, Object};
use bosun_types::group::GroupRecord;
use bosun_types::image::ImageRecord;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::relaunch::RelaunchInfo;
use bosun_types::snapshot::SnapshotRecord;
use bosun_types::task::ProcessInfo;
use bosun_types::{Error, Labels, LeaseId, NamespaceName, Result, Timestamp, labels};

use crate::containers::ContainersHandle;
use crate::content::ContentHandle;
use crate::core::{Core, Shared};
use crate::directory::Name;
use crate::events::EventsHandle;
use crate::group::GroupsHandle;
use crate::images::ImagesHandle;
use crate::leases::LeasesHandle;
use crate::snapshots::SnapshotsHandle;
use crate::sockets::SocketsHandle;
use crate::transfers::TransfersHandle;
use crate::writer::write;

/// How long a write may wait and take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The writer.
pub(crate) const WRITER: Name = Name::Service("namespaces");

/// One namespace. Reaches nothing outside it.
#[derive(Clone)]
pub struct NamespaceHandle {
    core: Shared,
    name: NamespaceName,
    /// What is made through this handle is held by this lease.
    lease: Option<LeaseId>,
}

impl NamespaceHandle {
    pub(crate) fn new(core: Shared, name: NamespaceName) -> Self {
        Self { core, name, lease: None }
    }

    /// The same namespace; what is made or found through it is held by the lease. Whether there is one shows with the first call that would add
    /// to it: NotFound (LSE-4).
    pub fn with_lease(&self, lease: LeaseId) -> Self {
        Self { lease: Some(lease), ..self.clone() }
    }

    /// Its leases.
    pub fn leases(&self) -> LeasesHandle {
        LeasesHandle::new(self.core.clone(), self.name.clone())
    }

    /// Every chain that keeps a blob or a snapshot; none: the next collection takes it. NotFound when it is not there.
    pub async fn why(&self, object: Object) -> Result<Vec<Chain>> {
        crate::gc::why(&self.core, &self.name, object).await
    }

    /// Its name.
    pub fn name(&self) -> &NamespaceName {
        &self.name
    }

    /// Its record. NotFound until something was written in it (NS-3, decided: a missing one is said to be missing).
    pub async fn record(&self) -> Result<NamespaceRecord> {
        get(&self.core, &self.name)
    }

    /// Its containers.
    pub fn containers(&self) -> ContainersHandle {
        ContainersHandle::new(self.core.clone(), self.name.clone(), self.lease.clone())
    }

    /// Every task in it, init processes only; never waits for a shim.
    pub async fn tasks(&self) -> Result<Vec<ProcessInfo>> {
        crate::task::list(&self.core, &self.name).await
    }

    /// Its images.
    pub fn images(&self) -> ImagesHandle {
        ImagesHandle::new(self.core.clone(), self.name.clone())
    }

    /// Its transfers.
    pub fn transfers(&self) -> TransfersHandle {
        TransfersHandle::new(self.core.clone(), self.name.clone(), self.lease.clone())
    }

    /// Its content.
    pub fn content(&self) -> ContentHandle {
        ContentHandle::new(self.core.clone(), self.name.clone(), self.lease.clone())
    }

    /// Its snapshots of one snapshotter. InvalidArgument when there is none of that name (SNP-1).
    pub fn snapshots(&self, snapshotter: &str) -> Result<SnapshotsHandle> {
        SnapshotsHandle::new(self.core.clone(), self.name.clone(), self.lease.clone(), snapshotter)
    }

    /// Its groups of containers.
    pub fn groups(&self) -> GroupsHandle {
        GroupsHandle::new(self.core.clone(), self.name.clone())
    }

    /// The restart policy of each container that has one.
    pub async fn relaunches(&self) -> Result<Vec<RelaunchInfo>> {
        crate::relaunch::list(&self.core, &self.name)
    }

    /// Events; the caller narrows them to this namespace.
    pub fn events(&self) -> EventsHandle {
        EventsHandle::new(self.core.clone())
    }
}

/// One record, or NotFound.
pub(crate) fn get(core: &Core, name: &NamespaceName) -> Result<NamespaceRecord> {
    core.store.get(&key::namespace(name))?.ok_or_else(|| Error::not_found(format!("namespace {name}")))
}

/// All records.
pub(crate) fn list(core: &Core) -> Result<Vec<NamespaceRecord>> {
    Ok(core.store.scan(&Key::all())?)
}

/// NS-1.
pub(crate) async fn create(core: &Shared, name: NamespaceName, labels: Labels) -> Result<NamespaceRecord> {
    labels::validate(&labels)?;
    write(core, &WRITER, DEADLINE, move |core| async move {
        if get(&core, &name).is_ok() {
            return Err(Error::already_exists(format!("namespace {name}")));
        }
        let now = Timestamp::now();
        let record =
            NamespaceRecord { name: name.clone(), labels: labels.clone(), created_at: now, updated_at: now };
        let mut batch = Batch::new();
        batch.put(&record).publish(&name, Event::NamespaceCreate { name: name.clone(), labels });
        core.commit(batch).await?;
        Ok(record)
    })
    .await
}

/// NS-5: sets the given labels (empty value removes, ID-8), or replaces all. A missing namespace is created (NS-2).
pub(crate) async fn update(
    core: &Shared,
    name: NamespaceName,
    changes: Labels,
    replace: bool,
) -> Result<NamespaceRecord> {
    write(core, &WRITER, DEADLINE, move |core| async move {
        let mut batch = Batch::new();
        core.ensure_namespace(&mut batch, &name)?;
        let now = Timestamp::now();
        let old = get(&core, &name).ok();
        let mut all =
            old.as_ref().filter(|_| !replace).map(|record| record.labels.clone()).unwrap_or_default();
        labels::merge(&mut all, changes);
        labels::validate(&all)?;
        let record = NamespaceRecord {
            name: name.clone(),
            labels: all.clone(),
            created_at: old.map_or(now, |record| record.created_at),
            updated_at: now,
        };
        batch.put(&record).publish(&name, Event::NamespaceUpdate { name: name.clone(), labels: all });
        core.commit(batch).await?;
        Ok(record)
    })
    .await
}

/// NS-6: refused unless images, blobs, containers and snapshots are gone.
pub(crate) async fn delete(core: &Shared, name: NamespaceName) -> Result<()> {
    write(core, &WRITER, DEADLINE, move |core| async move {
        get(&core, &name)?;
        let within = key::within(&name);
        let held = [
            ("images", core.store.scan::<ImageRecord>(&within)?.len()),
            ("blobs", core.store.scan::<ContentRecord>(&within)?.len()),
            ("containers", core.store.scan::<ContainerRecord>(&within)?.len()),
            ("snapshots", core.store.scan::<SnapshotRecord>(&within)?.len()),
            ("groups", core.store.scan::<GroupRecord>(&within)?.len()),
            ("sockets", SocketsHandle::new(core.clone()).of(&name)?.len()),
        ];
        let left: Vec<String> = held
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if !left.is_empty() {
            return Err(Error::failed_precondition(format!(
                "namespace {name} is not empty: {}",
                left.join(", ")
            ))
            .with_hint("remove them first"));
        }
        let mut batch = Batch::new();
        // Places in its events: nothing that anybody would miss with it.
        for cursor in core.store.scan::<CursorRecord>(&key::cursors_of(Some(&name)))? {
            batch.delete::<CursorRecord>(key::cursor(Some(&name), &cursor.id));
        }
        batch
            .delete::<NamespaceRecord>(key::namespace(&name))
            .publish(&name, Event::NamespaceDelete { name: name.clone() });
        core.commit(batch).await?;
        Ok(())
    })
    .await
}
