//! Taking over a container that runs and whose shim died.
//!
//! Its processes are not this shim's children: their ends come over descriptors of theirs, and how they ended is asked of the kernel once whoever became
//! their parent has reaped them. Everything else (signals, freezing, execs, streams) is as with a container of its own, for it goes by the cgroup, by the
//! OCI runtime's state and by named pipes. A terminal cannot be had again: it went with the shim that held it.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use bosun_types::shim::{AdoptedExec, Adoption};
use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity};
use bosun_types::{Error, ExecId, Timestamp};

use crate::cgroup::Cgroup;
use crate::create::{Sketch, is_started_by_runtime};
use crate::error::{Context as _, Result};
use crate::event_loop::{Container, Shim};
use crate::phase::{Kind, Phase};
use crate::process::Process;
use crate::sys::{self, KernelStatus, ProcessFd};
use crate::{record, stdio};

/// How long whoever became the parent of an adopted process may take to reap it; only then does the kernel tell the status.
const REAP_WAIT: Duration = Duration::from_secs(3);

impl Shim {
    /// Before it listens. An error: there is nothing to take over, or something that it cannot hold; then nothing was changed.
    pub fn take_over(&mut self, adoption: Adoption) -> Result<()> {
        let Adoption { request, init, execs } = adoption;
        let sketch = Sketch::read()?;
        let path = sketch.linux.cgroup_path.clone();
        let path = path.ok_or_else(|| Error::invalid_argument("the OCI spec has no cgroupsPath"))?;
        let cgroup = Cgroup::at(&path)?;
        let held = ProcessFd::open(&init).context(|| format!("open init {}", init.pid))?;
        let held =
            held.ok_or_else(|| Error::failed_precondition("init has ended: there is nothing to take over"))?;
        self.init = Process::adopted(Kind::Init, request.stdio.clone(), init);
        self.init.phase = if cgroup.is_frozen() { Phase::Paused } else { Phase::Running };
        self.container = Some(Container {
            owns_pids: sketch.linux.owns_pids(),
            start_by_runtime: is_started_by_runtime(&request, &sketch),
            request,
            cgroup,
            cgroup_path: Some(path),
            restore: None,
        });
        self.watch_end(None, held)?;
        self.watch_oom();
        for exec in execs {
            let id = exec.id.clone();
            if let Err(error) = self.take_over_exec(exec) {
                crate::complain(&format!(
                    "exec {id} is not taken over: {}",
                    bosun_types::error::chain(&error)
                ));
            }
        }
        record::write_beacon(&self.beacon())?;
        self.take_over_streams(None);
        Ok(())
    }

    fn take_over_exec(&mut self, exec: AdoptedExec) -> Result<()> {
        let AdoptedExec { id, process, stdio, identity } = exec;
        let Some(identity) = identity else {
            self.execs.insert(id, Process::new(Kind::Exec, process, stdio));
            return Ok(());
        };
        self.execs.insert(id.clone(), Process::adopted(Kind::Exec, stdio, identity));
        if let Some(notice) = record::read_exit(Some(&id))?.filter(|it| it.process == identity) {
            // The dead shim saw its end, and the daemon may not have heard of it.
            let process = self.process(Some(&id))?;
            process.phase = Phase::Ended { started: true };
            process.status = Some(notice.status.clone());
            self.unacknowledged.push(notice);
            return Ok(());
        }
        match ProcessFd::open(&identity).context(|| format!("open process {}", identity.pid))? {
            Some(held) => {
                self.watch_end(Some(&id), held)?;
                self.take_over_streams(Some(&id));
            }
            None => self.end(Some(&id), unknown("it ended while its shim was dead")),
        }
        Ok(())
    }

    /// What cannot be opened again is missing; the process goes on all the same.
    fn take_over_streams(&mut self, exec: Option<&ExecId>) {
        let logger = match (exec, &self.container) {
            (None, Some(container)) => self.start_logger(&container.request),
            _ => Ok(None),
        };
        let Ok(stdio) = self.process(exec).map(|it| it.stdio.clone()) else { return };
        let copies = logger.and_then(|logger| {
            let pipes = logger.map(|logger| [logger.stdout, logger.stderr]);
            stdio::reopen(&stdio, &stdio::name_of(exec), pipes)
        });
        match copies {
            Ok(copies) => self.begin_copies(exec, copies),
            Err(error) => {
                crate::complain(&format!("streams are lost: {}", bosun_types::error::chain(&error)))
            }
        }
    }

    /// What has ended, but was not reaped when this was looked at last.
    pub fn advance_adopted(&mut self) {
        let unreaped = std::mem::take(&mut self.unreaped);
        for (exec, since) in unreaped {
            let Ok(Some(held)) = self.process(exec.as_ref()).map(|it| it.held.as_ref()) else { continue };
            let status = match held.exit_status() {
                KernelStatus::Ended(cause) => ExitStatus { cause, exited_at: Timestamp::now() },
                KernelStatus::NotTold => {
                    unknown("its shim died, and this kernel does not tell others (before 6.15)")
                }
                KernelStatus::NotYet if since.elapsed() < REAP_WAIT => {
                    self.unreaped.push((exec, since));
                    continue;
                }
                KernelStatus::NotYet => unknown("its shim died, and its new parent does not reap it"),
            };
            self.end(exec.as_ref(), status);
        }
    }

    /// Its descriptor says that it has ended.
    pub fn adopted_ended(&mut self, exec: Option<&ExecId>) {
        self.unwatch_end(exec);
        self.unreaped.push((exec.cloned(), Instant::now()));
        self.advance_adopted();
    }
}

impl Process {
    /// One that runs already.
    fn adopted(kind: Kind, stdio: bosun_types::stdio::Stdio, identity: ProcessIdentity) -> Self {
        let mut process = Self::new(kind, Vec::new(), stdio);
        process.phase = Phase::Running;
        process.identity = Some(identity);
        process.started = true;
        process
    }

    /// Sends a signal to it and to nobody who may have got its pid since.
    pub fn signal(&self, number: i32) -> std::io::Result<()> {
        match (&self.held, self.live_pid()) {
            (_, None) => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
            (Some(held), Some(_)) => sys::signal(held.as_fd(), number),
            // The pid is ours until we reap it: it cannot have become another process.
            (None, Some(pid)) => sys::kill(pid, number),
        }
    }
}

fn unknown(why: &str) -> ExitStatus {
    ExitStatus { cause: ExitCause::Unknown(why.to_owned()), exited_at: Timestamp::now() }
}
