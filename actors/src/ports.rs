//! The doors to the world. Actors reach hosts and registries through these traits only, so that the simulation can put its own behind them;
//! the store has its own door (`bosun_storage::backend`).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use bosun_registry::{Access, BlobSource, Pushed};
use bosun_storage::image::ImageProcess;
use bosun_types::content::Descriptor;
use bosun_types::metrics::CgroupUsage;
use bosun_types::mount::Mount;
use bosun_types::reference::Reference;
use bosun_types::shim::{Adoption, ExitNotice, Notice, OutputFrame, Request, Response};
use bosun_types::spec::SpecOptions;
use bosun_types::stdio::{AttachRequest, LogRecord, LogRequest};
use bosun_types::task::{ExecProcess, ExitStatus, ProcessIdentity, TaskRecord};
use bosun_types::{ContainerId, Digest, Error, ExecId, NamespaceName, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

/// A process's live output.
pub struct Attached {
    /// How many bytes the process had written before the first frame.
    pub position: u64,
    /// What follows; the last one is [`OutputFrame::End`] or an error.
    pub frames: mpsc::Receiver<Result<OutputFrame>>,
}

/// The host, as a task sees it. Every step is idempotent.
pub trait TaskHost: Send + Sync {
    /// Makes `<state>/tasks/<nonce>` with the spec in it, as this OCI runtime wants it.
    fn ensure_directory(&self, nonce: &str, owner: &Owner, spec: &[u8], runtime: &str) -> Result<()>;
    /// Removes it; its absence is success.
    fn ensure_no_directory(&self, nonce: &str) -> Result<()>;
    /// Path of the task's directory, for people.
    fn directory(&self, nonce: &str) -> String;
    /// Nonces of all task directories.
    fn directories(&self) -> Result<Vec<String>>;
    /// Whose task directory it is, as the directory itself says; `None`: it does not say.
    fn owner(&self, nonce: &str) -> Result<Option<Owner>> {
        let _ = nonce;
        Ok(None)
    }
    /// Starts a shim unless the beacon proves that one lives; gives its identity once it listens.
    fn ensure_shim<'a>(&'a self, nonce: &'a str, owner: &'a Owner) -> BoxFuture<'a, Result<ProcessIdentity>>;
    /// Connects to the shim. NotFound: there is none. DeadlineExceeded: it does not answer.
    fn connect<'a>(&'a self, nonce: &'a str) -> BoxFuture<'a, Result<Connected>>;
    /// The shim that the beacon names, if that very process lives.
    fn live_shim(&self, nonce: &str) -> Option<ProcessIdentity>;
    /// Exit records on disk that nobody acknowledged.
    fn exit_records(&self, nonce: &str) -> Result<Vec<ExitNotice>>;
    /// The shim is gone or to be gone: ends it, everything of the container, its cgroups, the OCI runtime's state. Gives how its
    /// processes ended as far as that is recorded or the kernel still tells. Leaves the task's directory.
    fn clean_up<'a>(
        &'a self,
        nonce: &'a str,
        owner: &'a Owner,
        record: Option<&'a TaskRecord>,
    ) -> BoxFuture<'a, Result<Vec<ExitNotice>>>;
    /// Ends what is left of a dead shim and starts another one, which has the container when this answers. An error: it has not; ask again.
    fn take_over<'a>(
        &'a self,
        owner: &'a Owner,
        record: &'a TaskRecord,
        adoption: Adoption,
    ) -> BoxFuture<'a, Result<ProcessIdentity>> {
        let _ = (owner, record, adoption);
        Box::pin(async { Err(Error::not_implemented("taking a container over")) })
    }
    /// Whether this very process runs.
    fn lives(&self, _process: &ProcessIdentity) -> bool {
        false
    }
    /// How a process ended, if this daemon reaped it, or holds it and the kernel tells.
    fn end_of(&self, _nonce: &str, _exec: Option<&ExecId>, _process: &ProcessIdentity) -> Option<ExitStatus> {
        None
    }
    /// Keeps hold of a process, so that the kernel tells how it ended even when it ends together with its shim.
    fn hold(&self, _nonce: &str, _exec: Option<&ExecId>, _process: &ProcessIdentity) {}
    /// Its exit is known.
    fn release(&self, _nonce: &str, _exec: Option<&ExecId>) {}
    /// Whether init runs the container's own program already: after its start it is a copy of its shim for a moment.
    fn has_begun(&self, _shim: &ProcessIdentity, _init: &ProcessIdentity) -> bool {
        true
    }
    /// A container is about to be made: what can be paid for ahead of time is begun. Returns at once.
    fn expect_container(&self) {}
    /// Whether files of this directory can be shown with other owners by a mount alone. Asked once, remembered.
    fn can_idmap<'a>(&'a self, _directory: &'a Path) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }
    /// This boot.
    fn boot_id(&self) -> String;
    /// Builds the OCI spec: defaults, image, options (SPC-*); looks users up in the root.
    fn build_spec(&self, input: SpecInput) -> BoxFuture<'_, Result<Vec<u8>>>;
    /// The OCI `Process` of an exec, from the container's spec (TSK-22); user names are looked up in the root that `init` sees.
    fn exec_process(
        &self,
        spec: &[u8],
        process: &ExecProcess,
        terminal: bool,
        init: Option<ProcessIdentity>,
    ) -> Result<Vec<u8>>;
    /// The root that these mounts show, for reading only, mounted nowhere; it goes with its descriptor. Blocking.
    fn open_mounts(&self, mounts: &[Mount]) -> Result<OwnedFd> {
        let _ = mounts;
        Err(bosun_types::Error::not_implemented("this host mounts nothing"))
    }
    /// The same for writing, mounted in a private place that goes with the value. Blocking.
    fn mount_to_write(&self, mounts: &[Mount]) -> Result<WritableRoot> {
        let _ = mounts;
        Err(bosun_types::Error::not_implemented("this host mounts nothing"))
    }
    /// The root that this very process sees, its mounts included; `None`: it has ended. Blocking.
    fn open_root_of(&self, process: &ProcessIdentity) -> Result<Option<OwnedFd>> {
        let _ = process;
        Err(bosun_types::Error::not_implemented("this host has no processes"))
    }
    /// What the group at this cgroup path has used; NotFound: there is none. Blocking.
    fn usage(&self, cgroup_path: &str) -> Result<CgroupUsage>;
    /// A process's live output, on a connection of its own to the shim; nothing is read ahead of who takes it. Unavailable, or an error as the last
    /// item: the shim has gone.
    fn attach<'a>(
        &'a self,
        nonce: &'a str,
        exec: Option<ExecId>,
        request: AttachRequest,
    ) -> BoxFuture<'a, Result<Attached>>;
    /// A log file's records; with `follow` until `done` resolves and everything was read.
    fn logs(
        &self,
        path: PathBuf,
        request: LogRequest,
        done: BoxFuture<'static, ()>,
    ) -> mpsc::Receiver<Result<LogRecord>>;
}

/// A snapshot's root, mounted to be written to.
pub struct WritableRoot {
    /// The root.
    pub root: OwnedFd,
    /// Goes with the mount; dropped after the descriptor.
    pub mount: Box<dyn std::any::Any + Send>,
}

/// What a spec is built from.
#[derive(Debug, Clone)]
pub struct SpecInput {
    /// Namespace.
    pub namespace: NamespaceName,
    /// Container.
    pub id: ContainerId,
    /// cgroup below which it goes.
    pub cgroup_parent: String,
    /// Options of the caller.
    pub options: SpecOptions,
    /// How the image wants to be run.
    pub process: Option<ImageProcess>,
    /// Where its root is.
    pub root: RootPath,
}

/// Where a root file system is when a spec is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPath {
    /// These mounts make it; the shim performs them later.
    Mounts(Vec<Mount>),
    /// A directory of the host.
    Directory(String),
    /// Nobody knows yet: users are numbers.
    Unknown,
}

/// A connection, and what the shim says unasked.
pub type Connected = (Arc<dyn Shim>, mpsc::Receiver<Notice>);

/// Whose a task directory is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Namespace.
    pub namespace: NamespaceName,
    /// Container.
    pub container: ContainerId,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.container)
    }
}

/// A connection to one shim.
pub trait Shim: Send + Sync {
    /// Asks; DeadlineExceeded when it does not answer in time, Unavailable when the connection is gone.
    fn request(
        &self,
        request: Request,
        deadline: std::time::Duration,
    ) -> BoxFuture<'static, Result<Response>>;
}

/// Bytes from a registry, from the offset that it honoured.
pub struct Fetch {
    /// Where the bytes begin.
    pub offset: u64,
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

/// The way to registries.
pub trait RegistryPort: Send + Sync {
    /// Opens the repository of a reference, with its host's settings as they are now. Blocking, for small files.
    fn repository(&self, reference: &Reference, access: &Access) -> Result<Arc<dyn RepositoryPort>>;
}

/// One repository as one user sees it.
pub trait RepositoryPort: Send + Sync {
    /// What the reference points at.
    fn resolve(&self) -> BoxFuture<'_, Result<Descriptor>>;
    /// What a digest names in it, be it a blob or a manifest.
    fn find<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<Descriptor>>;
    /// The document that the reference points at, as it is, with its type.
    fn fetch_document(&self) -> BoxFuture<'_, Result<(String, Vec<u8>)>>;
    /// How large a blob is.
    fn blob_size<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<u64>>;
    /// A small object whole, checked against its digest.
    fn fetch_bytes<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Vec<u8>>>;
    /// A blob from `offset` on.
    fn fetch<'a>(&'a self, descriptor: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<Fetch>>;
    /// A blob from `offset` on, from an address that its manifest names; nothing of the registry's goes along.
    fn fetch_elsewhere<'a>(
        &'a self,
        url: &'a str,
        descriptor: &'a Descriptor,
        offset: u64,
    ) -> BoxFuture<'a, Result<Fetch>>;
    /// Makes the repository have a blob; `from` are repositories of the same registry that may share it.
    fn push_blob<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        source: BlobSource,
        from: &'a [String],
    ) -> BoxFuture<'a, Result<Pushed>>;
    /// Whether this manifest is there under this tag or digest.
    fn has_manifest<'a>(&'a self, object: &'a str, descriptor: &'a Descriptor)
    -> BoxFuture<'a, Result<bool>>;
    /// Puts a manifest or index under a tag or its digest.
    fn push_manifest<'a>(
        &'a self,
        object: &'a str,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Digest>>;
}
