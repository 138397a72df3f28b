//! Transfers: pull and import as operations that clients follow (REM-13, CLI-14).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::image::ImageRecord;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::{Digest, Error, Labels};

/// An image to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PullRequest {
    /// What.
    pub reference: Reference,
    /// Platform wanted; `None`: the host's.
    pub platform: Option<Platform>,
    /// Unpack into this snapshotter; `None`: fetch only.
    pub unpack: Option<String>,
    /// Speak http, not https. Loopback hosts speak http without being asked.
    pub plain_http: bool,
    /// Labels for the image record.
    pub labels: Labels,
}

/// An image archive to read (IEX-2, IEX-6): OCI layout or `docker save`, as a tar stream, plain or compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// Base name for images whose archive gives only a tag or nothing (IEX-3).
    pub base_name: Option<String>,
    /// Platform wanted of an index; `None`: the host's.
    pub platform: Option<Platform>,
    /// Unpack into this snapshotter; `None`: fetch only.
    pub unpack: Option<String>,
}

/// How one part of a transfer stands (CLI-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartStatus {
    /// Not begun.
    Waiting,
    /// Bytes are flowing.
    Downloading,
    /// All bytes are here; the last entries are being written.
    Unpacking,
    /// Finished.
    Done,
    /// Was there before.
    Exists,
}

/// One row of a progress display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartProgress {
    /// `manifest-`, `index-`, `layer-`, `config-` and the digest (REM-11).
    pub key: String,
    /// Its digest.
    pub digest: Digest,
    /// Where it stands.
    pub status: PartStatus,
    /// Bytes so far.
    pub offset: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A transfer as followers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferProgress {
    /// Its id.
    pub id: u64,
    /// What is transferred.
    pub subject: String,
    /// Each part, in the order of the manifest.
    pub parts: Vec<PartProgress>,
    /// Where it is.
    pub state: TransferState,
}

/// Where a transfer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// Under way.
    Running,
    /// Finished; the images it recorded.
    Done(Vec<ImageRecord>),
    /// Failed; nothing half done stays but resumable bytes.
    Failed(Error),
}
