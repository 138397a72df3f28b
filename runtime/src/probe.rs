//! What this host can do, found out by doing it: `bosund probe`, whose answer `bosun doctor` reads. Nothing stays: what changes a process is done by a child, mounts
//! are made in a mount namespace that ends with it, groups and directories are removed.
//!
//! Called while there is one thread: the children are forks that go on with Rust code.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use bosun_types::task::ExitCause;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cgroup::{Cgroups, Layout};
use crate::process::{self, KernelStatus, PidFd};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What a child that says nothing else gives to be read back.
const CODE: u8 = 7;
/// For a child born in a group (linux/sched.h).
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// A file, and the limit that is written to it.
type Limit = (&'static str, &'static str);

/// Of each controller, on v1 and on v2.
const LIMITS: [(&str, Limit, Limit); 3] = [
    ("memory", ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
    ("cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    ("pids", ("pids.max", "32"), ("pids.max", "32")),
];

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What.
    pub name: String,
    /// Why it did not work; `None`: it did.
    pub failure: Option<String>,
}

/// Tries everything, with directories below `root` where files are needed. Blocking; single-threaded callers only.
pub fn all(root: &Path) -> Vec<Outcome> {
    let mut outcomes = vec![
        outcome("overlayfs", overlayfs(root)),
        outcome("userns", in_child(|| Ok(unshare(CloneFlags::CLONE_NEWUSER)?))),
        outcome("apparmor", in_child(apparmor)),
        outcome("exit_info", exit_info()),
        outcome("clone_into_cgroup", clone_into_cgroup()),
    ];
    outcomes.extend(
        LIMITS
            .map(|(controller, v1, v2)| outcome(&format!("cgroup_{controller}"), limit(controller, v1, v2))),
    );
    outcomes
}

fn outcome(name: &str, result: io::Result<()>) -> Outcome {
    Outcome { name: name.to_owned(), failure: result.err().map(|error| error.to_string()) }
}

/// In a process of its own, whose end says how it went.
#[expect(unsafe_code, reason = "what unshares or changes its profile must not be this process")]
fn in_child(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: there is one thread (see the module), so that the child finds no lock taken that nobody gives back.
    let pid = match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => child,
        nix::unistd::ForkResult::Child => {
            let errno = work().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            // SAFETY: it ends here, without what the parent wants to be run at its end.
            unsafe { libc::_exit(errno) }
        }
    };
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        other => Err(io::Error::other(format!("the child ended by {other:?}"))),
    }
}

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn below(root: &Path) -> io::Result<Self> {
        let path = root.join(format!(".bosun-probe-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a directory of a probe stays");
        }
    }
}

/// Two layers, a file that is written to the upper one, and one that is removed from the lower one.
fn overlayfs(root: &Path) -> io::Result<()> {
    let scratch = Scratch::below(root)?;
    let at = |name: &str| scratch.0.join(name);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(at(name))?;
    }
    fs::write(at("lower/old"), "old")?;
    in_child(|| {
        private_mounts()?;
        let words = ["lowerdir=", "upperdir=", "workdir="];
        let words = words.iter().zip(["lower", "upper", "work"]);
        let data: Vec<String> = words.map(|(word, name)| format!("{word}{}", at(name).display())).collect();
        let data = data.join(",");
        mount(Some("overlay"), &at("merged"), Some("overlay"), MsFlags::empty(), Some(data.as_str()))?;
        fs::write(at("merged/new"), "new")?;
        fs::remove_file(at("merged/old"))
    })?;
    // A whiteout is a device of number 0.
    fs::metadata(at("upper/new"))?;
    fs::symlink_metadata(at("upper/old")).map(drop)
}

/// Mounts that nobody else sees.
fn private_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}

/// The profile of the next program, which there is not: as the runtime does it for a container.
fn apparmor() -> io::Result<()> {
    let words = "exec unconfined";
    match fs::write("/proc/thread-self/attr/apparmor/exec", words) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write("/proc/thread-self/attr/exec", words)
        }
        written => written,
    }
}

/// A child ends and is reaped; its descriptor still says how.
#[expect(unsafe_code, reason = "a child that is reaped while its descriptor is held")]
fn exit_info() -> io::Result<()> {
    // SAFETY: as in `in_child`; the child does nothing but end.
    let pid = match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => child,
        // SAFETY: as in `in_child`.
        nix::unistd::ForkResult::Child => unsafe { libc::_exit(CODE.into()) },
    };
    // It cannot go before it is reaped.
    let identity = process::identity_of(pid.as_raw().unsigned_abs());
    let held =
        identity.map(|identity| PidFd::open(&identity)).transpose().map_err(io::Error::other)?.flatten();
    waitpid(pid, None)?;
    let held = held.ok_or_else(|| io::Error::other("a child cannot be held"))?;
    match held.exit_status() {
        KernelStatus::Ended(ExitCause::Code(CODE)) => Ok(()),
        _ => Err(io::Error::other("the kernel does not tell it")),
    }
}

/// A group that goes with this value.
struct Group(PathBuf);

impl Group {
    fn below(hierarchy: &Path) -> io::Result<Self> {
        let path = hierarchy.join(format!("bosun-probe-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a group of a probe stays");
        }
    }
}

fn layout() -> io::Result<Layout> {
    Cgroups::detect().map(|found| found.layout()).map_err(io::Error::other)
}

/// On v1 there is no such thing, and nothing that needs it.
fn clone_into_cgroup() -> io::Result<()> {
    if layout()? != Layout::V2 {
        return Ok(());
    }
    let group = Group::below(Path::new(CGROUPS))?;
    let directory = fs::File::open(&group.0)?;
    born_in(&directory)
}

#[expect(unsafe_code, reason = "neither libc nor nix has a function for clone3")]
fn born_in(group: &fs::File) -> io::Result<()> {
    // SAFETY: all zeros is a valid value of this struct of numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = u64::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: the struct lives through the call and has the size that is said; without a stack of its own the child is as one of fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    let pid = Errno::result(pid)?;
    if pid == 0 {
        // SAFETY: as in `in_child`.
        unsafe { libc::_exit(0) }
    }
    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    waitpid(pid, Some(WaitPidFlag::empty())).map(drop).map_err(io::Error::from)
}

/// A limit is written to a group, as for a container.
fn limit(controller: &str, v1: Limit, v2: Limit) -> io::Result<()> {
    let is_v2 = layout()? == Layout::V2;
    let hierarchy = if is_v2 { PathBuf::from(CGROUPS) } else { Path::new(CGROUPS).join(controller) };
    let _delegated = if is_v2 { Delegated::of(&hierarchy, controller)? } else { None };
    let group = Group::below(&hierarchy)?;
    let (file, value) = if is_v2 { v2 } else { v1 };
    fs::write(group.0.join(file), value)
}

/// A controller that was given to the groups below for the time of the probe.
struct Delegated {
    control: PathBuf,
    controller: String,
}

impl Delegated {
    fn of(group: &Path, controller: &str) -> io::Result<Option<Self>> {
        let control = group.join("cgroup.subtree_control");
        if fs::read_to_string(&control)?.split_whitespace().any(|word| word == controller) {
            return Ok(None);
        }
        fs::write(&control, format!("+{controller}"))?;
        Ok(Some(Self { control, controller: controller.to_owned() }))
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Refused when somebody uses it by now: then it stays.
        let _ = fs::write(&self.control, format!("-{}", self.controller));
    }
}
