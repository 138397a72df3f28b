//! (being written)

use bosun_types::{OperationId, Result};

use crate::core::Shared;
use crate::supervisor::ChildSpec;

/// As a child of the root.
pub(crate) fn spec(core: &Shared) -> ChildSpec {
    crate::writer::spec(core, "recovery", crate::directory::Name::Service("recovery"))
}

/// Tries a parked operation again.
pub(crate) async fn retry(core: &Shared, id: OperationId) -> Result<()> {
    let _ = core;
    Err(bosun_types::Error::not_found(format!("operation {id}")))
}
