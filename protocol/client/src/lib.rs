//! The client library: talk to `bosund` in Rust.
//!
//! ```no_run
//! # async fn example() -> bosun_client::Result<()> {
//! use bosun_client::{Client, ConnectOptions};
//!
//! let client = Client::connect(ConnectOptions::default()).await?;
//! let web = client.namespace("web".parse()?);
//! for container in web.containers().list().await? {
//!     println!("{}", container.id);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything here is `Send + Sync + Clone` and works on any executor: the Cap'n Proto objects, which are neither, live on
//! a private thread (`docs/adr/0009-client-threading.md`). Nouns are addresses, not connections: when the daemon restarts,
//! the next call connects again, and waits, event and progress streams go on by themselves.
//!
//! From a [`Client`] to a [`Namespace`], and from there to [`Containers`], [`Container`], [`Task`] and [`Process`], to [`Images`] and [`Image`], [`Content`],
//! [`Snapshots`], [`Transfers`], [`Events`] and [`Leases`]; the bytes of a process's streams are [`io`]'s. Each has an example that the test suite runs
//! (`examples/tour`). Who knows containerd's client finds each of its names in `docs/protocol/parity.md`.
//!
//! - Lists can be narrowed: `containers.list_where(field("image").matches("busybox").and(label("tier").equals("web")))`, or a text in
//!   containerd's grammar, `"image~=busybox,labels.tier==web"`.
//! - Data is [`bosun_types`]'s, in and out; errors are [`bosun_types::Error`], unchanged from where they arose.
//! - Dropping a future cancels its call. The daemon finishes what it has begun.
//! - Every call has a deadline ([`ConnectOptions::call_deadline`]); waits and streams have none.
#![warn(missing_docs)]

mod access;
mod commit;
mod containers;
mod content;
mod copies;
mod daemon;
mod driver;
mod events;
mod failure;
mod groups;
mod image;
mod images;
mod incoming;
pub mod io;
mod leases;
mod lifecycle;
mod namespace;
mod options;
mod run;
mod services;
mod session;
mod sink;
mod snapshots;
mod task;
mod transfers;
mod upload;

pub use bosun_filter::{Expression, FieldPath, Filters, field, label};
pub use bosun_types as types;
pub use bosun_types::event::EventFilter;
pub use bosun_types::{
    ContainerId, Digest, Error, ErrorClass, ExecId, ImageName, Labels, LeaseId, NamespaceName, Result,
    SnapshotKey,
};
pub use commit::CommitRequest;
pub use containers::{Container, Containers};
pub use content::{Content, ContentWriter};
pub use copies::{CopySink, CopyStream};
pub use daemon::{Client, Version};
pub use events::{EventCursor, Events};
pub use groups::{Group, Groups};
pub use image::Image;
pub use images::Images;
pub use incoming::Incoming;
pub use leases::{LEASE_EXPIRY, Lease, Leases, expiring};
pub use namespace::Namespace;
pub use oci_spec::runtime::Spec;
pub use options::{ConnectOptions, DEFAULT_ADDRESS};
pub use run::{RunRequest, Running};
pub use services::Services;
pub use snapshots::Snapshots;
pub use task::{Process, Task};
pub use transfers::{Export, Import, Transfer, Transfers};
