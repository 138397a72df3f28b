//! cgroups by their files: who is in a container's group, freeze, kill, remove. v1, hybrid and v2.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use bosun_types::Error;
use nix::unistd::{ForkResult, fork};

use crate::error::{Context as _, Result};
use crate::sys;

/// How long removal waits for killed processes to leave.
const REMOVE_WAIT: Duration = Duration::from_secs(5);
/// How long freezing may take.
const FREEZE_WAIT: Duration = Duration::from_secs(2);
/// Pause between looks at a cgroup file.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A container's cgroup: one directory in each mounted hierarchy.
#[derive(Debug, Clone, Default)]
pub struct Cgroup {
    directories: Vec<Directory>,
}

#[derive(Debug, Clone)]
struct Directory {
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    V2,
    V1 { controllers: String },
}

impl Version {
    fn controls(&self, controller: &str) -> bool {
        matches!(self, Self::V1 { controllers } if controllers.split(',').any(|it| it == controller))
    }
}

impl Cgroup {
    /// The group at `path` (absolute, as in the spec's `cgroupsPath`) in every hierarchy of this host.
    pub fn at(path: &str) -> Result<Self> {
        let relative = Path::new(path)
            .strip_prefix("/")
            .ok()
            .filter(|path| path.components().next().is_some())
            .filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))))
            .ok_or_else(|| {
                Error::invalid_argument(format!("cgroupsPath {path:?} is not an absolute path below /"))
            })?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".into())?;
        let directories = mounts
            .lines()
            .filter_map(hierarchy)
            .map(|(mount, version)| Directory { path: mount.join(relative), version })
            .collect();
        Ok(Self { directories })
    }

    /// Every process in it and below it. A hierarchy that lacks the group has none.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for directory in &self.directories {
            collect(&directory.path, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends SIGKILL to everything in it; how many there were.
    pub fn kill_all(&self) -> usize {
        let pids = self.processes();
        for pid in &pids {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        pids.len()
    }

    /// Moves the calling process, which must be a job's child, into it: what that starts is born there.
    pub fn join(&self) -> Result<()> {
        for directory in self.directories.iter().filter(|it| it.path.exists()) {
            let file = directory.path.join("cgroup.procs");
            std::fs::write(&file, "0").context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Of each v1 group that is there: the file by which a thread that writes `0` moves itself alone.
    pub fn thread_files(&self) -> Vec<PathBuf> {
        let v1 = self.directories.iter().filter(|it| it.version != Version::V2 && it.path.exists());
        v1.map(|it| it.path.join("tasks")).collect()
    }

    /// Freezes or thaws it.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if let Some(path) = self.v1("freezer") {
            let word = if frozen { "FROZEN" } else { "THAWED" };
            return settle(&path.join("freezer.state"), word, |text| text.trim() == word);
        }
        if let Some(path) = self.v2() {
            let (word, line) = if frozen { ("1", "frozen 1") } else { ("0", "frozen 0") };
            let events = path.join("cgroup.events");
            return settle(&path.join("cgroup.freeze"), word, |_| {
                std::fs::read_to_string(&events).is_ok_and(|text| text.lines().any(|it| it == line))
            });
        }
        Err(Error::failed_precondition("the container has no cgroup that could be frozen").into())
    }

    /// Whether it is frozen, or on the way.
    pub fn is_frozen(&self) -> bool {
        let says = |path: PathBuf, words: &[&str]| {
            std::fs::read_to_string(path).is_ok_and(|text| words.contains(&text.trim()))
        };
        match (self.v1("freezer"), self.v2()) {
            (Some(path), _) => says(path.join("freezer.state"), &["FROZEN", "FREEZING"]),
            (None, Some(path)) => says(path.join("cgroup.freeze"), &["1"]),
            (None, None) => false,
        }
    }

    /// Kills what is left in it and removes it from every hierarchy. Not there: success. Blocks; for workers.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVE_WAIT;
        let _ = self.freeze_is_off();
        for directory in &self.directories {
            loop {
                match remove_tree(&directory.path) {
                    Ok(()) => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        self.kill_all();
                        std::thread::sleep(LOOK_AGAIN);
                    }
                    Err(error) => {
                        return Err(error).context(|| format!("remove cgroup {}", directory.path.display()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Its directory in the v1 hierarchy of that controller, if there is one.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let mut directories = self.directories.iter().filter(|it| it.version.controls(controller));
        directories.find(|it| it.path.exists()).map(|it| it.path.as_path())
    }

    /// Its directory in the unified hierarchy, if it has one there.
    pub fn v2(&self) -> Option<&Path> {
        let mut directories = self.directories.iter().filter(|it| it.version == Version::V2);
        directories.find(|it| it.path.exists()).map(|it| it.path.as_path())
    }

    /// Frozen processes do not die: thaw what is there.
    fn freeze_is_off(&self) -> Result<()> {
        if self.processes().is_empty() { Ok(()) } else { self.freeze(false) }
    }
}

/// Makes the kernel ready for a process to join a cgroup.
///
/// Joining takes a lock whose first writer after a quiet time waits for an RCU grace period: 10 ms and more, most of
/// the time that making a container takes. Others who come meanwhile, or soon after, do not wait again. So a child of
/// the shim joins the group that it is in already, which changes nothing but begins that wait, while the shim goes on.
/// The child is reaped like any other.
#[expect(unsafe_code, reason = "fork")]
pub fn warm_up() {
    // SAFETY: the shim has one thread, so the child may do what the parent may.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        sys::close_all_but(&[]);
        let _ = join_own();
        // SAFETY: ends this child without running the parent's exit handlers and destructors.
        unsafe { libc::_exit(0) }
    }
}

fn join_own() -> Option<()> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // The lock is one for all hierarchies: any will do. `0::` is the unified one, which hybrid hosts have too.
    let (kind, path) = match own.lines().find_map(|line| line.strip_prefix("0::")) {
        Some(path) => (" - cgroup2 ".to_owned(), path),
        None => {
            let mut fields = own.lines().next()?.splitn(3, ':').skip(1);
            (format!(",{}", fields.next()?), fields.next()?)
        }
    };
    let mount = mounts.lines().find(|line| line.contains(&kind) && hierarchy(line).is_some())?;
    let (mount, _) = hierarchy(mount)?;
    std::fs::write(mount.join(path.trim_start_matches('/')).join("cgroup.procs"), "0").ok()
}

/// Mount point and version of a cgroup line of mountinfo: `… root mountpoint opts … - fstype source superopts`.
fn hierarchy(line: &str) -> Option<(PathBuf, Version)> {
    let (left, right) = line.split_once(" - ")?;
    let mount = PathBuf::from(left.split(' ').nth(4)?);
    let mut right = right.split(' ');
    match right.next()? {
        "cgroup2" => Some((mount, Version::V2)),
        "cgroup" => {
            let controllers = right.nth(1).unwrap_or_default().to_owned();
            Some((mount, Version::V1 { controllers }))
        }
        _ => None,
    }
}

/// Writes `word` and waits until `done` says so of the file's text.
fn settle(file: &Path, word: &str, done: impl Fn(&str) -> bool) -> Result<()> {
    let deadline = Instant::now() + FREEZE_WAIT;
    loop {
        // v1 may stop half way (FREEZING) when a process forks meanwhile; writing again goes on.
        std::fs::write(file, word).context(|| format!("write {}", file.display()))?;
        let text = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        if done(&text) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::unavailable(format!("{} stays {}", file.display(), text.trim())).into());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn collect(directory: &Path, pids: &mut Vec<i32>) {
    let Ok(text) = std::fs::read_to_string(directory.join("cgroup.procs")) else { return };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(directory) {
        collect(&child, pids);
    }
}

/// Sub-groups that the container may have made itself.
fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(error),
        Err(_) => {}
    }
    for child in children(directory) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_or_is_the_root_group_is_refused() {
        for path in ["", "/", "relative", "/a/../b", "system.slice:bosun:id"] {
            assert!(Cgroup::at(path).is_err(), "{path}");
        }
        assert!(Cgroup::at("/bosun/default/c1").is_ok());
    }

    #[test]
    fn mountinfo_lines_of_both_versions_are_read() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer";
        let (mount, version) = hierarchy(v1).unwrap();
        assert_eq!(mount, Path::new("/sys/fs/cgroup/freezer"));
        assert!(version.controls("freezer") && !version.controls("memory"));
        let v2 = "31 25 0:27 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(hierarchy(v2), Some(("/sys/fs/cgroup".into(), Version::V2)));
        assert_eq!(hierarchy("31 25 0:27 / / rw - ext4 /dev/vda rw"), None);
    }
}
