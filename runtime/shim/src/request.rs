//! One request of the daemon: which process, what the law says, who performs it.

use bosun_types::call::CallId;
use bosun_types::shim::{Request, Response, ShimState};
use bosun_types::task::{KillTarget, PidInfo};
use bosun_types::{Error, ExecId};

use crate::calls::Begun;
use crate::error::Result;
use crate::event_loop::{JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::phase::{Input, Kind, Phase, Step};
use crate::process::{Process, Waiter};
use crate::{record, sys};

/// Highest signal number of Linux.
const SIGNAL_MAX: u32 = 64;
/// Most execs of a task at once, ended ones that nobody deleted included.
const EXECS_MAX: usize = 1024;

impl Shim {
    /// Serves one request. Long ones answer when their job has ended.
    pub fn handle(&mut self, waiter: Waiter, request: Request) {
        let answer = match request {
            Request::Create(request) => return self.create(waiter, request, None),
            Request::CreateFromDump { request, from } => {
                return self.create(waiter, *request, Some(from));
            }
            Request::Dump(request) => return self.dump(waiter, request),
            Request::Resume => return self.resume(waiter),
            Request::Start { exec: None } => return self.start_init(waiter),
            Request::Start { exec: Some(id) } => return self.start_exec(waiter, &id),
            Request::Delete => return self.delete(waiter),
            Request::DeleteExec { id } => return self.delete_exec(waiter, &id),
            Request::Update { resources } => return self.update(waiter, resources),
            Request::Attach { exec, from, overflow } => return self.attach(waiter, exec, from, overflow),
            Request::WriteStdin { exec, bytes } => return self.write_stdin(waiter, exec.as_ref(), bytes),
            Request::State => Ok(Response::State(self.state())),
            Request::Kill { target, signal, call } => self.kill_once(&target, signal, call),
            Request::AddExec { id, process, stdio } => self.add_exec(id, process, stdio),
            Request::AckExit { exec } => self.acknowledge(exec.as_ref()),
            Request::Resize { exec, width, height } => self.resize(exec.as_ref(), width, height),
            Request::CloseStdin { exec } => self.close_stdin(exec.as_ref()),
            Request::Pause => self.freeze(Input::Pause),
            Request::Pids => self.pids(),
            Request::Shutdown => self.shutdown(),
            Request::Recall { call } => self.calls.recall(&call),
            Request::Once { call, request } => match self.calls.begin(call, waiter) {
                Begun::New => return self.handle(waiter, *request),
                Begun::UnderWay => return,
                Begun::Done => Ok(Response::Done),
            },
        };
        self.reply(waiter, answer);
    }

    /// Init (`None`) or an exec.
    pub fn process(&mut self, exec: Option<&ExecId>) -> Result<&mut Process, Error> {
        match exec {
            None => Ok(&mut self.init),
            Some(id) => {
                self.execs.get_mut(id).ok_or_else(|| Error::not_found(format!("process {id} not found")))
            }
        }
    }

    fn state(&self) -> ShimState {
        ShimState {
            init: self.init.public_phase(),
            execs: self.execs.iter().map(|(id, it)| (id.clone(), it.public_phase())).collect(),
        }
    }

    /// A daemon that was killed after the signal and before its answer asks again, with the same call.
    fn kill_once(
        &mut self,
        target: &KillTarget,
        signal: u32,
        call: Option<CallId>,
    ) -> Result<Response, Error> {
        if let Some(known) = call.as_ref().and_then(|call| self.calls.recall(call).ok()) {
            return Ok(known);
        }
        let done = self.kill(target, signal)?;
        if let Some(call) = call {
            self.calls.remember(call);
        }
        Ok(done)
    }

    fn kill(&mut self, target: &KillTarget, signal: u32) -> Result<Response, Error> {
        let number = i32::try_from(signal).ok().filter(|_| signal <= SIGNAL_MAX);
        let number = number
            .ok_or_else(|| Error::invalid_argument(format!("signal {signal} is not in 0..={SIGNAL_MAX}")))?;
        match target {
            KillTarget::Init => signal_process(&mut self.init, number)?,
            KillTarget::Exec(id) => signal_process(self.process(Some(id))?, number)?,
            KillTarget::All => {
                self.init.step(Input::Signal)?;
                let pids = self.container.as_ref().map(|it| it.cgroup.processes()).unwrap_or_default();
                let init = self.init.live_pid();
                // Init has its own below: once, also where it is in no group.
                for pid in pids.into_iter().filter(|pid| Some(*pid) != init) {
                    // One that ended meanwhile is what was wanted.
                    let _ = sys::kill(pid, number);
                }
                let _ = self.init.signal(number);
            }
        }
        // A frozen process dies only when it thaws. Not for an exec's sake, whose container goes on as it is.
        let ends_all = number == libc::SIGKILL && !matches!(target, KillTarget::Exec(_));
        if ends_all && self.init.phase == Phase::Paused {
            self.freeze(Input::Resume)?;
        }
        Ok(Response::Done)
    }

    fn add_exec(
        &mut self,
        id: ExecId,
        spec: Vec<u8>,
        stdio: bosun_types::stdio::Stdio,
    ) -> Result<Response, Error> {
        if let Some(known) = self.execs.get(&id) {
            return if known.spec == spec && known.stdio == stdio {
                Ok(Response::Done)
            } else {
                Err(Error::already_exists(format!("exec {id}")))
            };
        }
        self.init.step(Input::AddExec)?;
        if self.awaits_restore() {
            return Err(Error::failed_precondition("cannot exec in a created state of a checkpoint")
                .with_hint("start the task first: that restores it"));
        }
        if self.execs.len() >= EXECS_MAX {
            let text = format!("exec {id}: the task has {EXECS_MAX} execs already");
            return Err(Error::new(bosun_types::ErrorClass::ResourceExhausted, text)
                .with_hint("delete execs that have ended"));
        }
        self.execs.insert(id, Process::new(Kind::Exec, spec, stdio));
        let runtime = self.container.as_ref().map(|it| it.request.runtime.as_str());
        if !runtime.is_none_or(crate::oci::is_embedded) {
            // Its start is the next thing to come, and a runtime binary writes `cgroup.procs`, as the embedded one does not.
            crate::cgroup::warm_up();
        }
        Ok(Response::Done)
    }

    fn acknowledge(&mut self, exec: Option<&ExecId>) -> Result<Response, Error> {
        record::remove_exit(exec)?;
        self.unacknowledged.retain(|it| it.exec.as_ref() != exec);
        Ok(Response::Done)
    }

    fn resize(&mut self, exec: Option<&ExecId>, width: u16, height: u16) -> Result<Response, Error> {
        let process = self.process(exec)?;
        if !process.phase.lives() {
            let word = process.phase.word();
            return Err(Error::failed_precondition(format!("cannot resize a {word} process")));
        }
        if process.held.is_some() && process.stdio.terminal {
            return Err(Error::failed_precondition("its terminal went with the shim that had it"));
        }
        if let Some(terminal) = &process.terminal {
            sys::set_terminal_size(std::os::fd::AsFd::as_fd(terminal), width, height).map_err(|error| {
                Error::new(bosun_types::error::class_of_io(&error), format!("resize: {error}"))
            })?;
        }
        Ok(Response::Done)
    }

    fn close_stdin(&mut self, exec: Option<&ExecId>) -> Result<Response, Error> {
        self.process(exec)?;
        self.release_input(exec);
        Ok(Response::Done)
    }

    pub fn freeze(&mut self, input: Input) -> Result<Response, Error> {
        let before = self.init.phase;
        if self.init.step(input)? == Step::Do {
            let cgroup = self.container.as_ref().map(|it| it.cgroup.clone()).unwrap_or_default();
            if let Err(error) = cgroup.freeze(input == Input::Pause) {
                // Half frozen is worse than not frozen.
                let _ = cgroup.freeze(false);
                self.init.phase = before;
                return Err(error.into());
            }
        }
        Ok(Response::Done)
    }

    fn pids(&mut self) -> Result<Response, Error> {
        let Some(container) = self.container.as_ref().filter(|_| self.init.phase.lives()) else {
            return Err(Error::failed_precondition(format!("the container is {}", self.init.phase.word())));
        };
        let exec_of = |pid: u32| {
            let mut execs = self.execs.iter().filter(|(_, it)| it.phase.lives());
            execs.find(|(_, it)| it.identity.is_some_and(|it| it.pid == pid)).map(|(id, _)| id.clone())
        };
        let pids = container.cgroup.processes().into_iter().filter_map(|pid| u32::try_from(pid).ok());
        Ok(Response::Pids(pids.map(|pid| PidInfo { pid, exec: exec_of(pid) }).collect()))
    }

    fn update(&mut self, waiter: Waiter, resources: Vec<u8>) {
        let begun = self.init.step(Input::Update).map_err(Error::from).and_then(|_| {
            let container = self.container.as_ref();
            let (name, id, path) = container
                .map(|it| {
                    (
                        it.request.runtime.clone(),
                        it.request.id.clone(),
                        it.cgroup_path.clone().unwrap_or_default(),
                    )
                })
                .ok_or_else(|| Error::internal("a container without its request"))?;
            Ok(Job::spawn(&self.job_context, &[], || {
                crate::oci::runtime(&name).update(&id, &path, &resources)?;
                Ok(Outcome::Done)
            })?)
        });
        match begun {
            Ok(job) => self.jobs.push((job, JobKind::Update(waiter))),
            Err(error) => self.reply(waiter, Err(error)),
        }
    }

    fn shutdown(&mut self) -> Result<Response, Error> {
        match self.init.phase {
            Phase::Registered | Phase::Deleted if self.jobs.is_empty() => {
                self.ended = true;
                Ok(Response::Done)
            }
            phase => Err(Error::failed_precondition(format!("the container is {}", phase.word()))
                .with_hint("delete it first")),
        }
    }
}

fn signal_process(process: &mut Process, number: i32) -> Result<(), Error> {
    process.step(Input::Signal)?;
    process.signal(number).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => Error::not_found("process already finished"),
        _ => Error::new(bosun_types::error::class_of_io(&error), format!("signal {number}: {error}")),
    })
}
