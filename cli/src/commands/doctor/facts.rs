//! What there is on the host, read from the kernel's files. A fact that cannot be read is absent, and judged as such.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bosun_client::{Client, ConnectOptions};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::statfs;
use nix::sys::statvfs::statvfs;

use super::probes;

/// Where bosund keeps what survives a reboot, unless the daemon or a flag says otherwise.
const ROOT: &str = "/var/lib/bosun";
/// Where it keeps what does not, unless the daemon says otherwise.
const STATE: &str = "/run/bosun";
/// How long a daemon is waited for.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// The host.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Effective uid.
    pub uid: u32,
    /// `uname -r`.
    pub kernel: String,
    /// Types in `/proc/filesystems`.
    pub file_systems: BTreeSet<String>,
    /// Whether cgroup v2 is mounted at `/sys/fs/cgroup`.
    pub cgroup_v2: bool,
    /// Controllers that containers can be given, of v1 or v2.
    pub controllers: BTreeSet<String>,
    /// `Seccomp:` is in `/proc/self/status`.
    pub seccomp: bool,
    /// Actions that a filter may take.
    pub seccomp_actions: BTreeSet<String>,
    /// The kernel enforces AppArmor profiles.
    pub apparmor: bool,
    /// It enforces SELinux labels.
    pub selinux: bool,
    /// `/proc/sys/user/max_user_namespaces`.
    pub user_namespaces_max: Option<u64>,
    /// First line of `criu --version`.
    pub criu: Option<String>,
    /// What was tried, and why what did not work did not; what is not in it could not be tried.
    pub tried: Tried,
    /// Where bosun-shim was found.
    pub shim: Option<PathBuf>,
    /// The root directory, or the nearest directory above it that exists.
    pub root: PathBuf,
    /// Type of its file system.
    pub root_type: Option<String>,
    /// Bytes free there, and in all.
    pub space: Option<(u64, u64)>,
    /// Inodes free there, and in all; 0: the file system does not count them.
    pub inodes: Option<(u64, u64)>,
    /// Soft and hard limit of open files.
    pub files: Option<(u64, u64)>,
    /// `/proc/sys/kernel/pid_max`.
    pub pid_max: Option<u64>,
    /// `/proc/sys/fs/inotify/max_user_instances`.
    pub inotify_instances: Option<u64>,
    /// The socket.
    pub address: PathBuf,
    /// Its owner, group and mode.
    pub socket: Option<(u32, u32, u32)>,
    /// The daemon's answer, or why there is none.
    pub daemon: Option<Result<DaemonFacts, String>>,
    /// Seconds since 1970 by the clock.
    pub now: u64,
    /// Mode of the root directory; `None`: it is not there, or not to be seen.
    pub root_mode: Option<u32>,
    /// Mode of the state directory.
    pub state_mode: Option<u32>,
    /// OCI runtimes on the path.
    pub runtimes: BTreeSet<String>,
    /// Live shims of this state directory.
    pub shims: Vec<ShimFacts>,
    /// When the newest of the database's files was written, by the clock of then.
    pub newest_write: Option<u64>,
}

/// What was tried: `None`, it works; else why not.
pub type Tried = BTreeMap<String, Option<String>>;

/// One shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShimFacts {
    /// Version of its protocol.
    pub protocol: u32,
    /// Its program is not the one on the disk any more.
    pub replaced: bool,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, Default)]
pub struct DaemonFacts {
    /// Its version.
    pub version: String,
    /// Its protocol.
    pub protocol: u32,
    /// Why it refuses writes.
    pub read_only: Option<String>,
    /// Operations that wait for a person.
    pub parked: u64,
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

impl Facts {
    /// Reads all of it.
    pub async fn gather(address: PathBuf, root: Option<PathBuf>) -> Self {
        let (daemon, told) = ask_daemon(&address).await;
        let (told_root, told_state) = told.unzip();
        let state = told_state.unwrap_or_else(|| PathBuf::from(STATE));
        let wanted = root.or(told_root).unwrap_or_else(|| PathBuf::from(ROOT));
        let root = existing(&wanted);
        let socket = std::fs::metadata(&address).ok();
        let status = read("/proc/self/status").unwrap_or_default();
        let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            file_systems: file_systems(&read("/proc/filesystems").unwrap_or_default()),
            cgroup_v2,
            controllers: controllers(cgroup_v2),
            seccomp: status.lines().any(|line| line.starts_with("Seccomp:")),
            seccomp_actions: words(&read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default()),
            apparmor: read("/sys/module/apparmor/parameters/enabled")
                .is_some_and(|text| text.starts_with('Y')),
            selinux: read("/sys/fs/selinux/enforce").is_some(),
            user_namespaces_max: number("/proc/sys/user/max_user_namespaces"),
            criu: criu(),
            tried: probes::all(&root),
            shim: shim(),
            root_type: statfs(&root).ok().map(|stat| type_name(stat.filesystem_type().0)),
            space: statvfs(&root).ok().map(|stat| {
                let block = stat.fragment_size();
                (stat.blocks_available().saturating_mul(block), stat.blocks().saturating_mul(block))
            }),
            inodes: statvfs(&root).ok().map(|stat| (stat.files_available(), stat.files())),
            files: getrlimit(Resource::RLIMIT_NOFILE).ok(),
            pid_max: number("/proc/sys/kernel/pid_max"),
            inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
            socket: socket.map(|meta| (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777)),
            address,
            daemon: Some(daemon),
            root_mode: mode(&wanted),
            state_mode: mode(&state),
            runtimes: ["runc", "crun", "youki"]
                .into_iter()
                .filter(|name| on_path(name).is_some())
                .map(str::to_owned)
                .collect(),
            shims: shims(&state),
            now: seconds(std::time::SystemTime::now()),
            newest_write: newest_write(&wanted.join("db")),
            root,
        }
    }
}

async fn ask_daemon(address: &Path) -> (Result<DaemonFacts, String>, Option<(PathBuf, PathBuf)>) {
    let options = ConnectOptions {
        connect_deadline: CONNECT_DEADLINE,
        ..ConnectOptions::address(&address.to_string_lossy())
    };
    let asked = async {
        let client = Client::connect(options).await?;
        let (version, status) = (client.version().await?, client.status().await?);
        Ok::<_, bosun_types::Error>((version, status))
    };
    match asked.await {
        Err(error) => (Err(error.message), None),
        Ok((version, status)) => {
            let facts = DaemonFacts {
                version: version.version,
                protocol: version.protocol,
                read_only: status.read_only,
                parked: status.operations_parked,
            };
            (Ok(facts), Some((PathBuf::from(status.root), PathBuf::from(status.state))))
        }
    }
}

/// The directory itself, or the nearest above it that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The last word of each line.
fn file_systems(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

fn controllers(v2: bool) -> BTreeSet<String> {
    if v2 {
        return words(&read("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default());
    }
    enabled_v1(&read("/proc/cgroups").unwrap_or_default())
}

/// Names in `/proc/cgroups` whose last column is 1.
pub(super) fn enabled_v1(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            (columns.last() == Some(&"1")).then(|| columns[0].to_owned())
        })
        .collect()
}

fn criu() -> Option<String> {
    let output = Command::new("criu").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

fn shim() -> Option<PathBuf> {
    installed("bosun-shim")
}

/// Beside this program, as bosund looks beside itself, or on the path.
pub(super) fn installed(program: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(program)));
    beside.filter(|path| path.is_file()).or_else(|| on_path(program))
}

pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn mode(path: &Path) -> Option<u32> {
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

/// Those whose process lives, by what they wrote of themselves.
fn shims(state: &Path) -> Vec<ShimFacts> {
    let tasks = std::fs::read_dir(state.join("tasks")).into_iter().flatten().flatten();
    tasks.filter_map(|task| shim_of(&task.path())).collect()
}

fn shim_of(task: &Path) -> Option<ShimFacts> {
    let bytes = std::fs::read(task.join(bosun_types::shim::file::BEACON)).ok()?;
    let beacon: bosun_types::shim::ShimBeacon = bosun_types::shim::codec::decode_record(&bytes).ok()?;
    let program = std::fs::read_link(format!("/proc/{}/exe", beacon.shim.pid)).ok()?;
    let program = program.to_string_lossy();
    // Another process may have the pid by now.
    program
        .contains("bosun-shim")
        .then(|| ShimFacts { protocol: beacon.version, replaced: program.ends_with(" (deleted)") })
}

/// Names of the file systems that matter here (statfs(2)).
fn type_name(magic: impl TryInto<i64>) -> String {
    let magic = magic.try_into().unwrap_or_default() & 0xffff_ffff;
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x0102_1997 => "9p",
        0x4d44 => "vfat",
        _ => return format!("{magic:#x}"),
    }
    .to_owned()
}

fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn newest_write(directory: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(directory).ok()?;
    entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).map(seconds).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_they_are_written() {
        let v1 =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t5\t1\nmemory\t0\t1\t0\npids\t4\t9\t1\n";
        assert_eq!(enabled_v1(v1), BTreeSet::from(["cpu".to_owned(), "pids".to_owned()]));
        let systems = file_systems("nodev\tsysfs\nnodev\toverlay\n\text4\n");
        assert!(systems.contains("overlay") && systems.contains("ext4") && !systems.contains("nodev"));
        assert_eq!(type_name(0xef53_i64), "ext4");
        assert_eq!(existing(Path::new("/proc/self/nothing/here")), Path::new("/proc/self"));
    }
}
