//! Copies of files out of a container and into it.
//!
//! ```text
//!   runs:  /proc/<init>/root, by proof ─▶ its root with its mounts     does not: its snapshot, mounted for this alone
//! ```
//!
//! Not an actor, nothing is logged: a copy out changes nothing, and one into a container ends with its client or the daemon, with what was
//! unpacked until then, as `cp` would. Each is a worker with a bounded channel; it ends with whoever is at the other end.

use std::path::Path;
use std::sync::Arc;

use bosun_storage::copy::ContainerRoot;
use bosun_types::container::ContainerRecord;
use bosun_types::copy::{Copied, CopyIn, CopyOut, FileInfo};
use bosun_types::user_namespace::IdMaps;
use bosun_types::{ContainerId, Error, NamespaceName, Result};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::containers::{self, ContainerHandle};
use crate::core::{Core, Shared, blocking};
use crate::ports::WritableRoot;
use crate::transfers::channel::{ChannelReader, Chunks, pump};
use crate::{snapshots, task};

/// Copies at once: each has a thread of its own.
pub(crate) const COPIES_MAX: usize = 32;
/// Chunks between a worker and the client.
const CHUNKS_WAITING: usize = 8;

/// One copy that was begun.
#[derive(Clone)]
pub struct CopyHandle {
    done: watch::Receiver<Option<Result<Copied>>>,
    cancel: CancellationToken,
}

impl CopyHandle {
    /// Waits for its end.
    pub async fn wait(&self) -> Result<Copied> {
        let mut done = self.done.clone();
        let ended = done.wait_for(Option::is_some).await;
        let stopped = || Err(Error::unavailable("the daemon stopped in the middle of a copy"));
        ended.map_or_else(|_| stopped(), |done| done.clone().unwrap_or_else(stopped))
    }

    /// Ends it where it is.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl ContainerHandle {
    /// What is at a path of its root.
    pub async fn stat_path(&self, path: String, follow: bool) -> Result<FileInfo> {
        let (core, namespace, id) = (self.core.clone(), self.namespace.clone(), self.id.clone());
        blocking(move || Place::of(&core, &namespace, &id, For::Reading)?.root()?.stat(&path, follow)).await
    }

    /// Begins to read what is at a path, as a tar stream. It is whole only if the copy ends well.
    pub async fn copy_out(&self, request: CopyOut) -> Result<(CopyHandle, mpsc::Receiver<Bytes>)> {
        let (core, namespace, id) = (self.core.clone(), self.namespace.clone(), self.id.clone());
        let (worker, permit) = Worker::begin(&core)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let output = Chunks::new(sender, worker.handle.cancel.clone(), core.runtime.clone());
        let handle = worker.handle.clone();
        worker.run(&core.runtime.clone(), permit, move || {
            Place::of(&core, &namespace, &id, For::Reading)?.root()?.read(&request, output)
        });
        Ok((handle, receiver))
    }

    /// Begins to put a tar stream into a directory.
    pub async fn copy_in(&self, request: CopyIn, bytes: mpsc::Receiver<Bytes>) -> Result<CopyHandle> {
        let (core, namespace, id) = (self.core.clone(), self.namespace.clone(), self.id.clone());
        let (worker, permit) = Worker::begin(&core)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        core.runtime.spawn(pump(bytes, sender, worker.handle.cancel.clone()));
        let handle = worker.handle.clone();
        worker.run(&core.runtime.clone(), permit, move || {
            let place = Place::of(&core, &namespace, &id, For::Writing)?;
            place.refuse_hidden(&request.directory)?;
            let root = place.root()?;
            place.as_its_root(|| root.write(&request, ChannelReader::new(receiver)))
        });
        Ok(handle)
    }
}

/// A copy's own thread.
struct Worker {
    handle: CopyHandle,
    done: watch::Sender<Option<Result<Copied>>>,
}

impl Worker {
    fn begin(core: &Core) -> Result<(Self, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&core.copies).try_acquire_owned().map_err(|_| {
            Error::resource_exhausted(format!("{COPIES_MAX} copies are under way"))
                .with_hint("try again when one has ended")
        })?;
        let (done, receiver) = watch::channel(None);
        let handle = CopyHandle { done: receiver, cancel: CancellationToken::new() };
        Ok((Self { handle, done }, permit))
    }

    fn run(
        self,
        runtime: &tokio::runtime::Handle,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce() -> Result<Copied> + Send + 'static,
    ) {
        runtime.spawn(async move {
            let outcome = blocking(work).await;
            drop(permit);
            self.done.send_replace(Some(outcome));
        });
    }
}

/// How many there may be.
pub(crate) fn limit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(COPIES_MAX))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Reading,
    Writing,
}

/// A container's root, open while this lives. The mount goes last.
struct Place {
    id: ContainerId,
    root: WritableRoot,
    maps: Option<IdMaps>,
    /// Where things are mounted when it runs, and are not now.
    absent: Vec<String>,
}

impl Place {
    /// Blocking.
    fn of(core: &Shared, namespace: &NamespaceName, id: &ContainerId, wanted: For) -> Result<Self> {
        let record = containers::get(core, namespace, id)?;
        let maps = bosun_runtime::spec::maps_of(&record.spec)?;
        let init = task::record(core, namespace, id)?.and_then(|task| task.init);
        if let Some(init) = init
            && let Some(root) = core.host.open_root_of(&init)?
        {
            let root = WritableRoot { root, mount: Box::new(()) };
            return Ok(Self { id: id.clone(), root, maps, absent: Vec::new() });
        }
        let (directory, absent) = sketch(&record.spec);
        let (root, shown_inside) = at_rest(core, &record, &directory, wanted)?;
        Ok(Self { id: id.clone(), root, maps: maps.filter(|_| !shown_inside), absent })
    }

    fn root(&self) -> Result<ContainerRoot> {
        let root = self.root.root.try_clone().map_err(|error| {
            Error::internal(format!("container {}: cannot hold its root: {error}", self.id))
        })?;
        Ok(ContainerRoot::new(root, self.maps.clone()))
    }

    /// Does work that makes files. Where the container has users of its own, root of the host is nobody there.
    fn as_its_root<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(maps) = &self.maps else { return work() };
        let (Some(uid), Some(gid)) = (maps.host_uid(0), maps.host_gid(0)) else { return work() };
        // A thread of its own: what it becomes it stays.
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                bosun_runtime::owner::make_files_as(uid, gid)?;
                work()
            });
            worker.join().unwrap_or_else(|_| Err(Error::internal("the copying thread failed")))
        })
    }

    /// What lies under a mount would never be seen again. By its words: a link that leads there is not noticed.
    fn refuse_hidden(&self, directory: &str) -> Result<()> {
        let wanted = Path::new("/").join(directory);
        let hidden = self.absent.iter().find(|mount| wanted.starts_with(mount));
        hidden.map_or(Ok(()), |mount| {
            let message = format!("container {}: {directory} lies in its mount {mount}", self.id);
            Err(Error::failed_precondition(format!("{message}, which is there only while it runs"))
                .with_hint("start it first, or write to the mount's source"))
        })
    }
}

/// The root of a container that does not run; `true`: its files show the ids inside.
fn at_rest(
    core: &Core,
    record: &ContainerRecord,
    directory: &str,
    wanted: For,
) -> Result<(WritableRoot, bool)> {
    let (Some(snapshotter), Some(key)) = (&record.snapshotter, &record.snapshot_key) else {
        let root = bosun_runtime::mount::open_root(Path::new(directory))?;
        return Ok((WritableRoot { root, mount: Box::new(()) }, false));
    };
    let snapshot = snapshots::get(core, &record.namespace, snapshotter, key)?;
    // Without the maps of users that its mounts may have: on disk, files belong to whom the image says.
    let shown_inside = IdMaps::from_labels(&snapshot.labels)?.is_some();
    let parents = snapshots::parents_of(core, &snapshot)?;
    let mounts = core.snapshotter(snapshotter)?.mounts(snapshot.directory, &parents, snapshot.kind)?;
    let root = match wanted {
        For::Reading => WritableRoot { root: core.host.open_mounts(&mounts)?, mount: Box::new(()) },
        For::Writing => core.host.mount_to_write(&mounts)?,
    };
    Ok((root, shown_inside))
}

/// Where an OCI spec has the root, and where it mounts something else.
fn sketch(spec: &[u8]) -> (String, Vec<String>) {
    let spec: Value = serde_json::from_slice(spec).unwrap_or_default();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let mounts = spec["mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    (text(spec.pointer("/root/path")), mounts.iter().map(|mount| text(mount.get("destination"))).collect())
}
