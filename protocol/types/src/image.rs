//! The image record: a name that points at a descriptor (IMG-1), and the label keys of the field.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::content::Descriptor;
use crate::{Error, ImageName, Labels, NamespaceName, Result, Timestamp, labels};

/// Label on a compressed layer blob: the digest of its uncompressed bytes (CON-25).
pub const LABEL_UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Prefix of a label that keeps a child blob alive (GC-3); followed by `.<index>`.
pub const LABEL_GC_REF_CONTENT: &str = "containerd.io/gc.ref.content";
/// Prefix of a label that keeps a snapshot alive (GC-3); followed by `.<snapshotter>`.
pub const LABEL_GC_REF_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot";

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Namespace it lives in.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: ImageName,
    /// The manifest or index it points at.
    pub target: Descriptor,
    /// Labels.
    pub labels: Labels,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// Set by the daemon.
    pub updated_at: Timestamp,
}

impl ImageRecord {
    /// IMG-2.
    pub fn validate(&self) -> Result<()> {
        labels::validate(&self.labels)?;
        if self.target.media_type.is_empty() {
            return Err(Error::invalid_argument(format!(
                "image {}: the target's media type is empty",
                self.name
            )));
        }
        if self.target.size == 0 {
            return Err(Error::invalid_argument(format!("image {}: the target's size is 0", self.name)));
        }
        Ok(())
    }
}
