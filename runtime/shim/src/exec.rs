//! Start and delete of an exec.

use bosun_types::shim::Response;
use bosun_types::{Error, ExecId};

use crate::error::Result;
use crate::event_loop::{JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::oci::{self, NewExec};
use crate::phase::{Input, Step};
use crate::process::Waiter;
use crate::stdio::pipe::Place;
use crate::stdio::{self, Opened};

impl Shim {
    /// `Start` of an exec.
    pub fn start_exec(&mut self, waiter: Waiter, id: &ExecId) {
        let init = self.init.phase;
        let process = match self.process(Some(id)) {
            Ok(process) => process,
            Err(error) => return self.reply(waiter, Err(error)),
        };
        let before = process.phase;
        match process.step(Input::Start) {
            Err(denied) => self.reply(waiter, Err(denied.into())),
            Ok(Step::Join) => process.waiters.push(waiter),
            // The container may have been paused, or have ended, since the exec was registered.
            Ok(Step::Do) if init.next(crate::phase::Kind::Init, Input::AddExec).is_err() => {
                process.phase = before;
                let error = Error::failed_precondition(format!("cannot exec in a {} state", init.word()));
                self.reply(waiter, Err(error));
            }
            Ok(Step::Do) => {
                process.waiters.push(waiter);
                if let Err(error) = self.begin_exec(id) {
                    self.finish_exec(id, None, Err(error.into()));
                }
            }
            Ok(_) => {
                let answer = self.process_answer(Some(id));
                self.reply(waiter, answer);
            }
        }
    }

    fn forget_pipes(&self, id: &ExecId) {
        let adoptable = self.container.as_ref().is_some_and(|it| it.request.adoptable);
        if adoptable {
            Place { name: &stdio::name_of(Some(id)), adoptable }.forget();
        }
    }

    fn begin_exec(&mut self, id: &ExecId) -> Result<()> {
        let process = self.process(Some(id))?;
        let (spec, wanted) = (process.spec.clone(), process.stdio.clone());
        let container =
            self.container.as_ref().ok_or_else(|| Error::internal("a container without its request"))?;
        let (runtime, container_id) = (container.request.runtime.clone(), container.request.id.clone());
        let cgroup = container.cgroup.clone();
        let init = self.init.identity.ok_or_else(|| Error::internal("a running container without init"))?;
        let place = Place { name: &stdio::name_of(Some(id)), adoptable: container.request.adoptable };
        let (streams, opened) = stdio::open(&wanted, place, None)?;
        let (process_file, pid_file) = (format!("process-{id}.json"), format!("process-{id}.pid"));
        let keep = streams.descriptors();
        let job = Job::spawn(&self.job_context, &keep, || {
            let process = oci::load_process(&spec, wanted.terminal)?;
            let made = oci::runtime(&runtime).exec(NewExec {
                id: &container_id,
                process: &process,
                process_file: &process_file,
                pid_file: &pid_file,
                init: &init,
                cgroup: &cgroup,
                streams,
            });
            made.map(Outcome::Process)
        })?;
        self.jobs.push((job, JobKind::StartExec(id.clone(), opened)));
        Ok(())
    }

    /// The job has ended, or did not begin.
    pub fn finish_exec(&mut self, id: &ExecId, opened: Option<Opened>, result: Result<Outcome, Error>) {
        let Some(process) = self.execs.get_mut(id) else { return };
        let waiters = std::mem::take(&mut process.waiters);
        let answer = self.settle_exec(id, opened, result);
        self.reply_all(waiters, &answer);
        if answer.is_ok() {
            self.adopt_early(Some(id));
        }
    }

    fn settle_exec(
        &mut self,
        id: &ExecId,
        opened: Option<Opened>,
        result: Result<Outcome, Error>,
    ) -> Result<Response, Error> {
        let made = result.and_then(|outcome| match outcome {
            Outcome::Process(identity) => self.own(self.resolve(identity)),
            Outcome::Done => Err(Error::internal("exec made no process")),
        });
        let identity = match made {
            Ok(identity) => identity,
            Err(error) => {
                // TSK-32: it stays registered until deleted.
                self.process(Some(id))?.step(Input::StartFailed)?;
                return Err(error);
            }
        };
        let process = self.process(Some(id))?;
        process.identity = Some(identity);
        process.step(Input::StartDone)?;
        if let Some(opened) = opened
            && let Err(error) = self.begin_streams(Some(id), opened)
        {
            let _ = crate::sys::kill(crate::sys::raw_pid(&identity), libc::SIGKILL);
            crate::complain(&format!("exec {id}: {error}"));
        }
        Ok(Response::Process(identity))
    }

    /// `DeleteExec`.
    pub fn delete_exec(&mut self, waiter: Waiter, id: &ExecId) {
        let Some(process) = self.execs.get_mut(id) else {
            return self.reply(waiter, Ok(Response::Done));
        };
        match process.step(Input::Delete) {
            Err(denied) => self.reply(waiter, Err(denied.into())),
            // Its record is being written: answered when it has ended.
            Ok(Step::Join) => process.deleters.push(waiter),
            Ok(_) => {
                self.end_copies(Some(id));
                self.forget_pipes(id);
                self.execs.remove(id);
                self.reply(waiter, Ok(Response::Done));
            }
        }
    }
}
