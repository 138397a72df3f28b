//! What garbage collection is about: the things it removes, what keeps them, what it reports (GC-*).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::image::{LABEL_GC_REF_CONTENT, LABEL_GC_REF_SNAPSHOT};
use crate::{Digest, Labels, NamespaceName, SnapshotKey, Timestamp};

/// Label that makes a blob or a snapshot stay, whatever its value is (GC-2).
pub const LABEL_ROOT: &str = "containerd.io/gc.root";
/// Things named in one report at most; the counts are of all.
pub const REPORTED_MAX: usize = 1_000;

/// Something of one namespace that is removed when nothing keeps it (GC-1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    /// A blob, as the namespace sees it.
    Blob(Digest),
    /// A snapshot.
    Snapshot {
        /// Its snapshotter.
        snapshotter: String,
        /// Its key.
        key: SnapshotKey,
    },
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Snapshot { snapshotter, key } => write!(f, "snapshot {snapshotter}/{key}"),
        }
    }
}

/// GC-3: what labels refer to. A value that is no digest or no key refers to nothing.
pub fn referred(labels: &Labels) -> impl Iterator<Item = Object> {
    labels.iter().filter_map(|(label, value)| {
        if let Some(rest) = label.strip_prefix(LABEL_GC_REF_CONTENT) {
            let is_reference = rest.is_empty() || rest.starts_with(['.', '/']);
            return if is_reference { value.parse().ok().map(Object::Blob) } else { None };
        }
        let rest = label.strip_prefix(LABEL_GC_REF_SNAPSHOT)?.strip_prefix('.')?;
        let snapshotter = rest.split('/').next().filter(|name| !name.is_empty())?.to_owned();
        Some(Object::Snapshot { snapshotter, key: value.parse().ok()? })
    })
}

/// What one collection removed from a namespace, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Collection {
    /// Blobs.
    pub blobs: u64,
    /// Their size in bytes; what other namespaces share stays on disk.
    pub blob_bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Their measured size in bytes.
    pub snapshot_bytes: u64,
    /// Leases that had expired.
    pub leases: u64,
    /// Unfinished writes that nobody came back to.
    pub ingests: u64,
    /// Blobs and snapshots that were looked at.
    pub examined: u64,
    /// The first [`REPORTED_MAX`] of the blobs and snapshots.
    pub objects: Vec<(NamespaceName, Object)>,
}

impl Collection {
    /// Adds what came of another namespace.
    pub fn add(&mut self, other: Self) {
        self.blobs += other.blobs;
        self.blob_bytes += other.blob_bytes;
        self.snapshots += other.snapshots;
        self.snapshot_bytes += other.snapshot_bytes;
        self.leases += other.leases;
        self.ingests += other.ingests;
        self.examined += other.examined;
        let room = REPORTED_MAX.saturating_sub(self.objects.len());
        self.objects.extend(other.objects.into_iter().take(room));
    }
}

/// Something that keeps an object by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Root {
    /// `image`, `container`, `lease`, `label`, `operation` or `work`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// When it ends by itself, if it does.
    pub until: Option<Timestamp>,
}

/// A chain that keeps an object: from the root over objects, each referring to the next, to the one asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Where it begins.
    pub root: Root,
    /// The way; the last is the object asked about.
    pub objects: Vec<Object>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gc_3_the_forms_of_reference_labels() {
        let digest: Digest = format!("sha256:{}", "b".repeat(64)).parse().expect("good");
        let of = |label: &str, value: &str| {
            referred(&Labels::from([(label.to_owned(), value.to_owned())])).collect::<Vec<_>>()
        };
        for label in [
            "containerd.io/gc.ref.content",
            "containerd.io/gc.ref.content.0",
            "containerd.io/gc.ref.content/m",
        ] {
            assert_eq!(of(label, &digest.to_string()), [Object::Blob(digest)], "{label}");
        }
        let top = || Object::Snapshot { snapshotter: "native".to_owned(), key: "top".parse().expect("good") };
        for label in ["containerd.io/gc.ref.snapshot.native", "containerd.io/gc.ref.snapshot.native/1"] {
            assert_eq!(of(label, "top"), [top()], "{label}");
        }
        for (label, value) in [
            ("containerd.io/gc.ref.contents", digest.to_string()),
            ("containerd.io/gc.ref.content", "no digest".to_owned()),
            ("containerd.io/gc.ref.snapshot", "top".to_owned()),
            ("containerd.io/gc.ref.snapshot.", "top".to_owned()),
            ("containerd.io/gc.root", "x".to_owned()),
        ] {
            assert_eq!(of(label, &value), [], "{label}");
        }
    }
}
