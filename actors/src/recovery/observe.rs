//! What there is: the host first, then the store (see the module above for why).

use std::collections::BTreeMap;
use std::sync::Arc;

use bosun_storage::key::Key;
use bosun_types::Result;

use super::plan::Observed;
use crate::core::{Shared, blocking};

/// Looks at everything, off the actors' threads.
pub(crate) async fn observe(core: &Shared) -> Result<Observed> {
    let core = core.clone();
    blocking(move || {
        let mut task_directories = BTreeMap::new();
        for nonce in core.host.directories()? {
            let lives = core.host.live_shim(&nonce).is_some();
            task_directories.insert(nonce, lives);
        }
        let mut snapshot_directories = BTreeMap::new();
        for (name, snapshotter) in &core.snapshotters {
            match Arc::clone(snapshotter).directories() {
                Ok(directories) => drop(snapshot_directories.insert(name.clone(), directories.into_iter().collect())),
                Err(error) => tracing::error!(snapshotter = name, %error, "its directories cannot be listed; nothing is concluded about them"),
            }
        }
        let checkpoint_directories = crate::checkpoints::directories(&core)?;
        Ok(Observed {
            checkpoint_directories,
            boot_id: core.host.boot_id(),
            first_of_this_life: Some(core.life.first_operation),
            first_directory_of_this_life: Some(core.life.first_directory),
            operations: core.store.scan(&Key::all())?,
            tasks: core.store.scan(&Key::all())?,
            snapshots: core.store.scan(&Key::all())?,
            task_directories,
            snapshot_directories,
        })
    })
    .await
}
