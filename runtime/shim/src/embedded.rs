//! The embedded OCI runtime: libcontainer, in a job's child.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use bosun_types::error::chain;
use bosun_types::shim::file;
use bosun_types::task::ProcessIdentity;
use libcgroups::common::{CgroupConfig, CgroupManager as _, ControllerOpt, create_cgroup_manager};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::notify_socket::NOTIFY_FILE;
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::{DefaultExecutor, get_executor};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, LinuxSeccomp, Spec};

use crate::error::{Context as _, Result, ShimError};
use crate::filter::Program;
use crate::idmap::Users;
use crate::oci::{NewContainer, NewExec, OciRuntime, ProcessStreams};
use crate::sys::identity_of;
use crate::tenant::Becoming;

/// libcontainer.
#[derive(Debug)]
pub struct Embedded;

impl OciRuntime for Embedded {
    fn create(&self, container: NewContainer<'_>, spec: &Spec) -> Result<ProcessIdentity> {
        const CONTEXT: &str = "create container";
        // Without a program of ours libcontainer loads what the spec says.
        let filtered = Filtered { program: Program::of_container()?, seccomp: None, becoming: None };
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
        let spec = crate::oci::load_init_spec()?;
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let init = load(exec.id)?.pid().ok_or_else(|| ShimError::Runtime("exec: no init".into()))?;
        let becoming = Becoming::of(exec.process, &spec, init.as_raw())?;
        let (becoming, _users) = becoming.map_or((None, None), |(becoming, users)| (Some(becoming), users));
        if let Some(becoming) = &becoming {
            crate::oci::write_process(exec.process_file.as_ref(), &becoming.stand_in())?;
        }
        let pid = with_streams(builder(exec.id)?, exec.streams)?
            .with_executor(Filtered { program: Program::of_container()?, seccomp, becoming })
            .as_tenant()
            .with_detach(true)
            .with_process(Some(exec.process_file))
            .build()
            .map_err(failed("exec"))?;
        identity_of(pid.as_raw()).context(|| format!("identify exec {pid}"))
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

/// Another process is the container's init from now on: one that CRIU restored. Execs join its namespaces.
pub fn set_init(id: &str, pid: i32) -> Result<()> {
    load(id)?.set_pid(pid).save().map_err(failed("save the container's state"))
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

/// Runs a process under the container's seccomp filter: the compiled one, for init and execs alike, else libcontainer's for execs, whose tenant
/// builder leaves it out. An exec may have to become somebody first.
#[derive(Clone)]
struct Filtered {
    program: Option<Program>,
    seccomp: Option<LinuxSeccomp>,
    becoming: Option<Becoming>,
}

impl Filtered {
    fn load(&self) -> Result<(), ExecutorError> {
        if let Some(program) = &self.program {
            program.load().map_err(|error| ExecutorError::Other(format!("seccomp: {error}")))?;
        } else if let Some(seccomp) = &self.seccomp {
            let refused = |error| ExecutorError::Other(format!("seccomp: {error}"));
            let listener = initialize_seccomp(seccomp).or_else(|_| {
                // Capabilities are dropped by now, so a process that may gain privileges cannot load a filter. A filter
                // is worth more than the right to run setuid programs.
                nix::sys::prctl::set_no_new_privs()
                    .map_err(|error| ExecutorError::Other(error.to_string()))?;
                initialize_seccomp(seccomp).map_err(refused)
            })?;
            if listener.is_some() {
                return Err(ExecutorError::Other("seccomp with a listener is not done for an exec".into()));
            }
        }
        Ok(())
    }
}

impl Executor for Filtered {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match &self.becoming {
            Some(becoming) => becoming.happen(|| self.load())?,
            None => self.load()?,
        }
        get_executor().exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}
