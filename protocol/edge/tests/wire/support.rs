//! A daemon with real actors, a store in memory and a host that only pretends, behind a real edge.

pub mod host;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bosun_actors::daemon::{Daemon, DaemonOptions};
use bosun_client::{Client, ConnectOptions, Namespace, RunRequest};
use bosun_edge::{Edge, EdgeHandle, EdgeOptions};
use bosun_storage::content::ContentStore;
use bosun_storage::store::Store;
use bosun_types::container::RuntimeChoice;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecRequest};
use bosun_types::task::TaskRequest;
use bosun_types::{Labels, NamespaceName};

use host::{NoRegistry, SimHost};

/// How long a condition may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A served daemon.
pub struct Served {
    pub daemon: Daemon,
    pub host: Arc<SimHost>,
    pub edge: Option<EdgeHandle>,
    pub directory: tempfile::TempDir,
}

impl Served {
    /// With the usual limits.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other options.
    pub async fn start_with(change: impl FnOnce(&mut EdgeOptions)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let host = Arc::new(SimHost::default());
        let daemon = Daemon::start(DaemonOptions {
            gc: bosun_actors::gc::ScheduleOptions::default(),
            root: directory.path().join("root"),
            state: directory.path().join("run"),
            cgroup_parent: "/bosun-test".to_owned(),
            criu: "criu".to_owned(),
            revision: String::new(),
            store: Store::in_memory(),
            content: ContentStore::open(directory.path()).expect("a content store"),
            snapshotters: Vec::new(),
            host: host.clone(),
            registry: Arc::new(NoRegistry),
        })
        .await
        .expect("a daemon");
        let mut options = EdgeOptions::new(directory.path().join("s"));
        change(&mut options);
        let edge = Edge::start(daemon.clone(), options).expect("an edge");
        Self { daemon, host, edge: Some(edge), directory }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// A client of it.
    pub async fn client(&self) -> Client {
        client_of(self.socket()).await
    }
}

/// A client of a socket.
pub async fn client_of(address: PathBuf) -> Client {
    let options = ConnectOptions {
        address,
        connect_deadline: Duration::from_secs(5),
        reconnect_deadline: Duration::from_secs(5),
        ..ConnectOptions::default()
    };
    Client::connect(options).await.expect("connects")
}

/// The namespace of these tests.
pub fn web(client: &Client) -> Namespace {
    client.namespace(NamespaceName::new("web").expect("well formed"))
}

/// A container that needs no root.
pub fn request(id: &str) -> RunRequest {
    request_with(id, 0)
}

/// The same with so many bytes of spec.
pub fn request_with(id: &str, bytes: usize) -> RunRequest {
    let spec = format!("{{\"ociVersion\":\"1.0.2\",\"hostname\":\"{}\"}}", "h".repeat(bytes));
    let container = ContainerRequest {
        id: id.parse().expect("well formed"),
        labels: Labels::new(),
        image: None,
        snapshotter: None,
        root: RootRequest::FromSpec,
        runtime: RuntimeChoice::default(),
        spec: SpecRequest::Json(spec.into_bytes()),
        extensions: std::collections::BTreeMap::new(),
        restart: None,
        checkpoint: None,
    };
    RunRequest { container, task: TaskRequest::default() }
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
