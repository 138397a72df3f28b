//! The two ways to an OCI runtime: embedded, or an external binary. Everything here runs in a job's child.

use std::os::fd::AsRawFd as _;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use bosun_types::shim::file;
use bosun_types::task::ProcessIdentity;
use bosun_types::user_namespace::{IdMaps, SpecSketch};
use oci_spec::runtime::{LinuxPersonality, LinuxSeccomp, Process, Spec};

use crate::binary::Binary;
use crate::cgroup::Cgroup;
use crate::embedded::Embedded;
use crate::error::{Context as _, Result, ShimError};
use crate::sys::write_durably;

/// Runtime name of the embedded one.
pub const EMBEDDED: &str = "bosun";

/// The streams that a new process gets: three descriptors, or a socket that takes its terminal.
#[derive(Debug)]
pub enum ProcessStreams {
    /// Standard input, output, error.
    Pipes([OwnedFd; 3]),
    /// Path of a listening socket, relative to the task directory.
    Console(String),
}

impl ProcessStreams {
    /// Descriptors that a job's child must keep.
    pub fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::Pipes(fds) => fds.iter().map(|fd| fd.as_raw_fd()).collect(),
            Self::Console(_) => Vec::new(),
        }
    }

    /// Gives the pipes to the process's own user, so that it may reopen `/dev/stdout` (as runc does).
    pub fn give_to(&self, process: &Process, maps: Option<&IdMaps>) {
        let Self::Pipes(fds) = self else { return };
        let (uid, gid) = (process.user().uid(), process.user().gid());
        // IO-11: whoever it is outside.
        let owner = match maps {
            Some(maps) => maps.host_uid(uid).zip(maps.host_gid(gid)),
            None => Some((uid, gid)),
        };
        let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) else { return };
        for fd in fds {
            let is_pipe = nix::sys::stat::fstat(fd.as_fd())
                .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
            if is_pipe {
                let _ = nix::unistd::fchown(fd.as_fd(), Some(uid.into()), Some(gid.into()));
            }
        }
    }
}

/// A container to make.
#[derive(Debug)]
pub struct NewContainer<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its streams.
    pub streams: ProcessStreams,
    /// TSK-8.
    pub no_pivot_root: bool,
}

/// A process to add.
#[derive(Debug)]
pub struct NewExec<'a> {
    /// Container id.
    pub id: &'a str,
    /// What it is to be.
    pub process: &'a Process,
    /// Where a runtime that reads it from a file is given it, relative to the task directory.
    pub process_file: &'a str,
    /// Its pid file, relative to the task directory.
    pub pid_file: &'a str,
    /// The container's init.
    pub init: &'a ProcessIdentity,
    /// The container's group.
    pub cgroup: &'a Cgroup,
    /// Its streams.
    pub streams: ProcessStreams,
}

/// What the shim asks of an OCI runtime. The bundle is the working directory.
pub trait OciRuntime {
    /// Makes the container, held before exec; its init.
    fn create(&self, container: NewContainer<'_>, spec: &Spec) -> Result<ProcessIdentity>;
    /// Lets it run.
    fn start(&self, id: &str) -> Result<()>;
    /// Adds a process.
    fn exec(&self, exec: NewExec<'_>) -> Result<ProcessIdentity>;
    /// Forgets the container, whatever it is doing. Unknown: success.
    fn delete(&self, id: &str) -> Result<()>;
    /// Applies `LinuxResources` to the live container.
    fn update(&self, id: &str, cgroup_path: &str, resources: &[u8]) -> Result<()>;
}

/// Whether a runtime's name is that of the embedded one.
pub fn is_embedded(name: &str) -> bool {
    name == EMBEDDED || name.is_empty()
}

/// The runtime of that name: [`EMBEDDED`], or a binary's name or path.
pub fn runtime(name: &str) -> Box<dyn OciRuntime> {
    if is_embedded(name) { Box::new(Embedded) } else { Box::new(Binary::new(name)) }
}

/// Reads the bundle's spec, makes its `terminal` what the request says, and smooths what the embedded runtime trips over.
pub fn load_spec(terminal: bool) -> Result<Spec> {
    let bytes = std::fs::read(file::CONFIG).context(|| format!("read {}", file::CONFIG))?;
    let mut spec: Spec = parse(&bytes, file::CONFIG)?;
    let Some(process) = spec.process_mut() else {
        return Err(bosun_types::Error::invalid_argument("the OCI spec has no process").into());
    };
    let mut changed = process.terminal().unwrap_or(false) != terminal;
    process.set_terminal(Some(terminal));
    // libcontainer 0.7 takes `false` for `true` when it chooses the moment to load a seccomp filter, and then fails;
    // left out it means the same to everybody.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
        changed = true;
    }
    if changed {
        write_spec(&spec)?;
    }
    Ok(spec)
}

/// Reads an exec's OCI `Process` and sets its `terminal` (TSK-22).
pub fn load_process(bytes: &[u8], terminal: bool) -> Result<Process> {
    let mut process: Process = parse(bytes, "the exec's process")?;
    process.set_terminal(Some(terminal));
    Ok(process)
}

/// Puts the container's spec where the runtime finds it.
pub fn write_spec(spec: &Spec) -> Result<()> {
    write_durably(file::CONFIG.as_ref(), &encode(spec)?)
}

/// Reads JSON that came from outside; `what` names it.
pub fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| bosun_types::Error::invalid_argument(format!("{what} is malformed: {error}")).into())
}

/// As JSON.
pub fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| ShimError::Typed(bosun_types::Error::internal(format!("encode JSON: {error}"))))
}

/// The spec as the container was made from it.
pub fn load_init_spec() -> Result<Spec> {
    let bytes = std::fs::read(file::CONFIG).context(|| format!("read {}", file::CONFIG))?;
    parse(&bytes, file::CONFIG)
}

/// What a further process has of its container's spec: all that is read of it for each exec.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Inherited {
    /// Execution domain.
    pub personality: Option<LinuxPersonality>,
    /// A filter that is not compiled.
    pub seccomp: Option<LinuxSeccomp>,
}

/// Reads it.
pub fn load_inherited() -> Result<Inherited> {
    #[derive(serde::Deserialize)]
    struct Sketch {
        #[serde(default)]
        linux: Inherited,
    }
    let bytes = std::fs::read(file::CONFIG).context(|| format!("read {}", file::CONFIG))?;
    Ok(parse::<Sketch>(&bytes, file::CONFIG)?.linux)
}

/// The maps of a container with users of its own.
pub fn load_maps() -> Result<Option<IdMaps>> {
    let bytes = std::fs::read(file::CONFIG).context(|| format!("read {}", file::CONFIG))?;
    Ok(parse::<SpecSketch>(&bytes, file::CONFIG)?.maps())
}
