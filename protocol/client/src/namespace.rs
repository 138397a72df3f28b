//! A namespace: the way to everything in it.

use std::sync::Arc;

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::read_list;
use bosun_types::gc::{Chain, Object};
use bosun_types::namespace::NamespaceRecord;
use bosun_types::relaunch::RelaunchInfo;
use bosun_types::snapshot::SNAPSHOTTER_DEFAULT;
use bosun_types::task::ProcessInfo;
use bosun_types::{ImageName, LeaseId, NamespaceName, Result};

use crate::containers::{Container, Containers};
use crate::content::Content;
use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::events::Events;
use crate::failure::answer;
use crate::groups::Groups;
use crate::image::Image;
use crate::images::Images;
use crate::leases::{LEASE_EXPIRY, Lease, Leases};
use crate::run::{RunRequest, Running};
use crate::services::Services;
use crate::session::Place;
use crate::snapshots::Snapshots;
use crate::transfers::Transfers;

/// One namespace of one daemon. Cheap to clone.
///
/// ```no_run
#[doc = include_str!("../examples/tour/namespace.rs")]
/// ```
#[derive(Clone)]
pub struct Namespace {
    driver: Driver,
    place: Place,
    services: Arc<Services>,
}

impl Namespace {
    pub(crate) fn new(driver: Driver, place: Place) -> Self {
        Self { driver, place, services: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &NamespaceName {
        &self.place.name
    }

    /// The lease that holds what is made through this one, if there is one.
    pub fn lease(&self) -> Option<&LeaseId> {
        self.place.lease.as_ref()
    }

    /// The same namespace; what is made or found through it (blobs, snapshots, pulls, imports, containers) is held by the lease until that ends.
    /// Every call that would add to a lease that is gone or has expired answers NotFound.
    pub fn with_lease(&self, lease: LeaseId) -> Self {
        Self {
            driver: self.driver.clone(),
            place: Place { name: self.place.name.clone(), lease: Some(lease) },
            services: Arc::clone(&self.services),
        }
    }

    /// The same namespace with these services in the place of the daemon's own (CLT-3). What [`Self::with_lease`] makes later is held by the
    /// lease only where the service is the daemon's.
    pub fn with_services(&self, services: Services) -> Self {
        Self { services: Arc::new(services), ..self.clone() }
    }

    /// Begins a lease for a piece of work: what is made through [`Lease::namespace`] stays at least until the lease is done or dropped. It
    /// expires after [`LEASE_EXPIRY`], so that a client that crashes holds nothing for ever. Inside a lease it is that lease again, and its end
    /// does nothing (LSE-6).
    pub async fn begin_lease(&self) -> Result<Lease> {
        if self.place.lease.is_some() {
            return Ok(Lease::nested(self.clone()));
        }
        let record = self.leases().create(None, crate::leases::expiring(LEASE_EXPIRY)).await?;
        Ok(Lease::own(self.driver.clone(), self.with_lease(record.id)))
    }

    /// Its leases.
    pub fn leases(&self) -> Leases {
        let own = || Leases::new(self.driver.clone(), self.place.name.clone());
        self.services.leases.clone().unwrap_or_else(own)
    }

    /// What keeps a blob or a snapshot: the shortest chain from each root, shortest first. None: the next collection takes it. NotFound when it
    /// is not there.
    pub async fn why(&self, object: Object) -> Result<Vec<Chain>> {
        let name = self.place.name.clone();
        self.driver
            .call(move |session| async move {
                let mut request = session.scope(&name).namespace.why_request();
                object.write(request.get().init_object());
                answer!(results, request);
                Ok(read_list(results.get_chains())?)
            })
            .await
    }

    /// Its record; NotFound until its first write or an explicit create.
    pub async fn record(&self) -> Result<NamespaceRecord> {
        let name = self.place.name.clone();
        self.driver
            .call(move |session| async move {
                answer!(results, session.scope(&name).namespace.record_request());
                Ok(NamespaceRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Its containers.
    pub fn containers(&self) -> Containers {
        let own = || Containers::new(self.driver.clone(), self.place.clone());
        self.services.containers.clone().unwrap_or_else(own)
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
        let name = self.place.name.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&name).namespace, tasks_request, get_infos, filters)
            })
            .await
    }

    /// Its groups of containers.
    pub fn groups(&self) -> Groups {
        Groups::new(self.driver.clone(), self.name().clone())
    }

    /// The restart policy of each container that has one, ordered by container.
    pub async fn relaunches(&self) -> Result<Vec<RelaunchInfo>> {
        let filters = Filters::all();
        let name = self.place.name.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&name).namespace, relaunches_request, get_infos, filters)
            })
            .await
    }

    /// Its images.
    pub fn images(&self) -> Images {
        let own = || Images::new(self.driver.clone(), self.place.name.clone());
        self.services.images.clone().unwrap_or_else(own)
    }

    /// One image, by name; whether it exists shows at the first call.
    pub fn image(&self, name: ImageName) -> Image {
        self.images().image(name)
    }

    /// Its pulls and imports.
    pub fn transfers(&self) -> Transfers {
        let own = || Transfers::new(self.driver.clone(), self.place.clone());
        self.services.transfers.clone().unwrap_or_else(own)
    }

    /// Its blobs.
    pub fn content(&self) -> Content {
        let own = || Content::new(self.driver.clone(), self.place.clone());
        self.services.content.clone().unwrap_or_else(own)
    }

    /// Its snapshots of one snapshotter.
    pub fn snapshots(&self, snapshotter: &str) -> Snapshots {
        let own = || Snapshots::new(self.driver.clone(), self.place.clone(), snapshotter.to_owned());
        self.services.snapshots.get(snapshotter).cloned().unwrap_or_else(own)
    }

    /// Its snapshots of the default snapshotter.
    pub fn default_snapshots(&self) -> Snapshots {
        self.snapshots(SNAPSHOTTER_DEFAULT)
    }

    /// Its events.
    pub fn events(&self) -> Events {
        let own = || Events::of_namespace(self.driver.clone(), self.place.name.clone());
        self.services.events.clone().unwrap_or_else(own)
    }

    /// Creates a container and its task, starts it and begins to wait for it, all in one round trip.
    ///
    /// # Errors
    /// That of the first step that failed. What the steps before it made is left for the caller to remove.
    pub async fn run(&self, request: RunRequest) -> Result<Running> {
        let containers = self.containers();
        let (driver, place) = containers.address();
        crate::run::run(driver, place, request).await
    }
}
