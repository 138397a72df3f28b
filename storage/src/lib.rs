//! The only crate that knows fjall: tables, group commit, operation log, events; content, snapshotters, archives, images.

pub mod archive;
pub mod backend;
mod ballast;
pub mod batch;
pub mod calls;
pub mod codec;
pub mod committer;
pub mod compare;
pub mod compression;
pub mod content;
pub mod copy;
mod counters;
pub mod error;
mod hashed;
pub mod image;
pub mod journal_scan;
pub mod key;
pub mod layer;
mod lock;
pub mod mark;
pub mod oplog;
pub mod records;
pub mod retention;
pub mod scrub;
pub mod snapshotter;
pub mod store;
pub mod table;
