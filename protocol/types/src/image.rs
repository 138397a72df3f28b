//! The image record: a name that points at a descriptor (IMG-1), and the label keys of the field.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::content::Descriptor;
use crate::platform::Platform;
use crate::{Digest, Error, ImageName, Labels, NamespaceName, Result, Timestamp, labels};

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

/// What an image's documents say for one platform, and what of it is here (IMG-13 to IMG-17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDetail {
    /// Its record.
    pub record: ImageRecord,
    /// The platforms of the index, or that of the config when none is declared; each once.
    pub platforms: Vec<Platform>,
    /// The manifest for the platform; `None` when it, or a document on the way to it, is not here.
    pub manifest: Option<Descriptor>,
    /// Its config; `None` without a manifest.
    pub config: Option<Descriptor>,
    /// The config's bytes, JSON; `None` when it is not here.
    pub config_json: Option<Vec<u8>>,
    /// Digests of the uncompressed layers, lowest first; none without the config.
    pub diff_ids: Vec<Digest>,
    /// Names the topmost layer's snapshot; `None` without layers.
    pub chain_id: Option<Digest>,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Descriptor>,
    /// What all descriptors from the target on say, in bytes.
    pub size: u64,
    /// What is named and not in this namespace.
    pub missing: Vec<Descriptor>,
    /// Whether the topmost layer is a snapshot of the snapshotter that was asked about.
    pub unpacked: bool,
}

impl ImageDetail {
    /// IMG-16: whether the manifest is here; without it nobody can say what else the image needs.
    pub fn is_available(&self) -> bool {
        self.manifest.is_some()
    }

    /// Config and layers: what the platform needs.
    pub fn required(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.is_available() && self.missing.is_empty()
    }
}
