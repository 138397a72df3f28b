//! A host whose shims live in memory. Starts of containers whose id begins with `slow` wait for [`SimHost::release`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosun_actors::ports::{Access, Attached, Owner, RegistryPort, RepositoryPort, Shim, SpecInput, TaskHost};
use bosun_types::metrics::CgroupUsage;
use bosun_types::reference::Reference;
use bosun_types::shim::{ExitNotice, Notice, Request, Response, ShimPhase, ShimState};
use bosun_types::stdio::{AttachRequest, LogRecord, LogRequest, OutputStream};
use bosun_types::task::{ExecProcess, ExitCause, ExitStatus, KillTarget, ProcessIdentity, TaskRecord};
use bosun_types::{Error, ExecId, Result, Timestamp};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

/// Records of every log.
pub const LOG_RECORDS: i64 = 5000;

/// The host.
pub struct SimHost {
    shims: Mutex<BTreeMap<String, Arc<SimShim>>>,
    started: Arc<Mutex<Vec<String>>>,
    released: Arc<watch::Sender<bool>>,
}

impl Default for SimHost {
    fn default() -> Self {
        let (shims, started) = (Mutex::default(), Arc::default());
        Self { shims, started, released: Arc::new(watch::channel(false).0) }
    }
}

impl SimHost {
    /// Ids whose start was asked for.
    pub fn started(&self) -> Vec<String> {
        lock(&self.started).clone()
    }

    /// Lets slow starts go on.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

struct SimShim {
    id: String,
    pid: u32,
    phase: Mutex<ShimPhase>,
    notices: Mutex<Option<mpsc::Sender<Notice>>>,
    started: Arc<Mutex<Vec<String>>>,
    released: Arc<watch::Sender<bool>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimShim {
    fn identity(&self) -> ProcessIdentity {
        ProcessIdentity { pid: self.pid, start_ticks: 1 }
    }

    async fn answer(self: Arc<Self>, request: Request) -> Result<Response> {
        match request {
            Request::Create(_) => {
                *lock(&self.phase) = ShimPhase::Created(self.identity());
                Ok(Response::Process(self.identity()))
            }
            Request::Start { exec: None } => {
                lock(&self.started).push(self.id.clone());
                if self.id.starts_with("slow") {
                    let mut released = self.released.subscribe();
                    let _ = released.wait_for(|released| *released).await;
                }
                *lock(&self.phase) = ShimPhase::Running(self.identity());
                Ok(Response::Process(self.identity()))
            }
            Request::Start { exec: Some(_) } => Ok(Response::Process(self.identity())),
            Request::State => {
                Ok(Response::State(ShimState { init: lock(&self.phase).clone(), execs: vec![] }))
            }
            Request::Kill { target: KillTarget::Init | KillTarget::All, signal, .. } => {
                let cause = ExitCause::Signal(u8::try_from(signal).expect("a signal"));
                let status = ExitStatus { cause, exited_at: Timestamp::now() };
                *lock(&self.phase) = ShimPhase::Exited(self.identity(), status.clone());
                let notices = lock(&self.notices).clone();
                if let Some(notices) = notices {
                    let notice = ExitNotice { exec: None, process: self.identity(), status, started: true };
                    let _ = notices.send(Notice::Exited(notice)).await;
                }
                Ok(Response::Done)
            }
            Request::Delete => {
                let exit = match &*lock(&self.phase) {
                    ShimPhase::Exited(_, exit) => Some(exit.clone()),
                    _ => None,
                };
                Ok(Response::Deleted(exit))
            }
            Request::Pids => Ok(Response::Pids(Vec::new())),
            _ => Ok(Response::Done),
        }
    }
}

/// What the daemon holds of a shim.
struct Connection(Arc<SimShim>);

impl Shim for Connection {
    fn request(&self, request: Request, _: Duration) -> BoxFuture<'static, Result<Response>> {
        Arc::clone(&self.0).answer(request).boxed()
    }
}

impl TaskHost for SimHost {
    fn ensure_directory(&self, _: &str, _: &Owner, _: &[u8], _: &str) -> Result<()> {
        Ok(())
    }

    fn ensure_no_directory(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn directory(&self, nonce: &str) -> String {
        format!("/sim/{nonce}")
    }

    fn directories(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn ensure_shim<'a>(&'a self, nonce: &'a str, owner: &'a Owner) -> BoxFuture<'a, Result<ProcessIdentity>> {
        let mut shims = lock(&self.shims);
        let pid = 1000 + u32::try_from(shims.len()).expect("few");
        let shim = shims.entry(nonce.to_owned()).or_insert_with(|| {
            Arc::new(SimShim {
                id: owner.container.to_string(),
                pid,
                phase: Mutex::new(ShimPhase::Registered),
                notices: Mutex::default(),
                started: Arc::clone(&self.started),
                released: Arc::clone(&self.released),
            })
        });
        let identity = shim.identity();
        async move { Ok(identity) }.boxed()
    }

    fn connect<'a>(
        &'a self,
        nonce: &'a str,
    ) -> BoxFuture<'a, Result<(Arc<dyn Shim>, mpsc::Receiver<Notice>)>> {
        async move {
            let shim = lock(&self.shims).get(nonce).cloned().ok_or_else(|| Error::not_found("no shim"))?;
            let (sender, receiver) = mpsc::channel(16);
            *lock(&shim.notices) = Some(sender);
            Ok((Arc::new(Connection(shim)) as Arc<dyn Shim>, receiver))
        }
        .boxed()
    }

    fn live_shim(&self, nonce: &str) -> Option<ProcessIdentity> {
        lock(&self.shims).get(nonce).map(|shim| shim.identity())
    }

    fn exit_records(&self, _: &str) -> Result<Vec<ExitNotice>> {
        Ok(Vec::new())
    }

    fn clean_up<'a>(
        &'a self,
        nonce: &'a str,
        _: &'a Owner,
        _: Option<&'a TaskRecord>,
    ) -> BoxFuture<'a, Result<Vec<ExitNotice>>> {
        lock(&self.shims).remove(nonce);
        async { Ok(Vec::new()) }.boxed()
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }

    fn build_spec(&self, _: SpecInput) -> BoxFuture<'_, Result<Vec<u8>>> {
        async { Ok(b"{}".to_vec()) }.boxed()
    }

    fn exec_process(
        &self,
        _: &[u8],
        _: &ExecProcess,
        _: bool,
        _: Option<ProcessIdentity>,
    ) -> Result<Vec<u8>> {
        Ok(b"{}".to_vec())
    }

    fn usage(&self, _: &str) -> Result<CgroupUsage> {
        Ok(CgroupUsage { cgroup_version: 2, ..CgroupUsage::default() })
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
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            for number in 1..=LOG_RECORDS {
                let bytes = format!("line {number}\n").into_bytes();
                let record = LogRecord { at: Timestamp(number), stream: OutputStream::Stdout, bytes };
                if sender.send(Ok(record)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// A registry that has nothing.
pub struct NoRegistry;

impl RegistryPort for NoRegistry {
    fn repository(&self, _: &Reference, _: &Access) -> Result<Arc<dyn RepositoryPort>> {
        Err(Error::not_found("no such image"))
    }
}
