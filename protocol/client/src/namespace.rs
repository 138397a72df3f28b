//! A namespace: the way to everything in it.

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_types::NamespaceName;
use bosun_types::Result;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::relaunch::RelaunchInfo;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::task::ProcessInfo;

use crate::containers::{Container, Containers};
use crate::content::Content;
use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::events::Events;
use crate::failure::answer;
use crate::images::Images;
use crate::run::{RunRequest, Running};
use crate::snapshots::Snapshots;
use crate::transfers::Transfers;

/// One namespace of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Namespace {
    driver: Driver,
    name: NamespaceName,
}

impl Namespace {
    pub(crate) fn new(driver: Driver, name: NamespaceName) -> Self {
        Self { driver, name }
    }

    /// Its name.
    pub fn name(&self) -> &NamespaceName {
        &self.name
    }

    /// Its record; NotFound until its first write or an explicit create.
    pub async fn record(&self) -> Result<NamespaceRecord> {
        let name = self.name.clone();
        self.driver
            .call(move |session| async move {
                answer!(results, session.scope(&name).namespace.record_request());
                Ok(NamespaceRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Its containers.
    pub fn containers(&self) -> Containers {
        Containers::new(self.driver.clone(), self.name.clone())
    }

    /// One container, by id; whether it exists shows at the first call.
    pub fn container(&self, id: bosun_types::ContainerId) -> Container {
        self.containers().get(id)
    }

    /// The init of each task, ordered by container.
    pub async fn tasks(&self) -> Result<Vec<ProcessInfo>> {
        self.tasks_where(Filters::all()).await
    }

    /// Those that the filters want: fields `container`, `exec`, `pid`, `status`.
    pub async fn tasks_where(&self, filters: impl Into<Filters>) -> Result<Vec<ProcessInfo>> {
        let filters = filters.into();
        let name = self.name.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&name).namespace, tasks_request, get_infos, filters)
            })
            .await
    }

    /// The restart policy of each container that has one, ordered by container.
    pub async fn relaunches(&self) -> Result<Vec<RelaunchInfo>> {
        let filters = Filters::all();
        let name = self.name.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&name).namespace, relaunches_request, get_infos, filters)
            })
            .await
    }

    /// Its images.
    pub fn images(&self) -> Images {
        Images::new(self.driver.clone(), self.name.clone())
    }

    /// Its pulls and imports.
    pub fn transfers(&self) -> Transfers {
        Transfers::new(self.driver.clone(), self.name.clone())
    }

    /// Its blobs.
    pub fn content(&self) -> Content {
        Content::new(self.driver.clone(), self.name.clone())
    }

    /// Its snapshots of one snapshotter.
    pub fn snapshots(&self, snapshotter: &str) -> Snapshots {
        Snapshots::new(self.driver.clone(), self.name.clone(), snapshotter.to_owned())
    }

    /// Its snapshots of the default snapshotter.
    pub fn default_snapshots(&self) -> Snapshots {
        self.snapshots(SNAPSHOTTER_DEFAULT)
    }

    /// Its events.
    pub fn events(&self) -> Events {
        Events::of_namespace(self.driver.clone(), self.name.clone())
    }

    /// Creates a container and its task, starts it and begins to wait for it, all in one round trip.
    ///
    /// # Errors
    /// That of the first step that failed. What the steps before it made is left for the caller to remove.
    pub async fn run(&self, request: RunRequest) -> Result<Running> {
        crate::run::run(&self.driver, &self.name, request).await
    }
}
