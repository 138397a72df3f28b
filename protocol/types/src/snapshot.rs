//! Snapshot records of every snapshotter, in the one database (SNP-*, SNP-21).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Labels, NamespaceName, SnapshotKey, Timestamp};

/// The default snapshotter (SNP-22).
pub const SNAPSHOTTER_DEFAULT: &str = "overlayfs";

/// What a snapshot is (SNP-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Read-only look at its parent.
    View,
    /// Writable.
    Active,
    /// Immutable; may be a parent.
    Committed,
}

/// Disk use of a snapshot alone, without its parents; hard links counted once (SNP-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes allocated.
    pub size_bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Namespace it lives in; snapshots are never shared (NS-8).
    pub namespace: NamespaceName,
    /// Its snapshotter.
    pub snapshotter: String,
    /// Key (active, view) or name (committed).
    pub key: SnapshotKey,
    /// Its parent, always committed.
    pub parent: Option<SnapshotKey>,
    /// What it is.
    pub kind: SnapshotKind,
    /// Number of its directory below the snapshotter's root; never used again.
    pub directory: u64,
    /// Labels.
    pub labels: Labels,
    /// Measured at commit; `None` until then.
    pub usage: Option<Usage>,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// Set by the daemon.
    pub updated_at: Timestamp,
}
