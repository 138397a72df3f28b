//! The operation log's records: what a multi-step action meant to do, stored before its first effect.
//!
//! An operation is opened in the same commit as the row it changes, and closed in the same commit as its outcome.
//! What is open after a crash is rolled forward, undone or parked by the recovery plan (`bosun-actors::recovery`).

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::call::CallId;
use crate::transfer::{ObjectRequest, PullRequest, PushRequest};
use crate::{
    ContainerId, Digest, Error, ExecId, ImageName, LeaseId, NamespaceName, OperationId, SnapshotKey,
    Timestamp,
};

/// One open operation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// Namespace it works in.
    pub namespace: NamespaceName,
    /// What it does, with everything that a repeat or an undo needs.
    pub intent: Intent,
    /// Boot on which it was opened.
    pub boot_id: String,
    /// When.
    pub opened_at: Timestamp,
    /// How far it is.
    pub status: OperationStatus,
    /// How often recovery has tried it.
    pub attempts: u32,
    /// The call that asked for it, if that has a key: its end says that the call was done.
    #[serde(skip)]
    pub call: Option<CallId>,
}

/// Where an operation stands. The total transition function is `bosun-storage::oplog::status`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum OperationStatus {
    /// Going forward.
    Forward,
    /// Going back, because of this.
    Undoing { cause: Error },
    /// Given up: visible, never silently retried for ever.
    Parked { cause: Error },
}

/// What is meant to be done. New kinds are appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Intent {
    /// Make the directory of a new snapshot.
    PrepareSnapshot { snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Remove a snapshot's directory; its row is already gone.
    RemoveSnapshot { snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Make a task: directory, shim, container.
    CreateTask { container: ContainerId, nonce: String },
    /// Start init (`None`) or an exec.
    StartProcess { container: ContainerId, nonce: String, exec: Option<ExecId> },
    /// Remove a task: container, shim, directory.
    DeleteTask { container: ContainerId, nonce: String },
    /// Fetch and unpack an image, then record it, held by a lease if one is named.
    Pull { transfer: u64, request: PullRequest, lease: Option<LeaseId> },
    /// Make a container with its snapshot: the snapshot first, then the record.
    CreateContainer { container: ContainerId, snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Remove a container's record together with its snapshot.
    DeleteContainer { container: ContainerId, snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Write what a snapshot changed into the ingest `reference`, then record the blob. `keep`: the ref is the caller's, and
    /// stays with its bytes when the operation fails.
    MakeLayer { snapshotter: String, key: SnapshotKey, reference: String, keep: bool },
    /// Unpack a layer into a new directory of an active snapshot, which takes the place of the one it has.
    ApplyLayer { snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Start a container again: the ended task goes, a new one comes and is started. `nonce` is the new one's.
    Relaunch { container: ContainerId, nonce: String },
    /// Copy a committed snapshot's files with other owners; the copy's row comes with the outcome (CTR-15).
    RemapSnapshot { snapshotter: String, key: SnapshotKey, directory: u64 },
    /// Send an image to a registry.
    Push { transfer: u64, request: PushRequest },
    /// Fetch one object, then record it.
    FetchObject { transfer: u64, request: ObjectRequest, lease: Option<LeaseId> },
    /// Send one object to a registry.
    PushObject { transfer: u64, request: ObjectRequest },
    /// Remove the files of garbage whose rows are gone: directories by snapshotter and number, blobs unless another namespace has them.
    Collect { directories: Vec<(String, u64)>, blobs: Vec<Digest> },
    /// Store a task as an image. `frozen`: it was paused before, and stays so; `exit`: it is ended afterwards; `recorded`: the image is
    /// there, only letting the task go is left.
    Checkpoint {
        container: ContainerId,
        nonce: String,
        image: ImageName,
        frozen: bool,
        exit: bool,
        recorded: bool,
    },
    /// Keep a task frozen while its files are read. `frozen`: it was paused before, and stays so.
    HoldTask { container: ContainerId, nonce: String, frozen: bool },
}

impl Intent {
    /// The name used in crash points, logs and `bosun operations`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PrepareSnapshot { .. } => "prepare_snapshot",
            Self::RemoveSnapshot { .. } => "remove_snapshot",
            Self::CreateTask { .. } => "create_task",
            Self::StartProcess { .. } => "start_process",
            Self::DeleteTask { .. } => "delete_task",
            Self::Pull { .. } => "pull",
            Self::CreateContainer { .. } => "create_container",
            Self::DeleteContainer { .. } => "delete_container",
            Self::MakeLayer { .. } => "make_layer",
            Self::ApplyLayer { .. } => "apply_layer",
            Self::Relaunch { .. } => "relaunch",
            Self::RemapSnapshot { .. } => "remap_snapshot",
            Self::Push { .. } => "push",
            Self::FetchObject { .. } => "fetch_object",
            Self::PushObject { .. } => "push_object",
            Self::Collect { .. } => "collect",
            Self::Checkpoint { .. } => "checkpoint",
            Self::HoldTask { .. } => "hold_task",
        }
    }
}
