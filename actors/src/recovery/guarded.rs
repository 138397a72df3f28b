//! What recovery does to nouns that clients may write to at the same time: in the noun's own writer, after looking once more.

use bosun_storage::key;
use bosun_types::operation::OperationRecord;
use bosun_types::snapshot::{SnapshotKind, SnapshotRecord};
use bosun_types::{ContainerId, NamespaceName, Result};

use super::execute::close;
use crate::containers::RemoveContainer;
use crate::core::{Shared, blocking};
use crate::directory::Name;
use crate::namespaces::DEADLINE;
use crate::operation;
use crate::snapshots::{self, RemoveDirectory};
use crate::writer::{WriterMessage, write};

/// In the noun's writer, so that what is looked up stays true until the commit; without one nobody else writes.
pub(super) async fn in_writer<F, W>(core: &Shared, name: Name, work: W) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
    W: FnOnce(Shared) -> F + Send + 'static,
{
    match core.directory.find::<WriterMessage>(&name) {
        Some(_) => write(core, &name, DEADLINE, work).await,
        None => work(core.clone()).await,
    }
}

/// The name may be taken by a new container by now: then the logs are its own.
pub(super) async fn remove_container(
    core: &Shared,
    namespace: NamespaceName,
    id: ContainerId,
    snapshot: Option<(String, u64)>,
) -> Result<()> {
    if crate::containers::get(core, &namespace, &id).is_err() {
        return operation::persist(&RemoveContainer { core: core.clone(), namespace, id, snapshot }).await;
    }
    match snapshot {
        Some((snapshotter, directory)) => {
            operation::persist(&RemoveDirectory { snapshotter: core.snapshotter(&snapshotter)?, directory })
                .await
        }
        None => Ok(()),
    }
}

/// A snapshot whose making was cut off. It was visible meanwhile: if a client committed it under a name, it stays.
pub(super) async fn undo_snapshot(
    core: &Shared,
    operation: &OperationRecord,
    snapshotter: String,
    directory: u64,
) -> Result<()> {
    let rows: Vec<SnapshotRecord> =
        core.store.scan(&key::snapshots_of(&operation.namespace, &snapshotter))?;
    let row = rows.into_iter().find(|row| row.directory == directory);
    if row.as_ref().is_some_and(|row| row.kind == SnapshotKind::Committed) {
        return close(core, operation, |_| ()).await;
    }
    let snapshotter = core.snapshotter(&snapshotter)?;
    blocking(move || Ok(snapshotter.ensure_no_directory(directory)?)).await?;
    close(core, operation, |batch| row.iter().for_each(|row| snapshots::drop_row(batch, row))).await
}
