//! The namespace record (NS-1..9).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{Labels, NamespaceName, Timestamp};

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Its name.
    pub name: NamespaceName,
    /// Its labels.
    pub labels: Labels,
    /// When it was created, explicitly or by a first write (NS-2).
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
