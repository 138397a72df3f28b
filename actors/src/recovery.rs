//! Recovery: what a daemon that was killed left half done is finished, taken back, adopted or shown; never guessed.
//!
//! ```text
//!   host, then store ──observe──▶ Observed ──plan (pure)──▶ Plan ──execute──▶ Report
//! ```
//!
//! The host is looked at first and the store after it: every effect has its intent committed before it, so what the host shows and the
//! store does not explain is nobody's. The other order would take a task that is being made for rubbish.

use bosun_types::{OperationId, Result};

use crate::core::Shared;
use crate::supervisor::ChildSpec;

pub mod plan;

/// As a child of the root.
pub(crate) fn spec(core: &Shared) -> ChildSpec {
    crate::writer::spec(core, "recovery", crate::directory::Name::Service("recovery"))
}

/// Tries a parked operation again.
pub(crate) async fn retry(core: &Shared, id: OperationId) -> Result<()> {
    let _ = core;
    Err(bosun_types::Error::not_found(format!("operation {id}")))
}
