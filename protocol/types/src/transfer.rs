//! Transfers: pull, push and import as operations that clients follow (REM-13, REM-16, CLI-14).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::image::ImageRecord;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::{Digest, Error, ImageName, Labels};

/// Which images of an index are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platforms {
    /// The host's.
    #[default]
    Host,
    /// These; each must be there. Not empty.
    Only(Vec<Platform>),
    /// Everything that the index names, whatever it is. Unpacked is what this host can run.
    All,
}

/// An image to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PullRequest {
    /// What.
    pub reference: Reference,
    /// Which images of an index.
    pub platforms: Platforms,
    /// Unpack into this snapshotter; `None`: fetch only.
    pub unpack: Option<String>,
    /// Speak http, not https. Loopback hosts speak http without being asked.
    pub plain_http: bool,
    /// Labels for the image record.
    pub labels: Labels,
    /// Convert an image in docker's old schema 1 form into an OCI image (REM-15); without it such an image is refused.
    pub convert_schema1: bool,
}

impl PullRequest {
    /// The host's platform, unpacked into `snapshotter`, nothing special.
    pub fn new(reference: Reference, snapshotter: &str) -> Self {
        Self {
            reference,
            platforms: Platforms::Host,
            unpack: Some(snapshotter.to_owned()),
            plain_http: false,
            labels: Labels::new(),
            convert_schema1: false,
        }
    }
}

/// An image to send to a registry, with everything that it names (REM-16).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct PushRequest {
    /// Where to: a tag, no digest (REM-20).
    pub reference: Reference,
    /// Which image of ours; `None`: the one of the reference's name.
    pub image: Option<ImageName>,
    /// Only the manifest for this platform, instead of the whole index.
    pub platform: Option<Platform>,
    /// Speak http, not https. Loopback hosts speak http without being asked.
    pub plain_http: bool,
    /// Send layers too whose type says that they may not be given on; else who pulls the image has them from their own addresses.
    pub non_distributable: bool,
}

impl PushRequest {
    /// The image of the reference's name, whole.
    pub fn new(reference: Reference) -> Self {
        Self { reference, image: None, platform: None, plain_http: false, non_distributable: false }
    }
}

/// One blob or manifest to fetch or to send, without what it names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ObjectRequest {
    /// The repository; its tag and digest do not matter.
    pub reference: Reference,
    /// The object.
    pub digest: Digest,
    /// What it is, when it is sent: a manifest goes another way than a blob. Empty: a blob.
    pub media_type: String,
    /// Speak http, not https. Loopback hosts speak http without being asked.
    pub plain_http: bool,
}

/// A user's secret for one registry. It is never part of a record, an event or a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name; empty: the secret is an identity token, which a token service takes instead of a password.
    pub user: String,
    /// Password or token.
    pub secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// An image archive to read (IEX-2, IEX-6): OCI layout or `docker save`, as a tar stream, plain or compressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// Base name for images whose archive gives only a tag or nothing (IEX-3).
    pub base_name: Option<String>,
    /// Platform wanted of an index; `None`: the host's.
    pub platform: Option<Platform>,
    /// Unpack into this snapshotter; `None`: fetch only.
    pub unpack: Option<String>,
    /// Keep what the archive holds of every platform; unpacked is what this host, or `platform`, can run.
    pub all_platforms: bool,
    /// Give each image the name `<name>@<digest>` too.
    pub digests: bool,
}

/// Images to write into an archive (IEX-1, IEX-6): an OCI layout as a tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// Which, by name.
    pub images: Vec<ImageName>,
    /// Which images of an index.
    pub platforms: Platforms,
    /// With a `manifest.json` that docker reads; each image must then have one manifest for the platform.
    pub docker: bool,
    /// Leave out layers whose type says that they may not be given on.
    pub skip_non_distributable: bool,
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
    /// Bytes are flowing to the registry.
    Uploading,
    /// The registry took it from another repository of its own.
    Mounted,
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferKind {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
    /// One object from a registry.
    FetchObject,
    /// One object to a registry.
    PushObject,
    /// From an archive.
    Import,
    /// Into an archive.
    Export,
    /// No transfer, but followed and cancelled like one: a snapshot's changes become a layer.
    Diff,
    /// The way back: a layer becomes a snapshot's files.
    Apply,
}

impl std::fmt::Display for TransferKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::FetchObject => "fetch-object",
            Self::PushObject => "push-object",
            Self::Import => "import",
            Self::Export => "export",
            Self::Diff => "diff",
            Self::Apply => "apply",
        })
    }
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
    /// What it does.
    pub kind: TransferKind,
    /// What is transferred.
    pub subject: String,
    /// Each part, in the order of the manifest.
    pub parts: Vec<PartProgress>,
    /// Bytes of what is not in parts: read out of its archive by an import, uncompressed; of files compared by a diff. Else 0.
    pub bytes: u64,
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
