//! One connection: the RPC system, the bootstrap capability, and the capabilities that every call starts from.

use std::cell::{Cell, LazyCell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bosun_protocol::{
    Wire, container_capnp, content_capnp, daemon_capnp::bosun, event_capnp, group_capnp, image_capnp,
    lease_capnp, limits, namespace_capnp, snapshot_capnp, task_capnp, transfer_capnp,
};
use bosun_types::access::Reach;
use bosun_types::{ContainerId, Error, ExecId, GroupName, LeaseId, NamespaceName};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{Disconnector, RpcSystem, twoparty};
use futures::FutureExt as _;
use futures::io::{BufReader, BufWriter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::daemon::Version;
use crate::driver::Stream;
use crate::failure::{Failure, answer};
use crate::options::ConnectOptions;

/// Pause between two tries to reach a daemon that is not there yet (CLT-1).
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How long a connection may take to say good-bye.
const CLOSE_DEADLINE: Duration = Duration::from_millis(200);

pub(crate) struct Session {
    bosun: bosun::Client,
    version: Version,
    reach: Option<Reach>,
    live: Rc<Cell<bool>>,
    scopes: RefCell<HashMap<Place, Rc<Scope>>>,
    /// Transfers that this client began: the daemon may forget a finished one that nobody holds.
    transfers: RefCell<HashMap<(NamespaceName, u64), transfer_capnp::transfer::Client>>,
    disconnector: RefCell<Option<Disconnector<Side>>>,
    /// `Some`: for one call with an idempotency key, on that connection.
    keyed: Option<Keyed>,
}

struct Keyed {
    of: Rc<Session>,
    key: String,
    /// The call was made before.
    again: bool,
}

/// A capability that is asked for when it is first used: asking costs a message, though no round trip.
pub(crate) type Lazily<T> = LazyCell<T, Box<dyn FnOnce() -> T>>;

/// Where calls go: a namespace, and the lease that holds what they make, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) name: NamespaceName,
    pub(crate) lease: Option<LeaseId>,
}

impl From<&NamespaceName> for Place {
    fn from(name: &NamespaceName) -> Self {
        Self { name: name.clone(), lease: None }
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

/// The capabilities of one namespace. Getting them costs no round trip: calls pipeline through.
pub(crate) struct Scope {
    pub(crate) namespace: namespace_capnp::namespace::Client,
    pub(crate) containers: Lazily<container_capnp::containers::Client>,
    pub(crate) groups: Lazily<group_capnp::groups::Client>,
    pub(crate) images: Lazily<image_capnp::images::Client>,
    pub(crate) transfers: Lazily<transfer_capnp::transfers::Client>,
    pub(crate) content: Lazily<content_capnp::content::Client>,
    pub(crate) events: Lazily<event_capnp::events::Client>,
    pub(crate) leases: Lazily<lease_capnp::leases::Client>,
    snapshots: RefCell<HashMap<String, snapshot_capnp::snapshots::Client>>,
    /// The same without the key: knows which snapshotters there are.
    known: Option<Rc<Scope>>,
}

/// A capability of a namespace's, once it is used.
macro_rules! lazily {
    ($namespace:ident, $request:ident, $get:ident) => {{
        let namespace = $namespace.clone();
        LazyCell::new(Box::new(move || namespace.$request().send().pipeline.$get()))
    }};
}

impl Session {
    /// Connects, waiting for the daemon as long as that, and learns its version.
    pub(crate) async fn connect(options: &ConnectOptions, patience: Duration) -> Result<Self, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let stream = dial(&options.address, deadline).await?;
            let (read_half, write_half) = stream.into_split();
            match Self::greet(read_half, write_half, deadline).await {
                Ok(session) => return Ok(session),
                // It went away while it was greeted: a daemon that stops, or its socket's backlog.
                Err(Failure::Lost(_)) if Instant::now() + CONNECT_PAUSE < deadline => {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                Err(failure) => {
                    let error = failure.into_error().context(options.address.display());
                    return Err(Failure::Answer(error));
                }
            }
        }
    }

    /// Over a connection that is there.
    pub(crate) async fn over(stream: Box<dyn Stream>, options: &ConnectOptions) -> Result<Self, Failure> {
        let (read_half, write_half) = tokio::io::split(stream);
        Self::greet(read_half, write_half, Instant::now() + options.connect_deadline).await
    }

    async fn greet(
        read_half: impl AsyncRead + Unpin + 'static,
        write_half: impl AsyncWrite + Unpin + 'static,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let mut network = twoparty::VatNetwork::new(
            BufReader::with_capacity(limits::IO_BUFFER_BYTES, read_half.compat()),
            BufWriter::with_capacity(limits::IO_BUFFER_BYTES, write_half.compat_write()),
            Side::Client,
            limits::reader_options(limits::RESPONSE_BYTES_MAX),
        );
        network.set_window_size(limits::WINDOW_BYTES);
        let mut system = RpcSystem::new(Box::new(network), None);
        let bosun: bosun::Client = system.bootstrap(Side::Server);
        let disconnector = system.get_disconnector();
        let live = Rc::new(Cell::new(true));
        let ended = Rc::clone(&live);
        tokio::task::spawn_local(system.map(move |outcome| {
            ended.set(false);
            tracing::debug!(?outcome, "connection ended");
        }));
        // Both at once: a command that needs to know where it is does not wait twice.
        let asked = futures::future::join(Version::ask(&bosun), ask_reach(&bosun));
        let (version, reach) = tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| {
            let error = Error::unavailable("the daemon does not answer")
                .with_hint("is it bosund that listens there?");
            (Err(Failure::Answer(error)), None)
        });
        let version = version?;
        Ok(Self {
            bosun,
            version,
            reach,
            live,
            scopes: RefCell::default(),
            transfers: RefCell::default(),
            disconnector: RefCell::new(Some(disconnector)),
            keyed: None,
        })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.get()
    }

    pub(crate) fn bosun(&self) -> bosun::Client {
        match &self.keyed {
            None => self.bosun.clone(),
            Some(Keyed { key, again, .. }) => {
                let mut request = self.bosun.with_key_request();
                request.get().set_key(key.as_str());
                request.get().set_again(*again);
                request.send().pipeline.get_bosun()
            }
        }
    }

    /// The same connection for one call with that idempotency key.
    pub(crate) fn keyed(self: &Rc<Self>, key: &str, again: bool) -> Rc<Self> {
        Rc::new(Self {
            bosun: self.bosun.clone(),
            version: self.version.clone(),
            reach: self.reach.clone(),
            live: Rc::clone(&self.live),
            scopes: RefCell::default(),
            transfers: RefCell::default(),
            disconnector: RefCell::default(),
            keyed: Some(Keyed { of: Rc::clone(self), key: key.to_owned(), again }),
        })
    }

    fn namespace(&self, place: &Place) -> namespace_capnp::namespace::Client {
        if let Some(Keyed { of, key, again }) = &self.keyed {
            let mut request = of.scope(place).namespace.with_key_request();
            request.get().set_key(key.as_str());
            request.get().set_again(*again);
            return request.send().pipeline.get_namespace();
        }
        let mut request = self.bosun.namespace_request();
        request.get().set_id(place.name.as_str());
        let namespace = request.send().pipeline.get_namespace();
        let Some(lease) = &place.lease else { return namespace };
        let mut request = namespace.with_lease_request();
        request.get().set_lease(lease.as_str());
        request.send().pipeline.get_namespace()
    }

    /// What this connection reaches; `None` of a daemon that does not know the question.
    pub(crate) fn reach(&self) -> Option<&Reach> {
        self.reach.as_ref()
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// The capabilities of a namespace, under a lease or not.
    pub(crate) fn scope(&self, place: impl Into<Place>) -> Rc<Scope> {
        let place = place.into();
        if let Some(scope) = self.scopes.borrow().get(&place) {
            return Rc::clone(scope);
        }
        let namespace = self.namespace(&place);
        let known = self.keyed.as_ref().map(|keyed| keyed.of.scope(&place));
        let scope = Rc::new(Scope {
            containers: lazily!(namespace, containers_request, get_containers),
            groups: lazily!(namespace, groups_request, get_groups),
            images: lazily!(namespace, images_request, get_images),
            transfers: lazily!(namespace, transfers_request, get_transfers),
            content: lazily!(namespace, content_request, get_content),
            events: lazily!(namespace, events_request, get_events),
            leases: lazily!(namespace, leases_request, get_leases),
            snapshots: RefCell::default(),
            known,
            namespace,
        });
        self.scopes.borrow_mut().insert(place, Rc::clone(&scope));
        scope
    }

    /// Forgets the capabilities under a lease that is over.
    pub(crate) fn release_scope(&self, place: &Place) {
        self.scopes.borrow_mut().remove(place);
    }

    /// Keeps the capability of a transfer while its noun lives.
    pub(crate) fn hold_transfer(
        &self,
        namespace: &NamespaceName,
        id: u64,
        transfer: transfer_capnp::transfer::Client,
    ) {
        let session = self.keyed.as_ref().map_or(self, |keyed| &keyed.of);
        session.transfers.borrow_mut().insert((namespace.clone(), id), transfer);
    }

    pub(crate) fn release_transfer(&self, namespace: &NamespaceName, id: u64) {
        self.transfers.borrow_mut().remove(&(namespace.clone(), id));
    }

    /// A transfer's capability: the held one, or asked for by its number.
    pub(crate) async fn transfer(
        &self,
        namespace: &NamespaceName,
        id: u64,
    ) -> Result<transfer_capnp::transfer::Client, Failure> {
        if let Some(held) = self.transfers.borrow().get(&(namespace.clone(), id)) {
            return Ok(held.clone());
        }
        let mut request = self.scope(namespace).transfers.get_request();
        request.get().set_id(id);
        answer!(results, request);
        Ok(results.get_transfer()?)
    }

    /// Says good-bye, so that the daemon sees an end and no error.
    pub(crate) async fn close(&self) {
        self.scopes.borrow_mut().clear();
        self.transfers.borrow_mut().clear();
        let disconnector = self.disconnector.borrow_mut().take();
        if let Some(disconnector) = disconnector {
            // A daemon that does not take it any more will see the socket close all the same.
            let _ = tokio::time::timeout(CLOSE_DEADLINE, disconnector).await;
        }
    }
}

impl Scope {
    pub(crate) fn container(&self, id: &ContainerId) -> container_capnp::container::Client {
        let mut request = self.containers.get_request();
        request.get().set_id(id.as_str());
        request.send().pipeline.get_container()
    }

    pub(crate) fn group(&self, name: &GroupName) -> group_capnp::group::Client {
        let mut request = self.groups.get_request();
        request.get().set_id(name.as_str());
        request.send().pipeline.get_group()
    }

    pub(crate) fn task(&self, id: &ContainerId) -> task_capnp::task::Client {
        self.container(id).task_request().send().pipeline.get_task()
    }

    /// Init, or an exec.
    pub(crate) fn process(&self, id: &ContainerId, exec: Option<&ExecId>) -> task_capnp::process::Client {
        let task = self.task(id);
        match exec {
            None => capnp::capability::FromClientHook::cast_to(task),
            Some(exec) => {
                let mut request = task.process_request();
                request.get().set_exec(exec.as_str());
                request.send().pipeline.get_process()
            }
        }
    }

    /// Not pipelined the first time: an unknown snapshotter is told as such.
    pub(crate) async fn snapshots(
        &self,
        snapshotter: &str,
    ) -> Result<snapshot_capnp::snapshots::Client, Failure> {
        if let Some(known) = self.snapshots.borrow().get(snapshotter) {
            return Ok(known.clone());
        }
        let mut request = self.namespace.snapshots_request();
        request.get().set_snapshotter(snapshotter);
        let snapshots = match &self.known {
            Some(known) => {
                Box::pin(known.snapshots(snapshotter)).await?;
                request.send().pipeline.get_snapshots()
            }
            None => {
                answer!(results, request);
                results.get_snapshots()?
            }
        };
        self.snapshots.borrow_mut().insert(snapshotter.to_owned(), snapshots.clone());
        Ok(snapshots)
    }
}

async fn ask_reach(bosun: &bosun::Client) -> Option<Reach> {
    let response = bosun.reach_request().send().promise.await.ok()?;
    Reach::read(response.get().ok()?.get_reach().ok()?).ok()
}

/// CLT-1: polls while nobody is there, fails at once on what waiting cannot mend.
async fn dial(address: &Path, deadline: Instant) -> Result<UnixStream, Failure> {
    use std::io::ErrorKind as K;
    loop {
        let error = match UnixStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let shown = address.display();
        // Reset: it was ended while we stood in its queue.
        let absent = matches!(error.kind(), K::NotFound | K::ConnectionRefused | K::ConnectionReset);
        // A listener with a full backlog answers EAGAIN.
        let busy = error.kind() == K::WouldBlock;
        if !absent && !busy {
            let class = bosun_types::error::class_of_io(&error);
            let mut failure = Error::new(class, format!("cannot connect to {shown}: {error}"));
            if error.kind() == K::PermissionDenied {
                failure = failure.with_hint("use root, or an account in the socket's group");
            }
            return Err(Failure::Answer(failure));
        }
        if Instant::now() + CONNECT_PAUSE > deadline {
            let failure = Error::unavailable(format!("cannot connect to {shown}: {error}"));
            return Err(Failure::Answer(failure.with_hint("is bosund running, and is this its socket?")));
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}
