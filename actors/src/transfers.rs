//! Transfers: pull, push and import, run by the daemon, so that they go on when the client leaves (REM-13, REM-16, IEX-5).
//!
//! ```text
//!   pull:   intent ─▶ resolve ─▶ documents ─▶ layers (all at once) ─▶ one commit: blobs, snapshots, image, intent closed
//!   push:   intent ─▶ walk ─▶ blobs (some at once) ─▶ manifests, the target last ─▶ one commit: labels, intent closed
//!   export:           images ─▶ archive, each blob verified on its way ─▶ the client
//!   import:           archive into blobs   ─▶ layers (all at once) ─▶ one commit
//! ```
//!
//! What a registry is asked for is logged ([`logged`]): the intent is run again after a crash. The user's credential is no part of it ([`secrets`]).
//!
//! **Owns** nothing durable before the last commit but resumable bytes: blobs and layer directories without rows, which go when the transfer
//! fails, or with recovery's sweep after a crash. Then the intent of a pull is run again from the start: blobs that are there are not fetched, half
//! fetched ones are resumed. Equal pulls in flight are one. A layer is unpacked once however many transfers want it: chain ids are locked, lowest
//! first, until the commit.

pub(crate) mod channel;
mod documents;
mod export;
mod import;
mod layers;
mod logged;
mod object;
mod progress;
mod pull;
mod push;
mod record;
mod remote;
mod schema1;
mod secrets;
pub(crate) mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bosun_types::call::CallId;
use bosun_types::content::Descriptor;
use bosun_types::image::ImageRecord;
use bosun_types::transfer::{
    Credential, ExportRequest, ImportRequest, ObjectRequest, PullRequest, PushRequest, TransferKind,
    TransferProgress, TransferState,
};
use bosun_types::{Error, ImageName, LeaseId, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::core::Shared;

pub(crate) use documents::Documents;
pub(crate) use import::local_documents;
pub(crate) use layers::{Work, unpack_again};
pub(crate) use logged::resume;
pub(crate) use progress::{Part, Progress};
pub(crate) use secrets::sweep as sweep_secrets;
pub(crate) use source::repositories;

use logged::Request;

/// Ended transfers that can still be looked at.
const ENDED_MAX: usize = 64;
/// Transfers under way in the whole daemon.
const RUNNING_MAX: usize = 64;

/// Transfers under way, and those that ended lately.
#[derive(Default)]
pub struct Running {
    entries: Mutex<BTreeMap<u64, Entry>>,
    /// What only one transfer at a time may make: chain ids, blobs.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A request, who asks, and the lease that is to hold what comes of it.
type Asked = (Request, Option<Credential>, Option<LeaseId>);

#[derive(Clone)]
struct Entry {
    namespace: NamespaceName,
    /// Equal requests of the same user join, under one lease or none; an import is equal to nothing.
    asked: Option<Asked>,
    /// The call that it was begun for, if that has a key.
    call: Option<CallId>,
    handle: TransferHandle,
}

impl Running {
    /// The lock of a thing by its name.
    pub(crate) async fn lock(&self, name: String) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else holds those that only this map knows.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name).or_default())
        };
        lock.lock_owned().await
    }

    /// Whether any transfer is under way.
    pub(crate) fn any_running(&self) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().any(|entry| entry.handle.progress().state == TransferState::Running)
    }

    /// Numbers of those under way.
    pub(crate) fn running(&self) -> Vec<u64> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |entry: &Entry| entry.handle.progress().state == TransferState::Running;
        entries.iter().filter(|(_, entry)| running(entry)).map(|(id, _)| *id).collect()
    }

    /// Adds a transfer, or gives the one that runs for the same call, or the equal one.
    fn add(
        &self,
        id: u64,
        namespace: &NamespaceName,
        (kind, subject): (TransferKind, &str),
        asked: Option<Asked>,
        call: Option<CallId>,
    ) -> Result<Added> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |entry: &&Entry| entry.handle.progress().state == TransferState::Running;
        let same = |entry: &&Entry| {
            let is_equal = asked.is_some() && entry.namespace == *namespace && entry.asked == asked;
            is_equal || (call.is_some() && entry.call == call)
        };
        if let Some(entry) = entries.values().filter(running).find(same) {
            return Ok(Added::Joined(entry.handle.clone()));
        }
        if entries.values().filter(running).count() >= RUNNING_MAX {
            return Err(Error::resource_exhausted(format!("{RUNNING_MAX} transfers are under way"))
                .with_hint("try again later"));
        }
        let start = TransferProgress {
            id,
            kind,
            subject: subject.to_owned(),
            parts: Vec::new(),
            bytes: 0,
            state: TransferState::Running,
        };
        let (sender, progress) = watch::channel(start);
        let exact = progress::Progress::new(sender);
        let handle = TransferHandle { id, progress, exact: exact.clone(), cancel: CancellationToken::new() };
        entries.insert(id, Entry { namespace: namespace.clone(), asked, call, handle: handle.clone() });
        let ended: Vec<u64> =
            entries.iter().filter(|(_, entry)| !running(entry)).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            entries.remove(id);
        }
        Ok(Added::New(handle, exact))
    }
}

/// Lists what is no transfer among the transfers, so that it can be followed and cancelled like one.
pub(crate) fn follow(
    core: &Shared,
    namespace: &NamespaceName,
    kind: TransferKind,
    subject: &str,
) -> Result<(Progress, CancellationToken)> {
    match core.transfers.add(core.store.next_transfer(), namespace, (kind, subject), None, None)? {
        Added::New(handle, progress) => Ok((progress, handle.cancel)),
        Added::Joined(_) => Err(Error::internal("nothing was asked that could be joined")),
    }
}

enum Added {
    Joined(TransferHandle),
    New(TransferHandle, progress::Progress),
}

/// A namespace's transfers.
#[derive(Clone)]
pub struct TransfersHandle {
    core: Shared,
    namespace: NamespaceName,
    lease: Option<LeaseId>,
}

impl TransfersHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName, lease: Option<LeaseId>) -> Self {
        Self { core, namespace, lease }
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> Shared {
        self.core.clone()
    }

    /// Starts a pull, or joins the same one under way.
    pub async fn pull(&self, request: PullRequest, credential: Option<Credential>) -> Result<TransferHandle> {
        self.start(Request::Pull(request), credential).await
    }

    /// Starts a push, or joins the same one under way.
    pub async fn push(&self, request: PushRequest, credential: Option<Credential>) -> Result<TransferHandle> {
        self.start(Request::Push(request), credential).await
    }

    /// Starts to fetch one blob or manifest, without what it names.
    pub async fn fetch_object(
        &self,
        request: ObjectRequest,
        credential: Option<Credential>,
    ) -> Result<TransferHandle> {
        self.start(Request::FetchObject(request), credential).await
    }

    /// Starts to send one blob or manifest.
    pub async fn push_object(
        &self,
        request: ObjectRequest,
        credential: Option<Credential>,
    ) -> Result<TransferHandle> {
        self.start(Request::PushObject(request), credential).await
    }

    async fn start(&self, request: Request, credential: Option<Credential>) -> Result<TransferHandle> {
        logged::start(&self.core, &self.namespace, (request, credential, self.lease.clone())).await
    }

    /// A transfer that was begun, and done, for an earlier try of a call: ended, with what it made as far as that is still there.
    pub async fn done(
        &self,
        kind: TransferKind,
        subject: &str,
        image: Option<&ImageName>,
    ) -> Result<TransferHandle> {
        let id = self.core.store.next_transfer();
        let made = image.and_then(|name| crate::images::get(&self.core, &self.namespace, name).ok());
        match self.core.transfers.add(id, &self.namespace, (kind, subject), None, None)? {
            Added::Joined(handle) => Ok(handle),
            Added::New(handle, progress) => {
                progress.end(TransferState::Done(made.into_iter().collect()));
                Ok(handle)
            }
        }
    }

    /// Starts an import of the archive whose bytes come through `bytes`; its end is the end of the archive.
    pub async fn import(
        &self,
        request: ImportRequest,
        bytes: mpsc::Receiver<Bytes>,
    ) -> Result<TransferHandle> {
        import::start(&self.core, &self.namespace, self.lease.clone(), request, bytes)
    }

    /// Starts an export; the archive's bytes come through what this returns. Their end is the archive's end only if the transfer ends well.
    pub async fn export(&self, request: &ExportRequest) -> Result<(TransferHandle, mpsc::Receiver<Bytes>)> {
        export::start(&self.core, &self.namespace, request)
    }

    /// Those under way, and those that ended lately.
    pub async fn list(&self) -> Result<Vec<TransferProgress>> {
        let entries = self.core.transfers.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries
            .values()
            .filter(|entry| entry.namespace == self.namespace)
            .map(|entry| entry.handle.progress())
            .collect())
    }

    /// One of them.
    pub async fn get(&self, id: u64) -> Result<TransferHandle> {
        let entries = self.core.transfers.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.get(&id).filter(|entry| entry.namespace == self.namespace);
        found.map(|entry| entry.handle.clone()).ok_or_else(|| {
            if self.core.recovering.load(Ordering::SeqCst) {
                return Error::unavailable(format!("transfer {id}: the daemon has just started")).with_hint("ask again");
            }
            Error::not_found(format!("transfer {id}")).with_hint(
                "it ended some time ago, or before bosund was restarted: look for its image, or begin it again, what is there is not fetched twice",
            )
        })
    }
}

/// One transfer.
#[derive(Clone)]
pub struct TransferHandle {
    id: u64,
    /// For followers, renewed now and then.
    progress: watch::Receiver<TransferProgress>,
    /// To the byte.
    exact: progress::Progress,
    cancel: CancellationToken,
}

impl TransferHandle {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands.
    pub fn progress(&self) -> TransferProgress {
        self.exact.now()
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<TransferProgress> {
        self.progress.clone()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Result<Vec<ImageRecord>> {
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.state != TransferState::Running).await;
        match ended.map(|progress| progress.state.clone()) {
            Ok(TransferState::Done(images)) => Ok(images),
            Ok(TransferState::Failed(error)) => Err(error),
            Ok(TransferState::Running) | Err(_) => {
                Err(Error::unavailable("the daemon stopped in the middle")
                    .with_hint("it goes on when the daemon is back; ask again"))
            }
        }
    }

    /// Ends it; what was made of it goes, resumable bytes stay.
    pub async fn cancel(&self) -> Result<()> {
        let ended = || Error::failed_precondition(format!("transfer {} had ended already", self.id));
        if self.progress().state != TransferState::Running {
            return Err(ended());
        }
        self.cancel.cancel();
        match self.wait().await {
            Ok(_) => Err(ended()),
            Err(_) => Ok(()),
        }
    }
}

/// The image's layers are snapshots: unpacks those that are not (CTR-14).
pub(crate) async fn ensure_unpacked(
    core: &Shared,
    namespace: &NamespaceName,
    image: &ImageName,
    snapshotter: &str,
) -> Result<()> {
    import::unpack_recorded(core, namespace, image, snapshotter).await
}

/// The same for what an image's name may not point at any more.
pub(crate) async fn ensure_target_unpacked(
    core: &Shared,
    namespace: &NamespaceName,
    target: &Descriptor,
    snapshotter: &str,
) -> Result<()> {
    import::unpack_target(core, namespace, target, snapshotter).await
}

#[cfg(test)]
mod no_host;
#[cfg(test)]
pub(crate) mod tests;
