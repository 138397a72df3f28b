//! What is on this host that belongs to this daemon: the input of recovery's plan. Only looks. Blocking.

use std::fs;
use std::path::Path;

use bosun_types::shim::{ExitNotice, ShimBeacon, flag};
use bosun_types::task::ProcessIdentity;
use bosun_types::{ContainerId, NamespaceName};

use crate::cgroup::Cgroups;
use crate::error::Result;
use crate::process;
use crate::task_directory::{TASKS, TaskDirectory, is_nonce};

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// By task directory.
    pub tasks: Vec<ObservedTask>,
    /// Shims that run below this state directory, with or without a task directory.
    pub shims: Vec<RunningShim>,
    /// Groups `(namespace, container)` below the cgroup parent, whether anything is in them or not.
    pub cgroups: Vec<(String, String)>,
}

/// One task directory.
#[derive(Debug, Clone)]
pub struct ObservedTask {
    /// The directory.
    pub directory: TaskDirectory,
    /// Whose it is; `None` when the file is missing or malformed.
    pub owner: Option<(NamespaceName, ContainerId)>,
    /// The shim's beacon; `None` when it has not written one, or it is damaged.
    pub beacon: Option<ShimBeacon>,
    /// Whether the shim that the beacon names lives.
    pub shim_lives: bool,
    /// Whether the init that the beacon names lives.
    pub init_lives: bool,
    /// Exits that nobody acknowledged.
    pub exits: Vec<ExitNotice>,
}

/// A shim found among the host's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningShim {
    /// Its task's nonce, from its command line.
    pub nonce: String,
    /// The process.
    pub process: ProcessIdentity,
}

/// Looks at everything below `state` and below the cgroup `parent`.
pub fn observe(state: &Path, parent: &str) -> Result<Observed> {
    let tasks = TaskDirectory::list(state)?.into_iter().map(observe_task).collect::<Result<_>>()?;
    Ok(Observed { tasks, shims: shims(state), cgroups: Cgroups::detect()?.containers_below(parent)? })
}

/// Looks at one task directory. What is damaged is left out and logged: it is in doubt, not an obstacle.
pub fn observe_task(directory: TaskDirectory) -> Result<ObservedTask> {
    let beacon = directory.beacon().unwrap_or_else(|error| {
        tracing::warn!(nonce = directory.nonce(), %error, "a beacon is damaged");
        None
    });
    Ok(ObservedTask {
        owner: directory.owner()?,
        shim_lives: beacon.as_ref().is_some_and(|it| process::alive(&it.shim)),
        init_lives: beacon.as_ref().and_then(|it| it.init).is_some_and(|it| process::alive(&it)),
        exits: directory.exit_records()?,
        beacon,
        directory,
    })
}

/// Shims that run for task directories below `state`, by their command lines.
pub fn shims(state: &Path) -> Vec<RunningShim> {
    processes_of_tasks(state).into_iter().filter(|(_, leader)| *leader).map(|(shim, _)| shim).collect()
}

/// Every process that has a shim's command line, and whether it is the shim itself: it leads its session and is in the
/// daemon's pid namespace. The others are its forks: a call of the OCI runtime, or an init that is held before exec.
pub(crate) fn processes_of_tasks(state: &Path) -> Vec<(RunningShim, bool)> {
    let tasks = std::path::absolute(state).unwrap_or_else(|_| state.to_owned()).join(TASKS);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| process_at(pid, &tasks)).collect()
}

fn process_at(pid: u32, tasks: &Path) -> Option<(RunningShim, bool)> {
    // Before and after: the command line between is of this very process.
    let process = process::identity_of(pid)?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> =
        line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
    let value =
        |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    let nonce = value(flag::NONCE).filter(|nonce| is_nonce(nonce))?;
    if Path::new(value(flag::DIRECTORY)?) != tasks.join(nonce) {
        return None;
    }
    let leader = leads_session(pid).unwrap_or(false);
    process::alive(&process).then(|| (RunningShim { nonce: nonce.to_owned(), process }, leader))
}

/// By its pids and sessions as each pid namespace sees them: one of each, and equal.
fn leads_session(pid: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let own = pid.to_string();
    Some(ids("NSpid:")? == own && ids("NSsid:")? == own)
}
