//! What introspection shows: the live supervision tree, the daemon's status (SYS-10, SYS-12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::platform::Platform;
use crate::{Error, Timestamp};

/// One actor of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Its id among its siblings, such as `containers` or `container web-1`.
    pub name: String,
    /// Supervisor or worker.
    pub kind: NodeKind,
    /// Where it is.
    pub state: NodeState,
    /// For a supervisor its strategy; for a worker a word on its phase.
    pub detail: String,
    /// How often it was restarted.
    pub restarts: u32,
    /// Messages waiting; `None` where not measured.
    pub mailbox: Option<u32>,
    /// When this incarnation started.
    pub started_at: Option<Timestamp>,
    /// Children in start order.
    pub children: Vec<TreeNode>,
}

/// What an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Starts, stops and restarts children; does nothing else.
    Supervisor,
    /// Does the work.
    Worker,
}

/// Where an actor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Up.
    Running,
    /// Its start is being tried again.
    Restarting,
    /// Over its restart intensity; left alone until retried. The text is the cause.
    Parked(String),
    /// Ended normally.
    Stopped,
}

/// The daemon at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// bosun's version.
    pub version: String,
    /// Git revision it was built from; empty when unknown.
    pub revision: String,
    /// Its pid.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Recovery still works on something.
    pub recovering: bool,
    /// `Some`: writes are refused, and why.
    pub read_only: Option<String>,
    /// Root directory.
    pub root: String,
    /// State directory.
    pub state: String,
    /// Containers known.
    pub containers: u64,
    /// Tasks known that are not stopped.
    pub tasks_live: u64,
    /// Operations open.
    pub operations_open: u64,
    /// Operations parked.
    pub operations_parked: u64,
    /// Newest event.
    pub event_sequence: u64,
}

/// One part of the daemon: what containerd calls a plugin (SYS-8 to SYS-10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// `snapshotter`, `runtime`, `differ`, `content`, `metadata`, `gc` or `service`.
    pub kind: String,
    /// Its name among those of its kind.
    pub id: String,
    /// Kinds that it uses.
    pub requires: Vec<String>,
    /// Where it works.
    pub platforms: Vec<Platform>,
    /// Such as `root`: its directory.
    pub exports: BTreeMap<String, String>,
    /// Words for what it can do.
    pub capabilities: Vec<String>,
    /// Why it cannot be used; `None`: it can.
    pub failure: Option<Error>,
}
