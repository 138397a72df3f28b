//! The contract between the daemon and its clients: the schema, the code generated from it, and the conversions between
//! wire structs and [`bosun_types`]. The schema's own comments are the reference; `docs/protocol/README.md` is the way in.
//!
//! What is deliberately absent: sockets, threads, tokio. `bosun-edge` serves this contract, `bosun-client` uses it.

#[cfg(test)]
mod contract_tests;
pub mod convert;
pub mod generated;
pub mod limits;

pub use convert::Wire;
pub use generated::{
    access_capnp, common_capnp, container_capnp, content_capnp, daemon_capnp, event_capnp, gc_capnp,
    group_capnp, image_capnp, lease_capnp, namespace_capnp, snapshot_capnp, task_capnp, transfer_capnp,
};
