//! The way into a running container: its cgroup, its namespaces, and a new process in them.
//!
//! The worker joins everything while it is still a process of the host's pid namespace, which nobody in the container
//! sees; only then it forks. What is born there is at home in all of it from its first instruction: it never has the
//! host's root or working directory (CVE-2016-9962, CVE-2024-21626), and it is the shim's own child.
//!
//! Two things make it fast. One `setns` on a pidfd of init joins all namespaces (Linux 5.8). And no `cgroup.procs` is
//! written: on cgroup v1 a thread that moves itself alone takes no lock whose first writer waits for an RCU grace period
//! of 10 ms and more, and on v2 the new process is born in its group (`CLONE_INTO_CGROUP`, Linux 5.7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use bosun_types::Error;
use bosun_types::task::ProcessIdentity;
use bosun_types::user_namespace::{IdMaps, IdRange};
use nix::sched::{CloneFlags, setns};

use crate::cgroup::Cgroup;
use crate::error::{Context as _, Result};
use crate::sys::ProcessFd;

/// Kinds of namespaces, as `/proc/<pid>/ns` and as the kernel's calls name them.
const KINDS: [(&str, i32); 8] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", 0x80),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// `libc`'s is too narrow a type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A running container, held open: whoever gets its init's pid later, this stays the container.
#[derive(Debug)]
pub struct Door {
    init: ProcessFd,
    foreign: CloneFlags,
    root: File,
    unified: Option<File>,
    groups: Vec<PathBuf>,
    users: Option<IdMaps>,
}

impl Door {
    /// To the container of that init.
    pub fn open(init: &ProcessIdentity, cgroup: &Cgroup) -> Result<Self> {
        let gone = || Error::failed_precondition("the container's init has ended");
        let held = ProcessFd::open(init).context(|| "open init".into())?.ok_or_else(gone)?;
        let mut foreign = CloneFlags::empty();
        for (name, flag) in KINDS {
            // A kernel without this kind has no link for it.
            let Ok(ours) = std::fs::read_link(format!("/proc/self/ns/{name}")) else { continue };
            // One that has ended has no namespaces any more.
            let theirs = std::fs::read_link(format!("/proc/{}/ns/{name}", init.pid)).map_err(|_| gone())?;
            if ours != theirs {
                foreign.insert(CloneFlags::from_bits_retain(flag));
            }
        }
        let root = format!("/proc/{}/root", init.pid);
        let root = File::open(&root).context(|| format!("open {root}"))?;
        let unified = cgroup.v2().map(|path| File::open(path).context(|| format!("open {}", path.display())));
        let groups = cgroup.thread_files();
        let users = match foreign.contains(CloneFlags::CLONE_NEWUSER) {
            true => {
                Some(IdMaps { uids: read_map(init.pid, "uid_map")?, gids: read_map(init.pid, "gid_map")? })
            }
            false => None,
        };
        Ok(Self { init: held, foreign, root, unified: unified.transpose()?, groups, users })
    }

    /// Its root directory, from outside.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The maps of its users, if it has users of its own.
    pub fn users(&self) -> Option<&IdMaps> {
        self.users.as_ref()
    }

    /// Refuses a user and group that it does not have.
    pub fn check_user(&self, uid: u32, gid: u32) -> Result<()> {
        let Some(users) = &self.users else { return Ok(()) };
        if users.host_uid(uid).zip(users.host_gid(gid)).is_some() {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("user {uid}:{gid} is not in the container's map"))
            .with_hint("exec as a user that the container has")
            .into())
    }

    /// Joins the groups that a thread joins by itself. The caller has one thread and is outside still.
    pub fn join_groups(&self) -> Result<()> {
        for tasks in &self.groups {
            std::fs::write(tasks, "0").context(|| format!("write {}", tasks.display()))?;
        }
        Ok(())
    }

    /// Joins the namespaces and forks: gives the pid, or `None` in the new process. Neither has a way back.
    pub fn go_through(self) -> Result<Option<i32>> {
        // Nobody in the container may look into, or trace, what is not theirs yet.
        nix::sys::prctl::set_dumpable(false).context(|| "be out of reach".into())?;
        setns(&self.init, self.foreign).context(|| "join the container's namespaces".into())?;
        if !self.foreign.contains(CloneFlags::CLONE_NEWNS) {
            // It shares the shim's mounts and has only another root among them.
            nix::unistd::fchdir(&self.root).context(|| "enter the container's root".into())?;
            nix::unistd::chroot(".").context(|| "enter the container's root".into())?;
        }
        let unified = self.unified.as_ref().map(|it| it.as_fd());
        fork_sibling(unified).context(|| "fork in the container".into())
    }
}

/// As seen from here: ids outside are the host's.
fn read_map(init: u32, name: &str) -> Result<Vec<IdRange>> {
    let path = format!("/proc/{init}/{name}");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    parse_map(&text).ok_or_else(|| Error::internal(format!("{path} is malformed")).into())
}

fn parse_map(text: &str) -> Option<Vec<IdRange>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { container: next()?, host: next()?, size: next()? })
    };
    text.lines().map(line).collect()
}

/// A fork whose child is the caller's sibling, born in the given group; `None` in the child.
#[expect(unsafe_code, reason = "a system call without a wrapper")]
fn fork_sibling(group: Option<BorrowedFd<'_>>) -> io::Result<Option<i32>> {
    // SAFETY: all zeroes is a valid clone_args: nothing asked for.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(libc::CLONE_PARENT.cast_unsigned());
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(group.as_raw_fd()).unwrap_or(0);
    }
    // SAFETY: without CLONE_VM it is a fork; this process has one thread, so the child may do what the parent may.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => i32::try_from(pid).map(Some).map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_a_process_are_read() {
        let maps = parse_map("         0     100000      65536\n     65536          1          1\n").unwrap();
        assert_eq!(maps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0:100000:65536", "65536:1:1"]);
        assert_eq!(parse_map("0 1\n"), None);
        assert_eq!(parse_map("0 0 4294967295").unwrap()[0].size, u32::MAX);
    }
}
