//! A mount as the snapshotters describe it and the shim performs it (MNT-1, MNT-2).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// One mount: type, source, fstab option words.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Mount {
    /// File system type: `bind`, `overlay`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Device, directory or a word of the file system's own.
    pub source: String,
    /// Path below the mount root; empty for the root itself.
    pub target: String,
    /// fstab words; what is no flag word goes to the data string (MNT-2).
    pub options: Vec<String>,
}
