//! The harness: a private world with a real daemon, a registry, images, and the invariant checker.

pub mod client;
pub mod fixture;
pub mod invariants;
pub mod registry;
pub mod world;
