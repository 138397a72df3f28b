//! The embedded OCI runtime, in a job's child: libcontainer makes containers; further processes in them are made by the shim's own
//! [`crate::enter`] and [`crate::tenant`].

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use bosun_types::error::chain;
use bosun_types::shim::file;
use bosun_types::task::ProcessIdentity;
use libcgroups::common::{CgroupConfig, CgroupManager as _, ControllerOpt, create_cgroup_manager};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::notify_socket::NOTIFY_FILE;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::{DefaultExecutor, get_executor};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use crate::enter::Door;
use crate::error::{Context as _, Result, ShimError};
use crate::filter::Program;
use crate::idmap::Users;
use crate::oci::{NewContainer, NewExec, OciRuntime, ProcessStreams};
use crate::sys::identity_of;
use crate::tenant::{Streams, Tenant};
use crate::{home, sys};

/// Longest reason why an exec's program was not executed.
const REASON_BYTES_MAX: u64 = 8 << 10;

/// libcontainer, and for execs the shim itself.
#[derive(Debug)]
pub struct Embedded;

impl OciRuntime for Embedded {
    fn create(&self, container: NewContainer<'_>, spec: &Spec) -> Result<ProcessIdentity> {
        const CONTEXT: &str = "create container";
        // Without a program of ours libcontainer loads what the spec says.
        let filtered = Filtered(Program::of_container()?);
        // Its path is in the spec by now: it must stay open until the container is made.
        let _users = own_users(spec)?;
        let mut made = with_streams(builder(container.id)?, container.streams)?
            .with_executor(filtered)
            .as_init(".")
            .with_systemd(false)
            .with_detach(true)
            .with_no_pivot(container.no_pivot_root)
            .build()
            .map_err(failed(CONTEXT))?;
        let pid = made.pid().ok_or_else(|| ShimError::Runtime(format!("{CONTEXT}: no init")))?;
        if !has_start_hooks(spec) {
            // The shim lets init run without libcontainer (see `release`), so the state says now what it will be then:
            // written once, it cannot be seen half written by one of several execs that start at once; and an exec is
            // allowed in a created container (TSK-22).
            made.set_status(ContainerStatus::Running).save().map_err(failed("save the container's state"))?;
        }
        identity_of(pid.as_raw()).context(|| format!("identify init {pid}"))
    }

    fn start(&self, id: &str) -> Result<()> {
        load(id)?.start().map_err(failed("start container"))
    }

    fn exec(&self, exec: NewExec<'_>) -> Result<ProcessIdentity> {
        let failed = |why: String| ShimError::Runtime(format!("exec: {why}"));
        let (inherited, process) = (crate::oci::load_inherited()?, exec.process);
        let door = Door::open(exec.init, exec.cgroup)?;
        door.check_user(process.user().uid(), process.user().gid())?;
        exec.streams.give_to(process, door.users());
        let mut environment = process.env().clone().unwrap_or_default();
        home::complete(&mut environment, door.root(), process.user().uid());
        let program = Program::of_container()?;
        let tenant = Tenant::new(process.clone(), environment, door.users().is_some(), inherited, program);
        let streams = within_reach(exec.streams)?;
        let (told, tells) = pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe".into())?;
        tenant.prepare(|| door.join_groups()).map_err(failed)?;
        match door.go_through()? {
            Some(pid) => {
                drop((streams, tells));
                // Executing its program closes the pipe.
                let mut why = String::new();
                let read = File::from(told).take(REASON_BYTES_MAX).read_to_string(&mut why);
                read.context(|| "hear of the new process".into())?;
                if !why.is_empty() {
                    return Err(failed(why));
                }
                // Its start time is in the host's /proc, which is not here any more: the shim looks it up.
                Ok(ProcessIdentity { pid: pid.cast_unsigned(), start_ticks: 0 })
            }
            None => {
                let mut keep = streams.descriptors();
                keep.push(tells.as_raw_fd());
                // The worker's way to the shim is none of the container's business.
                sys::close_all_but(&keep);
                let Err(why) = tenant.become_it(streams);
                let _ = File::from(tells).write_all(why.as_bytes());
                end_here()
            }
        }
    }

    fn delete(&self, id: &str) -> Result<()> {
        let directory = state_directory(id);
        if !directory.exists() {
            return Ok(());
        }
        if has_nothing_to_undo() {
            return std::fs::remove_dir_all(&directory).context(|| format!("remove {}", directory.display()));
        }
        let mut container = load(id)?;
        // The shim has killed and reaped it; libcontainer would kill by the bare pid, which may be another's by now.
        container.state.pid = None;
        container.delete(true).map_err(failed("delete container"))
    }

    fn update(&self, id: &str, cgroup_path: &str, resources: &[u8]) -> Result<()> {
        let resources: LinuxResources = crate::oci::parse(resources, "the resources")?;
        let config = CgroupConfig {
            cgroup_path: PathBuf::from(cgroup_path),
            systemd_cgroup: false,
            container_name: id.to_owned(),
        };
        let options = ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        let failed = |error: String| ShimError::Runtime(format!("update container: {error}"));
        let manager = create_cgroup_manager(config).map_err(|error| failed(chain(&error)))?;
        manager.apply(&options).map_err(|error| failed(chain(&error)))
    }
}

/// Lets a created container's init run: what libcontainer's `start` does, without its hooks. Cheap enough for the
/// shim's own process.
pub fn release(id: &str) -> Result<()> {
    let path = state_directory(id).join(NOTIFY_FILE);
    let mut socket = UnixStream::connect(&path).context(|| format!("connect {}", path.display()))?;
    socket.write_all(b"start container").context(|| format!("write {}", path.display()))
}

/// Whether starting has to run hooks, which `release` leaves out.
fn has_start_hooks(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    hooks.is_some_and(|hooks| !hooks.is_empty())
}

/// Whether deleting is only removing the state: the shim has removed the cgroups, and there are no hooks to run and no
/// resctrl group.
fn has_nothing_to_undo() -> bool {
    crate::oci::load_init_spec().is_ok_and(|spec| {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
        let resctrl = spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some());
        hooks.is_none_or(Vec::is_empty) && !resctrl
    })
}

fn state_directory(id: &str) -> PathBuf {
    PathBuf::from(file::RUNTIME_ROOT).join(id)
}

fn load(id: &str) -> Result<Container> {
    let directory = std::path::absolute(state_directory(id)).context(|| "working directory".into())?;
    Container::load(directory).map_err(failed("load the container's state"))
}

fn builder(id: &str) -> Result<ContainerBuilder> {
    let root = std::path::absolute(file::RUNTIME_ROOT).context(|| "working directory".into())?;
    std::fs::create_dir_all(&root).context(|| format!("make {}", root.display()))?;
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .validate_id()
        .and_then(|builder| builder.with_root_path(root))
        .map_err(failed("container id"))
}

fn with_streams(builder: ContainerBuilder, streams: ProcessStreams) -> Result<ContainerBuilder> {
    Ok(match streams {
        ProcessStreams::Pipes([stdin, stdout, stderr]) => {
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
        ProcessStreams::Console(path) => {
            let path = std::path::absolute(path).context(|| "working directory".into())?;
            builder.with_console_socket(Some(path))
        }
    })
}

fn failed(context: &'static str) -> impl FnOnce(libcontainer::error::LibcontainerError) -> ShimError {
    move |source| ShimError::Embedded { context, source }
}

/// The user namespace of a container with users of its own. libcontainer makes only those of one range without further
/// programs, so it is given a ready one, by a path in the spec that this process and its forks can open.
fn own_users(spec: &Spec) -> Result<Option<Users>> {
    let Some(maps) = crate::oci::load_maps()? else { return Ok(None) };
    let users = Users::new(&maps)?;
    let mut changed = spec.clone();
    let namespaces = changed.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut());
    for namespace in namespaces.into_iter().flatten().filter(|it| it.typ() == LinuxNamespaceType::User) {
        namespace.set_path(Some(users.path()));
    }
    crate::oci::write_spec(&changed)?;
    Ok(Some(users))
}

/// An exec's streams, so that they can be taken from anywhere.
fn within_reach(streams: ProcessStreams) -> Result<Streams> {
    Ok(match streams {
        ProcessStreams::Pipes(pipes) => Streams::Pipes(pipes),
        ProcessStreams::Console(path) => {
            Streams::Console(UnixStream::connect(&path).context(|| format!("connect {path}"))?.into())
        }
    })
}

#[expect(unsafe_code, reason = "no exit handlers, which are another process's")]
fn end_here() -> ! {
    // SAFETY: ends this process, which is a fork with one thread.
    unsafe { libc::_exit(1) }
}

/// Runs init under the container's compiled seccomp filter, if there is one.
#[derive(Clone)]
struct Filtered(Option<Program>);

impl Executor for Filtered {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(program) = &self.0 {
            program.load().map_err(|error| ExecutorError::Other(format!("seccomp: {error}")))?;
        }
        get_executor().exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}
