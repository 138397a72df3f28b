//! Idempotency keys: what makes a repeated call the same call, and what is remembered of it.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::event::EventSequence;
use crate::task::ExitStatus;
use crate::{CallKey, Timestamp};

/// One call: under one key, each method is done once for each thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct CallId {
    /// The client's key.
    pub key: CallKey,
    /// What was called.
    pub method: String,
    /// On what: `<namespace>/<container>/…`.
    pub subject: String,
}

/// That a call was done: written in the commit of what it did.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CallRecord {
    /// Which.
    pub id: CallId,
    /// When.
    pub at: Timestamp,
    /// The first event of that commit; 0: it had none.
    pub event: EventSequence,
    /// Of a removal: how what is gone had ended.
    pub exit: Option<ExitStatus>,
}
