//! Transfers: pull and import, in the daemon, so that they go on when the client leaves (REM-13).

use bosun_types::image::ImageRecord;
use bosun_types::transfer::{ImportRequest, PullRequest, TransferProgress};
use bosun_types::{Error, NamespaceName, Result};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::core::Shared;

/// Transfers under way.
#[derive(Default)]
pub struct Running {}

/// The image's layers are snapshots: unpacks those that are not (CTR-14).
pub(crate) async fn ensure_unpacked(
    core: &Shared,
    namespace: &NamespaceName,
    image: &bosun_types::ImageName,
    snapshotter: &str,
) -> Result<()> {
    let _ = (core, namespace, image, snapshotter);
    Ok(())
}

/// A namespace's transfers.
#[derive(Clone)]
pub struct TransfersHandle {
    core: Shared,
    namespace: NamespaceName,
}

impl TransfersHandle {
    pub(crate) fn new(core: Shared, namespace: NamespaceName) -> Self {
        Self { core, namespace }
    }

    /// Starts a pull, or joins the same one under way.
    pub async fn pull(&self, request: PullRequest) -> Result<TransferHandle> {
        let _ = (&self.core, &self.namespace, request);
        Err(Error::not_implemented("pull"))
    }

    /// Starts an import of the archive whose bytes come through `bytes`; its end is the end of the archive.
    pub async fn import(
        &self,
        request: ImportRequest,
        bytes: mpsc::Receiver<Bytes>,
    ) -> Result<TransferHandle> {
        let _ = (request, bytes);
        Err(Error::not_implemented("import"))
    }

    /// Those under way, and those that ended lately.
    pub async fn list(&self) -> Result<Vec<TransferProgress>> {
        Ok(Vec::new())
    }

    /// One of them.
    pub async fn get(&self, id: u64) -> Result<TransferHandle> {
        Err(Error::not_found(format!("transfer {id}")))
    }
}

/// One transfer.
#[derive(Clone)]
pub struct TransferHandle {
    id: u64,
    progress: watch::Receiver<TransferProgress>,
}

impl TransferHandle {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands.
    pub fn progress(&self) -> TransferProgress {
        self.progress.borrow().clone()
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<TransferProgress> {
        self.progress.clone()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Result<Vec<ImageRecord>> {
        Err(Error::not_implemented("wait"))
    }

    /// Ends it; resumable bytes stay.
    pub async fn cancel(&self) -> Result<()> {
        Err(Error::not_implemented("cancel"))
    }
}
