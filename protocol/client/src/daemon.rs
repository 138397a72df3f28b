//! The daemon itself: connect, version, status, the supervision tree, namespaces, operations.

use bosun_filter::Filters;
use bosun_protocol::convert::{pair_count, write_pairs};
use bosun_protocol::daemon_capnp::bosun;
use bosun_protocol::{Wire, limits};
use bosun_types::gc::Collection;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::operation::OperationRecord;
use bosun_types::tree::{DaemonStatus, PartRecord, TreeNode};
use bosun_types::{Labels, NamespaceName, OperationId, Result};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::driver::Driver;
use crate::events::Events;
use crate::failure::{Failure, answer};
use crate::namespace::Namespace;
use crate::options::ConnectOptions;
use crate::session::Place;

/// A client of one daemon. Cheap to clone; all clones share one connection.
///
/// ```no_run
#[doc = include_str!("../examples/tour/client.rs")]
/// ```
#[derive(Clone)]
pub struct Client {
    driver: Driver,
    default_namespace: NamespaceName,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Protocol that it speaks; [`Version::client_protocol`] is ours.
    pub protocol: u32,
    /// bosun's version.
    pub version: String,
    /// Git revision it was built from; empty when unknown.
    pub revision: String,
    /// Tasks whose shim is of an older release than the daemon: what is newer than they are is refused for them.
    pub shims_older: u32,
    /// Tasks whose shim is of a newer release.
    pub shims_newer: u32,
}

impl Version {
    /// The protocol that this library speaks.
    pub const fn client_protocol() -> u32 {
        limits::PROTOCOL_VERSION
    }

    pub(crate) async fn ask(bosun: &bosun::Client) -> std::result::Result<Self, Failure> {
        let response = bosun.version_request().send().promise.await?;
        let results = response.get()?;
        Ok(Self {
            protocol: results.get_protocol(),
            version: bosun_protocol::convert::read_text(results.get_version())?,
            revision: bosun_protocol::convert::read_text(results.get_revision())?,
            shims_older: results.get_shims_older(),
            shims_newer: results.get_shims_newer(),
        })
    }
}

/// Collects all pages of a list of what the filters want.
macro_rules! all_pages {
    ($client:expr, $method:ident, $records:ident, $filters:expr) => {{
        let filters: bosun_filter::Filters = $filters;
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut request = $client.$method();
            let mut page = request.get().init_page();
            page.set_after(after.as_str());
            let texts = page.init_filters(bosun_protocol::convert::length(filters.texts()));
            bosun_protocol::convert::write_texts(filters.texts(), texts);
            $crate::failure::answer!(results, request);
            all.extend(bosun_protocol::convert::read_list(results.$records())?);
            let page = results.get_page()?;
            if !page.has_next() {
                return Ok(all);
            }
            after = bosun_protocol::convert::read_text(page.get_next())?;
        }
    }};
}
pub(crate) use all_pages;

impl Client {
    /// Connects, waiting for the daemon up to [`ConnectOptions::connect_deadline`].
    ///
    /// # Errors
    /// Unavailable: nobody listens. PermissionDenied: the socket is not for this user.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        let default_namespace = options.namespace.clone();
        let driver = Driver::start(options)?;
        driver.wait(|_session| async { Ok(()) }).await?;
        Ok(Self { driver, default_namespace })
    }

    /// As [`Self::connect`] without a thread of its own: what the client does runs in the caller's [`LocalSet`](tokio::task::LocalSet). For programs of one thread that
    /// end soon, as a command line: they need not start another one, nor wake it for each call. The client can still be sent elsewhere; it stands still while
    /// that `LocalSet` does not run, so nothing on its thread may block on it.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_here(options: ConnectOptions) -> Result<Self> {
        let default_namespace = options.namespace.clone();
        let driver = Driver::start_here(options);
        driver.wait(|_session| async { Ok(()) }).await?;
        Ok(Self { driver, default_namespace })
    }

    /// A client over a connection that is there already: one end of a pair in memory whose other end serves the protocol, a stream through `ssh`. When it
    /// ends the client does too: [`Self::reconnect`] and every later call answer FailedPrecondition. The options' address is not used.
    ///
    /// # Errors
    /// Unavailable: nobody answers there.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        options: ConnectOptions,
    ) -> Result<Self> {
        let default_namespace = options.namespace.clone();
        let driver = Driver::start_over(Box::new(stream), options)?;
        driver.open(|_session| async { Ok(()) }).await?;
        Ok(Self { driver, default_namespace })
    }

    /// Ends the connection and makes a new one. Waits and streams go on over it, as they do over a lost one; calls under way answer Unavailable. Never
    /// needed after a restart of the daemon: the next call connects by itself.
    ///
    /// # Errors
    /// FailedPrecondition: this client was made [over](Self::over) a connection (CLT-4).
    pub async fn reconnect(&self) -> Result<()> {
        self.driver.reconnect().await
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The daemon's version, as told when the connection was made.
    pub async fn version(&self) -> Result<Version> {
        self.driver.call(|session| async move { Ok(session.version().clone()) }).await
    }

    /// The daemon at a glance.
    pub async fn status(&self) -> Result<DaemonStatus> {
        self.driver
            .call(|session| async move {
                answer!(results, session.bosun().status_request());
                Ok(DaemonStatus::read(results.get_status()?)?)
            })
            .await
    }

    /// The live supervision tree.
    pub async fn tree(&self) -> Result<TreeNode> {
        self.driver
            .call(|session| async move {
                answer!(results, session.bosun().tree_request());
                Ok(TreeNode::read(results.get_root()?)?)
            })
            .await
    }

    /// What the daemon is made of: snapshotters, runtimes, differs, services; what containerd calls plugins (SYS-10).
    pub async fn parts(&self) -> Result<Vec<PartRecord>> {
        self.parts_where(Filters::all()).await
    }

    /// Those that the filters want: fields `type`, `id`.
    pub async fn parts_where(&self, filters: impl Into<Filters>) -> Result<Vec<PartRecord>> {
        let filters = filters.into();
        self.driver
            .call(|session| async move { all_pages!(session.bosun(), parts_request, get_records, filters) })
            .await
    }

    /// The namespace of the [options](ConnectOptions::namespace), or `default`.
    pub fn default_namespace(&self) -> Namespace {
        self.namespace(self.default_namespace.clone())
    }

    /// A namespace. It need not exist: its first write makes it.
    pub fn namespace(&self, name: NamespaceName) -> Namespace {
        Namespace::new(self.driver.clone(), Place { name, lease: None })
    }

    /// Every namespace, ordered by name.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceRecord>> {
        self.namespaces_where(Filters::all()).await
    }

    /// Those that the filters want: fields `name`, `labels.<key>`.
    pub async fn namespaces_where(&self, filters: impl Into<Filters>) -> Result<Vec<NamespaceRecord>> {
        let filters = filters.into();
        self.driver
            .call(|session| async move { all_pages!(session.bosun(), namespaces_request, get_records, filters) })
            .await
    }

    /// Makes a namespace.
    pub async fn create_namespace(&self, name: NamespaceName, labels: Labels) -> Result<NamespaceRecord> {
        self.driver
            .change(move |session| async move {
                let mut request = session.bosun().create_namespace_request();
                request.get().set_id(name.as_str());
                write_pairs(&labels, request.get().init_labels(pair_count(&labels)));
                answer!(results, request);
                Ok(NamespaceRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Sets labels; an empty value removes one. `replace`: these labels and no others.
    pub async fn update_namespace(
        &self,
        name: NamespaceName,
        labels: Labels,
        replace: bool,
    ) -> Result<NamespaceRecord> {
        self.driver
            .change(move |session| async move {
                let mut request = session.bosun().update_namespace_request();
                let mut params = request.get();
                params.set_id(name.as_str());
                params.set_replace(replace);
                write_pairs(&labels, params.init_labels(pair_count(&labels)));
                answer!(results, request);
                Ok(NamespaceRecord::read(results.get_record()?)?)
            })
            .await
    }

    /// Removes an empty namespace.
    pub async fn delete_namespace(&self, name: NamespaceName) -> Result<()> {
        self.driver
            .change(move |session| async move {
                let mut request = session.bosun().delete_namespace_request();
                request.get().set_id(name.as_str());
                answer!(_results, request);
                Ok(())
            })
            .await
    }

    /// Operations that are open or parked.
    pub async fn operations(&self) -> Result<Vec<OperationRecord>> {
        self.operations_where(Filters::all()).await
    }

    /// Those that the filters want: fields `id`, `namespace`, `kind`, `state`.
    pub async fn operations_where(&self, filters: impl Into<Filters>) -> Result<Vec<OperationRecord>> {
        let filters = filters.into();
        self.driver
            .call(|session| async move { all_pages!(session.bosun(), operations_request, get_records, filters) })
            .await
    }

    /// Closes a parked operation without doing anything more for it; what it left on the host is removed when the daemon starts again.
    ///
    /// # Errors
    /// FailedPrecondition unless it is parked.
    pub async fn forget_operation(&self, id: OperationId) -> Result<()> {
        self.driver
            .change(move |session| async move {
                let mut request = session.bosun().forget_operation_request();
                request.get().set_id(id.0);
                answer!(_results, request);
                Ok(())
            })
            .await
    }

    /// Lets a parked operation try again.
    pub async fn retry_operation(&self, id: OperationId) -> Result<()> {
        self.driver
            .change(move |session| async move {
                let mut request = session.bosun().retry_operation_request();
                request.get().set_id(id.0);
                answer!(_results, request);
                Ok(())
            })
            .await
    }

    /// Removes what nothing keeps, in all namespaces, and says what went; with `dry_run` it only says what would. Without a deadline.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Collection> {
        self.driver
            .wait(move |session| async move {
                let mut request = session.bosun().collect_garbage_request();
                request.get().set_dry_run(dry_run);
                answer!(results, request);
                Ok(Collection::read(results.get_collection()?)?)
            })
            .await
    }

    /// Events of every namespace.
    pub fn events(&self) -> Events {
        Events::of_daemon(self.driver.clone())
    }
}
