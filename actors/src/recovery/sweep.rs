//! Blobs that no row names: what a transfer that failed together with the daemon left.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use bosun_storage::key::Key;
use bosun_types::content::ContentRecord;
use bosun_types::operation::Intent;
use bosun_types::{Digest, Result};

use super::plan::Observed;
use crate::core::{Core, Shared, blocking};
use crate::namespaces::DEADLINE;
use crate::writer::write;

/// Whether a pull is resumed that wants them: then they stay until the next start.
pub(super) fn are_wanted(observed: &Observed) -> bool {
    let fetches = |intent: &Intent| matches!(intent, Intent::Pull { .. } | Intent::FetchObject { .. });
    observed.operations.iter().any(|operation| fetches(&operation.intent))
}

/// Removes them; `false`: not all, because a transfer runs, which may have found them and not said so yet. What this life of the daemon wrote is
/// not looked at.
pub(super) async fn sweep_blobs(core: &Shared) -> Result<bool> {
    let reader = core.clone();
    let old = blocking(move || {
        let named = named(&reader)?;
        let unnamed = reader.content.list_blobs()?.into_iter().filter(|digest| !named.contains(digest));
        Ok(unnamed.filter(|digest| is_old(&reader, digest)).collect::<Vec<_>>())
    })
    .await?;
    for digest in old {
        // A transfer looks for a blob under this lock: one that did is running and seen here, one that will does not find it.
        let _blob = core.transfers.lock(format!("blob/{digest}")).await;
        if core.transfers.any_running() {
            return Ok(false);
        }
        // Clients' own writes name blobs in the content writer.
        write(core, &crate::content::WRITER, DEADLINE, move |core| async move {
            blocking(move || {
                if !named(&core)?.contains(&digest) {
                    tracing::info!(%digest, "removing a blob that no row names");
                    core.content.remove_blob(&digest)?;
                }
                Ok(())
            })
            .await
        })
        .await?;
    }
    Ok(true)
}

fn named(core: &Core) -> Result<BTreeSet<Digest>> {
    let rows: Vec<ContentRecord> = core.store.scan(&Key::all())?;
    Ok(rows.into_iter().map(|row| row.digest).collect())
}

/// Written before the daemon started.
fn is_old(core: &Core, digest: &Digest) -> bool {
    let written = core.content.open_blob(digest).ok().and_then(|file| file.metadata().ok()?.modified().ok());
    let age = written.and_then(|written| written.duration_since(UNIX_EPOCH).ok());
    age.is_some_and(|age| i64::try_from(age.as_nanos()).is_ok_and(|nanos| nanos < core.started_at.0))
}
