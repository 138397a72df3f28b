//! Leases: what a client works on stays while its lease does.

use std::time::Duration;

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{pair_count, write_pairs};
use bosun_types::lease::{LABEL_EXPIRE, LeaseRecord, LeaseResource};
use bosun_types::{Labels, LeaseId, NamespaceName, Result, Timestamp};

use crate::daemon::all_pages;
use crate::driver::Driver;
use crate::failure::answer;
use crate::namespace::Namespace;
use crate::session::Place;

/// After this the lease of a client that did not come back ends by itself (LSE-7).
pub const LEASE_EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// The leases of one namespace.
///
/// ```no_run
#[doc = include_str!("../examples/tour/leases.rs")]
/// ```
#[derive(Clone)]
pub struct Leases {
    driver: Driver,
    namespace: NamespaceName,
}

/// The label of a lease that ends so long from now.
pub fn expiring(after: Duration) -> Labels {
    let nanoseconds = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX);
    let at = Timestamp(Timestamp::now().0.saturating_add(nanoseconds));
    Labels::from([(LABEL_EXPIRE.to_owned(), at.to_string())])
}

/// One call on the leases' capability.
macro_rules! on_leases {
    ($self:ident.$how:ident, |$leases:ident, $results:ident| $request:expr => $value:expr) => {{
        let namespace = $self.namespace.clone();
        $self
            .driver
            .$how(move |session| async move {
                let $leases = (*session.scope(&namespace).leases).clone();
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Leases {
    pub(crate) fn new(driver: Driver, namespace: NamespaceName) -> Self {
        Self { driver, namespace }
    }

    /// Makes one; without an id it gets one of its own. It lasts until it is deleted, or as its label `containerd.io/gc.expire` says.
    ///
    /// # Errors
    /// AlreadyExists, InvalidArgument.
    pub async fn create(&self, id: Option<LeaseId>, labels: Labels) -> Result<LeaseRecord> {
        on_leases!(self.change, |leases, results| {
            let mut request = leases.create_request();
            let mut params = request.get();
            if let Some(id) = &id {
                params.set_lease(id.as_str());
            }
            write_pairs(&labels, params.init_labels(pair_count(&labels)));
            request
        } => LeaseRecord::read(results.get_record()?)?)
    }

    /// Ends one; its absence is success. What it alone held goes with the next collection.
    pub async fn delete(&self, id: LeaseId) -> Result<()> {
        on_leases!(self.change, |leases, _results| {
            let mut request = leases.delete_request();
            request.get().set_lease(id.as_str());
            request
        } => ())
    }

    /// The same, and answers when what it alone held is gone. Without a deadline.
    pub async fn delete_sync(&self, id: LeaseId) -> Result<()> {
        on_leases!(self.change_and_wait, |leases, _results| {
            let mut request = leases.delete_request();
            request.get().set_lease(id.as_str());
            request.get().set_sync(true);
            request
        } => ())
    }

    /// All of them, ordered by id.
    pub async fn list(&self) -> Result<Vec<LeaseRecord>> {
        self.list_where(Filters::all()).await
    }

    /// Those that the filters want: fields `id`, `labels.<key>`.
    pub async fn list_where(&self, filters: impl Into<Filters>) -> Result<Vec<LeaseRecord>> {
        let filters = filters.into();
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                all_pages!(session.scope(&namespace).leases, list_request, get_records, filters)
            })
            .await
    }

    /// What one holds.
    pub async fn resources(&self, id: LeaseId) -> Result<Vec<LeaseResource>> {
        let namespace = self.namespace.clone();
        self.driver
            .call(move |session| async move {
                let leases = (*session.scope(&namespace).leases).clone();
                let request = || {
                    let mut request = leases.resources_request();
                    request.get().set_lease(id.as_str());
                    request
                };
                let listed = Listed(request);
                all_pages!(listed, resources_request, get_records, Filters::all())
            })
            .await
    }

    /// Lets one hold something that is there; again is success.
    pub async fn add(&self, id: LeaseId, resource: LeaseResource) -> Result<()> {
        on_leases!(self.change, |leases, _results| {
            let mut request = leases.add_request();
            request.get().set_lease(id.as_str());
            resource.write(request.get().init_resource());
            request
        } => ())
    }

    /// Lets one let go of something.
    pub async fn remove(&self, id: LeaseId, resource: LeaseResource) -> Result<()> {
        on_leases!(self.change, |leases, _results| {
            let mut request = leases.remove_request();
            request.get().set_lease(id.as_str());
            resource.write(request.get().init_resource());
            request
        } => ())
    }
}

/// The pages of one lease's resources.
struct Listed<F>(F);

impl<F: Fn() -> R, R> Listed<F> {
    fn resources_request(&self) -> R {
        (self.0)()
    }
}

/// A lease for a piece of work. Dropped without [`Self::done`] it is ended too, as well as can be: if the process dies first, it expires.
pub struct Lease {
    namespace: Namespace,
    /// `None`: somebody else's, around this one; or ended.
    driver: Option<Driver>,
}

impl Lease {
    pub(crate) fn own(driver: Driver, namespace: Namespace) -> Self {
        Self { namespace, driver: Some(driver) }
    }

    pub(crate) fn nested(namespace: Namespace) -> Self {
        Self { namespace, driver: None }
    }

    /// The namespace, under this lease.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Ends it: from now on only what refers to the things made under it keeps them. A nested one is left to its owner.
    pub async fn done(mut self) -> Result<()> {
        match (self.driver.take(), self.namespace.lease()) {
            (Some(_), Some(id)) => self.namespace.leases().delete(id.clone()).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(driver), Some(id)) = (self.driver.take(), self.namespace.lease().cloned()) else { return };
        let place = Place { name: self.namespace.name().clone(), lease: Some(id.clone()) };
        // Without the thread there is no daemon to tell; the lease expires.
        let _ = driver.spawn(move |connector| async move {
            let Ok(session) = connector.session().await else { return };
            session.release_scope(&place);
            let mut request = session.scope(&place.name).leases.delete_request();
            request.get().set_lease(id.as_str());
            if let Err(error) = request.send().promise.await {
                tracing::debug!(%error, "a dropped lease is left to expire");
            }
        });
    }
}
