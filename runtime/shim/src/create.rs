//! Create and start of init.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bosun_types::shim::{CreateRequest, Response, RestoreRequest, file};
use bosun_types::task::ProcessIdentity;
use bosun_types::user_namespace::IdMaps;
use bosun_types::{Error, ErrorClass};
use oci_spec::runtime::Spec;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cgroup::Cgroup;
use crate::embedded;
use crate::error::{Context as _, Result};
use crate::event_loop::{Container, JobKind, Shim};
use crate::job::{Job, Outcome};
use crate::oci::{self, NewContainer, ProcessStreams};
use crate::phase::{Input, Step};
use crate::process::Waiter;
use crate::restore::Restore;
use crate::stdio::logger::{self, Logger, Ready};
use crate::stdio::pipe::Place;
use crate::stdio::{self, Opened};
use crate::{home, record, rootfs};

impl Shim {
    /// `Create`.
    pub fn create(&mut self, waiter: Waiter, request: CreateRequest, from: Option<RestoreRequest>) {
        let same = self.container.as_ref().is_none_or(|it| it.request == request);
        let before = self.init.phase;
        match self.init.step(Input::Create) {
            Err(denied) => self.reply(waiter, Err(denied.into())),
            Ok(Step::Join | Step::Repeat) if !same => {
                self.init.phase = before;
                self.reply(waiter, Err(Error::already_exists("the task has another container")));
            }
            Ok(Step::Join) => self.init.waiters.push(waiter),
            Ok(Step::Do) => {
                self.init.waiters.push(waiter);
                if let Err(error) = self.begin_create(request, from) {
                    self.finish_create(None, Err(error.into()));
                }
            }
            Ok(_) => {
                let answer = self.process_answer(None);
                self.reply(waiter, answer);
            }
        }
    }

    fn begin_create(&mut self, request: CreateRequest, from: Option<RestoreRequest>) -> Result<()> {
        // Little is parsed here: the spec as a whole only in the child.
        let sketch = Sketch::read()?;
        // Without it nobody could tell which processes are the container's.
        let path = sketch.linux.cgroup_path.as_deref();
        let cgroup =
            Cgroup::at(path.ok_or_else(|| Error::invalid_argument("the OCI spec has no cgroupsPath"))?)?;
        self.init.stdio = request.stdio.clone();
        let start_by_runtime = is_started_by_runtime(&request, &sketch);
        if from.is_some() && start_by_runtime {
            let text = "only the embedded runtime restores a checkpoint, and without poststart hooks";
            return Err(Error::not_implemented(text)
                .with_hint("create the container with runtime `bosun`")
                .into());
        }
        let logger = self.start_logger(&request)?;
        let place = Place { name: &stdio::name_of(None), adoptable: request.adoptable };
        let (pipes, ready) = match logger {
            Some(Logger { stdout, stderr, ready }) => (Some([stdout, stderr]), Some(ready)),
            None => (None, None),
        };
        let (streams, opened) = stdio::open(&request.stdio, place, pipes)?;
        self.container = Some(Container {
            request: request.clone(),
            cgroup: cgroup.clone(),
            owns_pids: sketch.linux.owns_pids(),
            cgroup_path: sketch.linux.cgroup_path,
            start_by_runtime,
            restore: from.map(|request| Restore { request, terminal: None }),
        });
        // Recovery without the shim must find the cgroup even of a container that is half made.
        record::write_beacon(&self.beacon())?;
        let mut keep = streams.descriptors();
        keep.extend(ready.iter().map(|ready| ready.as_fd().as_raw_fd()));
        let job = Job::spawn(&self.job_context, &keep, || {
            // Here, where nobody else waits for it.
            ready.as_ref().map_or(Ok(()), Ready::wait)?;
            make(&request, &cgroup, streams)
        })?;
        self.jobs.push((job, JobKind::Create(opened)));
        Ok(())
    }

    /// IO-12. It has the shim's own names of the container, not what the OCI runtime calls it.
    pub fn start_logger(&self, request: &CreateRequest) -> Result<Option<Logger>> {
        let program = request.stdio.log_program()?;
        program.map(|program| logger::start(&program, &self.options.namespace, &self.options.id)).transpose()
    }

    /// The job has ended, or did not begin.
    pub fn finish_create(&mut self, opened: Option<Opened>, result: Result<Outcome, Error>) {
        let waiters = std::mem::take(&mut self.init.waiters);
        let answer = self.settle_create(opened, result);
        if let Err(error) = &answer {
            crate::complain(&format!("create: {error}"));
        }
        self.reply_all(waiters, &answer);
    }

    fn settle_create(
        &mut self,
        opened: Option<Opened>,
        result: Result<Outcome, Error>,
    ) -> Result<Response, Error> {
        let identity = match result {
            Ok(Outcome::Process(identity)) => self.resolve(identity),
            Ok(Outcome::Done) => return self.abandon_create(Error::internal("create made no process")),
            Err(error) => return self.abandon_create(error),
        };
        self.init.identity = Some(identity);
        self.init.step(Input::CreateDone)?;
        self.watch_oom();
        if let Err(error) = record::write_beacon(&self.beacon()) {
            crate::complain(&bosun_types::error::chain(&error));
        }
        if let Some(opened) = opened.and_then(|opened| self.until_restored(opened))
            && let Err(error) = self.begin_streams(None, opened)
        {
            // It would run without its terminal: nobody asked for that.
            let _ = crate::sys::kill(crate::sys::raw_pid(&identity), libc::SIGKILL);
            self.adopt_early(None);
            return Err(error.into());
        }
        self.adopt_early(None);
        Ok(Response::Process(identity))
    }

    /// The terminal that a container has before it is restored is not its own yet.
    fn until_restored(&mut self, opened: Opened) -> Option<Opened> {
        match self.container.as_mut().and_then(|it| it.restore.as_mut()) {
            Some(restore) if matches!(opened, Opened::Terminal(_)) => {
                restore.terminal = Some(opened);
                None
            }
            _ => Some(opened),
        }
    }

    fn abandon_create(&mut self, error: Error) -> Result<Response, Error> {
        self.init.step(Input::CreateFailed)?;
        // The child has cleaned up, unless it was killed itself; then this does it.
        if let Some(container) = self.container.take() {
            undo(&container.request, &container.cgroup);
        }
        Err(error)
    }

    /// Takes up copying of what `stdio::open` opened.
    pub fn begin_streams(&mut self, owner: Option<&bosun_types::ExecId>, opened: Opened) -> Result<()> {
        let copies = match opened {
            Opened::Pipes(copies) => copies,
            Opened::Terminal(pending) => {
                let (copies, terminal) = pending.receive()?;
                self.process(owner)?.terminal = Some(terminal);
                copies
            }
        };
        self.begin_copies(owner, copies);
        Ok(())
    }

    /// `Start` of init.
    pub fn start_init(&mut self, waiter: Waiter) {
        match self.init.step(Input::Start) {
            Err(denied) => self.reply(waiter, Err(denied.into())),
            Ok(Step::Join) => self.init.waiters.push(waiter),
            Ok(Step::Do) => {
                self.init.waiters.push(waiter);
                self.begin_start();
            }
            Ok(_) => {
                let answer = self.process_answer(None);
                self.reply(waiter, answer);
            }
        }
    }

    fn begin_start(&mut self) {
        let Some(container) = &self.container else {
            return self.finish_start(Err(Error::internal("a container without its request")));
        };
        if container.restore.is_some() {
            if let Err(error) = self.begin_restore() {
                self.finish_start(Err(error.into()));
            }
            return;
        }
        let id = container.request.id.clone();
        if !container.start_by_runtime {
            let released = embedded::release(&id).map(|()| Outcome::Done).map_err(Error::from);
            return self.finish_start(released);
        }
        let runtime = container.request.runtime.clone();
        let job = Job::spawn(&self.job_context, &[], || {
            oci::runtime(&runtime).start(&id)?;
            Ok(Outcome::Done)
        });
        match job {
            Ok(job) => self.jobs.push((job, JobKind::StartInit)),
            Err(error) => self.finish_start(Err(error.into())),
        }
    }

    /// Init was let go, or not.
    pub fn finish_start(&mut self, result: Result<Outcome, Error>) {
        let result = match result {
            Ok(Outcome::Process(restored)) => self.take_restored(restored).map(|()| Outcome::Done),
            other => other,
        };
        let waiters = std::mem::take(&mut self.init.waiters);
        let input = if result.is_ok() { Input::StartDone } else { Input::StartFailed };
        // An init that ended meanwhile has moved on already; its start was good all the same.
        let moved = self.init.step(input).is_ok() || result.is_ok();
        let answer = match result {
            Ok(_) if moved => self.process_answer(None),
            Ok(_) => Err(Error::new(ErrorClass::Internal, "start came out of order")),
            Err(error) => Err(error),
        };
        if let Err(error) = &answer {
            crate::complain(&format!("start: {error}"));
        }
        self.reply_all(waiters, &answer);
        self.adopt_early(None);
    }

    /// The answer to a repeated `Create` or `Start`.
    pub fn process_answer(&mut self, exec: Option<&bosun_types::ExecId>) -> Result<Response, Error> {
        let identity = self.process(exec)?.identity;
        identity.map(Response::Process).ok_or_else(|| Error::internal("a process without identity"))
    }
}

/// In the child: root file system, then the runtime; undone if that fails.
fn make(request: &CreateRequest, cgroup: &Cgroup, streams: ProcessStreams) -> Result<Outcome> {
    let (mut spec, maps) = (oci::load_spec(request.stdio.terminal)?, oci::load_maps()?);
    if let Some(process) = spec.process() {
        streams.give_to(process, maps.as_ref());
    }
    let made = reachable(maps.as_ref()).and_then(|()| rootfs::mount_all(&request.rootfs)).and_then(|()| {
        give_home(&mut spec)?;
        let container = NewContainer { id: &request.id, streams, no_pivot_root: request.no_pivot_root };
        let made = oci::runtime(&request.runtime).create(container, &spec)?;
        give_terminal(&made, &spec, maps.as_ref());
        Ok(made)
    });
    if made.is_err() {
        undo(request, cgroup);
    }
    made.map(Outcome::Process)
}

/// libcontainer would look it up by itself, in the container.
fn give_home(spec: &mut Spec) -> Result<()> {
    let root = spec.root().as_ref().map_or_else(|| "rootfs".into(), |root| root.path().clone());
    let root = File::open(&root).context(|| format!("open {}", root.display()))?;
    let Some(process) = spec.process_mut() else { return Ok(()) };
    let given = process.env().clone().unwrap_or_default();
    let mut environment = given.clone();
    home::complete(&mut environment, root.as_fd(), process.user().uid());
    if environment == given {
        return Ok(());
    }
    process.set_env(Some(environment));
    oci::write_spec(spec)
}

/// The terminal of an init that is held before exec belongs to its user, who may then open it by its name.
fn give_terminal(init: &ProcessIdentity, spec: &Spec, maps: Option<&IdMaps>) {
    let Some(process) = spec.process().as_ref().filter(|process| process.terminal() == Some(true)) else {
        return;
    };
    let (uid, gid) = (process.user().uid(), process.user().gid());
    let owner = maps.map_or(Some((uid, gid)), |maps| maps.host_uid(uid).zip(maps.host_gid(gid)));
    if let Some((uid, gid)) = owner.filter(|_| uid != 0) {
        // Nothing of the container has run yet that could have put another file there.
        let _ = std::os::unix::fs::chown(format!("/proc/{}/fd/0", init.pid), Some(uid), Some(gid));
    }
}

/// A container with users of its own is made by its own root, who must get to the task directory.
fn reachable(maps: Option<&IdMaps>) -> Result<()> {
    let root = maps.and_then(|maps| maps.host_uid(0).zip(maps.host_gid(0)));
    let Some((uid, gid)) = root else { return Ok(()) };
    let here = std::env::current_dir().context(|| "working directory".into())?;
    for directory in here.ancestors() {
        let it = std::fs::metadata(directory).context(|| format!("look at {}", directory.display()))?;
        // Its class of rights alone counts, as the kernel does it.
        let bit = if it.uid() == uid {
            0o100
        } else if it.gid() == gid {
            0o010
        } else {
            0o001
        };
        if it.mode() & bit == 0 {
            let (path, mode) = (directory.display(), it.mode() & 0o7777);
            return Err(Error::failed_precondition(format!(
                "{path} (mode {mode:o}) does not let the container's root, user {uid}, pass"
            ))
            .with_hint(format!("chmod o+x {path}, or give bosund another --state"))
            .into());
        }
    }
    Ok(())
}

/// Nothing of a half made container is left; what is not there is fine.
fn undo(request: &CreateRequest, cgroup: &Cgroup) {
    let _ = cgroup.remove();
    let _ = std::fs::remove_dir_all(Path::new(file::RUNTIME_ROOT).join(&request.id));
    let _ = rootfs::unmount_all();
}

/// Whether `Start` has to go through the OCI runtime.
pub fn is_started_by_runtime(request: &CreateRequest, sketch: &Sketch) -> bool {
    let embedded = oci::is_embedded(&request.runtime);
    !embedded || !sketch.hooks.poststart.is_empty()
}

/// The few words of the spec that the shim itself needs.
#[derive(Debug, Default, Deserialize)]
pub struct Sketch {
    /// What it says of Linux.
    #[serde(default)]
    pub linux: LinuxSketch,
    #[serde(default)]
    hooks: HooksSketch,
}

/// See [`Sketch`].
#[derive(Debug, Default, Deserialize)]
pub struct LinuxSketch {
    /// The container's group.
    #[serde(rename = "cgroupsPath")]
    pub cgroup_path: Option<String>,
    #[serde(default)]
    namespaces: Vec<NamespaceSketch>,
}

#[derive(Debug, Default, Deserialize)]
struct NamespaceSketch {
    #[serde(rename = "type")]
    kind: String,
    path: Option<PathBuf>,
}

impl LinuxSketch {
    /// Whether init is the first process of a pid namespace made for it: then nothing of the container outlives it, because the
    /// kernel kills all others before init can be reaped.
    pub fn owns_pids(&self) -> bool {
        let is_unset = |path: &Option<PathBuf>| path.as_ref().is_none_or(|path| path.as_os_str().is_empty());
        self.namespaces.iter().any(|it| it.kind == "pid" && is_unset(&it.path))
    }
}

#[derive(Debug, Default, Deserialize)]
struct HooksSketch {
    #[serde(default)]
    poststart: Vec<IgnoredAny>,
}

impl Sketch {
    /// Of the bundle.
    pub fn read() -> Result<Self> {
        let bytes = std::fs::read(file::CONFIG).context(|| format!("read {}", file::CONFIG))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid_argument(format!("the OCI spec is malformed: {error}")).into())
    }
}
