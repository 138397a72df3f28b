//! Reaping: every child that ended is a job, a process of the container, or an orphan that came to the subreaper.

use std::time::{Duration, Instant};

use bosun_types::task::{ExitCause, ExitStatus, ProcessIdentity};
use bosun_types::{ExecId, Timestamp};

use crate::event_loop::{JobKind, Shim};
use crate::phase::Input;
use crate::process::Ending;
use crate::sys::{identity_of, wait_for, wait_for_any};

/// How long what is left of a container is killed before its exit is reported nevertheless.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Most reaped children remembered while a job runs.
const REMEMBERED_MAX: usize = 256;

impl Shim {
    /// Reaps all that have ended.
    pub fn reap(&mut self) {
        while let Some((pid, _)) = wait_for_any() {
            // Its start time can be read only until it is reaped.
            let identity = identity_of(pid).ok();
            let Some(cause) = wait_for(pid) else { break };
            self.buried(pid, identity, cause);
        }
        if self.jobs.is_empty() {
            self.reaped_early.clear();
        }
    }

    fn buried(&mut self, pid: i32, identity: Option<ProcessIdentity>, cause: ExitCause) {
        if let Some(at) = self.jobs.iter().position(|(job, _)| job.pid == pid) {
            let (job, kind) = self.jobs.remove(at);
            return self.finish_job(kind, job.finish(&cause));
        }
        let exit = ExitStatus { cause, exited_at: Timestamp::now() };
        if self.init.live_pid() == Some(pid) {
            return self.end(None, exit);
        }
        let exec = self.execs.iter().find(|(_, it)| it.live_pid() == Some(pid)).map(|(id, _)| id.clone());
        if let Some(id) = exec {
            return self.end(Some(&id), exit);
        }
        // A job may be about to report this very process.
        if !self.jobs.is_empty() && self.reaped_early.len() < REMEMBERED_MAX {
            let fallback = ProcessIdentity { pid: u32::try_from(pid).unwrap_or(0), start_ticks: 0 };
            self.reaped_early.push((identity.unwrap_or(fallback), exit));
        }
    }

    fn finish_job(&mut self, kind: JobKind, result: Result<crate::job::Outcome, bosun_types::Error>) {
        match kind {
            JobKind::Create(opened) => self.finish_create(Some(opened), result),
            JobKind::StartInit => self.finish_start(result),
            JobKind::StartExec(id, opened) => self.finish_exec(&id, Some(opened), result),
            JobKind::Delete => self.finish_delete(result),
            JobKind::Dump => self.finish_dump(result),
            JobKind::Update(waiter) => {
                self.reply(waiter, result.map(|_| bosun_types::shim::Response::Done));
            }
        }
    }

    /// A process that a job reported: with its start time, even if it was reaped before the job could read that.
    pub fn resolve(&self, identity: ProcessIdentity) -> ProcessIdentity {
        if identity.start_ticks != 0 {
            return identity;
        }
        let known = self.reaped_early.iter().rev().find(|(it, _)| it.pid == identity.pid);
        known.map_or_else(|| identity_of(crate::sys::raw_pid(&identity)).unwrap_or(identity), |(it, _)| *it)
    }

    /// Refuses a process that is none of this shim's children: from the moment an exec is in the container, who may trace
    /// it there may have spoken for its worker.
    pub fn own(&self, process: ProcessIdentity) -> Result<ProcessIdentity, bosun_types::Error> {
        let is_known = self.reaped_early.iter().any(|(it, _)| *it == process);
        if is_known || crate::sys::is_own_child(&process) {
            return Ok(process);
        }
        Err(bosun_types::Error::internal(format!("the exec's worker named a stranger, pid {}", process.pid)))
    }

    /// If the process that a job has just reported was reaped before that, it ends now.
    pub fn adopt_early(&mut self, exec: Option<&ExecId>) {
        let Ok(Some(identity)) = self.process(exec).map(|it| it.identity) else { return };
        if let Some(at) = self.reaped_early.iter().position(|(it, _)| *it == identity) {
            let (_, exit) = self.reaped_early.remove(at);
            self.end(exec, exit);
        }
    }

    /// It has ended, and how is known as well as it will be.
    pub fn end(&mut self, exec: Option<&ExecId>, status: ExitStatus) {
        let now = Instant::now();
        let Ok(process) = self.process(exec) else { return };
        if process.step(Input::Exit).is_ok() {
            process.ending = Some(Ending { status, kill_until: now + KILL_WAIT, since: now });
        }
        self.end_input(exec);
    }
}
