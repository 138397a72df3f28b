//! Objects that nothing refers to, written into the store and the file system directly: what would take the daemon's clients minutes takes seconds.
//! Nothing is synced but the rows; the daemon that opens the root finds them as it would find any.

use std::path::Path;

use anyhow::Context as _;
use bosun_storage::batch::Batch;
use bosun_storage::content::ContentStore;
use bosun_storage::snapshotter::{Overlay, Snapshotter as _};
use bosun_storage::store::{Store, StoreOptions};
use bosun_types::content::ContentRecord;
use bosun_types::namespace::NamespaceRecord;
use bosun_types::snapshot::{SNAPSHOTTER_DEFAULT, SnapshotKind, SnapshotRecord, Usage};
use bosun_types::{Digest, Labels, NamespaceName, SnapshotKey, Timestamp};
use sha2::{Digest as _, Sha256};

/// Rows of one commit.
const ROWS: u64 = 2_000;

/// Fills the root.
pub async fn seed(root: &Path, blobs: u64, snapshots: u64) -> anyhow::Result<()> {
    let (store, _) = Store::open(&StoreOptions { root: root.to_owned() })?;
    ContentStore::open(root)?;
    let files = root.join("content/blobs/sha256");
    let overlay = Overlay::open(&root.join("snapshots/overlayfs"))?;
    let mut batch = Batch::new();
    // A collection looks into the namespaces that there are.
    let (name, now) = (NamespaceName::default_name(), Timestamp::now());
    batch.put(&NamespaceRecord { name, labels: Labels::new(), created_at: now, updated_at: now });
    for number in 0..blobs + snapshots {
        if number < blobs {
            batch.put(&blob(&files, number)?);
        } else {
            batch.put(&snapshot(&overlay, store.next_directory(), number)?);
        }
        if number % ROWS == ROWS - 1 {
            store.commit(std::mem::take(&mut batch)).await?;
        }
    }
    store.commit(batch).await?;
    store.close();
    Ok(())
}

fn blob(files: &Path, number: u64) -> anyhow::Result<ContentRecord> {
    let text = format!("nobody wants {number}");
    let digest = Digest::from_bytes(Sha256::digest(text.as_bytes()).into());
    let path = files.join(digest.hex());
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    let now = Timestamp::now();
    Ok(ContentRecord {
        namespace: NamespaceName::default_name(),
        digest,
        size: text.len() as u64,
        labels: Labels::new(),
        created_at: now,
        updated_at: now,
    })
}

fn snapshot(overlay: &Overlay, directory: u64, number: u64) -> anyhow::Result<SnapshotRecord> {
    overlay.ensure_directory(directory, &[], SnapshotKind::Committed)?;
    std::fs::write(overlay.layer_root(directory).join("file"), "nobody wants this")?;
    let now = Timestamp::now();
    Ok(SnapshotRecord {
        namespace: NamespaceName::default_name(),
        snapshotter: SNAPSHOTTER_DEFAULT.to_owned(),
        key: SnapshotKey::new(format!("sha256:{number:064x}"))?,
        parent: None,
        kind: SnapshotKind::Committed,
        directory,
        labels: Labels::new(),
        usage: Some(Usage { size_bytes: 17, inodes: 1 }),
        created_at: now,
        updated_at: now,
    })
}
