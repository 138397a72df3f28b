//! The real host behind [`TaskHost`]: `bosun-runtime` below one state directory. Words are translated here and nothing is decided.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_runtime::cgroup::Cgroups;
use bosun_runtime::clean_up::{self, Known};
use bosun_runtime::filter::Filters;
use bosun_runtime::held::HeldProcesses;
use bosun_runtime::process::KernelStatus;
use bosun_runtime::reaper::Reaper;
use bosun_runtime::shim::{Attachment, ShimConnection, ShimLauncher, ShimLog};
use bosun_runtime::spec::{self, ImageProcessConfig, SpecContext};
use bosun_runtime::task_directory::TaskDirectory;
use bosun_runtime::{mount, observe, process, take_over};
use bosun_types::container::RUNTIME_EMBEDDED;
use bosun_types::metrics::CgroupUsage;
use bosun_types::mount::Mount;
use bosun_types::shim::{Adoption, ExitNotice, Notice, OutputFrame, Request, Response, file};
use bosun_types::stdio::{AttachRequest, LogRecord, LogRequest};
use bosun_types::task::{ExecProcess, ExitStatus, ProcessIdentity, TaskRecord};
use bosun_types::{Error, ExecId, Result, Timestamp};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::ports::{Attached, Owner, RootPath, Shim, SpecInput, TaskHost, WritableRoot};

/// How long a new shim may take until it listens.
const SHIM_START: Duration = Duration::from_secs(10);
/// How long a shim may take to greet.
const SHIM_GREETING: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct RealHost {
    state: PathBuf,
    launcher: ShimLauncher,
    filters: Filters,
    held: HeldProcesses,
    /// Where specs of CDI devices are.
    cdi_directories: Vec<PathBuf>,
    /// Directories, and whether their file system has idmapped mounts.
    idmap: Mutex<BTreeMap<PathBuf, bool>>,
}

impl RealHost {
    /// Below `state`, with shims of this binary. Starts the process's reaper: from now on children of the daemon are
    /// started through `bosun_runtime::reaper` only. Takes temporary mounts that an earlier daemon left.
    pub fn new(state: PathBuf, shim_binary: PathBuf) -> Result<Self> {
        let state = std::path::absolute(&state).map_err(|error| {
            Error::invalid_argument(format!("state directory {}: {error}", state.display()))
        })?;
        for error in mount::ensure_no_temporary(&state) {
            tracing::warn!(%error, "a temporary mount of an earlier daemon stays");
        }
        Ok(Self {
            state,
            launcher: ShimLauncher::new(shim_binary)?,
            filters: Filters::default(),
            held: HeldProcesses::default(),
            cdi_directories: spec::CDI_DIRECTORIES.map(PathBuf::from).to_vec(),
            idmap: Mutex::default(),
        })
    }

    /// The same, with shims' logs of this kind.
    #[must_use]
    pub fn with_shim_log(self, log: ShimLog) -> Self {
        Self { launcher: self.launcher.with_log(log), ..self }
    }

    /// The same, with specs of CDI devices elsewhere.
    #[must_use]
    pub fn with_cdi_directories(self, cdi_directories: Vec<PathBuf>) -> Self {
        Self { cdi_directories, ..self }
    }

    fn at(&self, nonce: &str) -> Result<TaskDirectory> {
        Ok(TaskDirectory::of(&self.state, nonce)?)
    }

    fn beacon_shim(directory: &TaskDirectory) -> Option<ProcessIdentity> {
        let shim = directory.beacon().ok().flatten()?.shim;
        process::alive(&shim).then_some(shim)
    }

    async fn start_shim(&self, nonce: &str, owner: &Owner) -> Result<ProcessIdentity> {
        let directory = self.at(nonce)?;
        if let Some(shim) = Self::beacon_shim(&directory) {
            return Ok(shim);
        }
        let started = self.launcher.spawn(&directory, &owner.namespace, &owner.container, SHIM_START).await;
        match started {
            Ok(shim) => Ok(shim),
            // One that an earlier daemon started may have been on its way: a directory takes one shim only.
            Err(error) => Self::beacon_shim(&directory).ok_or_else(|| error.into()),
        }
    }

    async fn probe_idmap(&self, directory: &Path) -> bool {
        let known = self.idmap.lock().unwrap_or_else(PoisonError::into_inner).get(directory).copied();
        if let Some(known) = known {
            return known;
        }
        match self.launcher.can_idmap(directory).await {
            Ok(can) => {
                tracing::info!(directory = %directory.display(), can, "probed for idmapped mounts");
                let mut known = self.idmap.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(directory.to_owned(), can);
                can
            }
            Err(error) => {
                tracing::warn!(%error, "cannot probe for idmapped mounts");
                false
            }
        }
    }

    async fn connect_shim(&self, nonce: &str) -> Result<(Arc<dyn Shim>, mpsc::Receiver<Notice>)> {
        let directory = self.at(nonce)?;
        match ShimConnection::connect(directory.path(), nonce, SHIM_GREETING).await {
            Ok((connection, notices)) => Ok((Arc::new(ConnectedShim(connection)), notices)),
            Err(error) => {
                let error = Error::from(error);
                // The socket of a dead shim refuses like one that is not up yet; the process tells which.
                match self.live_shim(nonce) {
                    Some(_) => Err(error),
                    None => {
                        Err(Error::not_found(format!("the shim of task {nonce} is gone: {}", error.message)))
                    }
                }
            }
        }
    }
}

impl TaskHost for RealHost {
    fn ensure_directory(&self, nonce: &str, owner: &Owner, spec: &[u8], runtime: &str) -> Result<()> {
        let (spec, filter) = match runtime {
            RUNTIME_EMBEDDED | "" => self.filters.for_embedded(spec)?,
            _ => (spec.to_vec(), None),
        };
        let filter = filter.as_deref().map(Vec::as_slice);
        let owner = (&owner.namespace, &owner.container);
        let directory = TaskDirectory::ensure(&self.state, nonce, owner, &spec, filter)?;
        if let Some(gid) = spec::maps_of(&spec)?.and_then(|maps| maps.host_gid(0)) {
            directory.let_pass(gid)?;
        }
        Ok(())
    }

    fn ensure_no_directory(&self, nonce: &str) -> Result<()> {
        self.at(nonce)?.ensure_not()?;
        self.held.release_all(nonce);
        Ok(())
    }

    fn directory(&self, nonce: &str) -> String {
        self.at(nonce).map_or_else(|_| String::new(), |it| it.path().display().to_string())
    }

    fn directories(&self) -> Result<Vec<String>> {
        Ok(TaskDirectory::list(&self.state)?.into_iter().map(|it| it.nonce().to_owned()).collect())
    }

    fn owner(&self, nonce: &str) -> Result<Option<Owner>> {
        let owner = self.at(nonce)?.owner()?;
        Ok(owner.map(|(namespace, container)| Owner { namespace, container }))
    }

    fn ensure_shim<'a>(&'a self, nonce: &'a str, owner: &'a Owner) -> BoxFuture<'a, Result<ProcessIdentity>> {
        Box::pin(self.start_shim(nonce, owner))
    }

    fn connect<'a>(
        &'a self,
        nonce: &'a str,
    ) -> BoxFuture<'a, Result<(Arc<dyn Shim>, mpsc::Receiver<Notice>)>> {
        Box::pin(self.connect_shim(nonce))
    }

    fn live_shim(&self, nonce: &str) -> Option<ProcessIdentity> {
        let directory = self.at(nonce).ok()?;
        match directory.beacon() {
            Ok(Some(beacon)) => process::alive(&beacon.shim).then_some(beacon.shim),
            // Died before its beacon, or not there yet: look for a process with the nonce.
            _ => observe::shims(&self.state).into_iter().find(|it| it.nonce == nonce).map(|it| it.process),
        }
    }

    fn exit_records(&self, nonce: &str) -> Result<Vec<ExitNotice>> {
        Ok(self.at(nonce)?.exit_records()?)
    }

    fn clean_up<'a>(
        &'a self,
        nonce: &'a str,
        owner: &'a Owner,
        record: Option<&'a TaskRecord>,
    ) -> BoxFuture<'a, Result<Vec<ExitNotice>>> {
        // Of another boot it names nobody: pid and start time are counted anew.
        let named = record.filter(|it| it.boot_id == self.boot_id());
        let known = Known {
            id: owner.container.to_string(),
            shim: named.and_then(|it| it.shim),
            init: named.and_then(|it| it.init),
            runtime: record.map(|it| it.runtime.clone()),
            held: self.held.of(nonce),
        };
        Box::pin(async move { Ok(clean_up::clean_up(&self.at(nonce)?, &known).await?) })
    }

    fn take_over<'a>(
        &'a self,
        owner: &'a Owner,
        record: &'a TaskRecord,
        adoption: Adoption,
    ) -> BoxFuture<'a, Result<ProcessIdentity>> {
        Box::pin(async move {
            let directory = self.at(&record.nonce)?;
            let owner = (&owner.namespace, &owner.container);
            Ok(take_over::take_over(&self.launcher, &directory, owner, record.shim, &adoption).await?)
        })
    }

    fn lives(&self, process: &ProcessIdentity) -> bool {
        process::alive(process)
    }

    fn end_of(&self, nonce: &str, exec: Option<&ExecId>, process: &ProcessIdentity) -> Option<ExitStatus> {
        if let Some(status) = Reaper::get().and_then(|reaper| reaper.status(process)) {
            return Some(status);
        }
        let held = self.held.of(nonce);
        let (_, descriptor) =
            held.iter().find(|(id, it)| id.as_ref() == exec && it.identity() == *process)?;
        match descriptor.exit_status() {
            KernelStatus::Ended(cause) => Some(ExitStatus { cause, exited_at: Timestamp::now() }),
            KernelStatus::NotYet | KernelStatus::NotTold => None,
        }
    }

    fn hold(&self, nonce: &str, exec: Option<&ExecId>, process: &ProcessIdentity) {
        self.held.hold(nonce, exec, process);
    }

    fn release(&self, nonce: &str, exec: Option<&ExecId>) {
        self.held.release(nonce, exec);
    }

    fn has_begun(&self, shim: &ProcessIdentity, init: &ProcessIdentity) -> bool {
        let program = |it: &ProcessIdentity| {
            let found = std::fs::metadata(format!("/proc/{}/exe", it.pid)).ok()?;
            Some((found.dev(), found.ino()))
        };
        program(init) != program(shim)
    }

    fn expect_container(&self) {
        drop(tokio::task::spawn_blocking(bosun_runtime::cgroup::warm_up));
    }

    fn can_idmap<'a>(&'a self, directory: &'a Path) -> BoxFuture<'a, bool> {
        Box::pin(self.probe_idmap(directory))
    }

    fn boot_id(&self) -> String {
        bosun_runtime::boot_id()
    }

    fn build_spec(&self, input: SpecInput) -> BoxFuture<'_, Result<Vec<u8>>> {
        let cdi_directories = self.cdi_directories.clone();
        Box::pin(async move {
            let built = tokio::task::spawn_blocking(move || build_spec(&input, &cdi_directories)).await;
            built.map_err(|error| Error::internal(format!("building a spec: {error}")))?
        })
    }

    fn exec_process(
        &self,
        spec: &[u8],
        process: &ExecProcess,
        terminal: bool,
        init: Option<ProcessIdentity>,
    ) -> Result<Vec<u8>> {
        let root = init
            .filter(bosun_runtime::process::alive)
            .and_then(|init| std::fs::File::open(format!("/proc/{}/root", init.pid)).ok());
        Ok(spec::exec_process(spec, process, terminal, root.as_ref().map(std::os::fd::AsFd::as_fd))?)
    }

    fn open_mounts(&self, mounts: &[Mount]) -> Result<OwnedFd> {
        Ok(mount::detached(mounts)?)
    }

    fn mount_to_write(&self, mounts: &[Mount]) -> Result<WritableRoot> {
        let mount = mount::TempMount::new(&self.state, mounts)?;
        Ok(WritableRoot { root: mount::open_root(mount.path())?, mount: Box::new(mount) })
    }

    fn open_root_of(&self, process: &ProcessIdentity) -> Result<Option<OwnedFd>> {
        Ok(process::root_of(process)?)
    }

    fn usage(&self, cgroup_path: &str) -> Result<CgroupUsage> {
        Ok(Cgroups::detect()?.group(cgroup_path)?.usage()?)
    }

    fn attach<'a>(
        &'a self,
        nonce: &'a str,
        exec: Option<ExecId>,
        request: AttachRequest,
    ) -> BoxFuture<'a, Result<Attached>> {
        Box::pin(async move {
            let directory = self.at(nonce)?;
            let attachment = Attachment::open(directory.path(), nonce, exec, request, SHIM_GREETING).await?;
            let position = attachment.position();
            let (sender, frames) = mpsc::channel(1);
            tokio::spawn(pass_on(attachment, sender));
            Ok(Attached { position, frames })
        })
    }

    fn logs(
        &self,
        path: PathBuf,
        request: LogRequest,
        done: BoxFuture<'static, ()>,
    ) -> mpsc::Receiver<Result<LogRecord>> {
        bosun_runtime::log::read(path, request, done)
    }
}

fn build_spec(input: &SpecInput, cdi_directories: &[PathBuf]) -> Result<Vec<u8>> {
    let image = input.process.as_ref().map(|it| ImageProcessConfig {
        user: it.user.clone(),
        env: it.env.clone(),
        entrypoint: it.entrypoint.clone(),
        cmd: it.cmd.clone(),
        working_dir: it.working_dir.clone(),
    });
    let (root_path, root) = match &input.root {
        RootPath::Mounts(mounts) => (file::ROOTFS.to_owned(), Some(mount::detached(mounts))),
        RootPath::Directory(path) => (path.clone(), Some(mount::open_root(Path::new(path)))),
        RootPath::Unknown => (file::ROOTFS.to_owned(), None),
    };
    // Numbers can be resolved without; a name then fails with a text of its own.
    let root = root.and_then(|root| {
        root.inspect_err(
            |error| tracing::warn!(container = %input.id, %error, "the root cannot be read for user names"),
        )
        .ok()
    });
    let context = SpecContext {
        namespace: &input.namespace,
        id: &input.id,
        cgroup_parent: &input.cgroup_parent,
        root_path: &root_path,
        root: root.as_ref().map(OwnedFd::as_fd),
        cdi_directories,
    };
    Ok(spec::to_json(&spec::build(&input.options, image.as_ref(), &context)?)?)
}

/// Gives frames to a reader until the last one, or until it leaves.
async fn pass_on(mut attachment: Attachment, frames: mpsc::Sender<Result<OutputFrame>>) {
    loop {
        let frame = tokio::select! {
            () = frames.closed() => return,
            frame = attachment.next() => frame.map_err(Error::from),
        };
        let is_last = matches!(frame, Err(_) | Ok(OutputFrame::End));
        if frames.send(frame).await.is_err() || is_last {
            return;
        }
    }
}

/// One connection.
struct ConnectedShim(ShimConnection);

impl Shim for ConnectedShim {
    fn request(&self, request: Request, deadline: Duration) -> BoxFuture<'static, Result<Response>> {
        let connection = self.0.clone();
        Box::pin(async move { Ok(connection.request(request, deadline).await?) })
    }
}
