//! cgroups by their files: v1, v1-hybrid (v1 controllers beside an empty v2 tree), v2.
//!
//! A group is named by one path (`<parent>/<namespace>/<id>`) that is the same in every hierarchy of the host. The OCI
//! runtime makes it; the daemon only looks, kills and removes, and only where the shim cannot any more. All blocking.

mod usage;
mod warm_up;

pub use warm_up::warm_up;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use bosun_types::Error;
use bosun_types::task::ProcessIdentity;
use nix::sys::signal::Signal;

use crate::error::{Context as _, Result, RuntimeError};
use crate::process;

/// How long removal waits for killed processes to leave (F16).
const REMOVE_WAIT: Duration = Duration::from_secs(10);
/// How long everything in a group may take to die.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// How long freezing may take; killing goes on without it.
const FREEZE_WAIT: Duration = Duration::from_millis(500);
/// Pause between looks at a cgroup file.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Deepest nesting of groups that is followed.
const DEPTH_MAX: usize = 64;

/// Which kind of cgroups the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// v1 hierarchies only.
    V1,
    /// v1 hierarchies with the controllers, and a v2 tree without.
    Hybrid,
    /// The v2 tree only.
    V2,
    /// None is mounted.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V2,
    V1 { freezer: bool },
}

/// All hierarchies of the host.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Reads what is mounted.
    pub fn detect() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".into())?;
        Ok(Self::parse(&text))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for found in mountinfo.lines().filter_map(hierarchy) {
            // The same mount may be listed twice (a bind of it); one look is enough.
            if !hierarchies.contains(&found) {
                hierarchies.push(found);
            }
        }
        Self { hierarchies }
    }

    /// Which kind of cgroups the host has.
    pub fn layout(&self) -> Layout {
        let v2 = self.hierarchies.iter().any(|it| it.kind == Kind::V2);
        let v1 = self.hierarchies.iter().any(|it| it.kind != Kind::V2);
        match (v1, v2) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::V1,
            (false, true) => Layout::V2,
            (false, false) => Layout::None,
        }
    }

    /// The group at `path`, as in the spec's `cgroupsPath`; the root group and paths with `..` are refused.
    pub fn group(&self, path: &str) -> Result<Group> {
        let relative = Path::new(path)
            .strip_prefix("/")
            .ok()
            .filter(|it| it.components().next().is_some())
            .filter(|it| it.components().all(|part| matches!(part, Component::Normal(_))))
            .ok_or_else(|| {
                Error::invalid_argument(format!("cgroup path {path:?} is not an absolute path below /"))
            })?;
        let directories =
            self.hierarchies.iter().map(|it| Directory { path: it.mount.join(relative), kind: it.kind });
        Ok(Group { name: path.to_owned(), directories: directories.collect() })
    }

    /// Groups two levels below `parent` in any hierarchy: `(namespace, container)` of what was made there.
    pub fn containers_below(&self, parent: &str) -> Result<Vec<(String, String)>> {
        let mut found = BTreeSet::new();
        for directory in self.group(parent)?.directories {
            for namespace in children(&directory.path) {
                for container in children(&namespace) {
                    found.extend(name_of(&namespace).zip(name_of(&container)));
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}

#[derive(Debug, Clone)]
struct Directory {
    path: PathBuf,
    kind: Kind,
}

/// One group in every hierarchy.
#[derive(Debug, Clone)]
pub struct Group {
    name: String,
    directories: Vec<Directory>,
}

impl Group {
    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.directories.iter().any(|it| it.path.is_dir())
    }

    /// Every process in it and below it, in any hierarchy.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = BTreeSet::new();
        for directory in &self.directories {
            collect(&directory.path, DEPTH_MAX, &mut pids);
        }
        pids.into_iter().collect()
    }

    /// Kills everything in it, forks included, and waits until it is empty. Nothing there: success.
    pub fn kill_all(&self) -> Result<()> {
        if self.pids().is_empty() {
            return Ok(());
        }
        if self.kill_by_file() {
            return self.wait_empty();
        }
        // Frozen processes cannot fork away from the signal; they die once thawed. A freezer that is stuck is no
        // reason to stop: the loop below goes on until nobody is left.
        let frozen = self.freeze(true);
        self.signal_all();
        if frozen {
            self.freeze(false);
        }
        self.wait_empty()
    }

    /// Removes it from every hierarchy, and what the container made below it. Not there: success. Something that does
    /// not die in time: Unavailable, try again.
    pub fn ensure_removed(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_WAIT;
        for directory in &self.directories {
            loop {
                match remove_tree(&directory.path, DEPTH_MAX) {
                    Ok(()) => break,
                    Err(error) if is_busy(&error) && Instant::now() < deadline => {
                        self.kill_all()?;
                        std::thread::sleep(LOOK_AGAIN);
                    }
                    Err(error) if is_busy(&error) => {
                        return Err(self.stuck("stays busy"));
                    }
                    Err(error) => {
                        return Err(error).context(|| format!("remove cgroup {}", directory.path.display()));
                    }
                }
            }
        }
        Ok(())
    }

    /// v2 since Linux 5.14: one write kills all, whatever forks meanwhile.
    fn kill_by_file(&self) -> bool {
        let v2 = self.directories.iter().find(|it| it.kind == Kind::V2 && it.path.is_dir());
        let Some(directory) = v2 else { return false };
        let mut here = BTreeSet::new();
        collect(&directory.path, DEPTH_MAX, &mut here);
        // On a hybrid host the runtime may not have put the processes into the v2 group.
        here.len() == self.pids().len() && fs::write(directory.path.join("cgroup.kill"), "1").is_ok()
    }

    fn signal_all(&self) {
        for pid in self.pids() {
            // By proof even here: a pid read from the file may be gone and reused by the time of the signal.
            let Some(identity) = process::identity_of(pid) else { continue };
            if self.pids().binary_search(&pid).is_ok() {
                signal(&identity);
            }
        }
    }

    fn wait_empty(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_WAIT;
        loop {
            let left = self.pids();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.stuck(&format!("still holds processes {left:?}")));
            }
            self.freeze(false);
            self.signal_all();
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Freezes or thaws it, if that can be; whether it is so now.
    fn freeze(&self, frozen: bool) -> bool {
        let deadline = Instant::now() + FREEZE_WAIT;
        let Some((file, word, events)) = self.freezer(frozen) else { return false };
        loop {
            // v1 may stop half way (FREEZING) when a process forks meanwhile; writing again goes on.
            if fs::write(&file, word).is_err() {
                return false;
            }
            let text = fs::read_to_string(&events).unwrap_or_default();
            let done = match word {
                "1" => text.lines().any(|line| line == "frozen 1"),
                "0" => text.lines().any(|line| line == "frozen 0"),
                _ => text.trim() == word,
            };
            if done || Instant::now() >= deadline {
                return done;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The file to write, the word, the file that tells.
    fn freezer(&self, frozen: bool) -> Option<(PathBuf, &'static str, PathBuf)> {
        let there = |kind: Kind| self.directories.iter().find(|it| it.kind == kind && it.path.is_dir());
        if let Some(directory) = there(Kind::V1 { freezer: true }) {
            let state = directory.path.join("freezer.state");
            return Some((state.clone(), if frozen { "FROZEN" } else { "THAWED" }, state));
        }
        let directory = there(Kind::V2)?;
        let word = if frozen { "1" } else { "0" };
        Some((directory.path.join("cgroup.freeze"), word, directory.path.join("cgroup.events")))
    }

    fn stuck(&self, how: &str) -> RuntimeError {
        let hint = "a process in uninterruptible sleep (a dead network disk?) holds it; it is retried";
        Error::unavailable(format!("cgroup {} {how}", self.name)).with_hint(hint).into()
    }
}

fn signal(process: &ProcessIdentity) {
    if let Err(error) = process::kill(process, Signal::SIGKILL) {
        tracing::debug!(pid = process.pid, %error, "a process of a cgroup cannot be killed");
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

/// Mount point and kind of a cgroup line of mountinfo: `… root mountpoint opts … - fstype source superopts`.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mount = PathBuf::from(left.split(' ').nth(4)?);
    let mut right = right.split(' ');
    match right.next()? {
        "cgroup2" => Some(Hierarchy { mount, kind: Kind::V2 }),
        "cgroup" => {
            let freezer = right.nth(1).is_some_and(|options| options.split(',').any(|it| it == "freezer"));
            Some(Hierarchy { mount, kind: Kind::V1 { freezer } })
        }
        _ => None,
    }
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn collect(directory: &Path, depth: usize, pids: &mut BTreeSet<u32>) {
    let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) else { return };
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0));
    if depth > 0 {
        children(directory).iter().for_each(|child| collect(child, depth - 1, pids));
    }
}

/// Sub-groups.
fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let directories = entries.filter_map(io::Result::ok);
    directories.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()).collect()
}

fn remove_tree(directory: &Path, depth: usize) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match gone(fs::remove_dir(directory)) {
        Err(error) if is_busy(&error) && depth > 0 => {}
        other => return other,
    }
    for child in children(directory) {
        remove_tree(&child, depth - 1)?;
    }
    gone(fs::remove_dir(directory))
}

#[cfg(test)]
mod tests;
