//! bosun's domain words as plain data: identifiers, records, states, events, errors, and the daemon ⇄ shim messages.
//!
//! What is deliberately absent: IO, tokio, capnp, ractor, fjall. A type enters here only when two crates need it.
//! Types that are stored or sent to a shim derive bincode's `Encode`/`Decode`; their layout is part of a versioned
//! format (see `bosun-storage::codec` and [`shim`]): append fields only through a new version, never reorder.

pub mod access;
pub mod call;
pub mod checkpoint;
pub mod container;
pub mod content;
pub mod copy;
pub mod diff;
pub mod error;
pub mod event;
pub mod gc;
pub mod group;
pub mod id;
pub mod image;
pub mod labels;
pub mod lease;
pub mod log_program;
pub mod metrics;
pub mod mount;
pub mod namespace;
pub mod operation;
pub mod platform;
pub mod reference;
pub mod relaunch;
pub mod shim;
pub mod signal;
pub mod snapshot;
pub mod spec;
pub mod stdio;
pub mod task;
pub mod time;
pub mod transfer;
pub mod tree;
pub mod user_namespace;

pub use error::{Error, ErrorClass, Result};
pub use id::{
    CallKey, ContainerId, CursorId, Digest, ExecId, GroupName, ImageName, LeaseId, NamespaceName,
    OperationId, SnapshotKey, SocketId,
};
pub use labels::Labels;
pub use time::Timestamp;
