//! The invariant checker: what is on the host against what the daemon says it holds.
//!
//! A second implementation on purpose: it reads `/proc`, cgroup directories, mount tables and the daemon's folders with its own
//! eyes and shares no code with recovery, so that both cannot be wrong in the same way (I1, I2, I3 of the fault matrix).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a daemon keeps its things.
#[derive(Debug, Clone)]
pub struct Places {
    /// `--root`.
    pub root: PathBuf,
    /// `--state`.
    pub state: PathBuf,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
}

/// Snapshotters whose directories are looked at.
pub const SNAPSHOTTERS: [&str; 3] = ["overlayfs", "native", "btrfs"];

/// What the daemon says it holds, as `namespace/id` and plain names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Tasks, stopped ones too.
    pub tasks: BTreeSet<String>,
    /// Tasks whose init lives: `namespace/id` and pid.
    pub live: BTreeSet<(String, u32)>,
    /// Those of them that run, and whether they are said to be frozen.
    pub frozen: BTreeMap<(String, u32), bool>,
    /// Number of snapshots by snapshotter, in all namespaces.
    pub snapshots: BTreeMap<String, usize>,
    /// Blobs of all namespaces, as 64 hex digits.
    pub blobs: BTreeSet<String>,
}

/// A process proven by pid and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Host pid.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// The shim of a live init: its parent.
pub fn shim_of(init: u32) -> nix::unistd::Pid {
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).expect("lives");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let parent = rest.split_whitespace().nth(1).expect("a parent").parse().expect("a pid");
    nix::unistd::Pid::from_raw(parent)
}

/// Reads field 22 of `/proc/<pid>/stat`; `None` when the process is gone or a zombie.
pub fn identity(pid: u32) -> Option<Identity> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: fields are counted after the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(Identity { pid, start_ticks })
}

/// Every difference, one line each; empty when the invariants hold.
pub fn violations(places: &Places, expected: &Expected) -> Vec<String> {
    let mut found = Vec::new();
    task_directories(places, expected, &mut found);
    shims(places, expected, &mut found);
    cgroups(places, expected, &mut found);
    mounts(places, &mut found);
    snapshots(places, expected, &mut found);
    blobs(places, expected, &mut found);
    checkpoints(places, &mut found);
    for (task, pid) in &expected.live {
        if identity(*pid).is_none() {
            found.push(format!("task {task} is said to run as pid {pid}, which is gone"));
        }
    }
    for ((task, pid), told) in &expected.frozen {
        if crate::cgroup::is_frozen(*pid).is_some_and(|frozen| frozen != *told) {
            found.push(format!(
                "task {task} is said to be {}, and is not",
                if *told { "paused" } else { "running" }
            ));
        }
    }
    found
}

fn task_directories(places: &Places, expected: &Expected, found: &mut Vec<String>) {
    let mut owners = BTreeSet::new();
    for directory in entries(&places.state.join("tasks")) {
        let owner = std::fs::read_to_string(directory.join("owner")).unwrap_or_default().trim().to_owned();
        if !expected.tasks.contains(&owner) {
            found.push(format!("task directory {} of {owner:?} has no task", directory.display()));
        } else if !owners.insert(owner.clone()) {
            found.push(format!("task {owner} has two directories"));
        }
    }
    for task in expected.tasks.difference(&owners) {
        found.push(format!("task {task} has no directory"));
    }
}

fn shims(places: &Places, expected: &Expected, found: &mut Vec<String>) {
    let state = places.state.to_string_lossy().into_owned();
    for (pid, words) in processes() {
        let is_shim =
            words.iter().any(|word| word == "--nonce") && words.iter().any(|word| word.starts_with(&state));
        if !is_shim {
            continue;
        }
        let value = |flag: &str| {
            words
                .iter()
                .position(|word| word == flag)
                .and_then(|at| words.get(at + 1))
                .cloned()
                .unwrap_or_default()
        };
        let owner = format!("{}/{}", value("--namespace"), value("--id"));
        if !expected.tasks.contains(&owner) {
            found.push(format!("shim {pid} of {owner} has no task"));
        }
    }
}

/// Command lines of all processes that are not zombies.
fn processes() -> Vec<(u32, Vec<String>)> {
    entries(Path::new("/proc"))
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok())
        .filter(|pid| identity(*pid).is_some())
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            Some((pid, words))
        })
        .collect()
}

/// Container directories below our parent, in every hierarchy.
fn cgroups(places: &Places, expected: &Expected, found: &mut Vec<String>) {
    let root = Path::new("/sys/fs/cgroup");
    let parent = places.cgroup_parent.trim_start_matches('/');
    for hierarchy in entries(root).into_iter().chain([root.to_path_buf()]) {
        for namespace in directories(&hierarchy.join(parent)) {
            for container in directories(&namespace) {
                let owner = format!("{}/{}", name(&namespace), name(&container));
                if !expected.tasks.contains(&owner) {
                    found.push(format!("cgroup {} has no task", container.display()));
                }
            }
        }
    }
}

/// No mount of a container is ever in the host's table (ADR 0010).
fn mounts(places: &Places, found: &mut Vec<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for target in table.lines().filter_map(|line| line.split_whitespace().nth(4)) {
        let below = |directory: &Path| target.starts_with(&format!("{}/", directory.display()));
        // A test's own disk, mounted by the test.
        let is_disk = Path::new(target) == places.root.join("snapshots/btrfs");
        if !is_disk && (below(&places.root) || below(&places.state)) {
            found.push(format!("mount {target} is in the host's table"));
        }
    }
}

fn snapshots(places: &Places, expected: &Expected, found: &mut Vec<String>) {
    for snapshotter in SNAPSHOTTERS {
        let directories = directories(&places.root.join("snapshots").join(snapshotter));
        let wanted = expected.snapshots.get(snapshotter).copied().unwrap_or_default();
        if directories.len() != wanted {
            let names: Vec<String> = directories.iter().map(|path| name(path)).collect();
            let (count, names) = (names.len(), names.join(" "));
            found.push(format!("{count} directories ({names}) for {wanted} snapshots of {snapshotter}"));
        }
    }
}

fn blobs(places: &Places, expected: &Expected, found: &mut Vec<String>) {
    let present: BTreeSet<String> =
        entries(&places.root.join("content/blobs/sha256")).iter().map(|path| name(path)).collect();
    for digest in present.difference(&expected.blobs) {
        found.push(format!("blob {digest} has no record"));
    }
    for digest in expected.blobs.difference(&present) {
        found.push(format!("blob {digest} is recorded but not there"));
    }
}

/// A container's memory lies about only as long as its task is there, and a dump of it only while it is made.
fn checkpoints(places: &Places, found: &mut Vec<String>) {
    for directory in directories(&places.root.join("checkpoints")) {
        if !places.state.join("tasks").join(name(&directory)).exists() {
            found.push(format!("{} has no task", directory.display()));
        }
        if directory.join("dump").exists() {
            found.push(format!("a dump is left in {}", directory.display()));
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    entries(path).into_iter().filter(|path| path.is_dir()).collect()
}
