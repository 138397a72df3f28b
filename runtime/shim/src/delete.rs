//! Delete of the container, and the end that a signal asks for.

use bosun_types::Error;
use bosun_types::shim::Response;

use crate::error::Result;
use crate::event_loop::{JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::phase::{Input, Phase, Step};
use crate::process::Waiter;
use crate::{oci, rootfs};

impl Shim {
    /// `Delete`.
    pub fn delete(&mut self, waiter: Waiter) {
        match self.init.step(Input::Delete) {
            Err(denied) => self.reply(waiter, Err(denied.into())),
            Ok(Step::Repeat) => {
                let answer = self.deleted_answer();
                self.reply(waiter, answer);
            }
            Ok(Step::Join) => self.init.deleters.push(waiter),
            Ok(Step::KillFirst) => {
                // Answered when it has ended: `exit` then goes on with `begin_delete`.
                self.init.deleters.push(waiter);
                let _ = self.init.signal(libc::SIGKILL);
            }
            Ok(Step::Do) => {
                self.init.deleters.push(waiter);
                self.begin_delete();
            }
        }
    }

    /// Init has ended: deletes what the runtime keeps of it. The phase is `Deleting` already.
    pub fn begin_delete(&mut self) {
        self.end_copies(None);
        let Some(container) = &self.container else {
            return self.finish_delete(Ok(Outcome::Done));
        };
        let (runtime, id) = (container.request.runtime.clone(), container.request.id.clone());
        let cgroup = container.cgroup.clone();
        let job = Job::spawn(&self.job_context, &[], || {
            // The cgroups first: a runtime that finds processes in them waits for their end in steps of 100 ms.
            cgroup.remove()?;
            oci::runtime(&runtime).delete(&id)?;
            rootfs::unmount_all()?;
            Ok(Outcome::Done)
        });
        match job {
            Ok(job) => self.jobs.push((job, JobKind::Delete)),
            Err(error) => self.finish_delete(Err(error.into())),
        }
    }

    /// The job has ended, or did not begin.
    pub fn finish_delete(&mut self, result: Result<Outcome, Error>) {
        let waiters = std::mem::take(&mut self.init.deleters);
        let input = if result.is_ok() { Input::DeleteDone } else { Input::DeleteFailed };
        let answer = match (self.init.step(input), result) {
            (_, Err(error)) => Err(error),
            (Err(denied), _) => Err(denied.into()),
            (Ok(_), Ok(_)) => {
                self.execs.retain(|_, it| matches!(it.phase, Phase::Starting | Phase::Ending { .. }));
                self.deleted_answer()
            }
        };
        if let Err(error) = &answer {
            crate::complain(&format!("delete: {error}"));
        }
        self.reply_all(waiters, &answer);
    }

    /// SHM-7: a signal ends the container, what is kept of it, and the shim; the exit record stays for the daemon.
    pub fn advance_stopping(&mut self) {
        if !self.stopping {
            return;
        }
        if !self.jobs.is_empty() {
            // A runtime that hangs must not keep the shim; a delete is what is wanted anyway.
            for (job, _) in self.jobs.iter().filter(|(_, kind)| !matches!(kind, JobKind::Delete)) {
                let _ = crate::sys::kill(job.pid, libc::SIGKILL);
            }
            return;
        }
        match self.init.phase {
            Phase::Registered | Phase::Deleted => self.ended = true,
            Phase::Created | Phase::Running | Phase::Paused => {
                if self.init.phase == Phase::Paused
                    && let Some(container) = &self.container
                {
                    let _ = container.cgroup.freeze(false);
                }
                let _ = self.init.signal(libc::SIGKILL);
            }
            Phase::Ended { .. } => {
                if self.init.step(Input::Delete).is_ok() {
                    self.begin_delete();
                }
            }
            Phase::Creating | Phase::Starting | Phase::Ending { .. } | Phase::Deleting { .. } => {}
        }
    }

    fn deleted_answer(&self) -> Result<Response, Error> {
        // An init that never ran has no status of its own to tell.
        let ran = self.init.started;
        Ok(Response::Deleted(self.init.status.clone().filter(|_| ran)))
    }
}
