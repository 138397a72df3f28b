//! Idempotency keys: which call the work at hand is for, and what became of calls with keys.
//!
//! ```text
//!   edge: within(call, …) ──▶ writer, task actor: the same call ──▶ Core::commit of the outcome: row, event, *call done*
//!                                     └──▶ an intent carries it: whoever ends the operation, recovery too, says that it was done
//! ```
//!
//! So a call is done exactly when it is remembered: what fails or is taken back is not, and may be tried again under the same key. Not an actor:
//! the rows are in the store (`bosun_storage::calls` says for how long); equal calls under way at the same time take turns here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bosun_types::Result;
use bosun_types::call::{CallId, CallRecord};
use tokio::sync::OwnedMutexGuard;

use crate::core::Shared;

/// How long a repeated call waits for recovery, which may be finishing what the first try began.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(60);
/// How often it looks.
const RECOVERY_PAUSE: Duration = Duration::from_millis(10);

tokio::task_local! {
    static CALL: Option<CallId>;
}

/// The call that the work at hand is for, if it has a key.
pub(crate) fn current() -> Option<CallId> {
    CALL.try_with(Clone::clone).ok().flatten()
}

/// Work for a call: the commit of its outcome says that the call was done. `None`: work beside the call, whose commits say nothing of it.
pub async fn within<T>(call: Option<CallId>, work: impl Future<Output = T>) -> T {
    CALL.scope(call, work).await
}

type Turns = Mutex<HashMap<CallId, Weak<tokio::sync::Mutex<()>>>>;

/// Calls with keys.
#[derive(Clone)]
pub struct CallsHandle {
    core: Shared,
    turns: Arc<Turns>,
}

/// While it is held no equal call begins.
pub struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl CallsHandle {
    pub(crate) fn new(core: Shared) -> Self {
        Self { core, turns: Arc::default() }
    }

    /// Waits until no equal call is under way.
    pub async fn turn(&self, id: &CallId) -> Turn {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // As many as are under way, which the edge limits.
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::default();
                turns.insert(id.clone(), Arc::downgrade(&fresh));
                fresh
            })
        };
        Turn { _guard: lock.lock_owned().await }
    }

    /// Waits, as long as it is reasonable, until recovery has ended what earlier lives of the daemon began.
    pub async fn recovered(&self) {
        let ended = async {
            while self.core.recovering.load(Ordering::SeqCst) {
                tokio::time::sleep(RECOVERY_PAUSE).await;
            }
        };
        // What is parked or still in the way is told by the call itself.
        let _ = tokio::time::timeout(RECOVERY_DEADLINE, ended).await;
    }

    /// Between its doing and its answer: the crash point `call.<method>.done`, where a client is left without one.
    pub fn unanswered(&self, id: &CallId) -> Result<()> {
        bosun_faults::point(&format!("call.{}.done", id.method))
            .map_err(|fault| bosun_types::Error::internal(fault.to_string()))
    }

    /// What became of it, if it was done and is remembered.
    pub fn done(&self, id: &CallId) -> Result<Option<CallRecord>> {
        Ok(self.core.store.call(id)?)
    }
}
