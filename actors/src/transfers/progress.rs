//! What followers see: rows in the order of the manifest, renewed at most some twenty times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosun_types::content::Descriptor;
use bosun_types::transfer::{PartProgress, PartStatus, TransferKind, TransferProgress, TransferState};
use tokio::sync::watch;

/// Between two renewals that only move a bar.
const EVERY: Duration = Duration::from_millis(50);

/// The sending side.
#[derive(Clone)]
pub(crate) struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    sender: watch::Sender<TransferProgress>,
    state: Mutex<(TransferProgress, Instant)>,
}

impl Progress {
    pub(crate) fn new(sender: watch::Sender<TransferProgress>) -> Self {
        let start = sender.borrow().clone();
        Self { inner: Arc::new(Inner { sender, state: Mutex::new((start, Instant::now())) }) }
    }

    /// A progress that nobody follows.
    pub(crate) fn unseen() -> Self {
        let start = TransferProgress {
            id: 0,
            kind: TransferKind::Import,
            subject: String::new(),
            parts: Vec::new(),
            bytes: 0,
            state: TransferState::Running,
        };
        Self::new(watch::channel(start).0)
    }

    fn change(&self, at_once: bool, change: impl FnOnce(&mut TransferProgress)) {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.0);
        if at_once || state.1.elapsed() >= EVERY {
            state.1 = Instant::now();
            self.inner.sender.send_replace(state.0.clone());
        }
    }

    /// As it is, moves included that no follower was told yet.
    pub(crate) fn now(&self) -> TransferProgress {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Adds a row, once.
    pub(crate) fn part(&self, kind: &str, descriptor: &Descriptor) -> Part {
        let key = format!("{kind}-{}", descriptor.digest);
        self.change(true, |progress| {
            if !progress.parts.iter().any(|part| part.key == key) {
                let (digest, total) = (descriptor.digest, descriptor.size);
                progress.parts.push(PartProgress {
                    key: key.clone(),
                    digest,
                    status: PartStatus::Waiting,
                    offset: 0,
                    total,
                });
            }
        });
        Part { progress: self.clone(), key }
    }

    /// Bytes of what is in no part.
    pub(crate) fn passed(&self, bytes: u64) {
        self.change(false, |progress| progress.bytes = bytes);
    }

    /// The end.
    pub(crate) fn end(&self, state: TransferState) {
        self.change(true, |progress| progress.state = state);
    }
}

/// One row.
#[derive(Clone)]
pub(crate) struct Part {
    progress: Progress,
    key: String,
}

impl Part {
    pub(crate) fn set(&self, status: PartStatus) {
        self.progress.change(true, |progress| {
            if let Some(part) = progress.parts.iter_mut().find(|part| part.key == self.key) {
                part.status = status;
                if matches!(status, PartStatus::Done | PartStatus::Exists | PartStatus::Mounted) {
                    part.offset = part.total;
                }
            }
        });
    }

    pub(crate) fn moved(&self, offset: u64) {
        self.progress.change(false, |progress| {
            if let Some(part) = progress.parts.iter_mut().find(|part| part.key == self.key) {
                part.offset = offset.min(part.total);
            }
        });
    }
}
