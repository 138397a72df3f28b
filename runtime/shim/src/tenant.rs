//! What a further process of a container becomes between its birth in the container and its program: session, streams,
//! limits, label, directory, user, capabilities, filter. In this order, because each step takes away what the ones
//! before it needed.
//!
//! Nothing of the container is executed, loaded or trusted before the last step. What the worker can set outside and the
//! new process inherits is set there ([`Tenant::prepare`]), because inside of a container with users of its own it could
//! not be.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use libcontainer::capabilities::{drop_privileges, reset_effective};
use libcontainer::config::PersonalityDomain;
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use oci_spec::runtime::{IOPriorityClass, LinuxPersonalityDomain, LinuxSeccomp, Process, User};

use crate::filter::Program;
use crate::oci::Inherited;
use crate::scheduler;
use crate::setup::OOM_SCORE_FILE;

/// Where programs are when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why it became nothing: the step, and what was wrong.
pub type Failure = String;

/// Its streams, as the new process finds them among its descriptors.
#[derive(Debug)]
pub enum Streams {
    /// Input, output, error.
    Pipes([OwnedFd; 3]),
    /// A connected socket over which the terminal's other end goes to the shim.
    Console(OwnedFd),
}

impl Streams {
    /// Their numbers.
    pub fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Pipes(pipes) => pipes.iter().map(|pipe| pipe.as_raw_fd()).collect(),
            Self::Console(socket) => vec![socket.as_raw_fd()],
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tenant {
    process: Process,
    environment: Vec<String>,
    has_users: bool,
    personality: Option<LinuxPersonalityDomain>,
    program: Option<Program>,
    seccomp: Option<LinuxSeccomp>,
}

/// Names the step that failed.
trait Step<T> {
    fn step(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Step<T> for Result<T, E> {
    fn step(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| format!("{what}: {}", bosun_types::error::chain(&error)))
    }
}

impl Tenant {
    /// Of the container with these; `environment` is complete. `program` is the container's compiled filter; without one the
    /// spec's is loaded.
    pub fn new(
        process: Process,
        environment: Vec<String>,
        has_users: bool,
        inherited: Inherited,
        program: Option<Program>,
    ) -> Self {
        Self {
            process,
            environment,
            has_users,
            personality: inherited.personality.map(|it| it.domain()),
            seccomp: inherited.seccomp.filter(|_| program.is_none()),
            program,
        }
    }

    /// In the worker, outside: what its child inherits. The affinity has a part before the group is joined and one after.
    pub fn prepare(&self, join_groups: impl FnOnce() -> crate::error::Result<()>) -> Result<(), Failure> {
        let affinity = self.process.exec_cpu_affinity().as_ref();
        if let Some(cpus) = affinity.and_then(|it| it.initial().as_ref()) {
            scheduler::set_affinity(cpus).step("set the first affinity")?;
        }
        join_groups().step("join the cgroup")?;
        if let Some(cpus) = affinity.and_then(|it| it.cpu_affinity_final().as_ref()) {
            scheduler::set_affinity(cpus).step("set the affinity")?;
        }
        if let Some(score) = self.process.oom_score_adj() {
            std::fs::write(OOM_SCORE_FILE, score.to_string()).step("set the OOM score adjustment")?;
        }
        let syscall = create_syscall();
        for limit in self.process.rlimits().iter().flatten() {
            syscall.set_rlimit(limit).step("set a limit")?;
        }
        if let Some(priority) = self.process.io_priority() {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            syscall.set_io_priority(class, priority.priority()).step("set the I/O priority")?;
        }
        match self.process.scheduler() {
            Some(wanted) => scheduler::set(wanted).step("set the scheduler"),
            None => Ok(()),
        }
    }

    /// In the new process. Only failure returns.
    pub fn become_it(&self, streams: Streams) -> Result<Infallible, Failure> {
        let syscall = create_syscall();
        let syscall = syscall.as_ref();
        let (user, bound) = (self.process.user(), self.process.no_new_privileges() == Some(true));
        nix::unistd::setsid().step("begin a session")?;
        if self.has_users {
            // Until now a stranger to the container's users: its root from here on.
            change_ids(&User::default(), &[]).step("become the container's root")?;
        }
        self.take(streams, syscall)?;
        if bound {
            nix::sys::prctl::set_no_new_privs().step("gain no privileges")?;
        }
        if let Some(domain) = self.personality {
            let domain = match domain {
                LinuxPersonalityDomain::PerLinux => PersonalityDomain::Linux,
                LinuxPersonalityDomain::PerLinux32 => PersonalityDomain::Linux32,
            };
            syscall.personality(domain).step("set the personality")?;
        }
        if let Some(profile) = self.process.apparmor_profile() {
            libcontainer::apparmor::apply_profile(profile).step("set the AppArmor profile")?;
        }
        if let Some(bits) = user.umask() {
            let mode = Mode::from_bits(bits).ok_or_else(|| format!("{bits:o} is no umask"))?;
            nix::sys::stat::umask(mode);
        }
        let is_there = self.change_directory(false)?;
        let groups: Vec<Gid> = user.additional_gids().iter().flatten().copied().map(Gid::from_raw).collect();
        change_ids(user, &groups).step("change the user")?;
        reset_effective(syscall).step("keep capabilities")?;
        // Without no_new_privileges a filter needs a right that is about to go; with it, it comes last.
        if !bound {
            self.filter()?;
        }
        if let Some(capabilities) = self.process.capabilities() {
            drop_privileges(capabilities, syscall).step("drop capabilities")?;
        }
        if !is_there {
            self.change_directory(true)?;
        }
        // CVE-2024-21626: a directory outside of the root has no path.
        let cwd = nix::unistd::getcwd().step("look at the working directory")?;
        if !cwd.is_absolute() {
            return Err("the working directory is outside of the container's root".into());
        }
        if bound {
            self.filter()?;
        }
        self.execute()
    }

    fn take(&self, streams: Streams, syscall: &dyn Syscall) -> Result<(), Failure> {
        match streams {
            Streams::Pipes([stdin, stdout, stderr]) => {
                nix::unistd::dup2_stdin(&stdin).step("take standard input")?;
                nix::unistd::dup2_stdout(&stdout).step("take standard output")?;
                nix::unistd::dup2_stderr(&stderr).step("take standard error")
            }
            Streams::Console(socket) => {
                // It closes the socket.
                let socket = std::os::fd::IntoRawFd::into_raw_fd(socket);
                libcontainer::tty::setup_console(syscall, socket, false).step("make a terminal")?;
                let user = self.process.user();
                let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
                if !uid.is_root() {
                    nix::unistd::fchown(io::stdin().as_fd(), Some(uid), Some(gid))
                        .step("give the terminal away")?;
                }
                Ok(())
            }
        }
    }

    /// As root first, who may go where the user may not; if root may not (a network file system), as the user later.
    fn change_directory(&self, is_last: bool) -> Result<bool, Failure> {
        let cwd = self.process.cwd();
        match nix::unistd::chdir(cwd) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM | Errno::EACCES) if !is_last => Ok(false),
            Err(error) => Err(error).step(&format!("enter {}", cwd.display())),
        }
    }

    fn filter(&self) -> Result<(), Failure> {
        if let Some(program) = &self.program {
            return program.load().step("load the seccomp filter");
        }
        let Some(seccomp) = &self.seccomp else { return Ok(()) };
        let listener = initialize_seccomp(seccomp).step("load the seccomp filter")?;
        match listener {
            Some(_) => Err("a seccomp filter with a listener is not done for an exec".into()),
            None => Ok(()),
        }
    }

    fn execute(&self) -> Result<Infallible, Failure> {
        let text = |word: &str| CString::new(word).step("a word with a zero byte");
        let words = self.process.args().as_deref().unwrap_or_default();
        let arguments = words.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
        let environment = self.environment.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
        let name = words.first().ok_or("there is no program to execute")?;
        let path = self.environment.iter().find_map(|word| word.strip_prefix("PATH="));
        let mut reason = Errno::ENOENT;
        for candidate in candidates(name, path.unwrap_or(DEFAULT_PATH)) {
            let Err(error) = nix::unistd::execve(text(&candidate)?.as_c_str(), &arguments, &environment);
            match error {
                Errno::ENOENT | Errno::ENOTDIR => {}
                // There may be another one further on.
                Errno::EACCES => reason = error,
                _ => return Err(format!("execute {candidate}: {error}")),
            }
        }
        match reason {
            Errno::ENOENT => Err(format!("executable '{name}' not found in $PATH")),
            _ => Err(format!("execute {name}: {reason}")),
        }
    }
}

/// Where a program of that name may be, as execvp(3) looks.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let in_directory = |directory: &str| match directory {
        "" => name.to_owned(),
        _ => Path::new(directory).join(name).to_string_lossy().into_owned(),
    };
    path.split(':').map(in_directory).collect()
}

/// Permitted capabilities stay until they are dropped by name.
fn change_ids(user: &User, groups: &[Gid]) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    nix::unistd::setgroups(groups)?;
    nix::sys::prctl::set_keepcaps(true)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    nix::sys::prctl::set_keepcaps(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_as_execvp_does() {
        assert_eq!(candidates("sh", "/bin:/usr/bin"), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(candidates("sh", "/bin::/x"), ["/bin/sh", "sh", "/x/sh"]);
        for direct in ["/bin/sh", "./sh", "bin/sh"] {
            assert_eq!(candidates(direct, "/bin"), [direct]);
        }
    }
}
