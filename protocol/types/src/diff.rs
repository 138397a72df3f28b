//! Diff: a snapshot's changes as a layer blob, and a layer blob's files in a snapshot (DIF-*).

use serde::{Deserialize, Serialize};

use crate::content::Descriptor;
use crate::{ContainerId, Digest, Labels, SnapshotKey};

/// What is to become a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRequest {
    /// The snapshot before; `None`: the parent of `right`, or nothing if it has none.
    pub left: Option<SnapshotKey>,
    /// The snapshot after, of any kind.
    pub right: SnapshotKey,
    /// Media type of the layer; empty: OCI, gzip. Known: OCI's, plain, gzip and zstd, and docker's, plain and gzip.
    pub media_type: String,
    /// Ref of the ingest that the layer is written to; it starts from nothing and, on a failure, keeps what it has. `None`:
    /// one of the daemon's own, which goes on a failure (DIF-3).
    pub reference: Option<String>,
    /// Labels of the blob, beside `containerd.io/uncompressed` (DIF-4).
    pub labels: Labels,
    /// Container that is frozen while files are read, and goes on afterwards whatever happens, also when the daemon is killed meanwhile.
    pub freeze: Option<ContainerId>,
}

impl DiffRequest {
    /// What `right` changed against its parent, as an OCI layer in gzip.
    pub fn of(right: SnapshotKey) -> Self {
        Self {
            left: None,
            right,
            media_type: String::new(),
            reference: None,
            labels: Labels::new(),
            freeze: None,
        }
    }
}

/// A layer that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDiff {
    /// The blob.
    pub layer: Descriptor,
    /// Digest of its uncompressed bytes: what an image's config names it by.
    pub diff_id: Digest,
}
