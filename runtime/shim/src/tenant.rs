//! An exec that libcontainer cannot make by itself: one in a container with users of its own, whose user namespace its
//! builder for execs does not join (0.7.0); and one of another user than root with a terminal, which it leaves to root.
//!
//! libcontainer is told of a stand-in: root, who keeps everything. It makes the process, held before exec, in the
//! container's cgroup and other namespaces. Then, still outside of the container's users and so out of reach for them,
//! the process gives away its terminal, enters their namespace, and becomes what it was to be: user, groups,
//! no_new_privileges, capabilities, filter. Only then does it execute anything.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use bosun_types::Error;
use bosun_types::user_namespace::{IdMaps, IdRange};
use libcontainer::capabilities::{drop_privileges, reset_effective};
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::utils::get_user_home;
use libcontainer::workload::ExecutorError;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, fchown, isatty};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec, User};

use crate::error::{Context as _, Result};

/// What an exec becomes when libcontainer is done with it.
#[derive(Debug, Clone)]
pub struct Becoming {
    process: Process,
    /// The container's user namespace: a descriptor that the forks inherit and the exec closes.
    users: Option<RawFd>,
    /// Who its user is outside.
    owner: (u32, u32),
}

impl Becoming {
    /// For an exec of `process` in the container of `spec`, whose init is `init`; `None`: libcontainer does it all. The
    /// file keeps the namespace's descriptor open; it must live until the exec is made.
    pub fn of(process: &Process, spec: &Spec, init: i32) -> Result<Option<(Self, Option<File>)>> {
        let (uid, gid) = (process.user().uid(), process.user().gid());
        if !has_users(spec) {
            let own = Self { process: process.clone(), users: None, owner: (uid, gid) };
            return Ok((process.terminal() == Some(true) && uid != 0).then_some((own, None)));
        }
        let users =
            File::open(format!("/proc/{init}/ns/user")).context(|| "open the user namespace".into())?;
        let maps = IdMaps { uids: read_map(init, "uid_map")?, gids: read_map(init, "gid_map")? };
        let owner = maps.host_uid(uid).zip(maps.host_gid(gid)).ok_or_else(|| {
            Error::invalid_argument(format!("user {uid}:{gid} is not in the container's map"))
                .with_hint("exec as a user that the container has")
        })?;
        let own = Self { process: process.clone(), users: Some(users.as_raw_fd()), owner };
        Ok(Some((own, Some(users))))
    }

    /// Whom libcontainer makes instead.
    pub fn stand_in(&self) -> Process {
        let mut root = User::default();
        root.set_umask(self.process.user().umask());
        let mut process = self.process.clone();
        process.set_user(root).set_capabilities(None).set_no_new_privileges(None);
        process
    }

    /// In the held process, right before it executes its program. `load` loads the container's filter.
    pub fn happen(&self, load: impl Fn() -> Result<(), ExecutorError>) -> Result<(), ExecutorError> {
        let failed = |what: &'static str| {
            move |error: &dyn std::fmt::Display| ExecutorError::Other(format!("exec: {what}: {error}"))
        };
        if isatty(io::stdin()).unwrap_or(false) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            fchown(io::stdin(), Some(uid), Some(gid))
                .map_err(|error| failed("give the terminal away")(&error))?;
        }
        if let Some(users) = self.users {
            enter(users).map_err(|error| failed("join the container's users")(&error))?;
        }
        let bound = self.process.no_new_privileges() == Some(true);
        if bound {
            nix::sys::prctl::set_no_new_privs().map_err(|error| failed("gain no privileges")(&error))?;
        }
        let (user, syscall) = (self.process.user(), create_syscall());
        let groups: Vec<Gid> = user.additional_gids().iter().flatten().copied().map(Gid::from_raw).collect();
        let set = nix::unistd::setgroups(&groups);
        set.map_err(|error| failed("set groups")(&error))?;
        change_ids(user).map_err(|error| failed("change the user")(&error))?;
        reset_effective(syscall.as_ref()).map_err(|error| failed("keep capabilities")(&error))?;
        // Without no_new_privileges a filter needs a right that is about to go; with it, it comes last.
        if !bound {
            load()?;
        }
        if let Some(capabilities) = self.process.capabilities() {
            drop_privileges(capabilities, syscall.as_ref())
                .map_err(|error| failed("drop capabilities")(&error))?;
        }
        self.set_home();
        if bound { load() } else { Ok(()) }
    }

    /// libcontainer has set the stand-in's.
    #[expect(unsafe_code, reason = "the environment of a process about to execute")]
    fn set_home(&self) {
        let given = |word: &String| word.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
        if self.process.env().iter().flatten().any(given) {
            return;
        }
        let home = get_user_home(self.process.user().uid());
        // SAFETY: this forked process has one thread.
        unsafe {
            match home {
                Some(home) => std::env::set_var("HOME", home),
                None => std::env::remove_var("HOME"),
            }
        }
    }
}

/// Permitted capabilities stay until they are dropped by name.
fn change_ids(user: &User) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    nix::sys::prctl::set_keepcaps(true)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    nix::sys::prctl::set_keepcaps(false)
}

/// Whether the container has users of its own, made for it or joined.
fn has_users(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|it| it.typ() == LinuxNamespaceType::User))
}

#[expect(unsafe_code, reason = "the number of a descriptor that the fork inherited")]
fn enter(users: RawFd) -> nix::Result<()> {
    // SAFETY: `Becoming::of`'s file kept it open until this process was forked, and nothing here closes it.
    setns(unsafe { BorrowedFd::borrow_raw(users) }, CloneFlags::CLONE_NEWUSER)
}

/// As seen from here: ids outside are the host's.
fn read_map(init: i32, name: &str) -> Result<Vec<IdRange>> {
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

    #[test]
    fn the_stand_in_keeps_everything_and_the_rest_is_as_it_was() {
        let json = r#"{"cwd": "/srv", "args": ["true"], "user": {"uid": 33, "gid": 34, "umask": 18},
            "noNewPrivileges": true, "capabilities": {"bounding": ["CAP_CHOWN"]}}"#;
        let process: Process = serde_json::from_str(json).unwrap();
        let stand_in = Becoming { process: process.clone(), users: None, owner: (33, 34) }.stand_in();
        assert_eq!((stand_in.user().uid(), stand_in.user().gid(), stand_in.user().umask()), (0, 0, Some(18)));
        assert_eq!((stand_in.capabilities(), stand_in.no_new_privileges()), (&None, None));
        assert_eq!((stand_in.args(), stand_in.cwd()), (process.args(), process.cwd()));
    }
}
