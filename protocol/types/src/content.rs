//! Content: blobs named by digest, ingests named by ref (CON-*).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Digest, Labels, NamespaceName, Timestamp};

/// A pointer to a blob: media type, digest, size. The OCI descriptor without its open-ended fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// OCI or docker media type.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// A committed blob as one namespace sees it (CON-4). The bytes may be shared with other namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ContentRecord {
    /// Namespace that holds it.
    pub namespace: NamespaceName,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Labels.
    pub labels: Labels,
    /// When it was committed here.
    pub created_at: Timestamp,
    /// When its labels last changed.
    pub updated_at: Timestamp,
}

/// What a scrub found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong, or was; empty: nothing. The first hundred.
    pub damage: Vec<String>,
    /// It was mended, and looked at again.
    pub repaired: bool,
}

/// An unfinished write (CON-21).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct IngestStatus {
    /// Its name in the namespace.
    pub reference: String,
    /// Bytes on disk.
    pub offset: u64,
    /// Promised size in bytes; 0 when unknown.
    pub total: u64,
    /// Promised digest.
    pub expected: Option<Digest>,
    /// Digest of the bytes on disk; only an open writer knows it.
    pub digest: Option<Digest>,
    /// When it was opened first.
    pub started_at: Timestamp,
    /// When bytes last arrived.
    pub updated_at: Timestamp,
}
