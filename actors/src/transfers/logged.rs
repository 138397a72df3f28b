//! What a registry is asked for is logged: the intent is committed before the first byte, and found again after a crash.
//!
//! ```text
//!   secret kept ─▶ intent committed ─▶ worker: opens the repository, runs the steps, closes the intent ─▶ secret forgotten
//!                        └─ crash ─▶ recovery: resume ─┘
//! ```

use std::sync::Arc;

use bosun_storage::batch::Batch;
use bosun_types::image::ImageRecord;
use bosun_types::operation::{Intent, OperationRecord};
use bosun_types::reference::Reference;
use bosun_types::transfer::{
    ObjectRequest, Platforms, PullRequest, PushRequest, TransferKind, TransferState,
};
use bosun_types::{Error, LeaseId, NamespaceName, Result};

use super::layers::Work;
use super::progress::Progress;
use super::remote::Remote;
use super::{Added, Asked, TransferHandle, object, pull, push, secrets};
use crate::call;
use crate::core::{Shared, blocking};
use crate::leases;
use crate::operation;
use crate::ports::Access;

/// What can be asked of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Pull(PullRequest),
    Push(PushRequest),
    FetchObject(ObjectRequest),
    PushObject(ObjectRequest),
}

impl Request {
    /// Of an intent that an earlier life of the daemon left.
    fn of(intent: Intent) -> Option<(u64, Self, Option<LeaseId>)> {
        match intent {
            Intent::Pull { transfer, request, lease } => Some((transfer, Self::Pull(request), lease)),
            Intent::Push { transfer, request } => Some((transfer, Self::Push(request), None)),
            Intent::FetchObject { transfer, request, lease } => {
                Some((transfer, Self::FetchObject(request), lease))
            }
            Intent::PushObject { transfer, request } => Some((transfer, Self::PushObject(request), None)),
            _ => None,
        }
    }

    fn intent(&self, transfer: u64, lease: Option<LeaseId>) -> Intent {
        match self.clone() {
            Self::Pull(request) => Intent::Pull { transfer, request, lease },
            Self::Push(request) => Intent::Push { transfer, request },
            Self::FetchObject(request) => Intent::FetchObject { transfer, request, lease },
            Self::PushObject(request) => Intent::PushObject { transfer, request },
        }
    }

    const fn kind(&self) -> TransferKind {
        match self {
            Self::Pull(_) => TransferKind::Pull,
            Self::Push(_) => TransferKind::Push,
            Self::FetchObject(_) => TransferKind::FetchObject,
            Self::PushObject(_) => TransferKind::PushObject,
        }
    }

    fn reference(&self) -> Reference {
        match self {
            Self::Pull(PullRequest { reference, .. }) | Self::Push(PushRequest { reference, .. }) => {
                reference.clone()
            }
            Self::FetchObject(request) | Self::PushObject(request) => {
                Reference { tag: None, digest: Some(request.digest), ..request.reference.clone() }
            }
        }
    }

    const fn plain_http(&self) -> bool {
        match self {
            Self::Pull(PullRequest { plain_http, .. })
            | Self::Push(PushRequest { plain_http, .. })
            | Self::FetchObject(ObjectRequest { plain_http, .. })
            | Self::PushObject(ObjectRequest { plain_http, .. }) => *plain_http,
        }
    }

    /// What is wrong with it whatever the registry says.
    fn check(&self, core: &Shared) -> Result<()> {
        let reference = self.reference();
        reference.object()?;
        match self {
            Self::Pull(request) => {
                bosun_types::labels::validate(&request.labels)?;
                if let Some(snapshotter) = &request.unpack {
                    core.snapshotter(snapshotter)?;
                }
                match &request.platforms {
                    Platforms::Only(platforms) if platforms.is_empty() => {
                        Err(Error::invalid_argument("a pull of no platform"))
                    }
                    _ => Ok(()),
                }
            }
            // REM-20.
            Self::Push(_) if reference.digest.is_some() => {
                Err(Error::invalid_argument(format!("reference {reference}: a push goes to a tag"))
                    .with_hint("leave the digest out: the registry is told it anyway"))
            }
            Self::Push(_) | Self::FetchObject(_) | Self::PushObject(_) => Ok(()),
        }
    }
}

/// Logs the intent and starts the worker, or joins the equal one that runs.
pub(super) async fn start(core: &Shared, namespace: &NamespaceName, asked: Asked) -> Result<TransferHandle> {
    let (request, credential, lease) = asked.clone();
    request.check(core)?;
    // LSE-4: better now than after the last byte.
    leases::extend(core, &mut Batch::new(), namespace, lease.as_ref(), [])?;
    let id = core.store.next_transfer();
    let subject = request.reference().to_string();
    let what = (request.kind(), subject.as_str());
    let added = core.transfers.add(id, namespace, what, Some(asked.clone()), call::current())?;
    let (handle, progress) = match added {
        Added::Joined(handle) => return Ok(handle),
        Added::New(handle, progress) => (handle, progress),
    };
    let operation = operation::record(core, namespace, request.intent(id, lease));
    let logged = async {
        secrets::keep(core, id, credential.as_ref()).await?;
        let mut batch = Batch::new();
        batch.open_operation(&operation);
        core.commit(batch).await
    };
    if let Err(error) = logged.await {
        progress.end(TransferState::Failed(error.clone()));
        secrets::forget(core, id).await;
        return Err(error);
    }
    spawn(core, asked, operation, &handle, progress);
    Ok(handle)
}

/// An open intent found after a crash: run again from the start, on what is there.
pub(crate) async fn resume(core: &Shared, operation: OperationRecord) -> Result<()> {
    let Some((transfer, request, lease)) = Request::of(operation.intent.clone()) else {
        return Err(Error::internal(format!("{} is no transfer", operation.id)));
    };
    let credential = secrets::recall(core, transfer).await?;
    let (kind, subject) = (request.kind(), request.reference().to_string());
    let asked = (request, credential, lease);
    let (what, call) = ((kind, subject.as_str()), operation.call.clone());
    match core.transfers.add(transfer, &operation.namespace, what, Some(asked.clone()), call)? {
        // A client asked for the same again before we got here: that one does it, and this intent is over.
        Added::Joined(_) => {
            let mut batch = Batch::new();
            batch.close_operation(operation.id);
            core.commit(batch).await.map(drop)
        }
        Added::New(handle, progress) => {
            spawn(core, asked, operation, &handle, progress);
            Ok(())
        }
    }
}

fn spawn(
    core: &Shared,
    (request, credential, lease): Asked,
    operation: OperationRecord,
    handle: &TransferHandle,
    progress: Progress,
) {
    let (shared, transfer, cancel) = (core.clone(), handle.id, handle.cancel.clone());
    core.runtime.spawn(async move {
        let access = Access { plain_http: request.plain_http(), credential };
        let work = Work {
            core: shared.clone(),
            namespace: operation.namespace.clone(),
            snapshotter: None,
            remote: None,
            progress: progress.clone(),
            cancel,
            made: Arc::default(),
            lease,
            kept: Arc::default(),
        };
        let state = match run(work, request, access, &operation).await {
            Ok(images) => TransferState::Done(images),
            Err(error) => TransferState::Failed(error),
        };
        // The intent is closed or parked; a parked one is tried again only with a person, who has the secret.
        secrets::forget(&shared, transfer).await;
        progress.end(state);
    });
}

async fn run(
    work: Work,
    request: Request,
    access: Access,
    operation: &OperationRecord,
) -> Result<Vec<ImageRecord>> {
    let (core, reference) = (work.core.clone(), request.reference());
    let opened = {
        let (registry, reference) = (Arc::clone(&core.registry), reference.clone());
        blocking(move || registry.repository(&reference, &access)).await
    };
    let repository = match opened {
        Ok(repository) => repository,
        Err(error) => {
            let failure = operation::Failure::Undone(error);
            return Err(operation::close_failed(&core, operation, failure, |_| ()).await);
        }
    };
    let work = Work { remote: Some(Remote::new(reference, repository)), ..work };
    match request {
        Request::Pull(request) => pull::run(work, request, operation).await,
        Request::Push(request) => push::run(work, request, operation).await,
        Request::FetchObject(_) => object::fetch(work, operation).await,
        Request::PushObject(request) => object::push(work, request, operation).await,
    }
}

/// Runs the steps, then `record`, which commits the outcome and closes the intent. Whatever fails takes everything back.
pub(super) async fn perform<O: operation::Operation>(
    core: &Shared,
    work: &O,
    record: impl Future<Output = Result<Vec<ImageRecord>>>,
    operation: &OperationRecord,
) -> Result<Vec<ImageRecord>> {
    if let Err(failure) = operation::perform(work).await {
        return Err(operation::close_failed(core, operation, failure, |_| ()).await);
    }
    match call::within(operation.call.clone(), record).await {
        Ok(images) => Ok(images),
        Err(error) => {
            // Nothing of the commit is there: take back what it would have named.
            let failure = match operation::undo_all(work).await {
                Ok(()) => operation::Failure::Undone(error),
                Err(undo) => operation::Failure::Stuck { cause: error, undo },
            };
            Err(operation::close_failed(core, operation, failure, |_| ()).await)
        }
    }
}
