//! What the daemon does for a task whose shim is gone or has to go: end everything of it, find out how init ended, and
//! leave nothing on the host but the task's directory, which keeps the exit record until the daemon's commit of it is
//! durable ([`TaskDirectory::ensure_not`] comes after that).
//!
//! Only what is proven to be the task's is touched: processes by pid and start time, the shim by its beacon or by the
//! nonce in its command line, cgroups by the path that the task's own spec names. Every step may be repeated, and the
//! whole from any point: crash points lie between them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bosun_faults::point;
use bosun_types::container::RUNTIME_EMBEDDED;
use bosun_types::shim::{ExitNotice, ShimBeacon, file};
use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity};
use bosun_types::{Error, ExecId, Timestamp};
use nix::sys::signal::Signal;

use crate::cgroup::Cgroups;
use crate::error::Result;
use crate::observe;
use crate::process::{self, KernelStatus, PidFd};
use crate::reaper::Reaper;
use crate::task_directory::TaskDirectory;

/// How long a killed process may take to end.
const END_WAIT: Duration = Duration::from_secs(10);
/// How long whoever became the parent of init may take to reap it; only then does the kernel tell the status.
const REAP_WAIT: Duration = Duration::from_secs(3);
/// Pause between looks at the kernel's status; there is nothing to wait on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long an OCI runtime's `delete` may take.
const RUNTIME_WAIT: Duration = Duration::from_secs(10);

/// What is known of the task beside its directory; what is not known is looked for.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Container id as the OCI runtime knows it.
    pub id: String,
    /// The shim, from the record.
    pub shim: Option<ProcessIdentity>,
    /// Init, from the record.
    pub init: Option<ProcessIdentity>,
    /// OCI runtime, from the record.
    pub runtime: Option<String>,
    /// Processes of the task that the daemon holds; `None` is init.
    pub held: Vec<(Option<ExecId>, Arc<PidFd>)>,
}

/// A process whose end is looked for.
struct Watched {
    exec: Option<ExecId>,
    process: ProcessIdentity,
    descriptor: Option<Arc<PidFd>>,
}

/// See the module. Gives how its processes ended: those recorded, those held, and init; without init when there is no sign that it ever was.
pub async fn clean_up(directory: &TaskDirectory, known: &Known) -> Result<Vec<ExitNotice>> {
    let beacon = directory.beacon().unwrap_or_else(|error| {
        tracing::warn!(nonce = directory.nonce(), %error, "the beacon is damaged; going by the record alone");
        None
    });
    let reaper = Reaper::start()?;
    // Before anything is killed: a descriptor that is open tells the status later.
    let watched = watch(known, known.init.or(beacon.as_ref().and_then(|it| it.init)))?;
    point("clean_up.kill_shim.before")?;
    let named = known.shim.into_iter().chain(beacon.as_ref().map(|it| it.shim));
    let killed = kill_shim(directory, named, &[]).await?;
    point("clean_up.kill_shim.after")?;
    let cgroup = cgroup_path(directory, beacon.as_ref());
    kill_container(&watched, &killed, cgroup.as_deref()).await?;
    point("clean_up.kill_container.after")?;
    // Looked at only now: the shim may have recorded the exit in its last moment.
    let mut ends = directory.exit_records()?;
    for Watched { exec, process, descriptor } in watched {
        if !ends.iter().any(|end| end.exec == exec) {
            let status = find_status(&process, descriptor.as_deref(), &reaper).await;
            // The daemon holds what it knows to be started.
            let started = known.held.iter().any(|(it, _)| *it == exec);
            ends.push(record(directory, ExitNotice { exec, process, status, started })?);
        }
    }
    point("clean_up.delete_runtime_state.before")?;
    let runtime = known.runtime.clone().or(beacon.and_then(|it| it.runtime));
    delete_runtime_state(directory, &known.id, runtime.as_deref(), &reaper).await;
    point("clean_up.delete_runtime_state.after")?;
    if let Some(path) = cgroup {
        on_worker(move || Cgroups::detect()?.group(&path)?.ensure_removed()).await?;
    }
    point("clean_up.remove_cgroup.after")?;
    Ok(ends)
}

/// What is held, and init in any case.
fn watch(known: &Known, init: Option<ProcessIdentity>) -> Result<Vec<Watched>> {
    let held = known.held.iter().map(|(exec, descriptor)| Watched {
        exec: exec.clone(),
        process: descriptor.identity(),
        descriptor: Some(Arc::clone(descriptor)),
    });
    let mut watched: Vec<Watched> = held.collect();
    if let Some(process) = init
        && !watched.iter().any(|it| it.exec.is_none())
    {
        let descriptor = PidFd::open(&process)?.map(Arc::new);
        watched.push(Watched { exec: None, process, descriptor });
    }
    Ok(watched)
}

/// Kills the shims of this task: those that the beacon and the record name, and whatever runs with its nonce, but what is spared. Does not
/// wait: one that is frozen with its container ends only after that is thawed.
pub(crate) async fn kill_shim(
    directory: &TaskDirectory,
    named: impl Iterator<Item = ProcessIdentity>,
    spared: &[ProcessIdentity],
) -> Result<Vec<PidFd>> {
    let nonce = directory.nonce().to_owned();
    let state = directory.path().parent().and_then(Path::parent).unwrap_or(directory.path()).to_owned();
    // The shim first, then its forks: nobody is left who could start another.
    let mut killed = kill_each(named)?;
    let running = on_worker(move || Ok(observe::processes_of_tasks(&state))).await?;
    let of_task = running.into_iter().filter(|(it, _)| it.nonce == nonce).map(|(it, _)| it.process);
    killed.extend(kill_each(of_task.filter(|it| !spared.contains(it)))?);
    Ok(killed)
}

fn kill_each(processes: impl Iterator<Item = ProcessIdentity>) -> Result<Vec<PidFd>> {
    let mut killed = Vec::new();
    for process in processes {
        if let Some(descriptor) = PidFd::open(&process)? {
            descriptor.kill(Signal::SIGKILL)?;
            killed.push(descriptor);
        }
    }
    Ok(killed)
}

/// Everything in the cgroup, then waits for all that was killed here and before.
async fn kill_container(watched: &[Watched], killed: &[PidFd], cgroup: Option<&str>) -> Result<()> {
    for descriptor in watched.iter().filter_map(|it| it.descriptor.as_ref()) {
        descriptor.kill(Signal::SIGKILL)?;
    }
    // Thaws as well: what is frozen dies only then.
    if let Some(path) = cgroup {
        let path = path.to_owned();
        on_worker(move || Cgroups::detect()?.group(&path)?.kill_all()).await?;
    }
    for descriptor in killed {
        ended(descriptor, "the shim").await?;
    }
    for Watched { exec, descriptor, .. } in watched {
        if let Some(descriptor) = descriptor {
            ended(descriptor, if exec.is_none() { "init" } else { "an exec" }).await?;
        }
    }
    Ok(())
}

/// Waits for the end of what was killed.
pub(crate) async fn ended(descriptor: &PidFd, what: &str) -> Result<()> {
    match tokio::time::timeout(END_WAIT, descriptor.exited()).await {
        Ok(result) => result,
        Err(_) => {
            let pid = descriptor.identity().pid;
            let message = format!("{what} (process {pid}) does not end after SIGKILL");
            let hint = "it is in uninterruptible sleep (a dead network disk?); it is tried again";
            Err(Error::unavailable(message).with_hint(hint).into())
        }
    }
}

/// How a process ended, from whoever reaped it: this daemon, or by way of the kernel's memory.
async fn find_status(process: &ProcessIdentity, descriptor: Option<&PidFd>, reaper: &Reaper) -> ExitStatus {
    let give_up = Instant::now() + REAP_WAIT;
    let why = loop {
        if let Some(status) = reaper.status(process) {
            return status;
        }
        let Some(descriptor) = descriptor else {
            break "it had ended when the daemon looked, and its shim was gone";
        };
        match descriptor.exit_status() {
            KernelStatus::Ended(cause) => return ExitStatus { cause, exited_at: Timestamp::now() },
            KernelStatus::NotTold => {
                break "its shim was gone, and this kernel does not tell others (before 6.15)";
            }
            KernelStatus::NotYet if Instant::now() < give_up => tokio::time::sleep(LOOK_AGAIN).await,
            KernelStatus::NotYet => break "its shim was gone, and its new parent does not reap it",
        }
    };
    ExitStatus { cause: ExitCause::Unknown(why.to_owned()), exited_at: Timestamp::now() }
}

/// Kept until the daemon's own commit: another crash must not make another status of it (I4).
fn record(directory: &TaskDirectory, end: ExitNotice) -> Result<ExitNotice> {
    if directory.exists() { directory.ensure_exit_record(&end) } else { Ok(end) }
}

/// The cgroup of the task: what the shim gave the OCI runtime, else what the task's spec asks for.
fn cgroup_path(directory: &TaskDirectory, beacon: Option<&ShimBeacon>) -> Option<String> {
    beacon.and_then(|it| it.cgroup_path.clone()).or_else(|| {
        let bytes = std::fs::read(directory.path().join(file::CONFIG)).ok()?;
        let spec: oci_spec::runtime::Spec = serde_json::from_slice(&bytes).ok()?;
        let path = spec.linux().as_ref()?.cgroups_path().as_ref()?.to_str()?.to_owned();
        // Without the beacon's word, nothing proves that the group is this container's alone but its name.
        let (namespace, container) = directory.owner().ok()??;
        path.ends_with(&format!("/{namespace}/{container}")).then_some(path)
    })
}

/// What an external OCI runtime keeps lies in the task's directory and goes with it; its `delete` is asked for what it
/// may keep elsewhere. A runtime that is missing or fails is no reason to stop (F19).
async fn delete_runtime_state(
    directory: &TaskDirectory,
    id: &str,
    runtime: Option<&str>,
    reaper: &Arc<Reaper>,
) {
    let Some(runtime) = runtime.filter(|it| *it != RUNTIME_EMBEDDED) else { return };
    let root = directory.path().join(file::RUNTIME_ROOT);
    if id.is_empty() || !root.join(id).exists() {
        return;
    }
    let mut command = Command::new(runtime);
    command.arg("--root").arg(&root).args(["delete", "--force", id]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let spawning = reaper.clone();
    let started = tokio::task::spawn_blocking(move || spawning.spawn(&mut command)).await;
    let child = match started {
        Ok(Ok(child)) => child,
        failed => {
            tracing::warn!(
                runtime,
                id,
                ?failed,
                "the OCI runtime cannot be run; its state goes with the directory"
            );
            return;
        }
    };
    match tokio::time::timeout(RUNTIME_WAIT, reaper.wait(&child)).await {
        Ok(ExitStatus { cause: ExitCause::Code(0), .. }) => {}
        Ok(status) => tracing::warn!(runtime, id, cause = ?status.cause, "the OCI runtime's delete failed"),
        Err(_) => {
            tracing::warn!(runtime, id, "the OCI runtime's delete hangs; it is killed");
            let _ = process::kill(&child, Signal::SIGKILL);
        }
    }
}

async fn on_worker<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("clean-up: {error}")).into()),
    }
}
