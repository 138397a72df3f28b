//! The supervision tree, one actor per entity, operations, recovery. The only crate that knows ractor: others see handles.
//!
//! Start reading at [`daemon`] (the tree), [`task`] (the richest actor), [`operation`] (how anything of several steps is done), [`recovery`].

pub mod ask;
pub mod attached;
pub mod audit;
pub mod call;
mod checkpoints;
pub mod containers;
pub mod content;
pub mod copies;
pub mod core;
pub mod cursors;
pub mod daemon;
mod diff;
pub mod directory;
pub mod events;
pub mod gc;
pub mod group;
pub mod host;
pub mod images;
pub mod leases;
mod mask;
pub mod namespaces;
pub mod operation;
mod parts;
pub mod ports;
pub mod recovery;
pub mod registry;
pub mod relaunch;
mod remap;
pub mod samples;
mod scrub;
pub mod snapshots;
pub mod sockets;
mod spec_source;
pub mod supervisor;
pub mod task;
pub mod transfers;
mod tree;
mod writer;
