//! Wiring: which real thing goes behind which port, in which order everything starts and stops.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bosun_actors::attached::{Attached, StartAttached};
use bosun_actors::daemon::{Daemon, DaemonOptions};
use bosun_actors::host::RealHost;
use bosun_actors::registry::RealRegistry;
use bosun_edge::{Edge, EdgeHandle, EdgeOptions};
use bosun_storage::content::ContentStore;
use bosun_storage::snapshotter::Snapshotter;
use bosun_storage::snapshotter::{Btrfs, Native, Overlay};
use bosun_storage::store::{Store, StoreHealth, StoreOptions};
use futures::future::BoxFuture;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::config::Config;
use crate::{metrics, signals};

/// How long calls under way may take to finish when the daemon stops (F35).
const DRAIN: Duration = Duration::from_secs(5);
/// The root holds what is root's alone (CVE-2021-41103, CVE-2024-25621).
const ROOT_MODE: u32 = 0o700;
/// Through the state directory the socket's group reaches the socket; task directories in it are 0700 themselves.
const STATE_MODE: u32 = 0o711;

/// Git revision, when the builder says it.
const REVISION: &str = match option_env!("BOSUN_REVISION") {
    Some(revision) => revision,
    None => "",
};

/// Every crash point of every registered operation, `<operation>.<step>`.
pub fn crash_points() -> Vec<String> {
    let plans = bosun_actors::operation::registry();
    plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| format!("{}.{step}", plan.name))).collect()
}

/// What concerns the whole process, before any thread starts.
pub fn prepare_process(config: &Config) -> anyhow::Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    bosun_runtime::heap::share();
    // Every shim's connection, every blob and layer in flight is a descriptor.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // The orphans of a killed shim come to us: we reap them, and the kernel tells us how they ended.
    nix::sys::prctl::set_child_subreaper(true)?;
    if config.oom_score != 0 {
        let text = config.oom_score.to_string();
        std::fs::write("/proc/self/oom_score_adj", text).context("cannot set oom_score")?;
    }
    Ok(())
}

/// Opens, starts, serves until a signal, stops in reverse order.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    directory(&config.root, ROOT_MODE)?;
    directory(&config.state, STATE_MODE)?;
    let store = open_store(config)?;
    let content = ContentStore::open(&config.root).map_err(bosun_types::Error::from)?;
    let snapshots = config.root.join("snapshots");
    let overlay = Overlay::open(&snapshots.join("overlayfs")).map_err(bosun_types::Error::from)?;
    let native = Native::open(&snapshots.join("native")).map_err(bosun_types::Error::from)?;
    let mut snapshotters: Vec<Arc<dyn Snapshotter>> = vec![Arc::new(overlay), Arc::new(native)];
    snapshotters.extend(btrfs(&snapshots.join("btrfs")));
    let daemon = Daemon::start(DaemonOptions {
        root: config.root.clone(),
        state: config.state.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        criu: config.criu_path.clone(),
        revision: REVISION.to_owned(),
        store,
        content,
        snapshotters,
        host: Arc::new(
            RealHost::new(config.state.clone(), shim(config)?)?
                .with_cdi_directories(config.cdi_directories.clone())
                .with_shim_log(crate::telemetry::of_shims(&config.log)),
        ),
        registry: Arc::new(RealRegistry::new(config.hosts_directory())?),
        gc: config.gc.options(),
    })
    .await?;
    attach_edge(&daemon, config).await?;
    if let Some(address) = config.metrics_address()? {
        metrics::attach(&daemon, address).await?;
        tracing::info!(%address, "serving metrics");
    }
    tracing::info!(address = %config.address().display(), pid = std::process::id(), "serving");
    let signal = tokio::select! {
        signal = signals::stop_requested() => signal?,
        // The root has no supervisor but the one that started this process.
        () = daemon.ended() => anyhow::bail!("the supervision tree gave up; its last words are in the log"),
    };
    tracing::info!(signal, "stopping; containers go on");
    daemon.shutdown().await?;
    Ok(())
}

/// The edge is the tree's last child: started last, stopped first, started again by itself when it fails.
async fn attach_edge(daemon: &Daemon, config: &Config) -> anyhow::Result<()> {
    let options = EdgeOptions {
        mode: config.socket_mode()?,
        uid: Some(config.rpc.uid),
        gid: Some(config.rpc.gid),
        revision: REVISION.to_owned(),
        version: version().to_owned(),
        ..EdgeOptions::new(config.address())
    };
    let served = daemon.clone();
    let start: StartAttached = Arc::new(move || {
        let (daemon, options) = (served.clone(), options.clone());
        Box::pin(async move {
            let edge = Edge::start(daemon, options).map_err(bosun_types::Error::from)?;
            Ok(Box::new(AttachedEdge(edge)) as Box<dyn Attached>)
        })
    });
    Ok(daemon.attach("edge", start).await?)
}

struct AttachedEdge(EdgeHandle);

impl Attached for AttachedEdge {
    fn stop(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Calls that were cut off are in its log.
            let _all_finished = self.0.drain(DRAIN).await;
        })
    }
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let (store, report) =
        Store::open(&StoreOptions { root: config.root.clone() }).map_err(bosun_types::Error::from)?;
    store.retain_events(config.events.retention()?);
    if !report.clean {
        tracing::info!(commits = report.sequence, "the last stop was not orderly; recovering");
    }
    if let StoreHealth::ReadOnly { why } = store.health() {
        tracing::error!(why, "the database is read-only");
    }
    Ok(store)
}

/// Makes it, or narrows what is too wide (I12).
fn directory(path: &Path, wanted: u32) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(wanted)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode != wanted {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "mode is not {wanted:o}: set");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted))?;
    }
    Ok(())
}

/// Tests let a daemon seem to be of another release.
fn version() -> &'static str {
    if bosun_faults::flagged("daemon.other_release") { "0.0.0" } else { env!("CARGO_PKG_VERSION") }
}

/// Where there is a btrfs, and only there. One that is not mounted hides its snapshots, which is said; nothing is concluded about them.
fn btrfs(root: &Path) -> Option<Arc<dyn Snapshotter>> {
    match Btrfs::open(root) {
        Ok(btrfs) => Some(Arc::new(btrfs)),
        Err(error) if root.exists() => {
            let error = bosun_types::Error::from(error);
            tracing::error!(%error, "the btrfs snapshotter cannot be used; is its file system mounted?");
            None
        }
        Err(_) => None,
    }
}

/// `bosun-shim`: as configured, else beside us, else from PATH.
fn shim(config: &Config) -> anyhow::Result<PathBuf> {
    if !config.shim.as_os_str().is_empty() {
        anyhow::ensure!(config.shim.exists(), "shim {} does not exist", config.shim.display());
        return Ok(config.shim.clone());
    }
    let name = "bosun-shim";
    let own = std::env::current_exe()?;
    let beside = own.with_file_name(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(beside)
        .chain(std::env::split_paths(&path).map(|directory| directory.join(name)))
        .find(|candidate| candidate.exists())
        .with_context(|| format!("{name} is neither beside {} nor in PATH; use --shim", own.display()))
}
