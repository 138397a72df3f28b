//! The container record: metadata only, no running state (CTR-1, CTR-2).

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{ContainerId, Error, ImageName, Labels, NamespaceName, Result, SnapshotKey, Timestamp, labels};

/// A typed payload: type URL and bytes (ID-12). OCI types are JSON.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, Default)]
pub struct Any {
    /// Such as `types.containerd.io/opencontainers/runtime-spec/1/Spec`.
    pub type_url: String,
    /// The payload.
    pub value: Vec<u8>,
}

/// The OCI runtime that runs a container's task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RuntimeChoice {
    /// `bosun` (embedded libcontainer), `runc`, `crun`, or an absolute path of an OCI runtime binary.
    pub name: String,
    /// Options for that runtime, when there are any.
    pub options: Option<Any>,
}

/// The embedded runtime's name.
pub const RUNTIME_EMBEDDED: &str = "bosun";

impl Default for RuntimeChoice {
    fn default() -> Self {
        Self { name: RUNTIME_EMBEDDED.to_owned(), options: None }
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Namespace it lives in.
    pub namespace: NamespaceName,
    /// Its id.
    pub id: ContainerId,
    /// Labels.
    pub labels: Labels,
    /// Image it was made from, by name.
    pub image: Option<ImageName>,
    /// OCI runtime.
    pub runtime: RuntimeChoice,
    /// The OCI runtime spec, as JSON.
    pub spec: Vec<u8>,
    /// Snapshotter that holds its root file system.
    pub snapshotter: Option<String>,
    /// Snapshot of its root file system.
    pub snapshot_key: Option<SnapshotKey>,
    /// Named extensions.
    pub extensions: BTreeMap<String, Any>,
    /// Set by the daemon.
    pub created_at: Timestamp,
    /// Set by the daemon.
    pub updated_at: Timestamp,
}

/// Longest stored spec in bytes.
pub const SPEC_BYTES_MAX: usize = 1 << 20;

impl ContainerRecord {
    /// CTR-3 without the ID-7 hole: everything is checked whatever labels there are.
    pub fn validate(&self) -> Result<()> {
        let id = &self.id;
        labels::validate(&self.labels)?;
        if self.runtime.name.is_empty() {
            return Err(Error::invalid_argument(format!("container {id}: no runtime is named")));
        }
        if self.spec.is_empty() {
            return Err(Error::invalid_argument(format!("container {id}: the OCI spec is missing")));
        }
        if self.spec.len() > SPEC_BYTES_MAX {
            return Err(Error::invalid_argument(format!(
                "container {id}: the OCI spec is {} bytes, at most {SPEC_BYTES_MAX} are allowed",
                self.spec.len()
            )));
        }
        if self.snapshot_key.is_some() && self.snapshotter.is_none() {
            return Err(Error::invalid_argument(format!(
                "container {id}: a snapshot key needs a snapshotter"
            )));
        }
        if self.extensions.keys().any(String::is_empty) {
            return Err(Error::invalid_argument(format!("container {id}: an extension's name is empty")));
        }
        Ok(())
    }
}
