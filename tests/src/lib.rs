//! The harness: a private world with a real daemon, a registry, images, and the invariant checker.

#![expect(clippy::print_stderr, reason = "a failing test shows the daemon's log")]

pub mod client;
pub mod fixture;
pub mod invariants;
pub mod registry;
pub mod world;
