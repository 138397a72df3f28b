//! Start of a container that was created from a dump (CKP-10): CRIU makes its processes, where the OCI runtime would have let init run.
//!
//! `CreateFromDump` makes the container as any other, with an init that the OCI runtime holds before exec: so everything that a container has
//! outside of its processes (cgroup with limits, network namespace, streams, the runtime's own state) is made by the one code that makes it
//! for all, and the states before the start are those of all. `Start` has CRIU restore the processes into that cgroup, that network
//! namespace and those streams. Then the restored init takes the held one's place, which is killed and heard of no more. If the restore
//! fails, the held one stays, and the start can be repeated.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bosun_types::Error;
use bosun_types::shim::{RestoreRequest, file};
use bosun_types::task::ProcessIdentity;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use oci_spec::runtime::Spec;

use crate::cgroup::Cgroup;
use crate::criu::{self, Criu, NETWORK_KEY, Restored};
use crate::dump::{Facts, OUTER_FILE, binds, keep_log, mount_point};
use crate::error::{Context as _, Result};
use crate::event_loop::{JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::phase::Phase;
use crate::stdio::Opened;
use crate::{oci, record, sys};

/// CRIU's log while it works, among the image files.
const LOG: &str = "restore.log";

/// What a container that is restored has beyond others.
#[derive(Debug)]
pub struct Restore {
    /// Where from.
    pub request: RestoreRequest,
    /// Streams that wait for the terminal of the restored init.
    pub terminal: Option<Opened>,
}

/// What the child works with.
struct Work {
    request: RestoreRequest,
    cgroup: Cgroup,
    /// The init that the runtime holds.
    held: i32,
    /// Socket that takes the terminal.
    console: Option<String>,
}

impl Shim {
    /// Whether the container waits for being restored.
    pub fn awaits_restore(&self) -> bool {
        self.container.as_ref().is_some_and(|it| it.restore.is_some())
    }

    /// `Start`: the phase is `Starting` already.
    pub fn begin_restore(&mut self) -> Result<()> {
        let held = self.init.live_pid();
        let container = self.container.as_mut().zip(held);
        let (container, held) = container.ok_or_else(|| Error::internal("a start without its container"))?;
        let restore = container.restore.as_ref();
        let restore = restore.ok_or_else(|| Error::internal("a restore without its request"))?;
        let console = match &restore.terminal {
            Some(Opened::Terminal(pending)) => Some(pending.socket.path().to_owned()),
            _ => None,
        };
        let work = Work { request: restore.request.clone(), cgroup: container.cgroup.clone(), held, console };
        let job = Job::spawn(&self.job_context, &[], || work.perform().map(Outcome::Process))?;
        self.jobs.push((job, JobKind::StartInit));
        Ok(())
    }

    /// The restored init takes the held one's place.
    pub fn take_restored(&mut self, identity: ProcessIdentity) -> Result<(), Error> {
        let identity = self.resolve(identity);
        if self.init.phase != Phase::Starting {
            // The held one was killed meanwhile, and with it the container.
            let _ = sys::kill(sys::raw_pid(&identity), libc::SIGKILL);
            return Err(Error::failed_precondition("the container was killed while it was restored"));
        }
        if let Some(held) = self.init.identity.replace(identity) {
            let _ = sys::kill(sys::raw_pid(&held), libc::SIGKILL);
        }
        if let Err(error) = record::write_beacon(&self.beacon()) {
            crate::complain(&bosun_types::error::chain(&error));
        }
        let restore = self.container.as_mut().and_then(|it| it.restore.take());
        let Some(opened) = restore.and_then(|it| it.terminal) else { return Ok(()) };
        if let Opened::Terminal(pending) = &opened {
            // The first that came is the held init's.
            let _ = pending.socket.receive();
        }
        self.begin_streams(None, opened).map_err(|error| {
            let _ = sys::kill(sys::raw_pid(&identity), libc::SIGKILL);
            error.into()
        })
    }
}

impl Work {
    fn perform(&self) -> Result<ProcessIdentity> {
        let images = Path::new(&self.request.directory);
        let facts = Facts::read(images)?;
        let spec = oci::load_init_spec()?;
        let mut options = criu::options(&facts.options);
        // They are born in the cgroup that was made for them.
        criu::set_cgroups_mode(&mut options, None);
        options.external = outer_mounts(&facts, &spec)?;
        options.set_root(private_root(&spec)?.to_string_lossy().into_owned());
        let mut inherited = self.streams(&facts);
        if facts.has_outer_network() {
            let path = format!("/proc/{}/ns/net", self.held);
            let network = File::open(&path).context(|| format!("open {path}"))?;
            inherited.push((NETWORK_KEY.to_owned(), network.into()));
        }
        self.cgroup.join()?;
        let criu = Criu { program: &self.request.criu, images, work: images, log: LOG };
        let restored = criu
            .restore(options, inherited)
            .map_err(|error| keep_log(&images.join(LOG), file::RESTORE_LOG, error.into()))?;
        let pid = restored.pid;
        self.adopt(restored).inspect_err(|_| drop(sys::kill(pid, libc::SIGKILL)))
    }

    fn adopt(&self, restored: Restored) -> Result<ProcessIdentity> {
        match (&self.console, restored.terminal) {
            (Some(console), Some(terminal)) => send_terminal(console, &terminal)?,
            (None, None) => {}
            (Some(_), None) => {
                return Err(Error::failed_precondition("the checkpoint has no terminal")
                    .with_hint("create the task without one")
                    .into());
            }
            (None, Some(_)) => {
                return Err(Error::failed_precondition("the checkpoint has a terminal")
                    .with_hint("create the task with one (-t)")
                    .into());
            }
        }
        // One that has ended since is found by its pid among those that were reaped.
        let unread = ProcessIdentity { pid: u32::try_from(restored.pid).unwrap_or(0), start_ticks: 0 };
        Ok(sys::identity_of(restored.pid).unwrap_or(unread))
    }

    /// The pipes of the held init, for what was a pipe of the stored one.
    fn streams(&self, facts: &Facts) -> Vec<(String, OwnedFd)> {
        let mut inherited: Vec<(String, OwnedFd)> = Vec::new();
        for (fd, key) in facts.streams.iter().enumerate() {
            let is_outer = key.starts_with("pipe:[") || key.starts_with(OUTER_FILE);
            if !is_outer || inherited.iter().any(|(it, _)| it == key) {
                continue;
            }
            if let Some(stream) = reopen(&format!("/proc/{}/fd/{fd}", self.held), fd == 0) {
                inherited.push((key.clone(), stream));
            }
        }
        inherited
    }
}

/// One end of a pipe, opened anew: never blocks, and blocks later as a process expects.
fn reopen(path: &str, read: bool) -> Option<OwnedFd> {
    let file = File::options().read(read).write(!read).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL).ok()?);
    fcntl(file.as_fd(), FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).ok()?;
    Some(file.into())
}

/// What was bound from outside is bound again, from where the container's spec says now.
fn outer_mounts(facts: &Facts, spec: &Spec) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for point in &facts.mounts {
        let found = binds(spec).find(|it| mount_point(it.destination()) == *point);
        let source = found.and_then(|it| it.source().as_ref()).ok_or_else(|| {
            Error::failed_precondition(format!("the checkpoint needs a bind mount at {point}"))
                .with_hint("restore it into a container with the same mounts")
        })?;
        external.push(format!("mnt[{point}]:{}", source.display()));
    }
    Ok(external)
}

/// The container's root as a mount of its own in a mount namespace of this child's own, as CRIU wants it.
fn private_root(spec: &Spec) -> Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare the mount namespace".into())?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context(|| "make mounts private".into())?;
    let point = std::path::absolute(file::ROOTFS).context(|| "working directory".into())?;
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    if root.is_absolute() {
        std::fs::create_dir_all(&point).context(|| format!("make {}", point.display()))?;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(&root), &point, None::<&str>, bind, None::<&str>)
            .context(|| format!("bind {}", root.display()))?;
    }
    Ok(point)
}

/// As an OCI runtime sends a terminal.
fn send_terminal(path: &str, terminal: &OwnedFd) -> Result<()> {
    let socket = UnixStream::connect(path).context(|| format!("connect {path}"))?;
    let fds = [terminal.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    let name = [IoSlice::new(b"restored")];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &name, &message, MsgFlags::MSG_NOSIGNAL, None)
        .context(|| format!("send the terminal to {path}"))?;
    Ok(())
}
