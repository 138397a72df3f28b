//! A host, a registry and a daemon over rows that an earlier life left. Shims are words in a map; every effect is noted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bosun_storage::batch::Batch;
use bosun_storage::content::ContentStore;
use bosun_storage::snapshotter::{Overlay, Snapshotter};
use bosun_storage::store::Store;
use bosun_types::metrics::CgroupUsage;
use bosun_types::reference::Reference;
use bosun_types::shim::{ExitNotice, Request, Response, ShimPhase, ShimState};
use bosun_types::stdio::{AttachRequest, LogRecord, LogRequest};
use bosun_types::task::{ExecProcess, ProcessIdentity, TaskRecord};
use bosun_types::{Error, ExecId, Result};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::daemon::{Daemon, DaemonOptions};
use crate::ports::{
    Access, Attached, Connected, Owner, RegistryPort, RepositoryPort, Shim, SpecInput, TaskHost,
};

/// This boot.
pub(super) const BOOT: &str = "this boot";
/// Every shim, every init.
pub(super) const PROCESS: ProcessIdentity = ProcessIdentity { pid: 7, start_ticks: 7 };

/// Task directories by nonce; with a living shim, what it holds.
#[derive(Default)]
pub(super) struct FakeHost {
    pub tasks: Mutex<BTreeMap<String, Option<ShimPhase>>>,
    /// Nonces that were cleaned up, as often as they were.
    pub cleaned: Mutex<Vec<String>>,
    /// Cleaning up this one fails.
    pub stubborn: Mutex<Option<String>>,
    /// Cleaning up this one panics.
    pub poison: Mutex<Option<String>>,
}

struct FakeShim(ShimPhase);

impl Shim for FakeShim {
    fn request(&self, request: Request, _: Duration) -> BoxFuture<'static, Result<Response>> {
        let state = ShimState { init: self.0.clone(), execs: Vec::new() };
        Box::pin(async move {
            Ok(match request {
                Request::State => Response::State(state),
                _ => Response::Done,
            })
        })
    }
}

fn none() -> Error {
    Error::not_implemented("a fake")
}

impl TaskHost for FakeHost {
    fn ensure_directory(&self, _: &str, _: &Owner, _: &[u8], _: &str) -> Result<()> {
        Err(none())
    }

    fn ensure_no_directory(&self, nonce: &str) -> Result<()> {
        self.tasks.lock().unwrap().remove(nonce);
        Ok(())
    }

    fn directory(&self, nonce: &str) -> String {
        nonce.to_owned()
    }

    fn directories(&self) -> Result<Vec<String>> {
        Ok(self.tasks.lock().unwrap().keys().cloned().collect())
    }

    fn ensure_shim<'a>(&'a self, _: &'a str, _: &'a Owner) -> BoxFuture<'a, Result<ProcessIdentity>> {
        Box::pin(async { Err(none()) })
    }

    fn connect<'a>(&'a self, nonce: &'a str) -> BoxFuture<'a, Result<Connected>> {
        let phase = self.tasks.lock().unwrap().get(nonce).cloned().flatten();
        Box::pin(async move {
            let phase = phase.ok_or_else(|| Error::not_found(format!("no shim of {nonce}")))?;
            let (sender, notices) = mpsc::channel(1);
            // The connection stays for the test's life.
            std::mem::forget(sender);
            Ok((Arc::new(FakeShim(phase)) as Arc<dyn Shim>, notices))
        })
    }

    fn live_shim(&self, nonce: &str) -> Option<ProcessIdentity> {
        self.tasks.lock().unwrap().get(nonce)?.as_ref().map(|_| PROCESS)
    }

    fn exit_records(&self, _: &str) -> Result<Vec<ExitNotice>> {
        Ok(Vec::new())
    }

    fn owner(&self, _: &str) -> Result<Option<Owner>> {
        Ok(None)
    }

    fn clean_up<'a>(
        &'a self,
        nonce: &'a str,
        _: &'a Owner,
        _: Option<&'a TaskRecord>,
    ) -> BoxFuture<'a, Result<Vec<ExitNotice>>> {
        self.cleaned.lock().unwrap().push(nonce.to_owned());
        let is = |which: &Mutex<Option<String>>| which.lock().unwrap().as_deref() == Some(nonce);
        assert!(!is(&self.poison), "a poisoned task");
        let result =
            if is(&self.stubborn) { Err(Error::unavailable("it does not die")) } else { Ok(Vec::new()) };
        if let (Ok(_), Some(phase)) = (&result, self.tasks.lock().unwrap().get_mut(nonce)) {
            *phase = None;
        }
        Box::pin(async move { result })
    }

    fn boot_id(&self) -> String {
        BOOT.to_owned()
    }

    fn build_spec(&self, _: SpecInput) -> BoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async { Err(none()) })
    }

    fn exec_process(
        &self,
        _: &[u8],
        _: &ExecProcess,
        _: bool,
        _: Option<ProcessIdentity>,
    ) -> Result<Vec<u8>> {
        Err(none())
    }

    fn usage(&self, _: &str) -> Result<CgroupUsage> {
        Err(none())
    }

    fn attach<'a>(
        &'a self,
        _: &'a str,
        _: Option<ExecId>,
        _: AttachRequest,
    ) -> BoxFuture<'a, Result<Attached>> {
        Box::pin(async { Ok(Attached { position: 0, frames: mpsc::channel(1).1 }) })
    }

    fn logs(
        &self,
        _: PathBuf,
        _: LogRequest,
        _: BoxFuture<'static, ()>,
    ) -> mpsc::Receiver<Result<LogRecord>> {
        mpsc::channel(1).1
    }
}

struct NoRegistry;

impl RegistryPort for NoRegistry {
    fn repository(&self, _: &Reference, _: &Access) -> Result<Arc<dyn RepositoryPort>> {
        Err(none())
    }
}

/// What an earlier life left, and the daemon over it once it is started.
pub(super) struct World {
    pub host: Arc<FakeHost>,
    pub store: Store,
    pub overlay: Arc<Overlay>,
    pub root: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let overlay = Arc::new(Overlay::open(root.path()).unwrap());
        Self { host: Arc::default(), store: Store::in_memory(), overlay, root }
    }

    /// Rows of the earlier life.
    pub async fn left(&self, rows: impl FnOnce(&mut Batch) -> &mut Batch) {
        let mut batch = Batch::new();
        rows(&mut batch);
        self.store.commit(batch).await.unwrap();
    }

    /// Starts a daemon, and gives it when recovery is over.
    pub async fn recovered(&self) -> Daemon {
        let daemon = Daemon::start(DaemonOptions {
            root: self.root.path().to_owned(),
            state: self.root.path().join("state"),
            cgroup_parent: "/none".to_owned(),
            criu: "criu".to_owned(),
            revision: String::new(),
            store: self.store.clone(),
            content: ContentStore::open(self.root.path()).unwrap(),
            snapshotters: vec![Arc::clone(&self.overlay) as Arc<dyn Snapshotter>],
            host: Arc::clone(&self.host) as Arc<dyn TaskHost>,
            registry: Arc::new(NoRegistry),
            gc: crate::gc::ScheduleOptions { automatic: false, ..crate::gc::ScheduleOptions::default() },
        })
        .await
        .unwrap();
        while daemon.status().await.unwrap().recovering {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon
    }
}
